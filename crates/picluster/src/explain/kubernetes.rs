//! What the `kubernetes` section says to a node: to servers other things than to agents.

use picluster_model::{Cidr, Kubernetes, KubernetesRole, Node, Project, Span, Yaml};
use serde_json::{Value, json};

use crate::explain::{Explained, Given, Place, Source, mask};

/// Keys whose values are sections themselves.
const SECTIONS: [&str; 3] = ["config", "agent_config", "kubeconfig"];

/// Keys that nothing on an agent comes from.
const OF_SERVERS: [&str; 9] = [
    "disable",
    "tls_san",
    "cluster_cidr",
    "service_cidr",
    "token",
    "agent_token",
    "config",
    "kubeconfig",
    "manifests",
];

/// Whom a key of the section is for, when that is not the node.
pub fn not_for(role: Option<KubernetesRole>, key: &str) -> Option<&'static str> {
    match role {
        None => Some("members of the cluster"),
        Some(KubernetesRole::Agent) if OF_SERVERS.contains(&key) => Some("servers"),
        Some(KubernetesRole::Server) if key == "agent_config" => Some("agents"),
        Some(_) => None,
    }
}

/// What is written for the node, and the defaults behind it.
pub fn values(project: &Project, node: &Node) -> Vec<Explained> {
    let Some(section) = &project.inventory.kubernetes else {
        return Vec::new();
    };
    let mut names: Vec<String> = Vec::new();
    let mut written: Vec<Given> = Vec::new();
    for (key, span, value) in section.written.entries() {
        if not_for(node.kubernetes, key).is_some() || value.is_null() {
            continue;
        }
        if SECTIONS.contains(&key.as_str()) {
            for (inner, span, value) in value.entries() {
                names.push(format!("kubernetes.{key}.{inner}"));
                written.push(given(inner, span, value));
            }
        } else {
            names.push(format!("kubernetes.{key}"));
            written.push(given(key, span, value));
        }
    }
    let mut values: Vec<(String, Vec<Given>)> = names
        .into_iter()
        .zip(written.into_iter().map(|given| vec![given]))
        .collect();
    if node.kubernetes == Some(KubernetesRole::Server) {
        for (name, default) in defaults(section, project) {
            let default = Given::default(default);
            match values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sources)) => sources.push(default),
                None => values.push((name, vec![default])),
            }
        }
    }
    values
        .into_iter()
        .filter_map(|(name, sources)| Explained::new(name, sources))
        .collect()
}

fn given(key: &str, span: &Span, value: &Yaml) -> Given {
    Given {
        source: Source::Cluster,
        place: Some(Place::of(span)),
        value: mask::value(key, value.to_json()),
    }
}

/// What holds where the section says nothing.
fn defaults(section: &Kubernetes, project: &Project) -> Vec<(String, Value)> {
    let unsaid = Kubernetes {
        cluster_cidr: Vec::new(),
        service_cidr: Vec::new(),
        ..section.clone()
    };
    let one = |networks: Vec<Cidr>| networks.first().map(|network| json!(network.to_string()));
    let mut defaults = vec![
        ("kubeconfig.mode", json!("0600")),
        ("kubeconfig.merge", json!(true)),
        ("kubeconfig.context", json!(project.inventory.cluster)),
    ];
    let pods = one(unsaid.pod_networks()).map(|network| ("cluster_cidr", network));
    let services = one(unsaid.service_networks()).map(|network| ("service_cidr", network));
    defaults.extend(pods.into_iter().chain(services));
    defaults
        .into_iter()
        .map(|(key, value)| (format!("kubernetes.{key}"), value))
        .collect()
}
