to=/var/backups/etcd new=$d/picluster-snapshot.db pki=/etc/kubernetes/pki/etcd
mkdir -p "$to"; chmod 0700 "$to"
trap 'rm -f -- "$new"' EXIT
# In the pod, whose etcdctl is of etcd's own release; the data directory is the machine's, so the copy comes out there.
timeout 300 "$k" --kubeconfig "$cfg" --cache-dir /run/picluster/kubectl -n kube-system exec "etcd-$node" -- \
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key snapshot save "$new" >/run/picluster/snapshot.log 2>&1 ||
  { tail -n 5 /run/picluster/snapshot.log >&2; exit 1; }
[ -s "$new" ] || { echo "etcdctl snapshot save has left no file at $new" >&2; exit 1; }
cp -- "$new" "$to/.$name.new"
chmod 0600 "$to/.$name.new"
mv -- "$to/.$name.new" "$to/$name-$(date +%s).db"
sync
cd "$to"
n=0
for old in $(ls -1t picluster-*.db 2>/dev/null); do
  n=$((n + 1))
  [ "$n" -le "$keep" ] || rm -f -- "$old"
done
