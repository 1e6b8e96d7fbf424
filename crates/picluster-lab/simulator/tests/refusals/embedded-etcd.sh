# k3s-io/k3s: pkg/etcd/{etcd,member_controller,metadata_controller}.go, pkg/cluster/{bootstrap,managed}.go
several 3
first n1
has "$W/n1.log" 'Managed etcd cluster initializing'
has "$W/n1.log" 'Starting etcd for new cluster'
has "$W/n1.log" 'etcd data store connection OK'
at n1 test -d /var/lib/rancher/k3s/server/db/etcd/member/wal || die wal
at n1 test ! -e /var/lib/rancher/k3s/server/db/state.db || die state.db
at n1 grep -q '^n1-[0-9a-f]\{8\}$' /var/lib/rancher/k3s/server/db/etcd/name || die name
at n1 grep -q '^initial-cluster-state: new$' /var/lib/rancher/k3s/server/db/etcd/config || die config
T=$(token)

# Two at once: one waits until the other is a voter, and the cluster is whole in the end.
another n2 "$T"
another n3 "$T"
up n2
up n3
grep -q 'Adding member n2-' "$W/n2.log" || die 'n2 was not added'
grep -q 'Starting etcd to join cluster with members' "$W/n3.log" || die 'n3 has not joined'
grep -q 'Promoted learner n2-' "$W/n1.log" || die 'n2 was not promoted'
for n in n1 n2 n3; do
    becomes True at $n "$W/k3s" kubectl get node $n -o 'jsonpath={.status.conditions[?(@.type=="EtcdIsVoter")].status}'
    becomes true at n1 "$W/k3s" kubectl get node $n -o 'jsonpath={.metadata.labels.node-role\.kubernetes\.io/etcd}'
done
# What one server is told all know, and all have the same authorities and the same token.
at n2 "$W/k3s" kubectl create namespace shared >/dev/null
becomes shared at n3 "$W/k3s" kubectl get namespace shared -o 'jsonpath={.metadata.name}'
same=$(at n1 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)
for n in n2 n3; do [ "$(at $n sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)" = "$same" ] || die "$n has others"; done

# What the cluster knows can be kept.
at n2 "$W/k3s" etcd-snapshot save --name kept >"$W/out" 2>&1 || die "$(cat "$W/out")"
grep -q 'Snapshot kept-n2-[0-9]* saved\.' "$W/out" || die "$(cat "$W/out")"
[ "$(at n2 sh -c 'cat /var/lib/rancher/k3s/server/db/snapshots/kept-n2-* | wc -c')" -gt 10000 ] || die "snapshot: $(at n2 ls -l /var/lib/rancher/k3s/server/db/snapshots)"

# One is away: the others go on, writing too. It comes back as what it was.
stop n3
at n1 "$W/k3s" kubectl label namespace shared a=b >/dev/null
again n3
has "$W/n3.log" 'Starting etcd for existing cluster member'
becomes b at n3 "$W/k3s" kubectl get namespace shared -o 'jsonpath={.metadata.labels.a}'

# Two are away: no majority, no API; and with one of them back there is one again.
stop n2
stop n3
gives 1 'etcd failed' at n1 "$W/k3s" kubectl get --raw /readyz --request-timeout 8s
gives 1 'etcdserver: request timed out' at n1 "$W/k3s" kubectl get nodes --request-timeout 15s
again n2
becomes ok at n1 "$W/k3s" kubectl get --raw /readyz
again n3

# A node that is deleted takes its member along; k3s says so, and joins as a new one when it is started again.
at n1 "$W/k3s" kubectl delete node n3 >/dev/null
has "$W/n3.log" 'This node has been removed from the cluster - please restart k3s to rejoin the cluster'
at n3 test -e /var/lib/rancher/k3s/server/db/etcd/tombstone || die tombstone
stop n3
old=$(at n3 cat /var/lib/rancher/k3s/server/db/etcd/name)
again n3
has "$W/n3.log" 'tombstone file has been detected, removing data dir to rejoin the cluster'
[ "$(at n3 cat /var/lib/rancher/k3s/server/db/etcd/name)" != "$old" ] || die 'the same member'
