# k3s-io/k3s: pkg/daemons/control/deps/deps.go (nothing that is right is made again)
server n1
agent a1 "$(token)"
ready a1; ready n1
k label node a1 keep=me >/dev/null
before=$(at n1 sh -c 'cd /var/lib/rancher/k3s/server && find tls cred token node-token -type f | sort | xargs sha256sum'; at n1 sha256sum /etc/rancher/k3s/k3s.yaml)
stop n1
server n1
after=$(at n1 sh -c 'cd /var/lib/rancher/k3s/server && find tls cred token node-token -type f | sort | xargs sha256sum'; at n1 sha256sum /etc/rancher/k3s/k3s.yaml)
[ "$before" = "$after" ] || die 'files changed'
ready a1
[ "$(k get node a1 -o 'jsonpath={.metadata.labels.keep}')" = me ] || die label
# An agent that has joined needs no token any more.
stop a1
at a1 rm /etc/token
bare() {
    : >"$W/a1.log"
    (EXEC=exec; at a1 "$W/k3s" agent --kubelet-arg port=10251 --node-name a1 --node-ip 127.0.0.1 --server https://127.0.0.1:6443 --lb-server-port 7444) >"$W/a1.log" 2>&1 &
    pid_a1=$!
}
bare
has "$W/a1.log" 'agent is up and running'
# A quiet cluster writes nothing: heartbeats alone do not touch the datastore.
ready a1
sleep 3
one=$(at n1 stat -c '%i %Y' /var/lib/rancher/k3s/server/db/state.db); sleep 5
two=$(at n1 stat -c '%i %Y' /var/lib/rancher/k3s/server/db/state.db)
[ "$one" = "$two" ] || die 'the datastore is written'
# Another cluster's authority: what the agent remembers does not fit.
stop n1; rm -rf "$W/n1/lib/rancher"
server n1
stop a1
bare
has "$W/a1.log" 'x509: certificate signed by unknown authority'
