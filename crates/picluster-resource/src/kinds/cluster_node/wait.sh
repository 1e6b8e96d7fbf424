now() { read -r up _ < /proc/uptime; up=${up%.*}; }
ready() { # registered, Ready, at the wanted version, and the unit says so itself
  case $(systemctl show -p ActiveState --value -- "$u") in active) ;; *) return 1;; esac
  [ -s "$cfg" ] && [ -x "$k" ] || return 1
  row=$(kc get node "$n" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end} {.status.nodeInfo.kubeletVersion}') || return 1
  set -- $row
  [ "${1-}" = True ] && [ $# = 3 ] || return 1
  [ -z "$want" ] || [ "$want" = "$3" ] || return 1
  beat=$2
  [ -z "${voter-}" ] || [ "$(kc get node "$n" -o 'jsonpath={.status.conditions[?(@.type=="EtcdIsVoter")].status}')" = True ]
}
digits() { printf %s "$1" | tr -dc 0-9; }
# The kubelet has said so since it was started: before, the cluster says what it knew of the one that was stopped. The
# condition has the time of the kubelet's own clock, in seconds.
fresh() {
  began=$(systemctl show -p ExecMainStartTimestampMonotonic --value -- "$u")
  now
  began=$(date -u -d "@$(($(date +%s) - up + ${began:-0} / 1000000 - 1))" +%Y%m%d%H%M%S)
  [ "$(digits "$beat")" -ge "$began" ]
}
# What the log says from now on: what it said before may be mended.
from=$(journalctl -n 0 --show-cursor 2>/dev/null | sed -n 's/^-- cursor: //p')
log() { journalctl -q --no-pager -o cat -u "$u" -n "$1" ${from:+--after-cursor="$from"} 2>/dev/null; }
hopeless() { # what no waiting mends
  log 60 | grep -q \
    -e 'Node password rejected' \
    -e 'token CA hash does not match' \
    -e 'failed to find memory cgroup' \
    -e 'encrypted with different token' \
    -e 'critical configuration value mismatch' \
    -e 'duplicate node name found' \
    -e 'certificate signed by unknown authority' \
    -e 'level=fatal' && return 0
  case $(systemctl show -p ActiveState,ExecMainStatus --value -- "$u" | tr '\n' ' ') in
    *' 203 '*|'203 '*|'failed '*|*' failed '*|'inactive '*|*' inactive '*) return 0;; esac
  return 1
}
for k in "$k" $(command -v kubectl); do [ -x "$k" ] && break; done
# A hundred machines may be waiting at the same time, and one server answers them all: who waits for long asks less often, and
# looks through its log, which costs it as much as all the rest, every few times only.
now; began_at=$up end=$((up + within)); bad=0; since=; round=0
while :; do
  # Twice: a node that has just come may still change its mind. A kubelet says that nothing has changed every five minutes
  # only, so that one whose clock was set forward is believed when it has been Ready for as long as it needs to say no.
  if ready; then
    now
    if [ -z "$since" ]; then since=$up
    elif fresh || [ $((up - since)) -ge 15 ]; then break; fi
    sleep 1
    continue
  fi
  since=
  # Once may be a passing state between two tries; three times in a row is none.
  round=$((round + 1))
  if [ "$bad" = 0 ] && [ $((round % 3)) != 0 ]; then :
  elif hopeless; then bad=$((bad + 1)); else bad=0; fi
  now
  [ "$bad" -lt 3 ] && [ "$up" -lt "$end" ] || { late=1; break; }
  if [ "$bad" != 0 ] || [ $((up - began_at)) -ge 20 ]; then sleep 3; else sleep 1; fi
done
[ -n "${late-}" ] || exit 0
part() { echo "@@ $1"; }
part unit; systemctl show -p LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus -- "$u"
part waited; [ "$bad" -lt 3 ] && echo all || echo some
part kubectl; [ -s "$cfg" ] && { kc get node "$n" -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.reason}: {.message}{end}' || tail -n 2 /run/picluster/kubectl.err; } ; echo
[ -z "${voter-}" ] || { part voter; kc get node "$n" -o 'jsonpath={range .status.conditions[?(@.type=="EtcdIsVoter")]}{.status} {.reason}: {.message}{end}' || :; echo; }
# etcd as kubeadm runs it tells how it is to whoever asks on the machine (cmd/kubeadm/app/phases/etcd/local.go: listen-metrics-urls).
[ ! -e /etc/kubernetes/manifests/etcd.yaml ] || { part etcd; timeout 10 "$k" --kubeconfig /dev/null --cache-dir /run/picluster/kubectl --server http://127.0.0.1:2381 --token none --request-timeout 8s get --raw /metrics 2>/dev/null </dev/null | grep '^etcd_server_has_leader ' || :; }
part controllers; cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || awk '$4==1{printf "%s ",$1}' /proc/cgroups
part swap; tail -n +2 /proc/swaps
part machine; uname -m
part program; [ -z "$program" ] || head -c 20 -- "$program" 2>/dev/null | od -An -tx1 | tr -d ' \n'; echo
part date; date -u +%s
part token; [ -z "$token" ] || head -c 67 -- "$token" 2>/dev/null | grep -o '^K10[0-9a-f]*$'
# Without any credentials kubectl asks for a user name; this token is none, and nobody looks at it.
part cacerts; [ -z "$join" ] || { t=$(mktemp /run/picluster/cacerts.XXXXXX)
  timeout 10 "$k" --kubeconfig /dev/null --cache-dir /run/picluster/kubectl --server "$join" --insecure-skip-tls-verify --token none --request-timeout 8s get --raw /cacerts >"$t" 2>/run/picluster/kubectl.err \
    && sha256sum < "$t" || { why=$(tail -n 1 /run/picluster/kubectl.err); echo "${why:-i/o timeout}"; }; rm -f "$t"; }
part free; df -Pk /var/lib 2>/dev/null | tail -n 1
part log; said=$(log 60); [ -n "$said" ] || { from=; said=$(log 60); }; printf '%s\n' "$said"
exit 70
