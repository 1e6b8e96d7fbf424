# Facts of this machine. Read-only, no privileges needed, POSIX sh; builtins where they do.
get() { IFS= read -r v < "$1" || [ -n "$v" ]; } 2>/dev/null
ID= VERSION_ID= VERSION_CODENAME= PRETTY_NAME=
[ -r /etc/os-release ] && . /etc/os-release
echo "os.id=$ID"; echo "os.version=$VERSION_ID"; echo "os.codename=$VERSION_CODENAME"; echo "os.pretty=$PRETTY_NAME"
[ -e /etc/rpi-issue ] && echo os.rpi=1
command -v cloud-init >/dev/null 2>&1 && echo os.cloud_init=1
# The kernel tells since 6.1.
if get /proc/sys/kernel/arch; then echo "arch.kernel=$v"; else echo "arch.kernel=$(uname -m)"; fi
# dpkg keeps a list of architectures only where there is more than one; where there is one, its libc has its name.
a=; if get /var/lib/dpkg/arch; then a=$v; else
  for v in arm64 armhf amd64; do if [ -e /var/lib/dpkg/info/libc6:$v.list ]; then a=$v; break; fi; done
fi
echo "arch.userland=${a:-$(dpkg --print-architecture 2>/dev/null)}"
d=/sys/firmware/devicetree/base
# The device tree's strings end in NUL, which `read` leaves out.
get $d/model && echo "board.model=$v"
get $d/serial-number && echo "board.serial=$v"
# Firmware and kernel (the one with /dev/vcio) know `tryboot`, and nobody else uses it.
if [ -e $d/chosen/bootloader/tryboot ] && [ -e /dev/vcio ]; then
  b=/boot/firmware; [ -e $b/config.txt ] || b=/boot
  v=; get $d/chosen/os_prefix
  if [ -z "$v" ] && [ -e $b/cmdline.txt ] && [ -e $b/config.txt ] && [ ! -e $b/autoboot.txt ] && [ ! -e $b/tryboot.txt ]; then
    t=1
    while IFS= read -r v || [ -n "$v" ]; do
      case $v in cmdline=cmdline.txt*) ;; cmdline=*|os_prefix=*|include\ *) t=;; esac
    done < $b/config.txt
    [ -z "$t" ] || echo board.tryboot=1
  fi
fi
while read -r k v _; do [ "$k" = MemTotal: ] && { echo "memory_kib=$v"; break; }; done < /proc/meminfo
get /proc/sys/kernel/random/boot_id && echo "now.boot_id=$v"
v=; get /etc/machine-id && echo "now.machine_id=$v"
get /proc/sys/kernel/hostname && echo "now.hostname=$v"
date +now.epoch=%s
# $w says how this very shell became root.
u=; [ -n "${w-}" ] || while read -r k _ u _; do [ "$k" != Uid: ] || break; done < /proc/self/status
if [ -n "${w-}" ]; then r=$w
elif [ "$u" = 0 ]; then r=root
elif ! command -v sudo >/dev/null 2>&1; then r=none
elif m=$(LC_ALL=C sudo -n -- /bin/sh -c : 2>&1); then r=sudo
else case $m in *password*|*interactive*) r=password;; *) r=none;; esac; fi
echo "now.root=$r"
src= ro=0
# Nobody mounts over /, and a node of a cluster has hundreds of long lines behind it.
while read -r s m t o _; do
  [ "$m" = / ] && [ "$s" != rootfs ] && { case ",$o," in *,ro,*) ro=1;; esac; src=$s; break; }
done < /proc/mounts
echo "now.root_ro=$ro"
[ -d /run/systemd/system ] && { echo now.systemd=1; [ -z "${q-}" ] || echo "now.system_state=$(systemctl is-system-running 2>/dev/null)"; }
stat -f -c 'now.root_free=%a %S' / 2>/dev/null
b=${src#/dev/}; case $b in mmcblk*p*|nvme*p*) b=${b%p*};; sd*) b=${b%%[0-9]*};; *) b=mmcblk0;; esac
for f in cid serial; do v=; get /sys/block/$b/device/$f && [ -n "$v" ] && { echo "now.root_medium=$v"; break; }; done
for n in /sys/class/net/*; do
  case ${n##*/} in lo|veth*|cni*|flannel*|cali*|docker*|br-*|virbr*) continue;; esac
  v=; get "$n/address" && [ -n "$v" ] && echo "now.mac=$v"
done
# Which address of ours the session came to; only where there is a wireless port at all.
for n in /sys/class/net/wl*; do
  [ -e "$n" ] && [ -n "${SSH_CONNECTION:-}" ] || break
  v=${SSH_CONNECTION% *}; v=${v##* }
  case $(ip -o addr show dev "${n##*/}" 2>/dev/null) in *" $v/"*) echo "now.ssh_wifi=${n##*/}"; break;; esac
done
echo end=1
