//! Why a node did not become Ready: cause, cure and next command, from upstream's texts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use picluster_model::secret::SecretValues;
use picluster_resource::{Ctx, Facts, Resource};

/// An agent's evidence as the waiting script prints it, with some parts replaced.
fn evidence(parts: &[(&str, &str)]) -> String {
    let usual = [
        (
            "unit",
            "LoadState=loaded\nActiveState=activating\nSubState=start\nResult=success\nNRestarts=0\nExecMainStatus=0",
        ),
        ("waited", "all"),
        ("kubectl", ""),
        ("etcd", "etcd_server_has_leader 1"),
        ("controllers", "cpuset cpu io memory pids"),
        ("swap", ""),
        ("machine", "aarch64"),
        ("program", "7f454c460201010000000000000000000200b700"),
        ("date", "1795000000"),
        ("token", ""),
        (
            "cacerts",
            "1111111111111111111111111111111111111111111111111111111111111111  -",
        ),
        ("free", ""),
        ("log", ""),
    ];
    usual
        .iter()
        .map(|(name, text)| {
            let given = parts
                .iter()
                .find(|(n, _)| n == name)
                .map_or(*text, |(_, t)| t);
            format!("@@ {name}\n{given}\n")
        })
        .collect()
}

fn said(parts: &[(&str, &str)], skew_s: Option<i64>) -> (String, String) {
    let node: Resource = serde_json::from_value(serde_json::json!({"cluster_node": {
        "name": "rpi02", "unit": "k3s-agent.service", "kubeconfig": "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
        "kubectl": ["/usr/local/bin/kubectl"], "program": "/usr/local/bin/k3s",
        "join": "https://192.168.2.1:6443", "token_file": "/etc/rancher/k3s/token"
    }}))
    .unwrap();
    let mut facts = Facts::default();
    facts.now.skew_s = skew_s;
    let secrets = SecretValues::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    assert!(
        node.explain(1, "anything", ctx).is_none(),
        "only evidence is explained"
    );
    let diagnosis = node.explain(70, &evidence(parts), ctx).unwrap();
    (diagnosis.what, diagnosis.cure.unwrap())
}

