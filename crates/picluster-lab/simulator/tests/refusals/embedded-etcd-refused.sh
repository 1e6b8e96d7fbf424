# k3s-io/k3s: pkg/etcd/etcd.go (join), pkg/cluster/bootstrap.go (compareConfig, shouldBootstrapLoad), pkg/clientaccess/token.go
several 3
first n1 --flannel-backend host-gw
T=$(token)
# Settings that must agree.
refused n2 'failed to validate server configuration: critical configuration value mismatch between servers' "$T"
grep -q 'critical configuration mismatched: flannel-backend' "$W/out" || die 'which one'
# Another cluster's token, a wrong password, nobody there.
bad="K10$(printf %064d 0)::server:x"
refused n2 'token CA hash does not match the Cluster CA certificate hash' "$bad"
refused n2 'not authorized' "${T%:*}:wrong" --flannel-backend host-gw
URL=https://10.9.0.7:6443 refused n2 'failed to get CA certs' "$T"
another n2 "$T" --flannel-backend host-gw
up n2
another n3 "$T" --flannel-backend host-gw
up n3

# A new card in a server whose member is still there: refused, as long as its node is.
stop n2
rm -rf "$W/n2/lib/rancher" "$W/n2/etc/rancher/node"
refused n2 'etcd cluster join failed: duplicate node name found, please use a unique name for this node' "$T" --flannel-backend host-gw
k delete node n2 >/dev/null
# Whichever leads does it.
i=0
until cat "$W"/n[13].log | grep -q 'Removing name=n2-'; do i=$((i + 1)); [ $i -lt 200 ] || die 'not removed'; sleep 0.1; done
another n2 "$T" --flannel-backend host-gw
up n2

# A new card in the first one that is told to found: a second cluster, as upstream does.
stop n1
rm -rf "$W/n1/lib/rancher" "$W/n1/etc/rancher/node"
first n1 --flannel-backend host-gw
[ "$(token)" != "$T" ] || die 'the same cluster'
