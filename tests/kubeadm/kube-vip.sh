#!/bin/busybox sh
# A stand-in for kube-vip where no image of it is to be had: what its manifest says of it in the environment, and no more. It
# has the address on the interface while it holds the lease, and wants the lease while the API server of its machine answers.
# shellcheck disable=SC2154 # address, port and the rest are the manifest's environment
b=/bin/busybox
kc() { /usr/local/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf --server "https://kubernetes:$port" --cache-dir /tmp/cache --request-timeout 5s -n "$cp_namespace" "$@" 2>/dev/null; }
drop() { $b ip addr del "$address/$vip_subnet" dev "$vip_interface" 2>/dev/null; }
take() {
  $b ip addr add "$address/$vip_subnet" dev "$vip_interface" 2>/dev/null || return 0
  echo "$vip_nodename has $address"
  $b arping -U -c 2 -I "$vip_interface" "$address" >/dev/null 2>&1
}
lease() { # RESOURCEVERSION: whoever wrote since then has won
  printf 'apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: { name: %s, namespace: %s%s }\nspec: { holderIdentity: %s, leaseDurationSeconds: %s, renewTime: "%s.000000Z" }\n' \
    "$vip_leasename" "$cp_namespace" "${1:+, resourceVersion: \"$1\"}" "$vip_nodename" "$vip_leaseduration" "$($b date -u +%Y-%m-%dT%H:%M:%S)"
}
trap 'drop; exit 0' TERM INT
seen='' since=0 held=0
while :; do
  now=$($b date +%s) mine=''
  if kc get --raw /readyz >/dev/null; then
    found=$(kc get lease "$vip_leasename" --ignore-not-found -o 'jsonpath={.metadata.resourceVersion} {.spec.holderIdentity}') || found=silent
    case $found in
    silent) ;;
    '') lease '' | kc create -f - >/dev/null && mine=yes ;;
    *" $vip_nodename") lease "${found%% *}" | kc replace -f - >/dev/null && mine=yes ;;
    *)
      [ "$found" = "$seen" ] || { seen=$found since=$now; }
      [ $((now - since)) -le "$vip_leaseduration" ] || { lease "${found%% *}" | kc replace -f - >/dev/null && mine=yes; }
      # Somebody else has it for certain.
      [ -n "$mine" ] || held=0
      ;;
    esac
  fi
  [ -z "$mine" ] || held=$now
  if [ $((now - held)) -lt "$vip_renewdeadline" ]; then take; else drop; fi
  $b sleep "$vip_retryperiod" &
  wait $!
done
