[ -s "$f" ] || { rm -f -- "$f"; exit 0; }
failed() { cat /run/picluster/kubectl.err >&2; exit 1; }
id=$(id)
if grep -q certificateKey "$f"; then
  # The certificates belong to a token that only keeps their time (cmd/kubeadm/app/phases/copycerts).
  owner=$(kc -n kube-system get secret kubeadm-certs --ignore-not-found -o 'jsonpath={.metadata.ownerReferences[*].name}') || failed
  kc -n kube-system delete secret kubeadm-certs $owner --ignore-not-found >/dev/null || failed
fi
[ -z "$id" ] || kc -n kube-system delete secret "bootstrap-token-$id" --ignore-not-found >/dev/null || failed
rm -f -- "$f"
