d=/var/lib/picluster
mkdir -p "$d" /run/picluster
# Of a run that was killed: sixty megabytes each.
rm -rf -- "$d"/kubeadm.??????
w=$(mktemp -d "$d/kubeadm.XXXXXX")
trap 'rm -rf -- "$w"' EXIT
release=${version#v}
# The packaging's own number stands behind: 1.33.2-1.1. The table is in apt's order, the best first.
packaged() { apt-cache madison kubeadm 2>/dev/null | awk -v w="$release-" 'index($3, w) == 1 { print $3; exit }'; }
v=$(packaged)
[ -n "$v" ] || { refresh; v=$(packaged); }
[ -n "$v" ] || die "no repository of this node has kubeadm $release"
cd "$w"
locked apt-get $opts download "kubeadm=$v" || explain
dpkg-deb -x kubeadm_*.deb x
cd /
verb=node
if [ -n "$server" ]; then
  was=; [ ! -e "$mark" ] || read -r was < "$mark" || :
  now=$(kc -n kube-system get configmap kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}') || { cat /run/picluster/kubectl.err >&2; exit 1; }
  now=$(printf '%s\n' "$now" | sed -n 's/^kubernetesVersion: *//p')
  # Who goes first carries the whole cluster, with what runs in it, and kubeadm writes down that it is of the new release
  # before it has seen to that.
  [ "$now" = "$version" ] && [ "$was" != "apply $version" ] || verb=apply
fi
echo "$verb $version" > "$mark"
rc=0
case $verb in
apply) "$w/x/usr/bin/kubeadm" upgrade apply "$version" --yes > "$w/said" 2>&1 </dev/null || rc=$?;;
node) "$w/x/usr/bin/kubeadm" upgrade node > "$w/said" 2>&1 </dev/null || rc=$?;;
esac
[ "$rc" != 0 ] || { echo "done $version" > "$mark"; exit 0; }
echo "@@ status $rc"
sed 's/[a-z0-9]\{6\}\.[a-z0-9]\{16\}/(token)/g' "$w/said" | tail -n 80
exit 70
