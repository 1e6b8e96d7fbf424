//! Configuration keys that are passed through, and those that are said elsewhere.

use crate::diagnostic::Diagnostic;
use crate::document::inventory::KubernetesDocument;
use crate::yaml::Yaml;

/// Keys that picluster writes itself or relies on, and where to say what they say
/// (<https://docs.k3s.io/cli/server>, <https://docs.k3s.io/cli/agent>).
const OWNED: &[(&str, &str)] = &[
    (
        "token",
        "write `token: { secret: NAME }` under `kubernetes`",
    ),
    (
        "token-file",
        "write `token: { secret: NAME }` under `kubernetes`",
    ),
    (
        "agent-token",
        "write `agent_token: { secret: NAME }` under `kubernetes`",
    ),
    (
        "agent-token-file",
        "write `agent_token: { secret: NAME }` under `kubernetes`",
    ),
    (
        "server",
        "write the fixed address as `endpoint` under `kubernetes`; without one picluster chooses a living server",
    ),
    (
        "cluster-init",
        "picluster decides it by the number of servers",
    ),
    (
        "etcd-snapshot-dir",
        "snapshots are below /var/lib/rancher/k3s/server/db/snapshots, where an upgrade looks for its own; mount a disk there, or send them away with etcd-s3",
    ),
    ("cluster-reset", "a reset is a deed, not a setting"),
    (
        "cluster-reset-restore-path",
        "a restore is a deed, not a setting",
    ),
    (
        "node-name",
        "the name of a node is its key in the inventory",
    ),
    (
        "with-node-id",
        "the name of a node is its key in the inventory",
    ),
    ("node-label", "write `labels` on the node or its group"),
    ("node-taint", "write `taints` on the node or its group"),
    ("tls-san", "write `tls_san` under `kubernetes`"),
    ("disable", "write `disable` under `kubernetes`"),
    ("cluster-cidr", "write `cluster_cidr` under `kubernetes`"),
    ("service-cidr", "write `service_cidr` under `kubernetes`"),
    ("write-kubeconfig", "write `kubeconfig` under `kubernetes`"),
    (
        "write-kubeconfig-mode",
        "write `kubeconfig: { mode: \"0644\" }` under `kubernetes`",
    ),
    ("private-registry", "write `registries` under `kubernetes`"),
    ("config", "write the keys here"),
    (
        "data-dir",
        "k3s keeps its place, and the place is put elsewhere: role `sd-care` with `data_dirs: [{ path: /var/lib/rancher, source: /mnt/data/rancher }]`",
    ),
    (
        "disable-agent",
        "every member is a node that becomes Ready; keep work off a server with `taints`",
    ),
    ("rootless", "the service is one of the system"),
];

/// Refuses keys that picluster owns.
pub fn check(document: &KubernetesDocument, written: &Yaml, out: &mut Vec<Diagnostic>) {
    if document.distribution != Some(crate::kubernetes::Distribution::K3s) {
        return;
    }
    for section in ["config", "agent_config"] {
        for (key, span, _) in written.get(section).map(Yaml::entries).unwrap_or_default() {
            let name = key.trim_end_matches('+');
            if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
                out.push(
                    Diagnostic::new(format!("`{name}` is picluster's to decide"), span)
                        .help(*instead),
                );
            }
        }
    }
}
