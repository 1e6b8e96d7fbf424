mkdir -p /run/picluster
# One line: kubeadm join HOST:PORT --token TOKEN --discovery-token-ca-cert-hash sha256:HASH. It stays in this shell: none of
# it is an argument of a program.
line=$("$program" --kubeconfig "$cfg" token create --ttl "$ttl" --description 'picluster: who joins in this run' --print-join-command 2>/run/picluster/kubeadm.err) || {
  cat /run/picluster/kubeadm.err >&2
  exit 1
}
at= token= hash=
set -- $line
while [ $# -gt 0 ]; do
  case $1 in
  join) at=${2-};;
  --token) token=${2-};;
  --discovery-token-ca-cert-hash) hash=${2-};;
  esac
  shift
done
[ -n "$at" ] && [ -n "$token" ] && [ -n "$hash" ] || { echo "kubeadm token create printed something else than a join command" >&2; exit 1; }
t=$(mktemp /run/picluster/.discovery.XXXXXX)
printf '{"bootstrapToken":{"apiServerEndpoint":"%s","token":"%s","caCertHashes":["%s"]}}\n' "$at" "$token" "$hash" > "$t"
mv -f -- "$t" "$f"
