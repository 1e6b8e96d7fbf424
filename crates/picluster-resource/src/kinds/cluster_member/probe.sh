# what this node remembers of a cluster
d=/var/lib/rancher/k3s
hash() { [ ! -s "$2" ] || { h=$(sha256sum < "$2"); echo "$1 ${h%% *}"; }; }
hash server-ca "$d/server/tls/server-ca.crt"
[ ! -e "$d/server/db/state.db" ] || echo datastore sqlite
# A server that did not get as far as joining has this folder, and no member in it.
[ ! -d "$d/server/db/etcd/member" ] || echo datastore etcd
[ ! -e "$d/server/db/etcd/tombstone" ] || echo removed yes
# A server that runs says its release itself; of one that does not, the program stands for it.
if [ -d "$d/server/db" ] && ! systemctl -q is-active k3s.service; then
k=/usr/local/bin/k3s; [ ! -x "$k" ] || "$k" --version 2>/dev/null | sed -n 's/^k3s version \(v[^ ]*\).*/version \1/p'
fi
hash agent-ca "$d/agent/server-ca.crt"
[ ! -s "$d/agent/client-kubelet.crt" ] || { printf 'kubelet '; sed '/END CERT/q' "$d/agent/client-kubelet.crt" | grep -v -e '^-' | tr -d '\n'; echo; }
# A node of kubeadm (cmd/kubeadm/app/constants).
[ ! -e /etc/kubernetes/kubelet.conf ] || echo other kubeadm
