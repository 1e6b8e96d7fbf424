# k3s-io/k3s: pkg/nodepassword/{nodepassword,validate,controller}.go, pkg/agent/config/config.go
server n1
agent a1 "$(token)"
ready a1
k -n kube-system get secret a1.node-password.k3s -o 'jsonpath={.immutable}' | grep -q true || die secret
stop a1
# A new card: same name, no password file, nothing remembered.
rm -rf "$W/a1/lib/rancher" "$W/a1/etc/rancher/node"
agent a1 "$(token)"
has "$W/a1.log" "/var/lib/rancher/k3s/agent/serving-kubelet.crt: Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag"
has "$W/n1.log" "unable to verify hash for node 'a1': hash does not match"
grep -q 'agent is up and running' "$W/a1.log" && die 'it joined'
# Deleting the node takes its password along; the waiting agent then joins.
k delete node a1
gives 1 'Error from server (NotFound): secrets "a1.node-password.k3s" not found' k -n kube-system get secret a1.node-password.k3s
ready_later() { has "$W/a1.log" 'agent is up and running'; }
ready_later
ready a1
stop a1
# Or another name.
rm -rf "$W/a1/lib/rancher" "$W/a1/etc/rancher/node"
agent a1 "$(token)" --with-node-id
has "$W/a1.log" 'agent is up and running'
id=$(at a1 cat /etc/rancher/node/id)
ready "a1-$id"
