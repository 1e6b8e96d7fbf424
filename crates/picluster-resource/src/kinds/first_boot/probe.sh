# first boot
R=
n=0
left() { n=$((n + 1)); echo "left $1"; }
set -f
for f in /boot/firmware/cmdline.txt /boot/firmware/current/cmdline.txt /boot/cmdline.txt; do
  [ -f "$R$f" ] || continue
  l=; IFS= read -r l < "$R$f" || :
  case $l in 'DO NOT EDIT'*) continue;; esac
  for t in $l; do
    case $t in systemd.run=*|resize|init=/usr/lib/raspberrypi-sys-mods/*|init=/usr/lib/raspi-config/*) left "$t in $f";; esac
  done
done
set +f
# The generator leaves "enabled" at boot, the last stage "result.json" (cloud-init's run-time files).
if [ -e $R/run/cloud-init/enabled ] && [ ! -e $R/run/cloud-init/result.json ]; then left cloud-init; fi
s=; [ ! -d $R/run/systemd/system ] || s=$(systemctl is-system-running 2>/dev/null) || :
case $s in
  stopping) left 'the system is going down';;
  initializing|starting)
    j=0 w=
    while read -r _ u _ t; do
      [ "$t" = running ] || continue
      j=1
      # These wait for their cluster for as long as it takes, on any boot.
      case $u in k3s.service|k3s-agent.service|kubelet.service) ;; *) w="$w $u";; esac
    done <<E
$(systemctl list-jobs --no-legend --plain 2>/dev/null)
E
    if [ -n "$w" ]; then left "starting:$w"; elif [ $j = 0 ]; then left 'the system is starting'; fi;;
esac
# Left by themselves, nothing will ever take them up: no reason to wait.
[ $n = 0 ] || for d in /boot/firmware /boot; do
  for f in custom.toml firstrun.sh userconf userconf.txt; do [ ! -e "$R$d/$f" ] || left "$d/$f"; done
done
echo end
