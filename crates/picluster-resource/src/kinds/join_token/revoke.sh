[ -s "$f" ] || { rm -f -- "$f"; exit 0; }
id=$(id)
[ -z "$id" ] || kc -n kube-system delete secret "bootstrap-token-$id" --ignore-not-found >/dev/null || { cat /run/picluster/kubectl.err >&2; exit 1; }
rm -f -- "$f"
