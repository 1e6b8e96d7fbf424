//! Why kubeadm refused or gave up: a pure function over what it printed.
//!
//! Texts are those of kubeadm; the comment at each cause names the source.

use picluster_model::NodeName;

use crate::kind::Diagnosis;

/// Exit status of the script when kubeadm failed; its output follows.
pub(crate) const FAILED: u32 = 70;

/// An exit status of kubeadm: it does not take its configuration (cmd/kubeadm/app/util/error.go). The one for preflight, 2, is
/// rarely seen: phases wrap what failed, and that ends with 1, so refusals are known by their text.
const CONFIGURATION: &str = "3";

/// Names of preflight checks (cmd/kubeadm/app/preflight/checks.go), and what mends them. Each stands for all that begin
/// so, and the first that fits is taken.
const CHECKS: &[(&str, &str)] = &[
    (
        "Mem",
        "use a board with 2 GB of memory or more as control plane",
    ),
    (
        "NumCPU",
        "use a board with two cores or more as control plane",
    ),
    ("Swap", "add the role `swap-off`: roles: [swap-off, …]"),
    (
        "CRI",
        "look at containerd on the node: journalctl -u containerd -n 50; its configuration must not disable the plugin cri",
    ),
    (
        "ContainerRuntimeVersion",
        "use a newer containerd: `containerd_package`, see the README of the role kubeadm",
    ),
    (
        "SystemVerification",
        "add the role `cgroups` (it sets cgroup_enable=memory and reboots): roles: [cgroups, …]",
    ),
    (
        "FileContent--proc-sys-net-bridge",
        "load br_netfilter: role kubeadm does, look at what another role or a file in /etc/modprobe.d says of it",
    ),
    (
        "FileContent-",
        "let nothing set that sysctl back: role kubeadm sets it, look at what another role or a file in /etc/sysctl.d says of it",
    ),
    (
        "Port-",
        "find what has the port on the node with ss -ltnp, and stop it; an older cluster goes with kubeadm reset -f",
    ),
    (
        "FileAvailable-",
        "the machine was a node before: save what you need of it, run kubeadm reset -f on it",
    ),
    (
        "DirAvailable-",
        "the machine was a node before: save what you need of it, run kubeadm reset -f on it",
    ),
    (
        "FileExisting-",
        "install the program the check names: a role of yours with `package`",
    ),
    (
        "KubeletVersion",
        "kubeadm and kubelet must be of one minor release: apt-cache policy kubeadm kubelet on the node",
    ),
    (
        "KubernetesVersion",
        "kubeadm must be as new as the release it sets up: apt-cache policy kubeadm on the node",
    ),
    (
        "ImagePull",
        "look at the node's way to the registry, and at crictl pull there; without a network, import the images first: ctr -n k8s.io images import FILE",
    ),
    (
        "Hostname",
        "let the node's name resolve: role `base` with `hosts: true`",
    ),
    (
        "IsPrivilegedUser",
        "kubeadm runs as root: look at how picluster becomes root there (`become`)",
    ),
    (
        "ExternalEtcd",
        "look at the etcd outside of the cluster: its version, and the certificates that lead there",
    ),
    // cmd/kubeadm/app/phases/upgrade/health.go.
    (
        "CreateJob",
        "let one node be Ready and take pods: kubeadm tries the cluster with a job of the pause image; kubectl -n kube-system get pods, kubectl get nodes",
    ),
    (
        "ControlPlaneNodesReady",
        "bring the control planes up that it names: kubectl get nodes",
    ),
    (
        "StaticPodManifest",
        "put the manifests that it names back into /etc/kubernetes/manifests",
    ),
    // cmd/kubeadm/app/phases/upgrade/preflight.go.
    (
        "CoreDNS",
        "look at the ConfigMap coredns in kube-system: its plugins do not go with the next CoreDNS",
    ),
];

/// Texts of failures behind preflight.
const TEXTS: &[(&str, &str, &str)] = &[
    // cmd/kubeadm/app/discovery/token/token.go.
    (
        "could not find a JWS signature",
        "the cluster does not know its token: it has expired, or the control plane's clock is far off",
        "picluster apply makes a new one",
    ),
    (
        "none of the public keys",
        "another cluster answers than the one that made the token (the CA's hash is another)",
        "see which machine answers at the registration address",
    ),
    // cmd/kubeadm/app/cmd/join.go.
    (
        "a Node with name",
        "the cluster has a node of this name that is Ready",
        "give one of the two another name; if the card is new: kubectl delete node NAME on the control plane",
    ),
    (
        "expired or is not yet valid",
        "a certificate is not valid at the node's time",
        "set the clock: role base waits for time synchronisation; look at timedatectl on the node",
    ),
    // cmd/kubeadm/app/cmd/phases/init/waitcontrolplane.go.
    (
        "timed out waiting for the condition",
        "what was started did not answer within kubeadm's time",
        "look on the node: journalctl -u kubelet -n 50, crictl ps -a; a slow card may only need another run",
    ),
    (
        "connection refused",
        "the control plane does not answer",
        "see that port 6443/tcp is open between the two and the control plane runs",
    ),
    (
        "i/o timeout",
        "the control plane does not answer",
        "see that port 6443/tcp is open between the two and the control plane runs",
    ),
    (
        "no such host",
        "the name of the control plane does not resolve on the node",
        "see that `endpoint` resolves on all nodes",
    ),
    (
        "failed to find memory cgroup",
        "the kernel has the memory cgroup switched off",
        "add the role `cgroups`: roles: [cgroups, …]",
    ),
];

