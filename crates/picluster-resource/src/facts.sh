# Facts of this machine. Read-only, no privileges needed, POSIX sh; builtins where they do.
get() { IFS= read -r v < "$1" || [ -n "$v" ]; } 2>/dev/null
ID= VERSION_ID= VERSION_CODENAME= PRETTY_NAME=
[ -r /etc/os-release ] && . /etc/os-release
echo "os.id=$ID"; echo "os.version=$VERSION_ID"; echo "os.codename=$VERSION_CODENAME"; echo "os.pretty=$PRETTY_NAME"
[ -e /etc/rpi-issue ] && echo os.rpi=1
command -v cloud-init >/dev/null 2>&1 && echo os.cloud_init=1
echo "arch.kernel=$(uname -m)"
if [ -r /var/lib/dpkg/arch ] && get /var/lib/dpkg/arch; then echo "arch.userland=$v"; else echo "arch.userland=$(dpkg --print-architecture 2>/dev/null)"; fi
d=/sys/firmware/devicetree/base
# The device tree's strings end in NUL, which a shell variable drops.
[ -r $d/model ] && { v=$(tr -d '\000' < $d/model); echo "board.model=$v"; }
[ -r $d/serial-number ] && { v=$(tr -d '\000' < $d/serial-number); echo "board.serial=$v"; }
while read -r k v _; do [ "$k" = MemTotal: ] && { echo "memory_kib=$v"; break; }; done < /proc/meminfo
get /proc/sys/kernel/random/boot_id && echo "now.boot_id=$v"
v=; get /etc/machine-id && echo "now.machine_id=$v"
get /proc/sys/kernel/hostname && echo "now.hostname=$v"
echo "now.epoch=$(date +%s)"
if [ "$(id -u)" = 0 ]; then r=root
elif ! command -v sudo >/dev/null 2>&1; then r=none
elif m=$(LC_ALL=C sudo -n true 2>&1); then r=sudo
else case $m in *password*|*interactive*) r=password;; *) r=none;; esac; fi
echo "now.root=$r"
src=
while read -r s m t o _; do [ "$m" = / ] && { case ",$o," in *,ro,*) ro=1;; *) ro=0;; esac; src=$s; }; done < /proc/mounts
echo "now.root_ro=$ro"
[ -d /run/systemd/system ] && { echo now.systemd=1; echo "now.system_state=$(systemctl is-system-running 2>/dev/null)"; }
echo "now.root_free_kib=$(df -Pk / 2>/dev/null | { read -r _; read -r _ _ _ a _; echo "$a"; })"
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
