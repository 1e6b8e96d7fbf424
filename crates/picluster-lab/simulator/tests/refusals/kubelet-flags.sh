# kubernetes/kubernetes: cmd/kubelet/app/options/options.go, plugin/pkg/admission/noderestriction/admission.go
server n1
t=$(token)
gives 1 "Error: failed to validate kubelet flags: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [node-role.kubernetes.io/worker]" \
    at a1 "$W/k3s" agent --node-name a1 --node-ip 127.0.0.1 --token "$t" --server https://127.0.0.1:6443 --lb-server-port 7444 --node-label node-role.kubernetes.io/worker=
grep -qF 'level=fatal msg="kubelet exited: failed to validate kubelet flags: unknown' "$W/out" || die fatal
gives 1 'invalid node labels' at a1 "$W/k3s" agent --node-name a1 --node-ip 127.0.0.1 --token "$t" --server https://127.0.0.1:6443 --lb-server-port 7444 --node-label 'a=b c'
gives 1 'invalid taint effect: Never, unsupported taint effect' at a1 "$W/k3s" agent --node-name a1 --node-ip 127.0.0.1 --token "$t" --server https://127.0.0.1:6443 --lb-server-port 7444 --node-taint a=b:Never
gives 1 'nodes "a1" not found' k get node a1
# A kubelet's own credentials reach its own node only.
agent a1 "$t"
ready a1
ka() { at a1 "$W/k3s" kubectl --kubeconfig /var/lib/rancher/k3s/agent/kubelet.kubeconfig "$@"; }
gives 0 'a1' ka get node a1
gives 1 'node "a1" is not allowed to modify node "n1"' ka label node n1 x=y
gives 1 'nodes "a1" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/worker' ka label node a1 node-role.kubernetes.io/worker=
gives 1 'User "system:node:a1" cannot list resource "secrets" in API group "" in the namespace "kube-system"' ka -n kube-system get secrets
