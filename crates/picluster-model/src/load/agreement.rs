//! Settings that have to be the same on all servers of a k3s cluster, held against each other before the first connection.

use crate::diagnostic::Diagnostic;
use crate::inventory::Project;
use crate::kubernetes::{Distribution, KubernetesRole};
use crate::name::NodeName;
use crate::render::ClusterContext;
use crate::yaml::Yaml;

/// A server that has another value than the one it joins is refused (`CriticalControlArgs` in pkg/daemons/config/types.go of
/// k3s, <https://docs.k3s.io/cli/server#critical-configuration-values>).
const ALIKE: &[&str] = &[
    "agent-token",
    "cluster-cidr",
    "cluster-dns",
    "cluster-domain",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-network-policy",
    "egress-selector-mode",
    "embedded-registry",
    "flannel-backend",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "secrets-encryption",
    "secrets-encryption-provider",
    "service-cidr",
];

/// Compares what templates make of these keys on every server. What asks for facts is not known yet; k3s refuses it.
pub fn check(project: &Project, out: &mut Vec<Diagnostic>) {
    let Some(kubernetes) = &project.inventory.kubernetes else {
        return;
    };
    if kubernetes.distribution != Distribution::K3s {
        return;
    }
    let nodes = project.inventory.nodes.values();
    let servers: Vec<_> = nodes
        .filter(|node| node.kubernetes == Some(KubernetesRole::Server))
        .collect();
    if servers.len() < 2 {
        return;
    }
    let cluster = ClusterContext::new(project);
    for (key, written) in &kubernetes.config {
        if !ALIKE.contains(&key.trim_end_matches('+')) {
            continue;
        }
        let mut first: Option<(&NodeName, Yaml)> = None;
        for node in &servers {
            let Some(value) = cluster.config_of(node, key) else {
                continue;
            };
            match &first {
                None => first = Some((&node.name, value)),
                Some((other, known)) if known.to_json() != value.to_json() => {
                    out.push(
                        Diagnostic::new(
                            format!(
                                "`{key}` has to be the same on all servers: it is {} on {other} and {} on {}",
                                known.to_json(),
                                value.to_json(),
                                node.name
                            ),
                            &written.span,
                        )
                        .help("k3s refuses to let a server join whose value is another one; write one value for all"),
                    );
                    break;
                }
                Some(_) => {}
            }
        }
    }
}
