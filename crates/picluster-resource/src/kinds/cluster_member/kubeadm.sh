# what this node remembers of a cluster of kubeadm
d=/etc/kubernetes
hash() { [ ! -s "$2" ] || { h=$(sha256sum < "$2"); echo "$1 ${h%% *}"; }; }
# A run that broke off is taken up again. Who had begun to found, and has made the cluster's CA, goes on founding: it is no
# blank machine, and nobody else founds beside it. Who had begun to join is no member yet, and remembers whose cluster it was: a
# control plane may be a member of etcd there already.
if [ -e "$d/picluster.begun" ]; then
  case $(head -n 1 "$d/picluster.begun") in init) [ ! -s "$d/pki/ca.crt" ] || { hash server-ca "$d/pki/ca.crt"; echo datastore etcd; };; join) hash begun-ca "$d/pki/ca.crt";; esac
elif [ -e "$d/manifests/kube-apiserver.yaml" ] || [ -e "$d/admin.conf" ]; then
  hash server-ca "$d/pki/ca.crt"
  # One whose datastore is elsewhere has no manifest of etcd.
  [ ! -d /var/lib/etcd/member ] && [ -e "$d/manifests/etcd.yaml" ] || echo datastore etcd
elif [ -e "$d/kubelet.conf" ]; then hash agent-ca "$d/pki/ca.crt"
fi
p=/var/lib/kubelet/pki/kubelet-client-current.pem
[ -e "$d/picluster.begun" ] || [ ! -s "$p" ] || { printf 'kubelet '; sed -n '/BEGIN CERT/,/END CERT/p' "$p" | sed '/END CERT/q' | grep -v -e '^-' | tr -d '\n'; echo; }
# A node of k3s (pkg/daemons/control/deps, pkg/agent/config).
k=/var/lib/rancher/k3s; [ ! -e "$k/agent/client-kubelet.crt" ] && [ ! -e "$k/server/db/state.db" ] && [ ! -d "$k/server/db/etcd/member" ] || echo other k3s
