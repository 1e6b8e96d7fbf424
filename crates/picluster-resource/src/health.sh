# health of the machine
R=
get() { v=; IFS= read -r v < "$1" || [ -n "$v" ]; } 2>/dev/null
# How long ago the first process started: field 22, behind the name, in hundredths of a second since the kernel did.
if get "$R/proc/1/stat" && set -- ${v##*) } && [ $# -ge 20 ]; then
  shift 19
  get "$R/proc/uptime" && v=${v%% *} && echo "up $((${v%%.*} - $1 / 100))"
fi
for z in "$R"/sys/class/thermal/thermal_zone*; do
  get "$z/type" && t=$v && get "$z/temp" && [ -n "$v" ] && echo "temp $v $t"
done
p=
for h in "$R"/sys/class/hwmon/hwmon*; do
  get "$h/name" && [ "$v" = rpi_volt ] && get "$h/in0_lcrit_alarm" && [ -n "$v" ] && { p=1; echo "undervoltage $v"; }
done
if command -v vcgencmd >/dev/null 2>&1; then
  v=$(vcgencmd get_throttled 2>/dev/null)
  case $v in throttled=0x*) p=1; echo "throttled ${v#*=}";; esac
fi
# Only kernels that have none of the others: newer ones warn in their log when this is read.
[ -n "$p" ] || for f in "$R"/sys/devices/platform/soc*/soc*:firmware/get_throttled; do
  get "$f" && [ -n "$v" ] && echo "throttled 0x$v"
done
# What / is on. Nobody mounts over it, and a node of a cluster has hundreds of lines behind it.
d= s=
while read -r _ _ d _ m x; do
  [ "$m" = / ] || continue
  x=${x#*- }
  case $x in 'rootfs '*) continue;; esac
  echo "filesystem ${x%% *}"
  x=${x#* }; s=${x%% *}
  break
done < "$R/proc/self/mountinfo"
# A file system over several disks has no number of its own; then the name it was mounted by.
if cd -P "$R/sys/dev/block/$d" 2>/dev/null || { [ -n "${s#/dev/}" ] && cd -P "$R/sys/class/block/${s#/dev/}"; } 2>/dev/null; then
  # Down to the disk: out of partitions, through encryption and logical volumes.
  for _ in 1 2 3 4; do
    [ ! -e partition ] || cd ..
    set -- slaves/*
    { [ -e "$1" ] && cd -P "$1"; } || break
  done
  n=${PWD##*/}
  case $PWD in */usb[0-9]*) b=usb;; *) b=;; esac
  echo "disk $n $b"
  for f in size ro device/type device/name device/date device/model device/vendor device/serial device/life_time device/pre_eol_info device/state; do
    get "$f" && [ -n "$v" ] && echo "disk.${f##*/} $v"
  done
fi
# The kernel's memory of what went wrong since it started, as far as its log reaches.
dmesg 2>/dev/null | grep -E -o '[Uu]nder-?voltage detected|I/O error, dev [a-z0-9]+|EXT4-fs error .device [a-z0-9-]+' | sort | uniq -c |
while read -r c x; do echo "log $c $x"; done
v=$(stat -c %Y "$R/var/lib/picluster/owned" 2>/dev/null) && echo "applied $v"
echo end
