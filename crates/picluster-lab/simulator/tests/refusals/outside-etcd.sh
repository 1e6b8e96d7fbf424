# k3s-io/k3s: pkg/cluster/{storage,encrypt,managed,bootstrap}.go; k3s-io/kine: pkg/endpoint/endpoint.go
# A real Kubernetes has its own datastore here.
[ -z "${KUBERNETES-}" ] || exit 0
several 4
# Somebody else's etcd, on the fourth machine.
nsenter --net=/run/netns/n4 etcd --name outside --data-dir "$W/outside" --listen-client-urls http://10.9.0.4:2379 \
    --advertise-client-urls http://10.9.0.4:2379 --listen-peer-urls http://127.0.0.1:2380 >"$W/outside.out" 2>&1 &
E=http://10.9.0.4:2379
# k3s ends where its datastore refuses it: nobody begins before it listens (0A: LISTEN, port in hexadecimal).
i=0
until nsenter --net=/run/netns/n4 grep -q ':094B 00000000:0000 0A' /proc/net/tcp; do
    i=$((i + 1)); [ $i -lt 600 ] || die 'no etcd'; sleep 0.1
done
# sharing NODE TOKEN FLAGS...: a server that keeps its cluster there
sharing() { n=$1 t=$2; shift 2; background "$n" --datastore-endpoint "$E" --token "$t" "$@"; }
# written TEXT: whether that was ever written to it, in the clear
written() { cat "$W"/outside/member/wal/*.wal | grep -aqF -- "$1"; }

# Two at once on an empty one: one makes what both use.
sharing n1 sesame
sharing n2 sesame
up n1
up n2
[ "$(cat "$W"/n[12].log | grep -c 'Bootstrap key locked for initial create')" = 1 ] || die 'who founds'
same=$(at n1 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)
[ "$(at n2 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)" = "$same" ] || die 'two clusters'
for n in n1 n2; do
    at $n test ! -e /var/lib/rancher/k3s/server/db/etcd || die "$n has an etcd"
    at $n test ! -e /var/lib/rancher/k3s/server/db/state.db || die "$n has a state.db"
done
# It is there under the token's hash, and says nothing to who does not know the token.
written "/bootstrap/$(printf sesame | sha256sum | cut -c1-12)" || die 'no key for the token'
written /registry/core/nodes/n1 || die 'no node'
! written ETCDServerCAKey || die 'in the clear'
ready n1
ready n2
at n1 "$W/k3s" kubectl create namespace shared >/dev/null
becomes shared at n2 "$W/k3s" kubectl get namespace shared -o 'jsonpath={.metadata.name}'

# Another token, or none: it is somebody else's.
different='starting kubernetes: preparing server: bootstrap data already found and encrypted with different token'
alone() { gives 1 "$different" at n3 "$W/k3s" server --node-name n3 --node-ip 10.9.0.3 --datastore-endpoint "$E" "$@"; rm -rf "$W/n3/lib/rancher"; }
alone --token other
alone
# Who is told to found beside it founds nothing.
sharing n3 sesame --cluster-init
up n3
at n3 test ! -e /var/lib/rancher/k3s/server/db/etcd/member || die 'an etcd of its own'
[ "$(at n3 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)" = "$same" ] || die 'a third one'
ready n3
# It is not k3s' to keep a copy of.
gives 1 'not find the requested resource' at n1 "$W/k3s" etcd-snapshot save

# A new card: all that it needs is there.
stop n2
rm -rf "$W/n2/lib/rancher"
sharing n2 sesame
up n2
[ "$(at n2 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher/k3s/server/token)" = "$same" ] || die 'n2 has others'

# Whichever is left sees to the nodes.
stop n1
stop n2
i=0
until at n3 "$W/k3s" kubectl get node n1 2>/dev/null | grep -q NotReady; do i=$((i + 1)); [ $i -lt 400 ] || die 'nobody minds'; sleep 0.1; done

# What else upstream can use is not simulated; the password in it is not said.
gives 1 'the simulator has no datastore outside of the cluster but etcd' at n1 "$W/k3s" server --datastore-endpoint 'postgres://k3s:hunter2@db.lan/k3s'
! grep -q hunter2 "$W/out" || die 'the password'
