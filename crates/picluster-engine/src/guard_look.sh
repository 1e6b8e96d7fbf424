# Status 8: the guard still waits. 9: it was rolled back, in one line of JSON. 0: neither.
if [ -e /var/lib/picluster/guard/paths ]; then exit 8; fi
if [ -e /var/lib/picluster/rolled-back ]; then cat /var/lib/picluster/rolled-back; exit 9; fi
