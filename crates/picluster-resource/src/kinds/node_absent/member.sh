# The member of etcd goes first: one that is left without its Node would count in every vote and be seen nowhere.
# The API server of this very machine is asked: that of a member that goes has no etcd behind it.
at="--server https://127.0.0.1:6443 --tls-server-name kubernetes" pki=/etc/kubernetes/pki/etcd
e() { kc $at -n kube-system exec "etcd-$here" -- etcdctl --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key "$@"; }
if [ -e /etc/kubernetes/manifests/etcd.yaml ]; then
  ips=$(kc $at get node "$n" --ignore-not-found -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}') || { cat /run/picluster/kubectl.err >&2; exit 1; }
  # id, status, name, peers, clients, learner (etcdctl/ctlv3/command/printer.go). One that was added and never started has no name.
  list() { e member list | awk -F', *' -v n="$n" -v ips="$ips" '
    BEGIN { k = split(ips, ip, " ") }
    { mine = ($3 "") == (n "")  # as text: 1 is not 01
      for (i = 1; i <= k; i++) if ($3 == "" && (index($4, "//" ip[i] ":") || index($4, "//[" ip[i] "]:"))) mine = 1
      print (mine ? "goes" : "stays"), $1, ($6 == "true" ? "learner" : "voter"), ($3 == "" ? "unnamed" : $3), ($5 == "" ? "-" : $5) }'; }
  all=$(list)
  [ -n "$all" ] || { echo "etcd of $here does not say who its members are: $(cat /run/picluster/kubectl.err)"; exit 71; }
  goes=$(printf '%s\n' "$all" | awk '$1 == "goes" { print $2 }')
  if printf '%s\n' "$all" | grep -q '^goes [^ ]* voter'; then
    # Whoever is healthy has just had a proposal of its own agreed to by the others.
    well=$(e endpoint health --cluster || :; cat /run/picluster/kubectl.err)
    left=0 healthy=0 down=
    while read -r what id vote name urls; do
      [ "$what $vote" = "stays voter" ] || continue
      left=$((left + 1)) up=
      for u in $(echo "$urls" | tr , ' '); do case $well in *"$u is healthy"*) up=yes;; esac; done
      if [ -n "$up" ]; then healthy=$((healthy + 1)); else down="$down $name"; fi
    done <<LIST
$all
LIST
    [ $((healthy * 2)) -gt "$left" ] || { echo "@@ left $left"; echo "@@ healthy $healthy"; echo "@@ down$down"; exit 71; }
  fi
  # The one that goes may have led: until the others have chosen, they answer nobody.
  read -r up _ < /proc/uptime; end=$((${up%.*} + 60))
  while :; do
    [ -z "$goes" ] || for id in $goes; do e member remove "$id" >/dev/null || :; done
    all=$(list)
    goes=$(printf '%s\n' "$all" | awk '$1 == "goes" { print $2 }')
    case $all in *'stays '*) [ -n "$goes" ] || break;; esac
    read -r up _ < /proc/uptime
    [ "${up%.*}" -lt "$end" ] || { echo "etcd of $here still has a member of $n, or does not say: $(cat /run/picluster/kubectl.err)" >&2; exit 1; }
    sleep 1
  done
fi
# What a balancer leads to may be the API server of the one that goes, until its probes have stopped it.
read -r up _ < /proc/uptime; end=$((${up%.*} + 150))
until kc get node "$n" --ignore-not-found -o name >/dev/null; do
  read -r up _ < /proc/uptime
  [ "${up%.*}" -lt "$end" ] || break
  sleep 2
done
