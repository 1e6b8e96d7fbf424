# Status 0: confirmed, and nothing of the guard is left. 9: it was rolled back, in one line of JSON.
G=/var/lib/picluster/guard
[ -d /run/picluster ] || mkdir -p /run/picluster
exec 6>>/run/picluster/guard.lock
flock 6
if [ ! -e "$G/paths" ] && [ -e /var/lib/picluster/rolled-back ]; then
  cat /var/lib/picluster/rolled-back
  exit 9
fi
# First the one file without which nothing is taken back.
rm -f "$G/paths"
systemctl stop picluster-guard.service picluster-guard-boot.service 2>/dev/null || :
# The lock last: who waits for it finds nothing left to take back.
rm -rf "$G" /run/picluster/guard.until /var/lib/picluster/rolled-back /etc/systemd/system/picluster-guard-boot.service \
  /etc/systemd/system/sysinit.target.wants/picluster-guard-boot.service /run/picluster/guard.lock
set -- /etc/systemd/system/sysinit.target.wants/*
if [ ! -e "$1" ] && [ ! -L "$1" ]; then rmdir /etc/systemd/system/sysinit.target.wants 2>/dev/null || :; fi
# Something made systemd look at its files meanwhile: then it knows the unit that is gone.
[ "$(systemctl show -p LoadState --value picluster-guard-boot.service)" = not-found ] || systemctl daemon-reload
