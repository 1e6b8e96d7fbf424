# what this node remembers of a cluster
d=/var/lib/rancher/k3s
hash() { [ ! -s "$2" ] || { h=$(sha256sum < "$2"); echo "$1 ${h%% *}"; }; }
hash server-ca "$d/server/tls/server-ca.crt"
[ ! -e "$d/server/db/state.db" ] || echo datastore sqlite
[ ! -d "$d/server/db/etcd" ] || echo datastore etcd
hash agent-ca "$d/agent/server-ca.crt"
[ ! -s "$d/agent/client-kubelet.crt" ] || { printf 'kubelet '; sed '/END CERT/q' "$d/agent/client-kubelet.crt" | grep -v -e '^-' | tr -d '\n'; echo; }
