# Status 0: confirmed, and nothing of the guard is left. 9: it was rolled back, in one line of JSON.
G=/var/lib/picluster/guard
mkdir -p /run/picluster
exec 6>>/run/picluster/guard.lock
flock 6
if [ ! -e "$G/paths" ] && [ -e /var/lib/picluster/rolled-back ]; then
  cat /var/lib/picluster/rolled-back
  exit 9
fi
# First the one file without which nothing is taken back.
rm -f "$G/paths"
systemctl stop picluster-guard.service picluster-guard-boot.service 2>/dev/null || :
rm -rf "$G" /run/picluster/guard.until /var/lib/picluster/rolled-back /etc/systemd/system/picluster-guard-boot.service \
  /etc/systemd/system/sysinit.target.wants/picluster-guard-boot.service
rmdir --ignore-fail-on-non-empty /etc/systemd/system/sysinit.target.wants
# Something made systemd look at its files meanwhile: then it knows the unit that is gone.
[ "$(systemctl show -p LoadState --value picluster-guard-boot.service)" = not-found ] || systemctl daemon-reload
rm -f /run/picluster/guard.lock
