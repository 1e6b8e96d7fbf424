//! Why kubeadm refused or gave up: a pure function over what it printed.
//!
//! Texts are those of kubeadm; the comment at each cause names the source.

use picluster_model::NodeName;

use crate::kind::Diagnosis;

/// Exit status of the script when kubeadm failed; its output follows.
pub(super) const FAILED: u32 = 70;

/// What kubeadm's exit statuses mean (cmd/kubeadm/app/util/error.go).
const PREFLIGHT: &str = "2";
const CONFIGURATION: &str = "3";

/// Names of preflight checks (cmd/kubeadm/app/preflight/checks.go), and what mends them. A name that ends in `-` stands for
/// all that begin so.
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
        "SystemVerification",
        "add the role `cgroups` (it sets cgroup_enable=memory and reboots): roles: [cgroups, …]",
    ),
    (
        "FileContent-",
        "load br_netfilter and set the sysctl: role kubeadm does both, look at what another role says of it",
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
        "ImagePull",
        "look at the node's way to the registry, and at crictl pull there; without a network, import the images first: ctr -n k8s.io images import FILE",
    ),
    (
        "Hostname",
        "let the node's name resolve: role `base` with `hosts: true`",
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
        .find(|(known, _)| {
            name == *known || known.ends_with('-') && name.starts_with(known.trim_end_matches('-'))
        })
        .map(|(_, cure)| *cure)
}

/// Names the cause, as far as the output shows one.
pub(super) fn of(verb: &str, node: &NodeName, output: &str) -> Diagnosis {
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
    if status == PREFLIGHT && !checks.is_empty() {
        let said: Vec<String> = checks
            .iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        let cure = checks
            .iter()
            .find_map(|(name, _)| cure_of(name))
            .unwrap_or("mend what it names");
        return Diagnosis::new(format!(
            "kubeadm {verb} refused {node} before it wrote anything: {}",
            cut(&said.join("; "))
        ))
        .cure(then(cure));
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
