mkdir -p /run/picluster
c= t=; trap 'rm -f -- ${c:+"$c"} ${t:+"$t"}' EXIT
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
key=
if [ -n "$certificates" ]; then
  # 32 bytes for AES (cmd/kubeadm/app/constants: CertificateKeySize). The form of the file is the oldest that the release reads.
  key=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
  minor=${certificates#v1.}; minor=${minor%%.*}
  api=v1beta4; [ "$minor" -ge 31 ] || api=v1beta3; [ "$minor" -ge 22 ] || api=v1beta2
  c=$(mktemp /run/picluster/.certs.XXXXXX)
  printf '%s\n' "apiVersion: kubeadm.k8s.io/$api" 'kind: InitConfiguration' "certificateKey: $key" 'nodeRegistration:' '  criSocket: unix:///run/containerd/containerd.sock' \
    --- "apiVersion: kubeadm.k8s.io/$api" 'kind: ClusterConfiguration' "kubernetesVersion: $certificates" > "$c"
  "$program" --kubeconfig "$cfg" init phase upload-certs --upload-certs --skip-certificate-key-print --config "$c" >/dev/null 2>/run/picluster/kubeadm.err || {
    sed 's/[0-9a-f]\{64\}/(key)/g' /run/picluster/kubeadm.err >&2
    "$program" --kubeconfig "$cfg" token delete "${token%%.*}" >/dev/null 2>&1 || :
    exit 1
  }
  # Another server's key would not open them: whose they are stands on them.
  kc -n kube-system annotate secret kubeadm-certs --overwrite "picluster/token=${token%%.*}" >/dev/null || {
    cat /run/picluster/kubectl.err >&2
    exit 1
  }
fi
printf '{"bootstrapToken":{"apiServerEndpoint":"%s","token":"%s","caCertHashes":["%s"]}%s}\n' "$at" "$token" "$hash" "${key:+,\"certificateKey\":\"$key\"}" > "$t"
mv -f -- "$t" "$f"
