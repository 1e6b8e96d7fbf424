# k3s-io/k3s: pkg/clientaccess/token.go, pkg/server/auth/auth.go, pkg/cli/token/token.go
server n1 --token s3cret --agent-token ag3nt
hash=$(at n1 sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt | cut -d' ' -f1)
[ "$(token)" = "K10$hash::server:s3cret" ] || die "token: $(token)"
[ "$(at n1 cat /var/lib/rancher/k3s/server/agent-token)" = "K10$hash::node:ag3nt" ] || die agent-token
other=$(printf other | sha256sum | cut -d' ' -f1)
PORT=7001 agent a1 "K10$other::node:ag3nt"
has "$W/a1.log" "level=error msg=\"Failed to validate connection to cluster at https://127.0.0.1:6443: token CA hash does not match the Cluster CA certificate hash: $other != $hash\""
PORT=7002 agent a2 "K10$hash::node:wrong"
has "$W/a2.log" 'level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized"'
has "$W/n1.log" 'invalid username/password combination'
PORT=7003 agent a3 K10abc::node:ag3nt
has "$W/a3.log" 'invalid token CA hash length'
# The short form joins, with a warning; so does a bootstrap token.
PORT=7004 agent a4 ag3nt
has "$W/a4.log" 'the token does not include a CA hash'
ready a4
PORT=7005 agent a5 "$(at n1 "$W/k3s" token create --description lab)"
ready a5
at n1 "$W/k3s" token list | grep -q lab || die list
gives 0 deleted at n1 "$W/k3s" token delete "$(at n1 "$W/k3s" token list | sed -n '2s/ .*//p')"
gives 1 'the server doesn'"'"'t have a resource type "nonsense"' k get nonsense
