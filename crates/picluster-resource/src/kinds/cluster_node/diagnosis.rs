//! Why a node did not become Ready: a pure function over what the waiting script found.
//!
//! Texts are those of k3s, kubelet, runc and systemd; the comment at each cause names the source.

use crate::facts::Facts;
use crate::kind::Diagnosis;
use crate::kinds::cluster_node::ClusterNode;

/// Exit status of the script when it gathered evidence.
pub(super) const NOT_READY: u32 = 70;

/// The evidence, by its parts.
struct Evidence<'a> {
    parts: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Evidence<'a> {
    fn read(output: &'a str) -> Self {
        let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in output.lines() {
            match (line.strip_prefix("@@ "), parts.last_mut()) {
                (Some(name), _) => parts.push((name.trim(), Vec::new())),
                (None, Some((_, lines))) if !line.trim().is_empty() => lines.push(line.trim()),
                (None, _) => {}
            }
        }
        Self { parts }
    }

    fn part(&self, name: &str) -> &[&'a str] {
        self.parts
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(&[], |(_, lines)| lines)
    }

    fn first(&self, name: &str) -> &'a str {
        self.part(name).first().copied().unwrap_or_default()
    }

    fn unit(&self, property: &str) -> &'a str {
        self.part("unit")
            .iter()
            .find_map(|l| l.strip_prefix(property)?.strip_prefix('='))
            .unwrap_or_default()
    }

    /// The last line of the log that holds one of these texts.
    fn logged(&self, texts: &[&str]) -> Option<&'a str> {
        self.part("log")
            .iter()
            .rev()
            .find(|line| texts.iter().any(|t| line.contains(t)))
            .copied()
    }
}

/// ELF `e_machine` of a program, from its first twenty bytes in hex (elf(5), little endian).
fn architecture(head: &str) -> Option<&'static str> {
    if !head.starts_with("7f454c46") {
        return None;
    }
    match head.get(36..40)? {
        "3e00" => Some("amd64"),
        "b700" => Some("arm64"),
        "2800" => Some("armhf"),
        _ => Some("another architecture"),
    }
}

/// What a kernel runs, by `uname -m`.
fn runs(machine: &str, program: &str) -> bool {
    match machine {
        "x86_64" => program == "amd64",
        "aarch64" => matches!(program, "arm64" | "armhf"),
        "armv7l" | "armv8l" => program == "armhf",
        _ => true,
    }
}

