# kubernetes/kubectl: pkg/cmd/{label,annotate,taint,drain,delete,patch,apply}; kubernetes: pkg/apis/core/validation
server n1
agent a1 "$(token)"
ready n1; ready a1
gives 0 'node/a1 labeled' k label node a1 disk=nvme
if [ "$MINOR" -ge 24 ]; then
    gives 0 'node/a1 not labeled' k label node a1 disk=nvme
else
    gives 1 "error: 'disk' already has a value (nvme), and --overwrite is false" k label node a1 disk=nvme
fi
gives 1 "error: 'disk' already has a value (nvme), and --overwrite is false" k label node a1 disk=ssd
gives 0 'node/a1 labeled' k label node a1 disk=ssd --overwrite
gives 0 'node/a1 labeled' k label node a1 node-role.kubernetes.io/worker=
if [ "$MINOR" -ge 23 ]; then word=unlabeled; else word=labeled; fi
gives 0 "node/a1 $word" k label node a1 disk-
gives 0 'label "disk" not found.' k label node a1 disk-
gives 1 'error: invalid label value: "x=a b": a valid label must be' k label node a1 'x=a b'
gives 1 'The Node "a1" is invalid: metadata.labels: Invalid value: "-x": name part must consist of' k label node a1 -- -x=1
gives 1 'Error from server (NotFound): nodes "none" not found' k label node none a=b
gives 0 'node/a1 tainted' k taint node a1 k=v:NoSchedule
gives 1 'error: node a1 already has k taint(s) with same effect(s) and --overwrite is false' k taint node a1 k=w:NoSchedule
gives 0 'node/a1 modified' k taint node a1 k=w:NoSchedule --overwrite
gives 0 'node/a1 untainted' k taint node a1 k:NoSchedule-
gives 1 'error: taint "k:NoSchedule" not found' k taint node a1 k:NoSchedule-
gives 1 'error: invalid taint effect: Never, unsupported taint effect' k taint node a1 k=v:Never
gives 0 'node/a1 annotated' k annotate node a1 note='some text'
if [ "$MINOR" -ge 25 ]; then
    gives 0 'node/a1 annotated' k annotate node a1 note='some text'
else
    gives 1 "'note' already has a value (some text)" k annotate node a1 note='some text'
fi
gives 1 "found the following declared annotation(s): 'note' already has a value (some text)" k annotate node a1 note=x
gives 0 'node/a1 cordoned' k cordon a1
gives 0 'node/a1 already cordoned' k cordon a1
k get nodes | grep -q 'Ready,SchedulingDisabled' || die SchedulingDisabled
[ "$(k get node a1 -o 'jsonpath={.spec.taints[*].key}')" = node.kubernetes.io/unschedulable ] || die taint
gives 0 'node/a1 uncordoned' k uncordon a1
i=0
until k -n kube-system get pods -o wide | grep svclb-traefik- | grep -q ' a1 '; do
    i=$((i + 1)); [ $i -lt 300 ] || die 'no pod of a daemon set'
    sleep 0.1
done
gives 1 'cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): kube-system/svclb-traefik-' k drain a1
gives 0 'node/a1 ' k drain a1 --ignore-daemonsets --delete-emptydir-data --force --timeout=${KUBERNETES:+1}20s
# Before 1.23 the last pod's word is said of the node, too.
if [ "$MINOR" -lt 23 ] && grep -q '^pod/.* evicted$' "$W/out"; then word=evicted; else word=drained; fi
[ "$(tail -n 1 "$W/out")" = "node/a1 $word" ] || die "drain: $(cat "$W/out")"
# A budget that lets nobody go: kubectl asks again every five seconds until its time is over (kubernetes/kubectl pkg/drain/drain.go).
gives 0 'node/a1 uncordoned' k uncordon a1
if [ -z "${KUBERNETES-}" ]; then policy=policy/v1; else policy=policy/v1beta1; fi
printf 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}}\n---\napiVersion: %s\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n' "$policy" >"$W/web.yaml"
gives 0 'deployment.apps/web created' k apply -f "$W/web.yaml"
i=0
until [ "$(k get pods -l app=web -o 'jsonpath={.items[*].status.phase}')" = 'Running Running' ] && [ "$(k get pdb web -o 'jsonpath={.status.currentHealthy}')" = 2 ]; do
    i=$((i + 1)); [ $i -lt 300 ] || die 'two pods that run'
    sleep 0.1
