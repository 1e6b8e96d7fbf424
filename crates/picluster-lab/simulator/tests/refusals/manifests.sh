# k3s-io/k3s: pkg/deploy/controller.go
server n1
M=/var/lib/rancher/k3s/server/manifests
made() { i=0; until k get cm "$1" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 100 ] || die "no $1"; sleep 0.1; done; }
gone() { i=0; while k get cm "$1" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 100 ] || die "still $1"; sleep 0.1; done; }
cm() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\n---\n' "$1"; }
(cm one; cm two) >"$W/n1/lib/rancher/k3s/server/manifests/mine.yaml"
cm hidden >"$W/n1/lib/rancher/k3s/server/manifests/.hidden.yaml"
cm skipped >"$W/n1/lib/rancher/k3s/server/manifests/skipped.yaml"; : >"$W/n1/lib/rancher/k3s/server/manifests/skipped.yaml.skip"
made one; made two
# What a file no longer holds is deleted; a file that is gone deletes nothing.
sleep 1
cm one >"$W/n1/lib/rancher/k3s/server/manifests/mine.yaml"
gone two
at n1 rm $M/mine.yaml
printf 'apiVersion: example.org/v1\nkind: Nonsense\nmetadata: {name: x}\n' >"$W/n1/lib/rancher/k3s/server/manifests/bad.yaml"
has "$W/n1.log" "level=error msg=\"Failed to process config: failed to process $M/bad.yaml: no matches for kind"
made one
gives 1 'configmaps "hidden" not found' k get cm hidden
gives 1 'configmaps "skipped" not found' k get cm skipped
k -n kube-system get addons mine >/dev/null || die addon
# `get -f` tells what of a file is there, and what is not.
(cm one; cm never) >"$W/n1/objects.yaml"
at n1 cp "$W/n1/objects.yaml" /etc/objects.yaml
gives 1 'Error from server (NotFound): configmaps "never" not found' k get -f /etc/objects.yaml
[ -z "$(k get -f /etc/objects.yaml -o name 2>/dev/null)" ] || die "get -f prints a part"
cm one >"$W/n1/objects.yaml"
at n1 cp "$W/n1/objects.yaml" /etc/objects.yaml
k get -f /etc/objects.yaml -o custom-columns=K:.kind,N:.metadata.name,R:.spec.replicas | grep -qx 'ConfigMap   one   <none>' || die "get -f"
# An object that was deleted by hand comes back with the checksum taken away and the file touched, and not before.
cm mine >"$W/n1/lib/rancher/k3s/server/manifests/mine.yaml"
made mine
k delete cm mine >/dev/null
at n1 touch $M/mine.yaml
sleep 3
gives 1 'configmaps "mine" not found' k get cm mine
k -n kube-system patch addons.k3s.cattle.io mine --type merge -p '{"spec":{"checksum":""}}' >/dev/null
at n1 touch $M/mine.yaml
made mine
# A manifest without objects deletes what it held.
echo '# nothing' >"$W/n1/lib/rancher/k3s/server/manifests/mine.yaml"
gone mine
# `disable` deletes file and objects, and a start applies everything again.
cm again >"$W/n1/lib/rancher/k3s/server/manifests/again.yaml"
made again
k delete cm again >/dev/null
at n1 rm $M/bad.yaml
cm late >"$W/n1/lib/rancher/k3s/server/manifests/extra.yaml"
made late
stop n1
server n1 --disable extra,traefik
gone late
made again
at n1 test ! -e $M/extra.yaml || die file
at n1 test ! -e $M/traefik.yaml || die traefik