#[test]
fn every_cause_is_named_with_its_cure_and_fits_a_screen() {
    let logged = |text: &str| {
        format!("time=\"2026-11-21T12:00:00Z\" level=info msg=\"Starting k3s agent\"\n{text}")
    };
    // The first text is upstream's; the source of each stands in the kind beside its cause.
    for (part, text, what, cure) in [
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag""#,
            "another password",
            "kubectl delete node rpi02",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=error msg="token CA hash does not match the Cluster CA certificate hash: aa != bb""#,
            "belongs to another cluster",
            "/cacerts",
        ),
        (
            "token",
            "K102222222222222222222222222222222222222222222222222222222222222222",
            "its token is for the cluster with CA 222222222222…",
            "which cluster answers",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="failed to find memory cgroup (v2)""#,
            "memory cgroup switched off",
            "role `cgroups`",
        ),
        // pkg/cgroups/cgroups_linux.go (validateCgroupsV1): what version 1 says, twice.
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="failed to find memory cgroup, you may need to add \"cgroup_memory=1 cgroup_enable=memory\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)""#,
            "memory cgroup switched off",
            "role `cgroups`",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="failed to find cpuset cgroup (v2)""#,
            "lacks a control group that k3s wants: failed to find cpuset cgroup (v2)",
            "/proc/cmdline",
        ),
        (
            "controllers",
            "cpuset cpu io pids",
            "memory cgroup switched off",
            "role `cgroups`",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: Get \"https://127.0.0.1:6444/v1-k3s/serving-kubelet.crt\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2025-01-01T00:00:00Z is before 2026-11-21T11:59:00Z""#,
            "not valid at the node's time (its clock is -5000 s",
            "timedatectl",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=error msg="failed to get CA certs: Get \"https://192.168.2.1:6443/cacerts\": x509: certificate signed by unknown authority""#,
            "remembers the CA of another cluster",
            "/var/lib/rancher/k3s/agent",
        ),
        // kubectl, pkg/cmd/util/helpers.go (checkErr), around errors of net and net/http.
        (
            "cacerts",
            "The connection to the server 192.168.2.1:6443 was refused - did you specify the right host or port?",
            "https://192.168.2.1:6443 does not answer: The connection to the server 192.168.2.1:6443 was refused - did you specify the right host or port?",
            "6443/tcp",
        ),
        (
            "cacerts",
            "Unable to connect to the server: dial tcp 192.168.2.1:6443: connect: no route to host",
            "https://192.168.2.1:6443 does not answer: Unable to connect to the server: dial tcp 192.168.2.1:6443: connect: no route to host",
            "6443/tcp",
        ),
        (
            "cacerts",
            "Unable to connect to the server: dial tcp 192.168.2.1:6443: i/o timeout",
            "https://192.168.2.1:6443 does not answer: Unable to connect to the server: dial tcp 192.168.2.1:6443: i/o timeout",
            "6443/tcp",
        ),
        (
            "cacerts",
            "Unable to connect to the server: net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            "https://192.168.2.1:6443 does not answer: Unable to connect to the server: net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
            "6443/tcp",
        ),
        (
            "cacerts",
            "Unable to connect to the server: dial tcp: lookup k8s.lan on 127.0.0.53:53: no such host",
            "https://192.168.2.1:6443 does not answer: Unable to connect to the server: dial tcp: lookup k8s.lan on 127.0.0.53:53: no such host",
            "6443/tcp",
        ),
        (
            "cacerts",
            "i/o timeout",
            "https://192.168.2.1:6443 does not answer: i/o timeout",
            "6443/tcp",
        ),
        // etcd of a control plane of kubeadm, by its metrics.
        (
            "etcd",
            "etcd_server_has_leader 0",
            "its etcd runs and has no leader",
            "--force-new-cluster",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="failed to run Kubelet: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false""#,
            "swap is on",
            "swap-off",
        ),
        // Before Kubernetes 1.30, with the list behind it.
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="kubelet exited: failed to run Kubelet: running with swap on is not supported, please disable swap! or set --fail-swap-on flag to false. /proc/swaps contained: [Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority /var/swap file 524284 0 -2]""#,
            "swap is on",
            "swap-off",
        ),
        // The same function of token.go (get) gives the status with the address.
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: https://127.0.0.1:6444/v1-k3s/config: 401 Unauthorized""#,
            "does not accept its token: Waiting to retrieve",
            "kubernetes.agent_token",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized""#,
            "does not accept its token",
            "kubernetes.agent_token",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: CA cert validation failed: Get \"https://192.168.2.1:6443/cacerts\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2024-01-01T00:00:00Z is before 2026-11-21T11:59:00Z""#,
            "not valid at the node's time (its clock is -5000 s",
            "timedatectl",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\"""#,
            "no default route",
            "gateway",
        ),
        (
            "log",
            "modprobe: FATAL: Module vxlan not found in directory /lib/modules/5.15.0-1000-raspi",
            "no vxlan module",
            "linux-modules-extra-raspi",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="write /var/lib/rancher/k3s/agent/etc/x: read-only file system""#,
            "root file system is read-only",
            "dmesg",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="flannel exited: operation not supported""#,
            "no vxlan module",
            "linux-modules-extra-raspi",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="bootstrap data already found and encrypted with different token""#,
            "another server token",
            "kubernetes: { token",
        ),
        (
            "log",
            "time=\"2026-11-21T12:00:05Z\" level=warning msg=\"critical configuration mismatched: secrets-encryption\"\ntime=\"2026-11-21T12:00:05Z\" level=warning msg=\"critical configuration mismatched: flannel-backend\"\ntime=\"2026-11-21T12:00:05Z\" level=fatal msg=\"starting kubernetes: preparing server: failed to validate server configuration: critical configuration value mismatch between servers\"",
            "differs from the other servers' where all must agree: secrets-encryption, flannel-backend",
            "make secrets-encryption, flannel-backend equal on all servers",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="etcd cluster join failed: duplicate node name found, please use a unique name for this node""#,
            "still has a member of this name",
            "kubectl delete node rpi02",
        ),
        (
            "log",
            r#"time="2026-11-21T12:00:05Z" level=fatal msg="unable to select an IP from default routes.""#,
            "no default route",
            "gateway",
        ),
        (
            "log",
            "<jemalloc>: Unsupported system page size",
            "16 KiB pages",
            "kernel8.img",
        ),
        (
            "log",
            "write /var/lib/rancher/k3s/agent/x: no space left on device",
            "disk is full",
            "vacuum",
        ),
        (
            "log",
            "listen tcp :6444: bind: address already in use",
            "one of its ports",
            "ss -ltnp",
        ),
        (
            "log",
            "E1121 server.go:205] unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [node-role.kubernetes.io/worker]",
            "may not set",
            "labels:",
        ),
    ] {
        let text = if part == "log" {
            logged(text)
        } else {
            text.to_owned()
        };
        let (found, next) = said(&[(part, &text)], Some(-5000));
        assert!(found.starts_with("rpi02 did not become Ready: "), "{found}");
        assert!(found.contains(what), "{what:?} is not in {found:?}");
        assert!(
            next.contains(cure) && next.contains("picluster apply"),
            "{next}"
        );
        assert!(found.lines().count() + next.lines().count() <= 15);
    }
}

/// The balancer in an agent takes the connection and closes it when no server can be reached.
#[test]
fn a_server_that_is_not_reached_is_seen_through_the_agents_own_balancer() {
    let log = r#"time="2026-11-21T12:00:05Z" level=error msg="Failed to validate connection to cluster at https://192.168.2.1:6443: failed to get CA certs: Get \"https://127.0.0.1:6444/cacerts\": EOF""#;
    let (what, cure) = said(&[("cacerts", ""), ("log", log)], None);
    assert!(
        what.starts_with("rpi02 did not become Ready: https://192.168.2.1:6443 does not answer: "),
        "{what}"
    );
    assert!(cure.contains("6443/tcp"), "{cure}");
    // Who has the server's answer in hand has reached it by now.
    let (what, _) = said(&[("log", log)], None);
    assert!(!what.contains("does not answer"), "{what}");
}

#[test]
fn a_program_for_another_architecture_is_seen_before_anything_else() {
    let log =
        "k3s-agent.service: Failed at step EXEC spawning /usr/local/bin/k3s: Exec format error";
    let x86 = "7f454c4602010100000000000000000002003e00";
    let (what, cure) = said(&[("program", x86), ("log", log)], None);
    assert!(
        what.ends_with("/usr/local/bin/k3s is built for amd64, and this machine is aarch64"),
        "{what}"
    );
    assert!(cure.contains("artifact"));
    let unit = "ActiveState=activating\nSubState=auto-restart\nExecMainStatus=203";
    let (what, _) = said(&[("unit", unit), ("log", log)], None);
    assert!(
        what.contains("could not execute /usr/local/bin/k3s"),
        "{what}"
    );
}

#[test]
fn without_a_known_cause_there_is_what_was_seen() {
    let log =
        "time=\"x\" level=error msg=\"something new\"\ntime=\"x\" level=info msg=\"retrying\"";
    let unit = "ActiveState=activating\nSubState=auto-restart\nNRestarts=7\nExecMainStatus=1";
    let (what, cure) = said(
        &[
            ("unit", unit),
            ("log", log),
            (
                "kubectl",
                "False KubeletNotReady: container runtime network not ready",
            ),
        ],
        None,
    );
    assert_eq!(
        what,
        "rpi02 did not become Ready: k3s-agent.service is activating (auto-restart, restarted 7 times); the cluster says: False KubeletNotReady: container runtime network not ready; its log ends: something new"
    );
    assert!(cure.contains("journalctl -u k3s-agent.service"));
}

/// What keeps a worker from joining by kubeadm, in kubeadm's words: those of its preflight (cmd/kubeadm/app/preflight/checks.go) as
/// releases from 1.20 on have them, of the discovery and of the join.
#[test]
fn kubeadm_says_why_a_worker_does_not_join() {
    let worker: Resource = serde_json::from_value(serde_json::json!({"kubeadm": {
        "name": "kube2", "role": "agent", "content": "kind: JoinConfiguration\n", "discovery": "kubeadm-discovery",
        "program": "/usr/bin/kubeadm", "kubectl": ["/usr/bin/kubectl"], "timeout": 60
    }}))
    .unwrap();
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let preflight = |check: &str| {
        format!(
            "@@ status 2\n[preflight] Running pre-flight checks\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t{check}\n[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\nTo see the stack trace of this error execute with --v=5 or higher\n"
        )
    };
    let unimplemented =
        "rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService";
    for (output, cause, cure) in [
        (
            preflight("[ERROR Swap]: running with swap on is not supported. Please disable swap"),
            "Swap: running with swap on",
            "`swap-off`",
        ),
        (
            preflight(&format!("[ERROR CRI]: container runtime is not running: output: time=\"2026-11-22T01:00:00Z\" level=fatal msg=\"validate service connection: CRI v1 runtime API is not implemented for endpoint \\\"unix:///run/containerd/containerd.sock\\\": {unimplemented}\"\n, error: exit status 1")),
            "unknown service runtime.v1.RuntimeService",
            "must not disable the plugin cri",
        ),
        (
            preflight(&format!("[ERROR CRI]: could not connect to the container runtime: failed to create new CRI runtime service: validate service connection: validate CRI v1 runtime API for endpoint \"unix:///run/containerd/containerd.sock\": {unimplemented}")),
            "could not connect to the container runtime",
            "must not disable the plugin cri",
        ),
        (
            "@@ status 1\nerror execution phase preflight: couldn't validate the identity of the API Server: cluster CA found in cluster-info ConfigMap is invalid: none of the public keys \"sha256:ab\" are pinned\n".to_owned(),
            "another cluster answers",
            "which machine answers",
        ),
        (
            "@@ status 1\nerror execution phase preflight: couldn't validate the identity of the API Server: could not find a JWS signature in the cluster-info ConfigMap for token ID \"abcdef\"\n".to_owned(),
            "does not know its token",
            "picluster apply",
        ),
        (
            "@@ status 1\nerror execution phase preflight: couldn't validate the identity of the API Server: Get \"https://10.0.100.61:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": dial tcp 10.0.100.61:6443: connect: connection refused\n".to_owned(),
            "the control plane does not answer",
            "port 6443/tcp",
        ),
        (
            "@@ status 1\nerror execution phase preflight: couldn't validate the identity of the API Server: Get \"https://10.0.100.61:6443/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s\": x509: certificate has expired or is not yet valid: current time 2019-01-01T00:00:00Z is before 2026-11-22T00:00:00Z\n".to_owned(),
            "not valid at the node's time",
            "timedatectl",
        ),
        (
            "@@ status 1\nerror execution phase kubelet-start: a Node with name \"kube2\" and status \"Ready\" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node\n".to_owned(),
            "a node of this name",
            "kubectl delete node kube2",
        ),
    ] {
        let found = worker.explain(70, &output, ctx).unwrap();
        let (said, next) = (found.what, found.cure.unwrap());
        assert!(said.contains(cause), "{cause}: {said}");
        assert!(next.contains(cure), "{cure}: {next}");
        assert!(said.len() < 700, "{said}");
    }
}
