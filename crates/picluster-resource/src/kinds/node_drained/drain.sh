err=/run/picluster/kubectl.err said=/run/picluster/drain.said
refused() { cat "$err" >&2; exit 1; }
# One patch each: nobody is killed between the cordon and the note who did it.
back() {
  [ -z "$mine" ] || kc patch node "$n" --type merge -p '{"metadata":{"annotations":{"picluster/cordoned":null}},"spec":{"unschedulable":null}}' >/dev/null || :
}
# Pods that a drain has to move: neither of daemon sets, nor static ones, nor those that have ended.
pods() {
  kc get pods -A --field-selector "spec.nodeName=$n" -o 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}|{.status.phase}|{.metadata.ownerReferences[?(@.controller==true)].kind}|{.spec.volumes[*].emptyDir}{"\n"}{end}'
}
moving() { awk -F'|' "\$2 != \"Succeeded\" && \$2 != \"Failed\" && \$3 != \"DaemonSet\" && \$3 != \"Node\" && ($1) { print \$1 }"; }
stay() { # why, and who
  echo '@@ why'; echo "$1"; echo '@@ stay'; printf '%s\n' "$2"
  echo '@@ said'; [ ! -s "$said" ] || tail -n 20 "$said"
  back
  exit 71
}
mkdir -p /run/picluster; rm -f "$said"
[ -z "$cordon" ] || kc patch node "$n" --type merge -p '{"metadata":{"annotations":{"picluster/cordoned":"'"$goal"'"}},"spec":{"unschedulable":true}}' >/dev/null || refused
if [ -z "$emptydir" ]; then
  all=$(pods) || { back; refused; }
  kept=$(printf '%s\n' "$all" | moving '$4 != "" && $1 !~ /^kube-system\//')
  [ -z "$kept" ] || stay emptydir "$kept"
fi
# kubectl has its own end; the outer one is for an API that falls silent.
timeout $((within + 60)) "$k" --kubeconfig "$cfg" --cache-dir /run/picluster/kubectl drain "$n" --ignore-daemonsets --delete-emptydir-data ${force:+--force} --timeout="${within}s" >"$said" 2>&1 ||
  stay drain "$(pods | moving 1)"
kc patch node "$n" --type merge -p '{"metadata":{"annotations":{"picluster/drained":"'"$goal"'"}}}' >/dev/null || refused