/// A log line without logrus's time stamp and level, cut to what fits a screen.
fn message(line: &str) -> String {
    let text = match line.split_once(" msg=\"") {
        Some((_, rest)) => rest.strip_suffix('"').unwrap_or(rest).replace("\\\"", "\""),
        None => line.to_owned(),
    };
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Names the cause, as far as the evidence shows one.
pub(super) fn of(node: &ClusterNode, output: &str, facts: &Facts) -> Diagnosis {
    let seen = Evidence::read(output);
    let cause = mismatch(node, &seen)
        .or_else(|| leaderless(node, &seen))
        .or_else(|| refusal(node, &seen))
        .or_else(|| machine(node, &seen, facts))
        .or_else(|| unreachable(node, &seen))
        .unwrap_or_else(|| other(node, &seen));
    Diagnosis {
        what: format!("{} did not become Ready: {}", node.name, cause.what),
        cure: cause.cure,
    }
}

/// The program itself cannot run here.
fn mismatch(node: &ClusterNode, seen: &Evidence<'_>) -> Option<Diagnosis> {
    let program = node.program.as_ref()?;
    let machine = seen.first("machine");
    if let Some(is) = architecture(seen.first("program"))
        && !runs(machine, is)
    {
        return Some(
            Diagnosis::new(format!("{program} is built for {is}, and this machine is {machine}"))
                .cure("give the artifact for this architecture (kubernetes: { artifact: { arm64: … } }), then: picluster apply"),
        );
    }
    // systemd.exec(5): 203 is EXIT_EXEC.
    (seen.unit("ExecMainStatus") == "203").then(|| {
        Diagnosis::new(format!("systemd could not execute {program}")).cure(format!(
            "look at it on the node: file {program}; then: picluster apply"
        ))
    })
}

/// Its etcd runs, and too few of the members are there (etcd, server/etcdserver/metrics.go).
fn leaderless(node: &ClusterNode, seen: &Evidence<'_>) -> Option<Diagnosis> {
    (seen.first("etcd") == "etcd_server_has_leader 0").then(|| no_leader(node))
}

/// What is said of a control plane whose etcd waits for other members.
pub(super) fn no_leader(node: &ClusterNode) -> Diagnosis {
    Diagnosis::new("its etcd runs and has no leader: not more than half of the members are there").cure(format!(
        "bring the other control planes up, then: picluster apply. If the join of one broke off just now (before v1.29 kubeadm adds a member that is not there yet and votes, which stops a cluster of one), etcd goes on with {0} alone: on {0} add `    - --force-new-cluster` behind `    - etcd` in /etc/kubernetes/manifests/etcd.yaml, wait until kubectl get nodes answers, take that line out again; then: picluster apply",
        node.name
    ))
}

/// The cluster refuses it, or it refuses the cluster.
fn refusal(node: &ClusterNode, seen: &Evidence<'_>) -> Option<Diagnosis> {
    let name = &node.name;
    let server = node.join.as_deref().unwrap_or("the server");
    // k3s, pkg/agent/config/config.go.
    if seen.logged(&["Node password rejected"]).is_some() {
        return Some(Diagnosis::new(format!(
            "the cluster knows a node {name} with another password (/etc/rancher/node/password): a card that was flashed anew, or two machines of one name"
        ))
        .cure(format!(
            "if the card is new: on a server, kubectl delete node {name}; then: picluster apply"
        )));
    }
    // k3s, pkg/clientaccess/token.go.
    if let Some(line) = seen.logged(&["token CA hash does not match"]) {
        return Some(
            Diagnosis::new(format!(
                "its token belongs to another cluster: {}",
                message(line)
            ))
            .cure(format!(
                "compare {server}/cacerts with the token's hash; then: picluster apply"
            )),
        );
    }
    let hash = seen.first("token").strip_prefix("K10");
    let cacerts = seen
        .first("cacerts")
        .split(' ')
        .next()
        .filter(|h| h.len() == 64);
    if let (Some(hash), Some(cacerts)) = (hash, cacerts)
        && hash.len() == 64
        && hash != cacerts
    {
        return Some(
            Diagnosis::new(format!(
                "its token is for the cluster with CA {}…, and {server} has CA {}…",
                &hash[..12],
                &cacerts[..12]
            ))
            .cure("check which cluster answers there; then: picluster apply"),
        );
    }
    // k3s, pkg/cluster/bootstrap.go: the error says that keys differ, warnings in front of it say which.
    if seen
        .logged(&["critical configuration value mismatch"])
        .is_some()
    {
        let mut keys: Vec<&str> = Vec::new();
        for line in seen.part("log") {
            if let Some((_, key)) = line.split_once("critical configuration mismatched: ")
                && let key = key.trim_end_matches('"')
                && !keys.contains(&key)
            {
                keys.push(key);
            }
        }
        let keys = match keys.as_slice() {
            [] => "the keys its log names".to_owned(),
            keys => keys.join(", "),
        };
        return Some(
            Diagnosis::new(format!(
                "its configuration differs from the other servers' where all must agree: {keys}"
            ))
            .cure(format!(
                "make {keys} equal on all servers (kubernetes: {{ config: … }}), then: picluster apply"
            )),
        );
    }
    let known: &[(&[&str], &str, &str)] = &[
        // k3s, pkg/cluster/storage.go (getBootstrapKeyFromStorage).
        (
            &["encrypted with different token"],
            "the datastore is of a cluster with another server token",
            "put the cluster's own token back (kubernetes: { token: … }), then: picluster apply",
        ),
        // k3s, pkg/etcd/etcd.go.
        (
            &["duplicate node name found"],
            "the cluster's etcd still has a member of this name",
            "on another server: kubectl delete node NAME, wait until the member is gone, then: picluster apply",
        ),
        // crypto/x509: UnknownAuthorityError.
        (
            &["certificate signed by unknown authority"],
            "it remembers the CA of another cluster",
            "if it is to leave that cluster: stop the unit, delete /var/lib/rancher/k3s/agent/*.crt, *.key and *.kubeconfig on it; then: picluster apply",
        ),
        // k3s, pkg/clientaccess/token.go; apiserver: 401.
        (
            &[
                "401 Unauthorized",
                "not authorized",
                "failed to validate token",
            ],
            "the server does not accept its token",
            "check kubernetes.token and kubernetes.agent_token; then: picluster apply",
        ),
        // kubelet, cmd/kubelet/app/options/options.go.
        (
            &["labels specified with --node-labels"],
            "kubelet-arg sets labels that a kubelet may not set",
            "write them as `labels:` of the node; then: picluster apply",
        ),
    ];
    known.iter().find_map(|(texts, what, cure)| {
        let line = seen.logged(texts)?;
        Some(
            Diagnosis::new(format!("{what}: {}", message(line)))
                .cure(cure.replace("NAME", name.as_str())),
        )
    })
}

/// The machine lacks something.
fn machine(node: &ClusterNode, seen: &Evidence<'_>, facts: &Facts) -> Option<Diagnosis> {
    let controllers = seen.first("controllers");
    let no_memory =
        !controllers.is_empty() && !controllers.split_whitespace().any(|c| c == "memory");
    // k3s, pkg/cgroups/cgroups_linux.go.
    if no_memory || seen.logged(&["failed to find memory cgroup"]).is_some() {
        return Some(
            Diagnosis::new("the kernel has the memory cgroup switched off")
                .cure("add the role `cgroups` (it sets cgroup_enable=memory and reboots): roles: [cgroups, …]; then: picluster apply"),
        );
    }
    // The same file: version 2 wants three of them.
    if let Some(line) = seen.logged(&["failed to find cpu cgroup", "failed to find cpuset cgroup"])
    {
        return Some(
            Diagnosis::new(format!("the kernel lacks a control group that k3s wants: {}", message(line)))
                .cure("look at /proc/cmdline on the node for cgroup_disable=, and take it out of cmdline.txt; then: picluster apply"),
        );
    }
    // crypto/x509: CertificateInvalidError.
    if let Some(line) = seen.logged(&["expired or is not yet valid", "is not yet valid"]) {
        let off = match facts.now.skew_s {
            Some(s) if s.unsigned_abs() > 5 => {
                format!(" (its clock is {s} s from this controller's)")
            }
            _ => String::new(),
        };
        return Some(
            Diagnosis::new(format!("a certificate is not valid at the node's time{off}: {}", message(line)))
                .cure("set the clock: role base waits for time synchronisation; look at timedatectl on the node; then: picluster apply"),
        );
    }
    let known: &[(&[&str], &str, &str)] = &[
        // kubelet, pkg/kubelet/cm/container_manager_linux.go.
        (
            &["running with swap on is not supported"],
            "swap is on",
            "add the role `swap-off`, or kubelet-arg: [fail-swap-on=false]; then: picluster apply",
        ),
        // k3s, pkg/util/net.go; apimachinery: ChooseHostInterface.
        (
            &[
                "unable to select an IP from default routes",
                "no default routes found",
            ],
            "it has no default route to find its own address by",
            "give it a gateway, or a route over a dummy interface; then: picluster apply",
        ),
        // flannel, pkg/backend/vxlan.
        (
            &[
                "flannel exited: operation not supported",
                "Module vxlan not found",
            ],
            "its kernel has no vxlan module",
            "install linux-modules-extra-raspi (Ubuntu before 24.04) or reboot into the new kernel; then: picluster apply",
        ),
        // jemalloc.
        (
            &["Unsupported system page size"],
            "its kernel has 16 KiB pages, and a program is built for 4 KiB",
            "kernel=kernel8.img in config.txt (role boot-config); then: picluster apply",
        ),
        // errno(3): EROFS.
        (
            &["read-only file system", "Read-only file system"],
            "its root file system is read-only, as a dying card ends",
            "look at dmesg; replace the card; then: picluster apply",
        ),
        // errno(3): ENOSPC.
        (
            &["no space left on device"],
            "its disk is full",
            "free some space (journalctl --vacuum-size=50M, k3s crictl rmi --prune); then: picluster apply",
        ),
        // errno(3): EADDRINUSE.
        (
            &["address already in use"],
            "another program has one of its ports",
            "find it with ss -ltnp on the node and stop it; then: picluster apply",
        ),
    ];
    let found = known.iter().find_map(|(texts, what, cure)| {
        let line = seen.logged(texts)?;
        Some(Diagnosis::new(format!("{what}: {}", message(line))).cure(*cure))
    });
    let _ = node;
    found
}

/// The server cannot be reached.
fn unreachable(node: &ClusterNode, seen: &Evidence<'_>) -> Option<Diagnosis> {
    let server = node.join.as_deref()?;
    let asked = seen.first("cacerts");
    // net: the words of dial errors; kubectl: those it has for them. Agents go through a balancer of their own, which closes
    // their connection when it reaches nobody (k3s, pkg/agent/loadbalancer).
    let words = [
        "/cacerts\\\": EOF",
        "/cacerts\": EOF",
        "connection refused",
        "was refused - did you specify the right host or port",
        "connection reset by peer",
        "Client.Timeout exceeded",
        "no route to host",
        "i/o timeout",
        "no such host",
        "deadline exceeded",
        "network is unreachable",
    ];
    let answered = asked.split(' ').next().is_some_and(|h| h.len() == 64);
    if answered {
        return None;
    }
    let line = if asked.starts_with("Unable to connect to the server")
        || words.iter().any(|w| asked.contains(w))
    {
        asked
    } else {
        seen.logged(&words)?
    };
    Some(
        Diagnosis::new(format!("{server} does not answer: {}", message(line))).cure(format!(
            "see that port 6443/tcp is open between the two and the server runs; then: picluster apply --only {}",
            node.name
        )),
    )
}

/// No known cause: what there is to see.
fn other(node: &ClusterNode, seen: &Evidence<'_>) -> Diagnosis {
    let unit = format!(
        "{} is {} ({}{})",
        node.unit,
        seen.unit("ActiveState"),
        seen.unit("SubState"),
        match seen.unit("NRestarts") {
            "" | "0" => String::new(),
            n => format!(", restarted {n} times"),
        }
    );
    let says = match seen.part("kubectl").last() {
        Some(line) => format!("; the cluster says: {}", message(line)),
        None => String::new(),
    };
    let voter = seen.first("voter");
    let voter = if voter.is_empty() || voter.starts_with("True") {
        String::new()
    } else {
        format!("; of its etcd it says: {voter}")
    };
    let fatal = seen
        .logged(&["level=fatal"])
        .or_else(|| seen.logged(&["level=error"]))
        .or_else(|| seen.part("log").last().copied());
    let log = match fatal {
        Some(line) => format!("; its log ends: {}", message(line)),
        None => String::new(),
    };
    Diagnosis::new(format!("{unit}{says}{voter}{log}")).cure(format!(
        "look on the node: journalctl -u {} -n 50; then: picluster apply",
        node.unit
    ))
}
