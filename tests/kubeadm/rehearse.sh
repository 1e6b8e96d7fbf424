#!/bin/bash
# Rehearses a cluster of kubeadm with the real programs, on this machine, as root: one control plane and one worker from blank,
# a second apply that must find nothing to do, a worker that leaves and comes back, a kubeadm that is killed and taken up again.
#
#   tests/kubeadm/rehearse.sh PICLUSTER [FOLDER]      FOLDER (/var/tmp/picluster-kubeadm) keeps what was built: 20 minutes once
#
# Needs Debian 12 with systemd-container, mmdebstrap, golang-1.19-go, golang-github-modern-go-reflect2-dev, gcc, libc6-dev, make,
# rsync, dpkg-dev, apt-utils, gpg, python3, busybox-static, iproute2, openssh-client. Nodes are systemd-nspawn containers with all
# capabilities: their root is this machine's root, so nothing but what is built here may run in them. docs/lab.md says why there is no
# smaller tier for it.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
PICLUSTER=$(realpath "${1:?the program to try}")
W=$(realpath -m "${2:-/var/tmp/picluster-kubeadm}")
[ "$(id -u)" = 0 ] || { echo "only root can do this" >&2; exit 1; }
VERSION=1.20.2
HUB=picluster-kubeadm
NET=10.88.7
mkdir -p "$W"
cd "$W"

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

# Kubernetes from Debian's source package (decisions 22 and 33). The vendored reflect2 is of before Go 1.18: kubeadm dies of it.
programs() {
  [ ! -e programs/done ] || return 0
  say "building kubeadm, kubelet and the control plane"
  mkdir -p src/apt/lists/partial src/apt/cache/archives/partial src/gopath/src/k8s.io programs
  (
    cd src
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > apt/sources.list
    o=(-q -o "Dir::Etc::SourceList=$PWD/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt/cache" -o APT::Sandbox::User=root)
    apt-get "${o[@]}" update
    apt-get "${o[@]}" source --download-only kubernetes
    tree=$PWD/gopath/src/k8s.io/kubernetes
    [ -d "$tree" ] || dpkg-source --no-check -x kubernetes_*.dsc "$tree"
    rm -rf "$tree/vendor/github.com/modern-go/reflect2"
    cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 "$tree/vendor/github.com/modern-go/"
    mkdir -p "$tree/cmd/labcrictl"
    cp "$HERE/crictl.go" "$tree/cmd/labcrictl/main.go"
    printf '%s\n' KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive "KUBE_GIT_VERSION=v$VERSION" KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 > version
    export GOPATH=$PWD/gopath GO111MODULE=off GOFLAGS=-buildvcs=false GOCACHE=$PWD/cache
    export KUBE_GIT_VERSION_FILE=$PWD/version KUBE_BUILD_PLATFORMS=linux/amd64 PATH=/usr/lib/go-1.19/bin:$PATH
    cd "$tree"
    nice make all WHAT="cmd/kubeadm cmd/kubelet cmd/kubectl cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kube-proxy"
    cp _output/local/bin/linux/amd64/kube* "$W/programs/"
    CGO_ENABLED=0 nice go build -o "$W/programs/crictl" ./cmd/labcrictl
  ) > build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
  touch programs/done
}

# A machine's tree: Debian with systemd, sshd, containerd, and what the kubelet's package depends on.
tree() {
  [ ! -e root/done ] || return 0
  say "making the nodes' tree"
  rm -rf root
  mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,containerd,runc,containernetworking-plugins,iptables,conntrack,socat,ebtables,ethtool,kmod,procps,etcd-server,openssh-server,curl \
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
  for p in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
    python3 "$HERE/image.py" "root/opt/images/$p.tar" "k8s.gcr.io/$p:v$VERSION" "usr/local/bin/$p=programs/$p"
  done
  python3 "$HERE/image.py" root/opt/images/etcd.tar k8s.gcr.io/etcd:3.4.13-0 usr/local/bin/etcd=root/usr/bin/etcd
  python3 "$HERE/image.py" root/opt/images/pause.tar k8s.gcr.io/pause:3.2 pause=programs/pause
  # CoreDNS is in no package of Debian: a program that waits stands for it, and is never ready.
  python3 "$HERE/image.py" root/opt/images/coredns.tar k8s.gcr.io/coredns:1.7.0 coredns=programs/pause
  python3 "$HERE/image.py" root/opt/images/cni.tar docker.io/lab/cni:1 bin/busybox=/bin/busybox $(for p in bridge host-local portmap loopback; do echo "cni/$p=root/usr/lib/cni/$p"; done)
  touch root/opt/images/done
}

