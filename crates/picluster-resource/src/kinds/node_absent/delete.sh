now() { read -r up _ < /proc/uptime; up=${up%.*}; }
kc delete node "$n" --ignore-not-found --wait=false >/dev/null || { cat /run/picluster/kubectl.err >&2; exit 1; }
now; end=$((up + within))
while :; do
  left=$(kc get node "$n" --ignore-not-found -o name) && [ -z "$left" ] && exit 0
  now
  [ "$up" -lt "$end" ] || { echo "node $n is deleted and still there after $within s: something keeps it (kubectl get node $n -o yaml, finalizers)" >&2; exit 1; }
  sleep 1
done
