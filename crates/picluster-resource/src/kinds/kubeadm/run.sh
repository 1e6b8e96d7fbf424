kubelet=/etc/kubernetes/kubelet.conf
mkdir -p /run/picluster /etc/kubernetes
# What a run that was killed could not take away: it may hold a token.
rm -f -- /run/picluster/kubeadm.??????
f=$(mktemp /run/picluster/kubeadm.XXXXXX)
out=$(mktemp /run/picluster/kubeadm.XXXXXX)
trap 'rm -f -- "$f" "$out"' EXIT
cat > "$f"
kc() { "$k" --kubeconfig "$1" --cache-dir /run/picluster/kubectl --request-timeout 20s $2 >> "$out" 2>&1 </dev/null; }
again= skip=
if [ -e "$begun" ]; then
  was=; read -r was < "$begun" || :
  case $was in ''|"$verb") ;; *) echo "@@ status $was begun"; exit 70;; esac
  again=--ignore-preflight-errors=$left
  # Behind the TLS bootstrap the node is in the cluster, and kubeadm refuses to join a name that is there and Ready
  # (cmd/kubeadm/app/cmd/phases/join/kubelet.go). That phase has been done but for its last two lines.
  [ "$verb" != join ] || [ ! -s "$kubelet" ] || [ ! -s /var/lib/kubelet/config.yaml ] || [ ! -s /var/lib/kubelet/kubeadm-flags.env ] ||
    ! kc "$kubelet" "get node $node -o name" || skip=--skip-phases=kubelet-start
  # kubeadm takes a member of etcd that was added and never started for one that is there, and before 1.28 writes a manifest
  # that does not know its name (cmd/kubeadm/app/phases/etcd/local.go: `exists`). Where no etcd has run, it is added anew.
  if [ "$verb" = join ] && grep -q '^controlPlane: ' "$f" && [ -s "$admin" ] && [ ! -e /var/lib/etcd/member ]; then
    ips=$(sed -n 's/^controlPlane: .*"advertiseAddress":"\([^"]*\)".*/\1/p' "$f")
    [ -n "$ips" ] || ips=$(hostname -I 2>/dev/null) || :
    pki=/etc/kubernetes/pki/etcd
    for pod in $("$k" --kubeconfig "$admin" --cache-dir /run/picluster/kubectl --request-timeout 20s -n kube-system get pods -l component=etcd --field-selector status.phase=Running -o name 2>/dev/null </dev/null); do
      e() { timeout 30 "$k" --kubeconfig "$admin" --cache-dir /run/picluster/kubectl --request-timeout 20s -n kube-system exec "${pod#pod/}" -- etcdctl --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key "$@" 2>>"$out" </dev/null; }
      all=$(e member list) || continue
      for id in $(printf '%s\n' "$all" | awk -F', *' -v ips="$ips" 'BEGIN { n = split(ips, ip, " ") } $3 == "" { for (i = 1; i <= n; i++) if (index($4, "//" ip[i] ":") || index($4, "//[" ip[i] "]:")) { print $1; break } }'); do
        e member remove "$id" >> "$out" || :
      done
      break
    done
  fi
fi
echo "$verb" > "$begun"
rc=0
case $verb in
init) "$program" init --config "$f" --skip-token-print $again > "$out" 2>&1 </dev/null || rc=$?;;
join) "$program" join --config "$f" $again $skip > "$out" 2>&1 </dev/null || rc=$?;;
esac
if [ "$rc" = 0 ] && [ "$verb" = init ]; then
  # kubeadm makes a token of a day's length for whoever may want to join; those who join here get one of their own.
  kc "$admin" "-n kube-system delete secret --field-selector type=bootstrap.kubernetes.io/token" || rc=1
fi
if [ "$rc" = 0 ] && [ -n "$skip" ]; then
  socket=$(sed -n 's/^ *criSocket: *//p' "$f" | head -n 1)
  kc "$kubelet" "annotate node $node --overwrite kubeadm.alpha.kubernetes.io/cri-socket=$socket" || rc=1
fi
# It holds the token; a run that was killed leaves it.
[ "$rc" != 0 ] || [ "$verb" != join ] || rm -f -- /etc/kubernetes/bootstrap-kubelet.conf
[ "$rc" != 0 ] || { rm -f -- "$begun"; exit 0; }
# Preflight and the reading of the configuration come before anything is written. Statuses 2 and 3 say so
# (cmd/kubeadm/app/util/error.go), but a phase wraps what it failed with, and that ends with 1.
early=
case $rc in 2|3) early=yes;; esac
! grep -q '^error execution phase preflight' "$out" || early=yes
[ -n "$again" ] || [ -z "$early" ] || rm -f -- "$begun"
echo "@@ status $rc"
sed 's/[a-z0-9]\{6\}\.[a-z0-9]\{16\}/(token)/g; s/[0-9a-f]\{64\}/(hash or key)/g' "$out" | tail -n 80
exit 70