# The repository of the minor release: laid out as upstream's, signed with a key of its own.
repository() {
  [ ! -e repository/InRelease ] || return 0
  say "making the repository"
  mkdir -p repository
  pack() { # NAME VERSION DEPENDS
    mkdir -p "debs/$1/DEBIAN" "debs/$1/usr/bin"
    cp "programs/${4:-$1}" "debs/$1/usr/bin/"
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: lab <lab@localhost>\nDepends: %s\nDescription: built from the source package of Debian\n' "$1" "$2" "$3" > "debs/$1/DEBIAN/control"
  }
  pack kubelet $VERSION-1.1 "iptables, conntrack, socat, ebtables, ethtool"
  pack kubectl $VERSION-1.1 libc6
  pack cri-tools 1.20.0-1.1 libc6 crictl
  pack kubeadm $VERSION-1.1 "kubelet, kubectl, cri-tools"
  units=usr/lib/systemd/system
  mkdir -p debs/kubelet/$units debs/kubeadm/$units/kubelet.service.d debs/kubelet/etc/kubernetes/manifests
  # As in upstream's packages (kubernetes/release, cmd/krel/templates/latest/kubelet and kubeadm).
  printf '%s\n' '[Unit]' 'Description=kubelet: The Kubernetes Node Agent' 'Wants=network-online.target' 'After=network-online.target' '[Service]' 'ExecStart=/usr/bin/kubelet' 'Restart=always' 'StartLimitInterval=0' 'RestartSec=10' '[Install]' 'WantedBy=multi-user.target' > debs/kubelet/$units/kubelet.service
  printf '%s\n' '[Service]' 'Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"' 'Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"' 'EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env' 'EnvironmentFile=-/etc/default/kubelet' 'ExecStart=' 'ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS' > debs/kubeadm/$units/kubelet.service.d/10-kubeadm.conf
  printf '#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable kubelet.service\nsystemctl restart kubelet.service\n' > debs/kubelet/DEBIAN/postinst
  chmod 755 debs/kubelet/DEBIAN/postinst
  for p in debs/*; do dpkg-deb -Zgzip -z1 --build --root-owner-group "$p" repository/ >/dev/null; done
  export GNUPGHOME=$W/gpg
  mkdir -p -m 700 "$GNUPGHOME"
  gpg --quiet --batch --passphrase '' --quick-gen-key 'lab <lab@localhost>' ed25519 sign never
  gpg --armor --export lab > kubernetes.asc
  (cd repository && apt-ftparchive packages . > Packages && apt-ftparchive release . > ../Release && mv ../Release . && gpg --quiet --batch --clearsign -o InRelease Release)
}

# NODE 1 or 2: a container of its own, with its control groups, network, and disks that can be filled.
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
  [ ! -e http.pid ] || kill "$(cat http.pid)" 2>/dev/null || :
  rm -f http.pid
  for n in 1 2; do
    # Everything in the node's own control groups, and nothing else.
    for p in $(find /sys/fs/cgroup/*/$HUB/n$n -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do kill -9 "$p" 2>/dev/null || :; done
  done
  sleep 1
  for n in 1 2; do
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
kubectl() { on 1 "kubectl --kubeconfig /etc/kubernetes/admin.conf $*"; }
fail() { say "FAILED: $*"; exit 1; }
unchanged() { picluster apply --yes > again.log 2>&1 && grep -q '^Nothing to do' again.log || { cat again.log >&2; fail "the second apply had something to do"; }; }
inventory() { # the line of the worker, or none
  cat > desk/inventory.yaml <<X
cluster: kubeadm
ssh: { user: root, identity: $W/id }
roles:
  - kubeadm: { timeout: 240, kubeadm_timeout: 600 }
kubernetes:
  distribution: kubeadm
  version: v$VERSION
  repository: { url: "http://$NET.254:8000/", key: kubernetes.asc }
  cluster_cidr: 10.244.0.0/16
  manifests: [{ name: bridge, path: network.yaml }]
nodes:
  kn1: { address: $NET.1, kubernetes: server, labels: { disk: nvme } }
$1
X
}
WORKER="  kn2: { address: $NET.2, kubernetes: agent, labels: { node-role.kubernetes.io/worker: \"\" }, taints: [\"slow=yes:PreferNoSchedule\"] }"

programs
tree
images
repository
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
for n in 1 2; do up $n; done
for n in 1 2; do
  for _ in $(seq 120); do on $n 'systemctl is-active --quiet lab-images.service' 2>/dev/null && break; sleep 1; done
  on $n 'systemctl is-active --quiet lab-images.service' || fail "kn$n did not start: $W/node/$n/console.log"
done

say "from blank, and kubeadm is killed while the control plane starts"
inventory "$WORKER"
(
  until on 1 'test -e /etc/kubernetes/manifests/kube-scheduler.yaml' 2>/dev/null; do sleep 0.3; done
  on 1 'kill -9 $(cat /proc/[0-9]*/stat | awk '"'"'$2 == "(kubeadm)" { print $1 }'"'"')'
) & killer=$!
! picluster apply --yes --accept-new > first.log 2>&1 || fail "nobody noticed that kubeadm was killed"
wait $killer
grep -q 'ended by signal 9' first.log || { cat first.log >&2; fail "the cause was not named"; }

say "taken up again"
time picluster apply --yes > second.log 2>&1 || { cat second.log >&2; fail "apply"; }
unchanged
[ "$(kubectl get nodes --no-headers | awk '$2 == "Ready" { n++ } END { print n + 0 }')" = 2 ] || fail "two nodes are Ready"
kubectl get node kn2 -o yaml | grep -q 'node-role.kubernetes.io/worker' || fail "the label is there"
[ -z "$(on 1 'kubeadm --kubeconfig /etc/kubernetes/admin.conf token list')" ] || fail "no token is left"
for n in 1 2; do
  [ -z "$(on $n "find / -xdev -type f -size -300k -newer /etc/apt/sources.list.d/kubernetes.sources -not -path '/proc/*' -exec grep -lE '(^|[^a-z0-9.])[a-z0-9]{6}\\.[a-z0-9]{16}([^a-z0-9]|$)' {} + 2>/dev/null")" ] || fail "a file on kn$n holds a token"
done

say "the worker leaves, and comes back"
inventory ""
picluster apply --yes --remove-nodes > leaves.log 2>&1 || { cat leaves.log >&2; fail "apply --remove-nodes"; }
! kubectl get node kn2 2>/dev/null || fail "kn2 is no node any more"
! on 2 'test -e /etc/kubernetes/kubelet.conf' || fail "kn2 has forgotten the cluster"
inventory "$WORKER"
picluster apply --yes --accept-new > back.log 2>&1 || { cat back.log >&2; fail "apply"; }
unchanged
say "all is well"
