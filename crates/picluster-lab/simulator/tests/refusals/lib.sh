# Nodes of one machine: each has its own /etc and /var/lib, all share the loopback address.
# shellcheck shell=sh
ip link set lo up
if [ -n "${KUBERNETES-}" ]; then
    mount -t tmpfs none /usr/local/lib
    mkdir /usr/local/lib/kubernetes
    mount --bind "$KUBERNETES" /usr/local/lib/kubernetes
    # What the kernel says may be secret here; a hollow kubelet has to open it.
    [ ! -e /dev/kmsg ] || mount --bind /dev/null /dev/kmsg
fi
# Real kubelets listen; these have one network.
PORTS=10250

# Texts of releases differ: 33 of v1.33.5+k3s1.
MINOR=$("$W/k3s" --version 2>/dev/null | sed -n 's/^k3s version v1\.\([0-9]*\)\..*/\1/p')

# at NODE COMMAND...: on that node
at() {
    n=$1; shift
    if [ ! -d "$W/$n" ]; then
        mkdir -p "$W/$n/etc/rancher/k3s" "$W/$n/lib" "$W/$n/sys"
        echo "$n" | md5sum | cut -c1-32 >"$W/$n/etc/machine-id"
        printf '127.0.0.1 localhost\n' >"$W/$n/etc/hosts"
        printf 'nameserver 127.0.0.1\n' >"$W/$n/etc/resolv.conf"
    fi
    ${EXEC-} ${SEVERAL:+nsenter --net=/run/netns/$n} unshare --mount sh -ec '
        w=$1; shift
        mount --bind "$w/etc" /etc; mount --bind "$w/lib" /var/lib
        if [ -e "$w/sys/controllers" ]; then
            mount -t cgroup2 none /sys/fs/cgroup; mount --bind "$w/sys/controllers" /sys/fs/cgroup/cgroup.controllers
        else
            mkdir -p /sys/fs/cgroup
            mount -t cgroup2 none /sys/fs/cgroup
            echo cpuset cpu io memory pids >"$w/sys/all"
            mount --bind "$w/sys/all" /sys/fs/cgroup/cgroup.controllers
        fi
        exec "$@"' at "$W/$n" "$@"
}

say() { echo "$*" >&2; }
die() { say "FAILED: $*"; for l in "$W"/*.log; do say "--- $l"; grep -v '"level":' "$l" | tail -n 30 >&2; done; exit 1; }

# has FILE TEXT: waits up to a minute for a line, ten minutes with real Kubernetes
has() {
    i=0
    while ! grep -qF -- "$2" "$1" 2>/dev/null; do
        i=$((i + 1)); [ $i -lt ${KUBERNETES:+1}1200 ] || die "no '$2' in $1"
        sleep 0.05
    done
}

# server NODE FLAGS...: in the background; waits until it is up
server() {
    n=$1; shift
    : >"$W/$n.log" # what a run before said must not be taken for this one's
    (EXEC=exec; at "$n" "$W/k3s" server --node-name "$n" --node-ip 127.0.0.1 "$@") >"$W/$n.log" 2>&1 &
    eval "pid_$n=$!"
    has "$W/$n.log" 'k3s is up and running'
}

# agent NODE TOKEN FLAGS...: in the background
agent() {
    n=$1 t=$2; shift 2
    at "$n" sh -c 'umask 077; echo "$1" >/etc/token' sh "$t"
    PORTS=$((PORTS + 1))
    : >"$W/$n.log"
    (EXEC=exec; at "$n" "$W/k3s" agent --kubelet-arg port=$PORTS --node-name "$n" --node-ip 127.0.0.1 --token-file /etc/token \
        --server https://127.0.0.1:6443 --lb-server-port "${PORT:-7444}" "$@") >"$W/$n.log" 2>&1 &
    eval "pid_$n=$!"
}

# stop NODE: its daemon
stop() { eval "kill \$pid_$1; wait \$pid_$1 2>/dev/null || :"; }

# gives CODE TEXT COMMAND...: ends with that code and says that
gives() {
    code=$1 text=$2; shift 2
    ("$@") >"$W/out" 2>&1 &
    p=$!
    (sleep ${KUBERNETES:+1}60; kill -9 $p) 2>/dev/null &
    watchdog=$!
    rc=0; wait $p || rc=$?
    kill $watchdog 2>/dev/null || :
    [ "$rc" = "$code" ] || die "exit $rc, not $code: $* : $(cat "$W/out")"
    grep -qF -- "$text" "$W/out" || die "no '$text' from $* : $(cat "$W/out")"
}

# becomes TEXT COMMAND...: waits until a command says exactly that
becomes() {
    text=$1; shift
    i=0
    until said=$("$@" 2>&1) && [ "$said" = "$text" ]; do
        i=$((i + 1)); [ $i -lt ${KUBERNETES:+1}600 ] || die "not '$text' but '$said' from $*"
        sleep 0.1
    done
}

# ready NODE: waits until it has registered and is ready
ready() {
    i=0
    until at n1 "$W/k3s" kubectl get node "$1" >/dev/null 2>&1; do
        i=$((i + 1)); [ $i -lt ${KUBERNETES:+1}600 ] || die "$1 has not registered"
        sleep 0.1
    done
    at n1 "$W/k3s" kubectl wait --for=condition=Ready "node/$1" --timeout=${KUBERNETES:+1}60s >/dev/null || die "$1 is not ready"
}
k() { at n1 "$W/k3s" kubectl "$@"; }
token() { at n1 cat /var/lib/rancher/k3s/server/token; }

# several COUNT: nodes n1… with a network each, 10.9.0.1…, on one bridge
several() {
    SEVERAL=$1
    mount -t tmpfs none /run
    mkdir /run/netns
    ip link add br0 type bridge
    ip link set br0 up
    i=0
    while [ $i -lt "$1" ]; do
        i=$((i + 1))
        ip netns add n$i
        ip link add p$i type veth peer name eth0 netns n$i
        ip link set p$i master br0 up
        ip -n n$i link set lo up
        ip -n n$i addr add 10.9.0.$i/24 dev eth0
        ip -n n$i link set eth0 up
        ip -n n$i route add default via 10.9.0.254
    done
}
# Elections of upstream's length would take most of the time.
QUICK="--etcd-arg heartbeat-interval=100 --etcd-arg election-timeout=1000"
# background NODE FLAGS...: a server, not waited for
background() {
    n=$1; shift
    : >"$W/$n.log"
    (EXEC=exec; at "$n" "$W/k3s" server --node-name "$n" --node-ip "10.9.0.${n#n}" $QUICK "$@") >"$W/$n.log" 2>&1 &
    eval "pid_$n=$!"
}
up() { has "$W/$1.log" 'k3s is up and running'; }
# first NODE FLAGS...: founds
first() { background "$@" --cluster-init; up "$1"; }
# another NODE TOKEN FLAGS...: joins at the first
another() {
    n=$1 t=$2; shift 2
    at "$n" sh -c 'umask 077; echo "$1" >/etc/token' sh "$t"
    background "$n" --server "${URL:-https://10.9.0.1:6443}" --token-file /etc/token "$@"
}
# again NODE FLAGS...: one that has joined before
again() { another "$1" "$T" ${2+"$2"} ${3+"$3"}; up "$1"; }
# refused NODE TEXT TOKEN FLAGS...: ends with code 1 and that text
refused() {
    n=$1 text=$2 t=$3; shift 3
    gives 1 "$text" at "$n" "$W/k3s" server --node-name "$n" --node-ip "10.9.0.${n#n}" --server "${URL:-https://10.9.0.1:6443}" --token "$t" "$@"
}
