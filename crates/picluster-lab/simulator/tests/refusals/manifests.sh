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
# `disable` deletes file and objects.
at n1 rm $M/bad.yaml
cm late >"$W/n1/lib/rancher/k3s/server/manifests/extra.yaml"
made late
stop n1
server n1 --disable extra,traefik
gone late
at n1 test ! -e $M/extra.yaml || die file
at n1 test ! -e $M/traefik.yaml || die traefik
