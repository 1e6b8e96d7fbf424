# k3s-io/k3s: pkg/cli/cmds/{server,agent}.go, pkg/cli/agent/agent.go, pkg/clientaccess/token.go; urfave/cli
gives 0 ' (simulator)' at n1 "$W/k3s" --version
gives 1 'level=fatal msg="flag provided but not defined: -no-deploy"' at n1 "$W/k3s" server --no-deploy traefik
gives 1 'Incorrect Usage: flag provided but not defined: -disable' at n1 "$W/k3s" agent --disable traefik
gives 1 'level=fatal msg="--token is required"' at n1 "$W/k3s" agent --server https://127.0.0.1:6443
gives 1 'level=fatal msg="--server is required"' at n1 "$W/k3s" agent --token x
gives 1 'only https:// URLs are supported, invalid scheme: http://127.0.0.1:6443' at n1 "$W/k3s" agent --token x --server http://127.0.0.1:6443 --node-ip 127.0.0.1
gives 1 'level=fatal msg="open /none: no such file or directory"' at n1 "$W/k3s" agent --token-file /none --server https://127.0.0.1:6443
gives 1 'level=fatal msg="no default routes found in' at n1 "$W/k3s" server
gives 1 'the simulator does not reset a cluster: --cluster-reset' at n1 "$W/k3s" server --cluster-reset
gives 1 'secrets-encrypt: not simulated' at n1 "$W/k3s" secrets-encrypt status
server n1
gives 1 'listen tcp :6443: bind: address already in use' at n9 "$W/k3s" server --node-ip 127.0.0.1
