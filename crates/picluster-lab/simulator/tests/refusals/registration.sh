# k3s-io/k3s: pkg/agent/run.go (updateMutableLabels); kubernetes: pkg/kubelet/kubelet_node_status.go
server n1
agent a1 "$(token)" --node-label disk=nvme --node-taint arm=true:NoSchedule
ready a1
[ "$(k get node a1 -o 'jsonpath={.metadata.labels.disk} {.spec.taints[0].key}={.spec.taints[0].value}:{.spec.taints[0].effect}')" = 'nvme arm=true:NoSchedule' ] || die registered
# It says what it is: on the Node, first thing in the log of whatever runs, and where the commit would stand.
becomes true k get node a1 -o 'jsonpath={.metadata.labels.simulator}'
for n in n1 a1; do head -n 1 "$W/$n.log" | grep -q 'level=warning msg="SIMULATOR: ' || die banner; done
"$W/k3s" --version | grep -q '^k3s version v.* (simulator)$' || die version
stop a1
# A restart sets labels again, leaves those that are no longer listed, and does not look at taints.
agent a1 "$(token)" --node-label speed=fast --node-taint other=true:NoSchedule
has "$W/a1.log" 'agent is up and running'
# A real kubelet of 1.20 does not say so.
[ -n "${KUBERNETES-}" ] || has "$W/a1.log" 'it just became ready'
becomes 'nvme fast arm' k get node a1 -o 'jsonpath={.metadata.labels.disk} {.metadata.labels.speed} {.spec.taints[*].key}'
stop a1
# Silence is noticed, and taints follow.
k wait --for=condition=Ready=Unknown node/a1 --timeout=${KUBERNETES:+1}30s >/dev/null || die silence
k get node a1 | grep -q NotReady || die NotReady
u=node.kubernetes.io/unreachable
becomes "arm $u $u" k get node a1 -o 'jsonpath={.spec.taints[*].key}'
