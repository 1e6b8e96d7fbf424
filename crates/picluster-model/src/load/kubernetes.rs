//! The `kubernetes` section, and whether the nodes go with it.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::text::Network;
use crate::document::{OneOrMany, Spanned};
use crate::inventory::Node;
use crate::kubernetes::{Cidr, Kubernetes, KubernetesRole, KubernetesVersion};
use crate::load::Scope;
use crate::load::node::Draft;
use crate::name::NodeName;

/// Reads the section; `None` when there is none or it is wrong.
pub fn read(scope: &Scope<'_>, out: &mut Vec<Diagnostic>) -> Option<Kubernetes> {
    let section = scope.document.kubernetes.as_ref()?;
    let document = &section.value;
    let pods = networks(document.cluster_cidr.as_ref(), out);
    let services = networks(document.service_cidr.as_ref(), out);
    for (pod, pod_place) in &pods {
        for (service, place) in &services {
            if pod.overlaps(service) {
                out.push(
                    Diagnostic::new("the networks of pods and services overlap", place)
                        .related(pod_place, "pods")
                        .label("services")
                        .help("choose networks that have no address in common"),
                );
            }
        }
    }
    let distribution = document.distribution?;
    let written = document.version.as_ref()?;
    let version = match KubernetesVersion::parse(&written.value.0, distribution) {
        Ok(version) => version,
        Err(rule) => {
            out.push(
                Diagnostic::new(
                    format!("{:?} is not a release of {distribution}", written.value.0),
                    &written.span,
                )
                .help(rule),
            );
            return None;
        }
    };
    Some(Kubernetes {
        distribution,
        version,
        endpoint: document.endpoint.as_ref().map(|e| e.value.0.clone()),
        disable: texts(document.disable.as_ref()),
        tls_san: texts(document.tls_san.as_ref()),
        cluster_cidr: pods.into_iter().map(|(cidr, _)| cidr).collect(),
        service_cidr: services.into_iter().map(|(cidr, _)| cidr).collect(),
        token: document.token.clone(),
        agent_token: document.agent_token.clone(),
        config: document
            .config
            .iter()
            .flat_map(|config| &config.0)
            .map(|(key, _, value)| (key.clone(), value.clone()))
            .collect::<IndexMap<_, _>>(),
        span: section.span.clone(),
    })
}

/// Whether the nodes go with the section: someone serves, and nobody lives inside of its
/// networks.
pub fn check_nodes(
    kubernetes: &Kubernetes,
    nodes: &IndexMap<NodeName, Node>,
    drafts: &[Draft],
    out: &mut Vec<Diagnostic>,
) {
    let is = |role| move |node: &&Node| node.kubernetes == Some(role);
    let agent = nodes.values().find(is(KubernetesRole::Agent));
    let server = nodes.values().find(is(KubernetesRole::Server));
    if let (Some(agent), None) = (agent, server) {
        out.push(
            Diagnostic::new("no node is a server", &kubernetes.span)
                .related(&agent.span, "an agent needs one to join")
                .help("write `kubernetes: server` on at least one node"),
        );
    }
    for node in nodes.values() {
        let Ok(address) = node.address.parse() else {
            continue;
        };
        for (what, networks) in [
            ("pods", &kubernetes.cluster_cidr),
            ("services", &kubernetes.service_cidr),
        ] {
            if let Some(network) = networks.iter().find(|network| network.contains(address)) {
                let span = drafts
                    .iter()
                    .find(|draft| draft.name == node.name.as_str())
                    .and_then(|draft| draft.yaml.get("address"))
                    .map_or(&node.span, |address| &address.span);
                out.push(
                    Diagnostic::new(
                        format!(
                            "the address of {} lies in the network of {what}, {network}",
                            node.name
                        ),
                        span,
                    )
                    .help(format!("choose another network for {what}")),
                );
            }
        }
    }
}

fn texts(list: Option<&Vec<crate::document::text::NonEmpty>>) -> Vec<String> {
    list.into_iter().flatten().map(|t| t.0.clone()).collect()
}

fn networks(
    written: Option<&OneOrMany<Spanned<Network>>>,
    out: &mut Vec<Diagnostic>,
) -> Vec<(Cidr, crate::span::Span)> {
    let mut found = Vec::new();
    for network in written.into_iter().flat_map(|list| &list.0) {
        match Cidr::parse(&network.value.0) {
            Ok(cidr) => found.push((cidr, network.span.clone())),
            Err(rule) => out.push(
                Diagnostic::new(
                    format!("{:?} is not a network", network.value.0),
                    &network.span,
                )
                .help(rule),
            ),
        }
    }
    found
}