fn cut(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `[ERROR NAME]: TEXT` of a line.
fn check(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.trim().strip_prefix("[ERROR ")?.split_once("]: ")?;
    Some((name, text.trim()))
}

fn cure_of(name: &str) -> Option<&'static str> {
    CHECKS
        .iter()
        .find(|(known, _)| name.starts_with(known))
        .map(|(_, cure)| *cure)
}

/// Names the cause, as far as the output shows one.
pub(crate) fn of(verb: &str, node: &NodeName, output: &str) -> Diagnosis {
    let status = output
        .lines()
        .find_map(|line| line.strip_prefix("@@ status "))
        .unwrap_or_default();
    let then = |cure: &str| {
        let cure = cure.replace("NAME", node.as_str());
        if cure.starts_with("picluster apply") {
            cure
        } else {
            format!("{cure}; then: picluster apply")
        }
    };
    let checks: Vec<(&str, &str)> = output.lines().filter_map(check).collect();
    if let Some((_, begun)) = output.lines().find_map(|line| {
        let rest = line.strip_prefix("@@ status ")?;
        rest.strip_suffix(" was begun").map(|begun| (line, begun))
    }) {
        return Diagnosis::new(format!(
            "kubeadm {begun} broke off on {node} in an earlier run, and now it is to {verb}: what is there belongs to the other one"
        ))
        .cure(then(
            "undo the change to the inventory that brought this about, or give up what was begun: kubeadm reset -f and rm /etc/kubernetes/picluster.begun on NAME",
        ));
    }
    if !checks.is_empty() {
        let said: Vec<String> = checks
            .iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        let mut cures: Vec<&str> = Vec::new();
        for cure in checks.iter().filter_map(|(name, _)| cure_of(name)) {
            if !cures.contains(&cure) {
                cures.push(cure);
            }
        }
        if cures.is_empty() {
            cures.push("mend what it names");
        }
        let cure = cures.join("; and ");
        return Diagnosis::new(format!(
            "kubeadm {verb} refused {node} before it wrote anything: {}",
            cut(&said.join("; "))
        ))
        .cure(then(&cure));
    }
    let last = output
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| {
            !line.is_empty()
                && !line.starts_with("@@")
                && !line.starts_with("To see the stack trace")
        })
        .unwrap_or("it printed nothing");
    if status == CONFIGURATION {
        return Diagnosis::new(format!(
            "kubeadm {verb} does not take its configuration: {}",
            cut(last)
        ))
        .cure(then(
            "see whether the release takes it: kubeadm config print init-defaults on the node",
        ));
    }
    // A shell's status of a program that a signal has ended.
    if let Some(signal) = status
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_sub(128))
        .filter(|n| *n > 0)
    {
        return Diagnosis::new(format!(
            "kubeadm {verb} was ended by signal {signal}; it had said: {}",
            cut(last)
        ))
        .cure("picluster apply takes it up where it stopped");
    }
    // Warnings name what is no reason.
    let said = || {
        output
            .lines()
            .rev()
            .filter(|line| !line.contains("[WARNING "))
    };
    let found = TEXTS.iter().find_map(|(text, what, cure)| {
        let line = said().find(|line| line.contains(text))?;
        Some((*what, *cure, line.trim()))
    });
    match found {
        Some((what, cure, line)) => {
            Diagnosis::new(format!("kubeadm {verb}: {what}: {}", cut(line))).cure(then(cure))
        }
        None => Diagnosis::new(format!("kubeadm {verb} failed: {}", cut(last))).cure(then(
            "look on the node: journalctl -u kubelet -n 50, crictl ps -a",
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn said(verb: &str, output: &str) -> String {
        let found = of(verb, &NodeName::new("rpi01").unwrap(), output);
        format!("{}\n  next: {}", found.what, found.cure.unwrap())
    }

    /// Outputs as kubeadm prints them: those of `init` and of a killed run were seen with 1.20.2.
    #[test]
    fn causes_are_named() {
        let mut shown = String::new();
        for (verb, output) in [
            (
                "init",
                "@@ status 2\n[init] Using Kubernetes version: v1.33.2\n[preflight] Running pre-flight checks\n\t[WARNING Swap]: swap is supported for cgroup v2 only\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2\n\t[ERROR Mem]: the system RAM (906 MB) is less than the minimum 1700 MB\n[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\nTo see the stack trace of this error execute with --v=5 or higher\n",
            ),
            (
                "join",
                "@@ status 2\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR FileAvailable--etc-kubernetes-kubelet.conf]: /etc/kubernetes/kubelet.conf already exists\n\t[ERROR Port-10250]: Port 10250 is in use\n",
            ),
            (
                "join",
                "@@ status 2\n\t[ERROR FileContent--proc-sys-net-ipv4-ip_forward]: /proc/sys/net/ipv4/ip_forward contents are not set to 1\n",
            ),
            // All that role and machine can have wrong at once, with the texts of cmd/kubeadm/app/preflight/checks.go and the
            // status that phases end with.
            (
                "init",
                "@@ status 1\n[preflight] Running pre-flight checks\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR CRI]: container runtime is not running: output: time=\"2024-01-01T00:00:00Z\" level=fatal msg=\"getting status of runtime failed: rpc error: code = Unimplemented desc = unknown service runtime.v1alpha2.RuntimeService\"\n, error: exit status 1\n\t[ERROR Swap]: running with swap on is not supported. Please disable swap\n\t[ERROR Port-6443]: Port 6443 is in use\n\t[ERROR FileContent--proc-sys-net-bridge-bridge-nf-call-iptables]: /proc/sys/net/bridge/bridge-nf-call-iptables does not exist\n[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-preflight-errors=...`\nTo see the stack trace of this error execute with --v=5 or higher\n",
            ),
            (
                "join",
                "@@ status 1\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR SystemVerification]: missing required cgroups: memory\n\t[ERROR FileExisting-conntrack]: conntrack not found in system path\n\t[ERROR Hostname]: hostname \"rpi01\" could not be reached\n\t[ERROR ImagePull]: failed to pull image registry.k8s.io/pause:3.10: output: E0101 pulling image: dial tcp: i/o timeout\n, error: exit status 1\n",
            ),
            (
                "init",
                "@@ status 1\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\t[ERROR KubeletVersion]: the kubelet version is higher than the control plane version. This is not a supported version skew and may lead to a malfunctional cluster. Kubelet version: \"1.34.0\" Control plane version: \"1.33.2\"\n",
            ),
            (
                "upgrade apply",
                "@@ status 1\n[upgrade/health] FATAL: [preflight] Some fatal errors occurred:\n\t[ERROR CreateJob]: Job \"upgrade-health-check\" in the namespace \"kube-system\" did not complete in 15s: no condition of type Complete\n\t[ERROR ControlPlaneNodesReady]: there are NotReady control-planes in the cluster: [rpi02]\n",
            ),
            ("join", "@@ status init was begun\n"),
            (
                "init",
                "@@ status 3\nnodeRegistration.criSocket: Invalid value: \"x\"\nTo see the stack trace of this error execute with --v=5 or higher\n",
            ),
            (
                "join",
                "@@ status 1\n[preflight] Running pre-flight checks\n\t[WARNING Hostname]: hostname \"rpi01\": lookup rpi01 on [::1]:53: read: connection refused\nerror execution phase preflight: couldn't validate the identity of the API Server: could not find a JWS signature in the cluster-info ConfigMap for token ID \"abcdef\"\nTo see the stack trace of this error execute with --v=5 or higher\n",
            ),
            (
                "join",
                "@@ status 1\nerror execution phase preflight: couldn't validate the identity of the API Server: cluster CA found in cluster-info ConfigMap is invalid: none of the public keys \"sha256:00\" are pinned\n",
            ),
            (
                "join",
                "@@ status 1\nerror execution phase kubelet-start: a Node with name \"rpi01\" and status \"Ready\" already exists in the cluster. You must delete the existing Node or change the name of this new joining Node\n",
            ),
            (
                "init",
                "@@ status 1\n[wait-control-plane] Waiting for the kubelet to boot up the control plane\nerror execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\n",
            ),
            (
                "init",
                "@@ status 137\n\t[WARNING Hostname]: hostname \"rpi01\": lookup rpi01: connection refused\n[wait-control-plane] Waiting for the kubelet to boot up the control plane\n",
            ),
            ("join", "@@ status 1\n"),
        ] {
            shown += &format!("{}\n", said(verb, output));
        }
        insta::assert_snapshot!("kubeadm", shown);
    }
}
