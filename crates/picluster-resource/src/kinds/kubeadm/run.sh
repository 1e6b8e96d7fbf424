mkdir -p /run/picluster /etc/kubernetes
f=$(mktemp /run/picluster/kubeadm.XXXXXX)
out=$(mktemp /run/picluster/kubeadm.XXXXXX)
trap 'rm -f -- "$f" "$out"' EXIT
cat > "$f"
again=
[ ! -e "$begun" ] || again=--ignore-preflight-errors=$left
echo "$verb" > "$begun"
rc=0
case $verb in
init) "$program" init --config "$f" --skip-token-print $again > "$out" 2>&1 </dev/null || rc=$?;;
join) "$program" join --config "$f" $again > "$out" 2>&1 </dev/null || rc=$?;;
esac
if [ "$rc" = 0 ] && [ "$verb" = init ]; then
  # kubeadm makes a token of a day's length for whoever may want to join; those who join here get one of their own.
  "$k" --kubeconfig "$admin" --cache-dir /run/picluster/kubectl --request-timeout 20s -n kube-system \
    delete secret --field-selector type=bootstrap.kubernetes.io/token >> "$out" 2>&1 || rc=1
fi
[ "$rc" != 0 ] || { rm -f -- "$begun"; exit 0; }
# Preflight and the reading of the configuration come before anything is written (cmd/kubeadm/app/util/error.go).
[ -n "$again" ] || case $rc in 2|3) rm -f -- "$begun";; esac
echo "@@ status $rc"
sed 's/[a-z0-9]\{6\}\.[a-z0-9]\{16\}/(token)/g' "$out" | tail -n 80
exit 70
