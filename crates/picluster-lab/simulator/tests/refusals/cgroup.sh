# k3s-io/k3s: pkg/cgroups/cgroups_linux.go, pkg/agent/run.go (Run)
at a1 true
echo 'cpuset cpu io pids' >"$W/a1/sys/controllers"
gives 1 'level=fatal msg="failed to find memory cgroup (v2)"' at a1 "$W/k3s" agent --token x --server https://127.0.0.1:6443
gives 1 'level=fatal msg="failed to find memory cgroup (v2)"' at a1 "$W/k3s" server --node-ip 127.0.0.1
grep -q 'k3s is up and running' "$W/out" || die 'a server is up before its agent looks'
echo 'cpu io memory pids' >"$W/a1/sys/controllers"
gives 1 'failed to find cpuset cgroup (v2)' at a1 "$W/k3s" agent --token x --server https://127.0.0.1:6443
