# k3s-io/k3s: pkg/configfilearg/parser.go, pkg/server/server.go (writeKubeConfig)
at n1 sh -c 'mkdir -p /etc/rancher/k3s/config.yaml.d
    printf "%s\n" "no-deploy: traefik" "write-kubeconfig-mode: \"0640\"" "disable: [traefik]" "node-label: [a=1]" >/etc/rancher/k3s/config.yaml
    printf "%s\n" "disable+: [metrics-server]" "node-label: [b=2]" >/etc/rancher/k3s/config.yaml.d/50-more.yaml'
server n1
has "$W/n1.log" 'level=warning msg="Unknown flag --no-deploy found in config.yaml, skipping\n"'
[ "$(at n1 stat -c %a /etc/rancher/k3s/k3s.yaml)" = 640 ] || die mode
[ "$(at n1 stat -c %a /var/lib/rancher/k3s/server/token)" = 600 ] || die mode
at n1 test ! -e /var/lib/rancher/k3s/server/manifests/traefik.yaml || die traefik
at n1 test ! -e /var/lib/rancher/k3s/server/manifests/metrics-server || die metrics-server
at n1 test -e /var/lib/rancher/k3s/server/manifests/coredns.yaml || die coredns
ready n1
[ "$(k get node n1 -o 'jsonpath={.metadata.labels.a},{.metadata.labels.b}')" = ,2 ] || die labels
# An agent's unknown key is not stripped, and so refused.
at n2 sh -c 'printf "no-deploy: traefik\n" >/etc/rancher/k3s/config.yaml'
gives 1 'flag provided but not defined: -no-deploy' at n2 "$W/k3s" agent --token x --server https://127.0.0.1:6443
at n3 sh -c 'printf "a: [\n" >/etc/rancher/k3s/config.yaml'
gives 1 'level=fatal msg="yaml: ' at n3 "$W/k3s" agent --token x --server https://127.0.0.1:6443
