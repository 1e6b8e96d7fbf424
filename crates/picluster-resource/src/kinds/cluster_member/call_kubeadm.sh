[ ! -d /var/lib/etcd/member ] || exit 0
# What kubeadm lets anybody read (cmd/kubeadm/app/phases/bootstraptoken/clusterinfo): the cluster's CA is in it.
if command -v curl >/dev/null; then
  c=$(curl -ksf --max-time 6 "https://$h:$p/api/v1/namespaces/kube-public/configmaps/cluster-info" 2>/dev/null | sed -n 's/.*certificate-authority-data: *\([A-Za-z0-9+/=]*\).*/\1/p' | head -n 1)
  case $c in
  ?*) c=$(printf %s "$c" | base64 -d 2>/dev/null | sha256sum); echo "ca ${c%% *}";;
  *) echo silent;;
  esac
elif command -v bash >/dev/null && timeout 6 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$h" "$p" 2>/dev/null; then echo open
else echo silent
fi
