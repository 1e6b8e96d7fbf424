# k3s-io/k3s: pkg/agent/run.go (createProxyAndValidateToken), pkg/agent/loadbalancer
agent a1 "K10$(printf x | sha256sum | cut -d' ' -f1)::node:x"
has "$W/a1.log" 'level=error msg="Failed to validate connection to cluster at https://127.0.0.1:6443: failed to get CA certs: Get \"https://127.0.0.1:7444/cacerts\": EOF"'
at a1 test ! -e /var/lib/rancher/k3s/agent/kubelet.kubeconfig || die joined
gives 1 'The connection to the server localhost:8080 was refused - did you specify the right host or port?' at a1 "$W/k3s" kubectl get nodes
# It comes up by itself when the server does.
stop a1
agent a2 later
server n1 --token later
ready a2
