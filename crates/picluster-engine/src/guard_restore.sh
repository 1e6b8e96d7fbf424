# Takes back what was not confirmed. $1: `wait` until /run/picluster/guard.until has passed,
# `boot`: give the controller its time after a boot, `now`.
G=/var/lib/picluster/guard
LC_ALL=C; PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
mkdir -p /run/picluster
case $1 in
wait)
  while [ -e "$G/paths" ]; do
    u=0; read -r u < /run/picluster/guard.until
    read -r n _ < /proc/uptime
    [ "${n%%.*}" -lt "$u" ] || break
    sleep 1
  done ;;
boot)
  n=0; w=300; read -r w < "$G/boot_window"
  while [ -e "$G/paths" ] && [ "$n" -lt "$w" ]; do sleep 1; n=$((n + 1)); done ;;
esac
[ -e "$G/paths" ] || exit 0
# A confirmation that comes at this very moment is either before us or behind us.
exec 6>>/run/picluster/guard.lock
flock 6
[ -e "$G/paths" ] || { rm -f /run/picluster/guard.lock; exit 0; }
# A run that works here finishes its step first; one that cannot hear us does not hold us up.
[ "$1" = now ] || { exec 5>>/run/lock/picluster.lock; flock -w 20 5; }
n=0
while IFS= read -r p; do
  n=$((n + 1)); d=${p%/*}; d=${d:-/}
  # The firmware's partition may have been made read-only; then it is again afterwards.
  ro=
  if [ -d "$d" ] && [ ! -w "$d" ]; then
    ro=$(stat -c %m -- "$d") && mount -o remount,rw "$ro"
  fi
  if [ -L "$G/$n" ] || [ -e "$G/$n" ]; then
    mkdir -p "$d"
    t=$(mktemp -u "${d%/}/.picluster.XXXXXXXXXX")
    cp -dp -- "$G/$n" "$t" && mv -fT -- "$t" "$p"
  else
    rm -f -- "$p"
  fi
  [ -z "$ro" ] || { sync; mount -o remount,ro "$ro"; }
done < "$G/paths"
sync
systemctl daemon-reload
for k in $(ls "$G" | sed -n 's/^undo\.//p' | sort -rn); do sh "$G/undo.$k"; done
again= t=
[ "$1" != boot ] || [ ! -e "$G/boot" ] || again=1
# Files that were only to be tried do not count any more where this is not the try.
[ ! -e "$G/try" ] || case $(od -An -tu1 /sys/firmware/devicetree/base/chosen/bootloader/tryboot) in *1) ;; *) again= t=',"tried":true';; esac
read -r w < "$G/window"
printf '{"rolled_back":[%s],"at":%s,"within":%s%s}\n' "$(paste -sd, "$G/steps")" "$(date +%s)" "$w" "$t" > /var/lib/picluster/rolled-back
rm -rf "$G" /run/picluster/guard.until /run/picluster/guard.lock /etc/systemd/system/picluster-guard-boot.service \
  /etc/systemd/system/sysinit.target.wants/picluster-guard-boot.service
sync
# The first time was for what was put back, with our own unit among it.
systemctl daemon-reload
[ "$1" != now ] || systemctl --no-block stop picluster-guard.service 2>/dev/null
# The kernel that runs was started with what has just been taken back.
[ -z "$again" ] || systemctl --no-block reboot
