#!/bin/bash
# Rehearses clusters of kubeadm with the real programs, on this machine, as root.
#
#   tests/kubeadm/rehearse.sh PICLUSTER [FOLDER [PART...]]      FOLDER (/var/tmp/picluster-kubeadm) keeps what was built: half an hour once
#
#   one      a control plane and a worker from blank; kubeadm is killed at several points of init and join, and taken up again; a
#            second apply finds nothing to do; the worker leaves and comes back
#   causes   what keeps a machine from founding or joining, one after the other, and that each is named with its cure
#   dramble  the example of that name, on four machines and with this release
#   ha       three control planes and a worker behind one address; a control plane's join is killed, also where etcd has a member
#            that is not there; etcd is asked from outside
#   vip      three control planes at an address that a stand-in for kube-vip gives them, and that moves when its holder goes off
#   upgrade  (with ha) that cluster goes to the next minor, killed once on the way
#   leave    (with ha) the first control plane leaves and comes back; one that is down leaves, and another machine takes its place
#
# The next minor is the same source with another number: Debian has one release of Kubernetes. What kubeadm does to get from one to
# the other is real; that the programs differ is not. Behind the address is a balancer of TCP on the hub that takes the first
# control plane that answers; no image of kube-vip is to be had without a registry.
#
# Needs Debian 12 with systemd-container, mmdebstrap, golang-1.19-go, golang-github-modern-go-reflect2-dev, gcc, libc6-dev, make,
# rsync, dpkg-dev, apt-utils, gpg, openssl, python3, busybox-static, iproute2, openssh-client. Nodes are systemd-nspawn containers with all
# capabilities: their root is this machine's root, so nothing but what is built here may run in them. docs/lab.md says why there is no
# smaller tier for it.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
PICLUSTER=$(realpath "${1:?the program to try}")
W=$(realpath -m "${2:-/var/tmp/picluster-kubeadm}")
[ "$(id -u)" = 0 ] || { echo "only root can do this" >&2; exit 1; }
shift $(($# > 1 ? 2 : 1))
PARTS=${*:-one causes dramble vip ha upgrade leave}
VERSION=1.20.2
NEXT=1.21.0
NODES="1 2 3 4"
HUB=picluster-kubeadm
NET=10.88.7
mkdir -p "$W"
cd "$W"

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

# Kubernetes from Debian's source package (decisions 22 and 33). The vendored reflect2 is of before Go 1.18: kubeadm dies of it.
source_tree() {
  tree=$W/src/gopath/src/k8s.io/kubernetes
  [ ! -d "$tree/cmd/labcrictl" ] || return 0
  mkdir -p src/apt/lists/partial src/apt/cache/archives/partial src/gopath/src/k8s.io
  (
    cd src
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > apt/sources.list
    o=(-q -o "Dir::Etc::SourceList=$PWD/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt/cache" -o APT::Sandbox::User=root)
    apt-get "${o[@]}" update
    apt-get "${o[@]}" source --download-only kubernetes
    [ -d "$tree" ] || dpkg-source --no-check -x kubernetes_*.dsc "$tree"
    rm -rf "$tree/vendor/github.com/modern-go/reflect2"
    cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 "$tree/vendor/github.com/modern-go/"
    mkdir -p "$tree/cmd/labcrictl"
    cp "$HERE/crictl.go" "$tree/cmd/labcrictl/main.go"
  ) > build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
}

# VERSION FOLDER: the programs of a release; the second one is only linked anew.
programs() {
  [ ! -e "$2/done" ] || return 0
  say "building kubeadm, kubelet and the control plane, $1"
  source_tree
  mkdir -p "$2"
  (
    cd src
    minor=${1#1.}
    printf '%s\n' KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive "KUBE_GIT_VERSION=v$1" KUBE_GIT_MAJOR=1 "KUBE_GIT_MINOR=${minor%%.*}" > version
    export GOPATH=$PWD/gopath GO111MODULE=off GOFLAGS=-buildvcs=false GOCACHE=$PWD/cache
    export KUBE_GIT_VERSION_FILE=$PWD/version KUBE_BUILD_PLATFORMS=linux/amd64 PATH=/usr/lib/go-1.19/bin:$PATH
    cd "$W/src/gopath/src/k8s.io/kubernetes"
    nice make all WHAT="cmd/kubeadm cmd/kubelet cmd/kubectl cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kube-proxy"
    cp _output/local/bin/linux/amd64/kube* "$W/$2/"
    CGO_ENABLED=0 nice go build -o "$W/$2/crictl" ./cmd/labcrictl
  ) >> build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
  touch "$2/done"
}

# A machine's tree: Debian with systemd, sshd, containerd, and what the kubelet's package depends on.
tree() {
  [ ! -e root/done ] || return 0
  say "making the nodes' tree"
  rm -rf root
  mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,containerd,runc,containernetworking-plugins,iptables,conntrack,socat,ebtables,ethtool,kmod,procps,etcd-server,etcd-client,openssh-server,curl \
    bookworm root http://deb.debian.org/debian 2> tree.log || { tail -n 20 tree.log >&2; exit 1; }
  [ -e id ] || ssh-keygen -q -t ed25519 -N '' -f id
  install -d -m 700 root/root/.ssh
  install -m 600 id.pub root/root/.ssh/authorized_keys
  rm -f root/etc/ssh/ssh_host_* root/etc/hostname root/etc/apt/sources.list root/var/lib/dbus/machine-id
  : > root/etc/machine-id
  : > root/etc/resolv.conf
  printf '127.0.0.1 localhost\n::1 localhost\n' > root/etc/hosts
  for unit in apt-daily.timer apt-daily-upgrade.timer etcd.service systemd-udevd.service; do ln -sf /dev/null "root/etc/systemd/system/$unit"; done
  install -d root/etc/systemd/system/ssh.service.d
  printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' > root/etc/systemd/system/ssh.service.d/keys.conf
  # Modules of this machine's kernel count as built in.
  install -d "root/lib/modules/$(uname -r)"
  printf 'kernel/fs/overlayfs/overlay.ko\nkernel/net/bridge/br_netfilter.ko\n' > "root/lib/modules/$(uname -r)/modules.builtin"
  : > "root/lib/modules/$(uname -r)/modules.order"
  depmod -b root "$(uname -r)" 2>/dev/null
  # Sysctls that the kubelet writes belong to this machine: the node gets files of its own over them.
  cat > root/usr/local/sbin/lab-kernel <<'X'
#!/bin/sh
for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do [ -L "${d%/}" ] || mount -o remount,bind,rw "${d%/}"; done
mkdir -p /run/sysctl
for f in kernel/panic kernel/panic_on_oops vm/overcommit_memory vm/panic_on_oom kernel/keys/root_maxbytes kernel/keys/root_maxkeys net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables; do
  [ -e "/proc/sys/$f" ] || continue
  n=/run/sysctl/$(echo $f | tr / .)
  cat "/proc/sys/$f" > "$n"
  mount --bind "$n" "/proc/sys/$f"
done
mount --make-rshared /
X
  # Root of a machine without CAP_SYS_RESOURCE may not lower oom_score_adj, and the sandboxes of static pods ask for that.
  mv root/usr/sbin/runc root/usr/sbin/runc.real
  cat > root/usr/sbin/runc <<'X'
#!/bin/sh
b= p=
for a; do [ "$p" != --bundle ] || b=$a; p=$a; done
if [ -n "$b" ] && ! { echo -1 > /proc/self/oom_score_adj; } 2>/dev/null; then sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$b/config.json"; fi
exec /usr/sbin/runc.real "$@"
X
  chmod 755 root/usr/local/sbin/lab-kernel root/usr/sbin/runc
  printf '[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/sbin/lab-kernel\n[Install]\nWantedBy=sysinit.target\n' > root/etc/systemd/system/lab-kernel.service
  printf '[Unit]\nAfter=containerd.service\nWants=containerd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c "for i in /opt/images/*.tar; do ctr -n k8s.io images import $$i; done"\n[Install]\nWantedBy=multi-user.target\n' > root/etc/systemd/system/lab-images.service
  systemctl --quiet --root=root enable lab-kernel.service lab-images.service
  touch root/done
}

# Images of one layer: a program and the libraries it needs.
images() {
  [ ! -e root/opt/images/done ] || return 0
  say "making images"
  mkdir -p root/opt/images
  gcc -static -O2 -o programs/pause "$HERE/pause.c"
  for v in "$VERSION programs" "$NEXT programs-$NEXT"; do
    set -- $v
    for p in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
      python3 "$HERE/image.py" "root/opt/images/$p-$1.tar" "k8s.gcr.io/$p:v$1" "usr/local/bin/$p=$2/$p"
    done
  done
  python3 "$HERE/image.py" root/opt/images/etcd.tar k8s.gcr.io/etcd:3.4.13-0 usr/local/bin/etcd=root/usr/bin/etcd usr/local/bin/etcdctl=root/usr/bin/etcdctl
  # kubeadm's of both releases, and the one that the next release's containerd is told to take.
  for v in 3.2 3.4.1; do python3 "$HERE/image.py" root/opt/images/pause-$v.tar k8s.gcr.io/pause:$v pause=programs/pause; done
  # CoreDNS is in no package of Debian: a program that waits stands for it, and is never ready.
  python3 "$HERE/image.py" root/opt/images/coredns.tar k8s.gcr.io/coredns:1.7.0 coredns=programs/pause
  python3 "$HERE/image.py" root/opt/images/cni.tar docker.io/lab/cni:1 bin/busybox=/bin/busybox $(for p in bridge host-local portmap loopback; do echo "cni/$p=root/usr/lib/cni/$p"; done)
  touch root/opt/images/done
}

# The repository of both releases: laid out as upstream's, signed with a key of its own.
repository() {
  [ ! -e repository/InRelease ] || return 0
  say "making the repository"
  mkdir -p repository
  pack() { # NAME VERSION DEPENDS PROGRAM
    rm -rf "debs/$1"
    mkdir -p "debs/$1/DEBIAN" "debs/$1/usr/bin"
    cp "$4" "debs/$1/usr/bin/"
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: lab <lab@localhost>\nDepends: %s\nDescription: built from the source package of Debian\n' "$1" "$2" "$3" > "debs/$1/DEBIAN/control"
  }
  units=usr/lib/systemd/system
  for v in "$VERSION programs" "$NEXT programs-$NEXT"; do
    set -- $v
    pack kubelet "$1-1.1" "iptables, conntrack, socat, ebtables, ethtool" "$2/kubelet"
    pack kubectl "$1-1.1" libc6 "$2/kubectl"
    pack cri-tools "${1%.*}.0-1.1" libc6 "$2/crictl"
    pack kubeadm "$1-1.1" "kubelet (>= 1.19.0), kubectl (>= 1.19.0), cri-tools (>= 1.19.0)" "$2/kubeadm"
    mkdir -p debs/kubelet/$units debs/kubeadm/$units/kubelet.service.d debs/kubelet/etc/kubernetes/manifests
    # As in upstream's packages (kubernetes/release, cmd/krel/templates/latest/kubelet and kubeadm). Restarts are nobody's but ours.
    printf '%s\n' '[Unit]' 'Description=kubelet: The Kubernetes Node Agent' 'Wants=network-online.target' 'After=network-online.target' '[Service]' 'ExecStart=/usr/bin/kubelet' 'Restart=always' 'StartLimitInterval=0' 'RestartSec=10' '[Install]' 'WantedBy=multi-user.target' > debs/kubelet/$units/kubelet.service
    printf '%s\n' '[Service]' 'Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"' 'Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"' 'EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env' 'EnvironmentFile=-/etc/default/kubelet' 'ExecStart=' 'ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS' > debs/kubeadm/$units/kubelet.service.d/10-kubeadm.conf
    printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\n' > debs/kubelet/DEBIAN/postinst
    chmod 755 debs/kubelet/DEBIAN/postinst
    for p in debs/*; do dpkg-deb -Zgzip -z1 --build --root-owner-group "$p" repository/ >/dev/null; done
  done
  export GNUPGHOME=$W/gpg
  mkdir -p -m 700 "$GNUPGHOME"
  gpg --quiet --batch --passphrase '' --quick-gen-key 'lab <lab@localhost>' ed25519 sign never
  gpg --armor --export lab > kubernetes.asc
  (cd repository && apt-ftparchive packages . > Packages && apt-ftparchive release . > ../Release && mv ../Release . && gpg --quiet --batch --clearsign -o InRelease Release)
}

# NODE: a container of its own, with its control groups, network, and disks that can be filled.
up() {
  local n=$1 d=$W/node/$1
  mkdir -p "$d"/{upper,work,root,containerd,kubelet}
  for t in containerd kubelet; do mount -t tmpfs -o size=4g "picluster-$t" "$d/$t"; done
  ip netns add $HUB-$n
  ip -n $HUB-$n link set lo up
  ip -n $HUB link add p$n type veth peer name eth0 netns $HUB-$n
  ip -n $HUB link set p$n master br0 up
  ip -n $HUB-$n addr add $NET.$n/24 dev eth0
  ip -n $HUB-$n link set eth0 up
  ip -n $HUB-$n route add default via $NET.254
  mount -t overlay overlay -o "lowerdir=$W/root,upperdir=$d/upper,workdir=$d/work" "$d/root"
  echo "kn$n" > "$d/root/etc/hostname"
  (
    for h in /sys/fs/cgroup/*/; do
      [ -e "$h/cgroup.procs" ] && [ ! -L "${h%/}" ] || continue
      mkdir -p "$h/$HUB/n$n"
      [ ! -e "$h/$HUB/cpuset.cpus" ] || for c in "$h/$HUB" "$h/$HUB/n$n"; do cat "$h/cpuset.cpus" > "$c/cpuset.cpus"; cat "$h/cpuset.mems" > "$c/cpuset.mems"; done
      echo $BASHPID > "$h/$HUB/n$n/cgroup.procs"
    done
    exec env SYSTEMD_NSPAWN_API_VFS_WRITABLE=network setsid systemd-nspawn --quiet --register=no --keep-unit --boot -D "$d/root" --machine=kn$n --hostname=kn$n \
      --network-namespace-path=/run/netns/$HUB-$n --resolv-conf=off --timezone=off --link-journal=no --console=pipe --kill-signal=SIGRTMIN+3 \
      --capability=all --system-call-filter=@keyring --system-call-filter=bpf \
      --bind="$d/containerd:/var/lib/containerd" --bind="$d/kubelet:/var/lib/kubelet" --bind=/dev/kmsg
  ) > "$d/console.log" 2>&1 < /dev/null &
  disown
}

down() {
  trap - EXIT
  for f in http.pid balancer.pid late.pid; do
    [ ! -e "$f" ] || kill "$(cat "$f")" 2>/dev/null || :
    rm -f "$f"
  done
  for n in $NODES; do
    # Everything in the node's own control groups, and nothing else.
    for p in $(find /sys/fs/cgroup/*/$HUB/n$n -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do kill -9 "$p" 2>/dev/null || :; done
  done
  sleep 1
  for n in $NODES; do
    for m in "$W/node/$n/root" "$W/node/$n/containerd" "$W/node/$n/kubelet"; do umount -R -l "$m" 2>/dev/null || :; done
    ip netns del $HUB-$n 2>/dev/null || :
  done
  ip netns del $HUB 2>/dev/null || :
  rm -rf "$W/node" "$W/desk"
}

on() { # NODE COMMAND
  ip netns exec $HUB ssh -F none -i "$W/id" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "root@$NET.$1" "$2"
}
picluster() {
  (cd "$W/desk" && env HOME="$W/desk/home" XDG_CACHE_HOME="$W/desk/cache" XDG_STATE_HOME="$W/desk/state" XDG_CONFIG_HOME="$W/desk/config" ip netns exec $HUB "$PICLUSTER" "$@")
}
kubectl() { on "${AT:-1}" "kubectl --kubeconfig /etc/kubernetes/admin.conf $*"; }
fail() { say "FAILED: $*"; exit 1; }
apply() { # LOG OPTION...
  local log=$1; shift
  picluster apply --yes "$@" > "$log" 2>&1 || { cat "$log" >&2; fail "apply ($log)"; }
}
unchanged() { picluster apply --yes > again.log 2>&1 && grep -q '^Nothing to do' again.log || { cat again.log >&2; fail "the second apply had something to do"; }; }
# NODE CONDITION: kubeadm there is killed as soon as the condition holds; the apply that runs meanwhile has to notice.
killed_when() {
  local n=$1 when=$2
  say "kn$n: kubeadm is killed when $when"
  on "$n" "until pidof -q kubeadm || [ -n \"\$(cat /proc/[0-9]*/stat 2>/dev/null | grep -m 1 '(kubeadm)')\" ]; do sleep 0.05; done; until $when; do grep -q '(kubeadm)' /proc/[0-9]*/stat 2>/dev/null || exit 1; sleep 0.05; done; kill -9 \$(cat /proc/[0-9]*/stat 2>/dev/null | awk '\$2 == \"(kubeadm)\" { print \$1 }')" & killer=$!
  ! picluster apply --yes --accept-new > killed.log 2>&1 || fail "nobody noticed that kubeadm was killed"
  wait $killer || { cat killed.log >&2; fail "kubeadm had ended before it could be killed"; }
  grep -q 'ended by signal 9' killed.log || { cat killed.log >&2; fail "the cause was not named"; }
}
ready() { [ "$(kubectl get nodes --no-headers | awk -v v="v$2" '$2 == "Ready" && $NF == v { n++ } END { print n + 0 }')" = "$1" ] || { kubectl get nodes >&2; fail "$1 nodes are Ready at $2"; }; }
# NODE: the same between the addition of its member to etcd and the manifest that starts it: a pipe that nobody reads holds that up.
killed_between() {
  on "$1" 'mkdir -p /etc/kubernetes/manifests; mkfifo /etc/kubernetes/manifests/etcd.yaml'
  killed_when "$1" "etcdctl --endpoints=https://$NET.${AT:-1}:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key member list 2>/dev/null | grep -q 'unstarted.*//$NET.$1:'"
  on "$1" 'rm /etc/kubernetes/manifests/etcd.yaml'
}
# WORDS...: the next apply fails, and says this; nothing less will do.
says() {
  ! picluster apply --yes --accept-new > cause.log 2>&1 || { cat cause.log >&2; fail "nobody noticed: $*"; }
  local word
  for word; do grep -qF -e "$word" cause.log || { cat cause.log >&2; fail "the cause is not named: $word"; }; done
}
no_secrets() { # NODE...: nothing that lets anybody in is left
  [ -z "$(kubectl "-n kube-system get secrets -o name" | grep -e bootstrap-token -e kubeadm-certs)" ] || fail "a token, or the certificates, are left in the cluster"
  for n; do
    [ -z "$(on "$n" "find / -xdev -type f -size -300k -newer /etc/apt/sources.list.d/kubernetes.sources -not -path '/proc/*' -not -path '/var/lib/etcd/*' -exec grep -lE '(^|[^a-z0-9.])[a-z0-9]{6}\\.[a-z0-9]{16}([^a-z0-9]|$)|certificateKey: ' {} + 2>/dev/null")" ] || fail "a file on kn$n holds a token or a key"
    ! on "$n" 'journalctl -q --no-pager | grep -qE "certificateKey|[^a-z0-9.][a-z0-9]{6}\.[a-z0-9]{16}[^a-z0-9]"' || fail "the journal of kn$n holds a token or a key"
  done
}
inventory() { # VERSION, lines of the cluster, lines of nodes
  cat > desk/inventory.yaml <<X
cluster: kubeadm
ssh: { user: root, identity: $W/id }
roles:
  - kubeadm: { timeout: 400, kubeadm_timeout: 900, drain_timeout: 120 }
kubernetes:
  distribution: kubeadm
  version: v$1
  repository: { url: "http://$NET.254:8000/", key: kubernetes.asc }
  cluster_cidr: 10.244.0.0/16
  manifests: [{ name: bridge, path: network.yaml }]
$2
nodes:
$3
X
}
server() { echo "  kn$1: { address: $NET.$1, kubernetes: server }"; }
worker() { echo "  kn$1: { address: $NET.$1, kubernetes: agent, labels: { node-role.kubernetes.io/worker: \"\" }, taints: [\"slow=yes:PreferNoSchedule\"] }"; }

start() { # NODE...
  down
  trap down EXIT
  mkdir -p desk/home
  cp kubernetes.asc "$HERE/network.yaml" desk/
  ip netns add $HUB
  ip -n $HUB link set lo up
  ip -n $HUB link add br0 type bridge
  ip -n $HUB addr add $NET.254/24 dev br0
  ip -n $HUB link set br0 up
  (cd repository && exec ip netns exec $HUB python3 -m http.server 8000 --bind $NET.254 > ../http.log 2>&1) &
  echo $! > http.pid
  for n; do up $n; done
  for n; do
    for _ in $(seq 300); do on $n 'systemctl is-active --quiet lab-images.service' 2>/dev/null && break; sleep 1; done
    on $n 'systemctl is-active --quiet lab-images.service' || fail "kn$n did not start: $W/node/$n/console.log"
  done
}

one() {
  start 1 2
  say "one control plane and a worker, from blank"
  inventory $VERSION "" "$(server 1; worker 2)"
  killed_when 1 'test -s /etc/kubernetes/pki/ca.crt'
  killed_when 1 'test -e /etc/kubernetes/manifests/kube-scheduler.yaml'
  killed_when 1 'kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 2s -n kube-system get configmap kubeadm-config >/dev/null 2>&1'
  killed_when 2 'test -e /etc/kubernetes/bootstrap-kubelet.conf'
  killed_when 2 'test -s /etc/kubernetes/kubelet.conf'
  for _ in $(seq 120); do kubectl get node kn2 2>/dev/null | grep -q ' Ready ' && break; sleep 1; done
  kubectl get node kn2 | grep -q ' Ready ' || fail "kn2 is Ready, although its join was killed"
  say "taken up again"
  apply second.log
  unchanged
  ready 2 $VERSION
  kubectl get node kn2 -o yaml | grep -q 'node-role.kubernetes.io/worker' || fail "the label is there"
  kubectl get node kn2 -o yaml | grep -q 'kubeadm.alpha.kubernetes.io/cri-socket' || fail "the annotation is there"
  no_secrets 1 2
  picluster kubeconfig --out "$W/desk/kubeconfig" > kubeconfig.log 2>&1 || { cat kubeconfig.log >&2; fail "kubeconfig"; }
  ip netns exec $HUB programs/kubectl --kubeconfig desk/kubeconfig get nodes > /dev/null || fail "the kubeconfig leads to the cluster"

  say "the worker leaves, and comes back; a machine that is something else is refused before anything is written"
  inventory $VERSION "" "$(server 1)"
  apply leaves.log --remove-nodes
  ! kubectl get node kn2 2>/dev/null || fail "kn2 is no node any more"
  ! on 2 'test -e /etc/kubernetes/kubelet.conf' || fail "kn2 has forgotten the cluster"
  inventory $VERSION "" "$(server 1; worker 2)"
  on 2 'mkdir -p /etc/kubernetes/pki; echo other > /etc/kubernetes/pki/ca.crt'
  ! picluster apply --yes --accept-new > refused.log 2>&1 || fail "a CA of somebody else was taken over"
  grep -q 'kubeadm join refused kn2 before it wrote anything' refused.log || { cat refused.log >&2; fail "the refusal is named"; }
  ! on 2 'test -e /etc/kubernetes/picluster.begun' || fail "what was refused has not begun"
  on 2 'rm /etc/kubernetes/pki/ca.crt'
  apply back.log
  unchanged
}

HA="  endpoint: $NET.254"
ALL= MEMBERS="1 2 3" NOW=$VERSION
answers() { # the cluster, twice in a row
  local n=0
  for _ in $(seq 150); do
    if kubectl "--request-timeout 5s get --raw /readyz" >/dev/null 2>&1; then n=$((n + 1)); else n=0; fi
    [ $n -lt 2 ] || return 0
    sleep 1
  done
  fail "the cluster answers"
}
voters() { # NODE...: the members of etcd, all of them voters that are healthy
  etcd member list | tee members.log >&2
  [ "$(sed -n 's/.*, started, \(kn[0-9]\), .*, false$/\1/p' members.log | sort | tr '\n' ' ')" = "$(printf 'kn%s ' "$@")" ] && [ "$(wc -l < members.log)" = $# ] || fail "members of etcd are $*"
  MEMBERS=$*
  etcd endpoint health >&2 || fail "all of them answer"
}
etcd() { # what etcd says, asked from outside: certificates of a control plane, the addresses of all
  mkdir -p desk/etcd
  for f in ca.crt healthcheck-client.crt healthcheck-client.key; do on "${AT:-1}" "cat /etc/kubernetes/pki/etcd/$f" > desk/etcd/$f; done
  ip netns exec $HUB root/usr/bin/etcdctl --endpoints="$(printf "https://$NET.%s:2379," $MEMBERS | sed 's/,$//')" --cacert=desk/etcd/ca.crt --cert=desk/etcd/healthcheck-client.crt --key=desk/etcd/healthcheck-client.key "$@"
}
ha() {
  start 1 2 3 4
  ip netns exec $HUB python3 "$HERE/balancer.py" $NET.254:6443 $NET.1:6443 $NET.2:6443 $NET.3:6443 $NET.4:6443 > balancer.log 2>&1 &
  echo $! > balancer.pid
  ALL=$(server 1; server 2; server 3; worker 4)
  say "three control planes and a worker, from blank"
  inventory $VERSION "$HA" "$ALL"
  killed_when 2 'test -s /etc/kubernetes/pki/apiserver.crt'
  killed_when 2 'test -s /etc/kubernetes/kubelet.conf'
  say "etcd of one has a second member that is not there: it stops, and picluster says how it goes on"
  killed_between 2
  says 'its etcd runs and has no leader' '--force-new-cluster'
  on 1 'cp /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml; sed "s/^    - etcd\$/&\n    - --force-new-cluster/" /root/etcd.yaml > /root/alone.yaml && ! cmp -s /root/etcd.yaml /root/alone.yaml && cat /root/alone.yaml > /etc/kubernetes/manifests/etcd.yaml'
  answers
  on 1 'cat /root/etcd.yaml > /etc/kubernetes/manifests/etcd.yaml'
  sleep 5
  answers
  inventory $VERSION "$HA" "$ALL"
  killed_when 2 'test -e /etc/kubernetes/manifests/etcd.yaml'
  say "etcd of two has a third member that is not there: it goes on, and the join is taken up"
  killed_when 3 'test -s /etc/kubernetes/pki/apiserver.crt'
  killed_between 3
  apply ha.log
  unchanged
  ready 4 $VERSION
  voters 1 2 3
  no_secrets 1 2 3 4
  picluster kubeconfig --out "$W/desk/kubeconfig" > kubeconfig.log 2>&1 || { cat kubeconfig.log >&2; fail "kubeconfig"; }
  grep -q "server: https://$NET.254:6443" desk/kubeconfig || fail "the kubeconfig has the cluster's address"
  ip netns exec $HUB programs/kubectl --kubeconfig desk/kubeconfig get nodes > /dev/null || fail "the kubeconfig leads to the cluster"
}

upgrade() {
  [ -n "$ALL" ] || fail "upgrade goes with ha"
  say "a release that is too far, and an older one"
  for v in 1.22.0 1.19.16 1.20.1; do
    inventory $v "$HA" "$ALL"
    ! picluster plan > refused.log 2>&1 || { cat refused.log >&2; fail "v$v is refused"; }
  done
  say "from $VERSION to $NEXT"
  inventory $NEXT "$HA" "$ALL"
  picluster plan > upgrade-plan.log 2>&1 || :
  killed_when 1 'grep -q kube-apiserver:v'$NEXT' /etc/kubernetes/manifests/kube-apiserver.yaml'
  # The quorum of etcd and the number of nodes out of work, all the time.
  ( while :; do
      etcd endpoint health 2>&1 | grep -c 'is healthy' || :
      sleep 2
    done ) > quorum.log & watch=$!
  if picluster apply --yes > upgrade.log 2>&1; then :; else kill $watch; cat upgrade.log >&2; fail "the upgrade"; fi
  kill $watch
  ! grep -qx '[01]' quorum.log || { sort quorum.log | uniq -c >&2; fail "two of three members of etcd at any time"; }
  unchanged
  ready 4 $NEXT
  NOW=$NEXT
  [ "$(kubectl "-n kube-system get pods -l tier=control-plane -o yaml" | grep -c "image: k8s.gcr.io/kube-apiserver:v$NEXT")" -ge 3 ] || fail "three API servers of the release"
  [ -z "$(kubectl "get nodes -o yaml" | grep 'unschedulable: true')" ] || fail "all nodes take pods"
  [ -n "$(on 1 "ls /var/backups/etcd/picluster-v$VERSION-*.db")" ] || fail "the snapshot is there"
  on 1 "cp /var/backups/etcd/picluster-v$VERSION-*.db /tmp/s.db && etcdctl snapshot status /tmp/s.db" >&2 || fail "the snapshot can be read"
  [ "$(on 1 'apt-mark showhold | tr "\n" " "')" = "kubeadm kubectl kubelet " ] || fail "packages are on hold"
}

away() { # NODE: its power goes
  local p
  for p in $(find /sys/fs/cgroup/*/$HUB/n$1 -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do kill -9 "$p" 2>/dev/null || :; done
}
leave() {
  [ -n "$ALL" ] || fail "leave goes with ha"
  inventory $NOW "$HA" "$ALL"
  say "the first control plane, which has founded the cluster, leaves"
  picluster reset kn1 --yes --confirm kubeadm > reset.log 2>&1 || { cat reset.log >&2; fail "reset"; }
  MEMBERS="2 3"
  AT=2 voters 2 3
  ! AT=2 kubectl get node kn1 2>/dev/null || fail "kn1 is no node any more"
  [ -z "$(on 1 'ls -d /etc/kubernetes/admin.conf /etc/kubernetes/pki /etc/kubernetes/manifests /var/lib/etcd 2>/dev/null')" ] || fail "kn1 has forgotten the cluster"
  AT=2 ready 3 $NOW
  say "and comes back"
  apply back.log
  unchanged
  voters 1 2 3
  ready 4 $NOW

  say "one is down: no other one leaves; it does, and another machine takes its place"
  away 3
  for _ in $(seq 90); do kubectl get node kn3 | grep -q NotReady && break; sleep 1; done
  ! picluster reset kn1 --yes --confirm kubeadm > refused.log 2>&1 || { cat refused.log >&2; fail "a control plane left while another one was down"; }
  [ "$(MEMBERS="1 2" etcd member list | wc -l)" = 3 ] || fail "etcd has its three members"
  picluster reset kn4 --yes --confirm kubeadm > reset.log 2>&1 || { cat reset.log >&2; fail "reset of the worker"; }
  inventory $NOW "$HA" "$(server 1; server 2; server 4)"
  says 'it does not join yet: servers join one at a time, and server kn3 is not Ready'
  # As if a run had broken off between etcd and the Node.
  MEMBERS="1 2" etcd member remove "$(MEMBERS="1 2" etcd member list | sed -n 's/^\([0-9a-f]*\), .*, kn3, .*/\1/p')" >&2
  picluster apply --yes --remove-nodes > leaves.log 2>&1 || [ $? = 4 ] || { cat leaves.log >&2; fail "kn3 leaves"; }
  MEMBERS="1 2 4"
  voters 1 2 4
  ! kubectl get node kn3 2>/dev/null || fail "kn3 is no node any more"
  ready 3 $NOW
  say "another one that is down leaves, its member and all"
  away 2
  for _ in $(seq 90); do kubectl get node kn2 | grep -q NotReady && break; sleep 1; done
  inventory $NOW "$HA" "$(server 1)"
  picluster apply --yes --remove-nodes > leaves.log 2>&1 || [ $? = 4 ] || { cat leaves.log >&2; fail "kn2 and kn4 leave"; }
  MEMBERS=1
  voters 1
  [ "$(kubectl get nodes --no-headers | wc -l)" = 1 ] || fail "kn1 is alone"
  ALL=
}

vip() {
  down
  local at=$NET.250 image=root/opt/images/kube-vip.tar version holder n
  version=$(sed -n 's/^ *default: \(v[0-9.]*\)$/\1/p' "$HERE/../../roles/kube-vip/role.yaml")
  [ "$image" -nt "$HERE/kube-vip.sh" ] || python3 "$HERE/image.py" "$image" "ghcr.io/kube-vip/kube-vip:$version" kube-vip="$HERE/kube-vip.sh" bin/busybox=/bin/busybox usr/local/bin/kubectl=programs/kubectl
  start 1 2 3
  say "three control planes at an address that a stand-in for kube-vip $version gives them, from blank"
  inventory $VERSION "  endpoint: $at" "$(server 1; server 2; server 3)"
  sed -i 's/^roles:$/&\n  - kube-vip: { interface: eth0 }/' desk/inventory.yaml
  apply vip.log --accept-new
  unchanged
  ready 3 $VERSION
  voters 1 2 3
  holder=
  for n in 1 2 3; do ! on $n "ip -4 addr show eth0 | grep -q ' $at/32 '" || holder="$holder$n"; done
  case $holder in 1|2|3) ;; *) fail "one machine has the address, not: $holder" ;; esac
  say "kn$holder, which has it, goes off"
  away $holder
  AT=$((holder % 3 + 1)) answers
  no_secrets $((holder % 3 + 1))
}

causes() {
  start 1 2
  inventory $VERSION "" "$(server 1; worker 2)"
  say "the port of the API server is taken: picluster sees that itself; swap is on"
  on 1 'setsid socat TCP-LISTEN:6443,fork /dev/null >/dev/null 2>&1 </dev/null & echo $! > /run/taken'
  says '`socat` listens on port 6443, which the API server needs'
  on 1 'kill $(cat /run/taken)'
  # The table of this machine's swap is read through; nobody here may switch any on.
  on 1 'printf "Filename Type Size Used Priority\n/var/swap file 524284 0 -2\n" > /run/swaps; mount --bind /run/swaps /proc/swaps'
  says 'kubeadm init refused kn1 before it wrote anything' 'Swap: running with swap on is not supported' 'role `swap-off`'
  on 1 'umount /proc/swaps'
  say "containerd without CRI"
  on 1 'printf "disabled_plugins = [\"cri\"]\n" > /etc/containerd/other.toml; mkdir -p /etc/systemd/system/containerd.service.d; printf "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/other.toml\n" > /etc/systemd/system/containerd.service.d/lab.conf; systemctl daemon-reload; systemctl restart containerd'
  says 'kubeadm init refused kn1' 'CRI: container runtime is not running' 'must not disable the plugin cri'
  say "containerd that does not come up"
  on 1 'printf "[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep infinity\n" > /etc/systemd/system/containerd.service.d/lab.conf; systemctl daemon-reload; systemctl restart containerd; rm -f /run/containerd/containerd.sock'
  says 'kubeadm init refused kn1' 'CRI: container runtime is not running' 'journalctl -u containerd'
  say "containerd is stopped: it is started; the worker's port of the kubelet is taken"
  on 1 'rm -r /etc/systemd/system/containerd.service.d; systemctl daemon-reload; systemctl stop containerd'
  on 2 'setsid socat TCP-LISTEN:10250,fork /dev/null >/dev/null 2>&1 </dev/null & echo $! > /run/taken'
  says '`socat` listens on port 10250, which the kubelet needs'
  on 2 'kill $(cat /run/taken)'
  on 1 'systemctl is-active --quiet containerd' || fail "containerd runs again"

  say "another CA answers than the one that made the token"
  # kubeadm waits five minutes for what these three do not mend: it is told to wait for less.
  on 2 'mv /usr/bin/kubeadm /usr/bin/kubeadm.real; printf "#!/bin/sh\n[ ! -e /run/wait ] || { : > /run/joining; sleep 10; }\nfor a; do [ \"\$p\" != --config ] || sed -i \"s/^discovery: {/&\\\"timeout\\\": \\\"20s\\\", /\" \"\$a\"; p=\$a; done\nexec /usr/bin/kubeadm.real \"\$@\"\n" > /usr/bin/kubeadm; chmod 755 /usr/bin/kubeadm'
  kubectl "-n kube-public get configmap cluster-info -o yaml" | sed '/^  uid:/d; /resourceVersion:/d; /creationTimestamp:/d' > desk/cluster-info.yaml
  openssl req -x509 -newkey rsa:2048 -nodes -keyout desk/other.key -subj /CN=other -days 2 -out desk/other.crt 2>/dev/null
  sed "s/certificate-authority-data: .*/certificate-authority-data: $(base64 -w0 < desk/other.crt)/" desk/cluster-info.yaml > desk/other.yaml
  kubectl "replace -f -" < desk/other.yaml >&2
  says 'another cluster answers than the one that made the token' 'see which machine answers at the registration address'
  kubectl "replace -f -" < desk/cluster-info.yaml >&2

  say "the token is gone"
  on 2 ': > /run/wait'
  ( until on 2 'test -e /run/joining'; do sleep 0.5; done; kubectl "-n kube-system delete secret --field-selector type=bootstrap.kubernetes.io/token" >&2 ) & local deletes=$!
  says 'the cluster does not know its token: it has expired' 'picluster apply makes a new one'
  wait $deletes
  on 2 'rm /run/wait'

  say "the certificate is of tomorrow by the node's clock"
  # Machines here have one clock, so what is wrong is the certificate: a server in between has one that is not valid yet.
  mkdir -p desk/late
  on 1 'cat /etc/kubernetes/pki/ca.crt' > desk/late/ca.crt
  on 1 'cat /etc/kubernetes/pki/ca.key' > desk/late/ca.key
  ( cd desk/late
    : > index.txt; echo 01 > serial
    printf '%s\n' '[ca]' 'default_ca = d' '[d]' 'database = index.txt' 'serial = serial' 'new_certs_dir = .' 'policy = p' 'default_md = sha256' '[p]' 'commonName = supplied' '[san]' "subjectAltName = IP:$NET.1" > late.cnf
    openssl req -new -newkey rsa:2048 -nodes -keyout late.key -subj /CN=kube-apiserver -out late.csr
    openssl ca -config late.cnf -batch -cert ca.crt -keyfile ca.key -extensions san -startdate "$(date -u -d tomorrow +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d '3 days' +%Y%m%d%H%M%SZ)" -in late.csr -out late.crt ) > late.log 2>&1 || { cat late.log >&2; fail "the certificate of tomorrow"; }
  ip netns exec $HUB python3 "$HERE/late.py" $NET.254:7443 $NET.1:6443 desk/late/late.crt desk/late/late.key > late.log 2>&1 &
  echo $! > late.pid
  on 2 "iptables -t nat -I OUTPUT -d $NET.1 -p tcp --dport 6443 -j DNAT --to $NET.254:7443"
  says 'a certificate is not valid at the node'"'"'s time' 'timedatectl'
  on 2 "iptables -t nat -D OUTPUT 1"
  kill "$(cat late.pid)"; rm late.pid
  on 2 'mv /usr/bin/kubeadm.real /usr/bin/kubeadm'

  say "the cluster has a node of this name that is Ready"
  on 1 'printf "apiVersion: v1\nkind: Node\nmetadata: { name: kn2 }\n" | kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - >&2
    p=/etc/kubernetes/pki; setsid sh -c "while :; do curl -s --cacert $p/ca.crt --cert $p/apiserver-kubelet-client.crt --key $p/apiserver-kubelet-client.key -X PATCH -H Content-Type:application/strategic-merge-patch+json https://kubernetes:6443/api/v1/nodes/kn2/status --connect-to kubernetes:6443:127.0.0.1:6443 -d \"{\\\"status\\\":{\\\"conditions\\\":[{\\\"type\\\":\\\"Ready\\\",\\\"status\\\":\\\"True\\\",\\\"reason\\\":\\\"lab\\\",\\\"lastHeartbeatTime\\\":\\\"\$(date -u +%FT%TZ)\\\"}]}}\"; sleep 3; done" >/dev/null 2>&1 </dev/null & echo $! > /run/beats'
  for _ in $(seq 30); do kubectl get node kn2 | grep -q ' Ready ' && break; sleep 1; done
  says 'the cluster has a node of this name that is Ready' 'kubectl delete node kn2'
  on 1 'kill -- -$(cat /run/beats)'
  kubectl delete node kn2 >&2
  say "and when nothing is wrong any more, it joins"
  apply causes.log
  unchanged
  ready 2 $VERSION
  no_secrets 1 2
}

# What the example's roles install, from Debian, as far as the nodes do not have it.
debian() {
  [ ! -e repository/debian/Packages ] || return 0
  say "fetching packages of Debian"
  mkdir -p src/apt/lists/partial debian/partial repository/debian
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > src/apt/debian.list
  local o=(-q -o "Dir::Etc::SourceList=$W/src/apt/debian.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$W/src/apt/lists" -o "Dir::State::status=$W/root/var/lib/dpkg/status" -o "Dir::Cache::Archives=$W/debian" -o APT::Sandbox::User=root)
  { apt-get "${o[@]}" update && apt-get "${o[@]}" -y --no-install-recommends --download-only install nfs-common ca-certificates; } > debian.log 2>&1 || { tail -n 20 debian.log >&2; fail "packages of Debian"; }
  cp debian/*.deb repository/debian/
  (cd repository/debian && apt-ftparchive packages . > Packages && apt-ftparchive release . > ../debian.Release && mv ../debian.Release Release)
}
dramble() {
  debian
  start 1 2 3 4
  say "examples/dramble from blank, with $VERSION"
  cp "$HERE/../../examples/dramble/inventory.yaml" desk/inventory.yaml
  change() { # PATTERN REPLACEMENT: what is not there any more is no rehearsal of it
    grep -qE "$1" desk/inventory.yaml || fail "the example has no $1"
    sed -i -E "s|$1|$2|" desk/inventory.yaml
  }
  change '^ssh: .*' "ssh: { user: root, identity: $W/id }"
  change '^  version: .*' "  version: v$VERSION"
  change '^  repository: .*' "  repository: { url: \"http://$NET.254:8000/\", key: kubernetes.asc }"
  # There is no registry here, and flannel's program is in none of Debian's packages: a bridge on each node.
  change '^      url: https://raw.githubusercontent.com/flannel-io/.*' '      path: network.yaml'
  change '^      checksum: .*' ''
  change '10\.0\.100\.6' "$NET."
  for n in 1 2 3 4; do on $n "printf 'deb [trusted=yes] http://$NET.254:8000/debian/ ./\n' > /etc/apt/sources.list.d/debian.list"; done
  apply dramble.log --accept-new
  unchanged
  ready 4 $VERSION
  [ "$(kubectl "get nodes -l node-role.kubernetes.io/worker -o name" | wc -l)" = 3 ] || fail "three workers have their label"
  kubectl "get persistentvolume nas-data -o yaml" | grep -q 'server: 10.0.100.250' || fail "the volume of the NAS is there"
  for n in 1 2 3 4; do on $n 'test -x /sbin/mount.nfs && [ "$(cat /etc/hostname)" = kube'$n' ]' || fail "kube$n has what its roles say"; done
  no_secrets 1 2 3 4
}

programs $VERSION programs
programs $NEXT programs-$NEXT
tree
images
repository
for part in $PARTS; do
  "$part"
done
say "all is well"