done
here=$(k get pods -l app=web -o 'jsonpath={.items[0].spec.nodeName}')
pod=$(k get pods -l app=web -o 'jsonpath={.items[0].metadata.name}')
if [ "$MINOR" -ge 21 ]; then which="pods/\"$pod\" -n \"default\""; else which="pod \"$pod\""; fi
gives 1 "error when evicting $which (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget." \
    k drain "$here" --ignore-daemonsets --delete-emptydir-data --force --timeout=${KUBERNETES:+1}7s
grep -q "global timeout reached: ${KUBERNETES:+1}7s" "$W/out" || die "timeout: $(cat "$W/out")"
[ "$(k get pod "$pod" -o 'jsonpath={.spec.nodeName}')" = "$here" ] || die 'the pod has gone'
gives 0 'poddisruptionbudget.policy "web" deleted' k delete pdb web
gives 0 "pod/$pod evicted" k drain "$here" --ignore-daemonsets --delete-emptydir-data --force --timeout=${KUBERNETES:+1}20s
gives 0 "node/$here uncordoned" k uncordon "$here"
gives 0 'deployment.apps "web" deleted' k delete deployment web
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: "1", b: "2"}\n' >"$W/c.yaml"
gives 0 'configmap/c created' k apply -f "$W/c.yaml"
gives 0 'configmap/c unchanged' k apply -f "$W/c.yaml"
sed -i 's/, b: "2"//' "$W/c.yaml"
gives 0 'configmap/c configured' k apply -f "$W/c.yaml"
[ "$(k get cm c -o 'jsonpath={.data}')" = '{"a":"1"}' ] || die data
gives 1 "Error from server (AlreadyExists): error when creating \"$W/c.yaml\": configmaps \"c\" already exists" k create -f "$W/c.yaml"
gives 0 'configmap/c patched' k patch cm c --type=json -p '[{"op":"replace","path":"/data/a","value":"9"}]'
gives 1 'the object has been modified; please apply your changes to the latest version and try again' k patch cm c -p '{"metadata":{"resourceVersion":"1"},"data":{"a":"3"}}'
gives 0 'configmap "c" deleted' k delete cm c
[ -z "$(k get cm c --ignore-not-found 2>&1)" ] || die ignore-not-found
gives 0 ok k get --raw /readyz
if [ "$MINOR" -ge 23 ]; then word=error; else word=Error; fi
gives 1 "$word: unknown flag: --nonsense" k get nodes --nonsense
k get node a1 -o json | sed -n 2p | grep -qx '    "apiVersion": "v1",' || die json
k get nodes -o name | tr '\n' ' ' | grep -qx 'node/a1 node/n1 ' || die name
# Flags may stand for a whole kubeconfig (kubernetes/client-go: tools/clientcmd/client_config.go).
# Who says nothing of who they are is asked for a name, before anything is sent (kubernetes/client-go, tools/clientcmd).
gives 1 'Please enter Username: ' k --kubeconfig /dev/null --server https://127.0.0.1:6443 --insecure-skip-tls-verify get --raw /cacerts
gives 0 'BEGIN CERTIFICATE' k --kubeconfig /dev/null --server https://127.0.0.1:6443 --insecure-skip-tls-verify --token none get --raw /cacerts
# The words are others from release to release.
gives 1 none k --context none get nodes
stop n1
gives 1 'The connection to the server 127.0.0.1:6443 was refused' k --kubeconfig /dev/null --server https://127.0.0.1:6443 --insecure-skip-tls-verify --token none get --raw /cacerts
gives 1 'The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?' k get nodes
