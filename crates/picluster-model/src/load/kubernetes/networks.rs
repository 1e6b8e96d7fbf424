//! The networks of pods and services, and who must not live in them.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::inventory::KubernetesDocument;
use crate::document::text::Network;
use crate::document::{OneOrMany, Spanned};
use crate::inventory::Node;
use crate::kubernetes::{Cidr, Distribution, Kubernetes};
use crate::load::node::Draft;
use crate::name::NodeName;
use crate::span::Span;

/// Networks of pods, and of services.
pub fn read(document: &KubernetesDocument, out: &mut Vec<Diagnostic>) -> (Vec<Cidr>, Vec<Cidr>) {
    let pods = networks(document.cluster_cidr.as_ref(), out);
    let services = networks(document.service_cidr.as_ref(), out);
    let is_k3s = document.distribution == Some(Distribution::K3s);
    for (pod, place) in &pods {
        size_of_pods(document, pod, place, out);
        // One of the two is what k3s takes by itself.
        let unsaid = Cidr::parse("10.43.0.0/16").ok();
        if let Some(unsaid) = unsaid
            && is_k3s
            && services.is_empty()
            && pod.overlaps(&unsaid)
        {
            out.push(
                Diagnostic::new(
                    format!("the network of pods overlaps that of services, {unsaid}"),
                    place,
                )
                .help("write a `service_cidr` as well; 10.43.0.0/16 is the one of k3s"),
            );
        }
    }
    for (service, place) in &services {
        size_of_services(service, place, out);
        let unsaid = Cidr::parse("10.42.0.0/16").ok();
        if let Some(unsaid) = unsaid
            && is_k3s
            && pods.is_empty()
            && service.overlaps(&unsaid)
        {
            out.push(
                Diagnostic::new(
                    format!("the network of services overlaps that of pods, {unsaid}"),
                    place,
                )
                .help("write a `cluster_cidr` as well; 10.42.0.0/16 is the one of k3s"),
            );
        }
    }
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
    families(&pods, &services, out);
    let bare = |list: Vec<(Cidr, Span)>| list.into_iter().map(|(cidr, _)| cidr).collect();
    (bare(pods), bare(services))
}

/// Every node gets a /24 of an IPv4 network of pods, a /64 of an IPv6 one
/// (`--node-cidr-mask-size` of kube-controller-manager,
/// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/>).
fn node_bits(network: &Cidr) -> u8 {
    if network.address.is_ipv4() { 24 } else { 64 }
}

/// Whether somebody chose another share for each node.
fn shares_are_chosen<'a>(values: impl IntoIterator<Item = &'a crate::yaml::Yaml>) -> bool {
    values.into_iter().any(|value| {
        let mut found = false;
        let _ = value.map_strings(&mut |text| {
            found |= text.contains("node-cidr-mask-size");
            String::new()
        });
        found
    })
}

fn size_of_pods(
    document: &KubernetesDocument,
    network: &Cidr,
    place: &Span,
    out: &mut Vec<Diagnostic>,
) {
    let chosen = document
        .config
        .as_ref()
        .is_some_and(|config| shares_are_chosen(config.0.iter().map(|(_, _, value)| &value.0)));
    let bits = node_bits(network);
    if network.prefix > bits && !chosen {
        out.push(
            Diagnostic::new(
                format!("{network} is too small for pods: every node gets a /{bits} of it"),
                place,
            )
            .help(format!("write a network of /{bits} or larger")),
        );
    }
}

/// kube-apiserver takes at most 20 bits of services
/// (`--service-cluster-ip-range`, <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>).
fn size_of_services(network: &Cidr, place: &Span, out: &mut Vec<Diagnostic>) {
    let least = if network.address.is_ipv4() { 12 } else { 108 };
    if network.prefix < least {
        out.push(
            Diagnostic::new(format!("{network} is too large for services"), place)
                .help(format!("write a network of /{least} or smaller")),
        );
    }
}

/// One of each family at most, and the same families for pods and services.
fn families(pods: &[(Cidr, Span)], services: &[(Cidr, Span)], out: &mut Vec<Diagnostic>) {
    let mut twice = false;
    for list in [pods, services] {
        for (index, (network, place)) in list.iter().enumerate() {
            let before = list[..index]
                .iter()
                .find(|(other, _)| other.address.is_ipv4() == network.address.is_ipv4());
            if let Some((_, first)) = before {
                twice = true;
                out.push(
                    Diagnostic::new("a second network of the same family", place)
                        .related(first, "the first")
                        .help("write one network, or one of IPv4 and one of IPv6 for dual stack"),
                );
            }
        }
    }
    let has = |list: &[(Cidr, Span)], v4: bool| {
        list.iter()
            .any(|(network, _)| network.address.is_ipv4() == v4)
    };
    let (Some((_, pod)), Some((_, service))) = (pods.first(), services.first()) else {
        return;
    };
    let differ = [true, false]
        .into_iter()
        .any(|v4| has(pods, v4) != has(services, v4));
    if differ && !twice {
        out.push(
            Diagnostic::new(
                "pods and services have networks of different families",
                service,
            )
            .related(pod, "pods")
            .label("services")
            .help("write both for IPv4, both for IPv6, or both for both"),
        );
    }
}

/// Nobody may live inside of the networks, and there must be room for all.
pub fn check_nodes(
    kubernetes: &Kubernetes,
    nodes: &IndexMap<NodeName, Node>,
    drafts: &[Draft],
    out: &mut Vec<Diagnostic>,
) {
    let pods = kubernetes.pod_networks();
    let services = kubernetes.service_networks();
    let by_itself = |written: &[Cidr]| {
        if written.is_empty() {
            format!(" (what {} takes by itself)", kubernetes.distribution)
        } else {
            String::new()
        }
    };
    for node in nodes.values() {
        let Ok(address) = node.address.parse() else {
            continue;
        };
        for (what, key, networks, written) in [
            ("pods", "cluster_cidr", &pods, &kubernetes.cluster_cidr),
            (
                "services",
                "service_cidr",
                &services,
                &kubernetes.service_cidr,
            ),
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
                            "the address of {} lies in the network of {what}, {network}{}",
                            node.name,
                            by_itself(written),
                        ),
                        span,
                    )
                    .help(format!("choose another `{key}` under `kubernetes`")),
                );
            }
        }
    }
    if let Some(text) = &kubernetes.endpoint
        && let Some(address) = endpoint_address(text)
        && let Some(network) = pods.iter().chain(&services).find(|n| n.contains(address))
    {
        let span = kubernetes
            .written
            .get("endpoint")
            .map_or(&kubernetes.span, |endpoint| &endpoint.span);
        out.push(
            Diagnostic::new(
                format!("the endpoint lies in {network}, a network of the cluster's own"),
                span,
            )
            .help("the endpoint is an address of your own network, or a name that leads to one"),
        );
    }
    room(kubernetes, &pods, nodes, out);
}

/// An IP address with or without port and brackets.
fn endpoint_address(text: &str) -> Option<std::net::IpAddr> {
    text.parse().ok().or_else(|| {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|address| address.ip())
    })
}

fn room(
    kubernetes: &Kubernetes,
    pods: &[Cidr],
    nodes: &IndexMap<NodeName, Node>,
    out: &mut Vec<Diagnostic>,
) {
    if shares_are_chosen(kubernetes.config.values()) {
        return;
    }
    let members = nodes
        .values()
        .filter(|node| node.kubernetes.is_some())
        .count();
    for network in pods {
        let bits = node_bits(network);
        let Some(spare) = bits.checked_sub(network.prefix) else {
            continue;
        };
        let shares = 1_usize.checked_shl(u32::from(spare)).unwrap_or(usize::MAX);
        if members > shares {
            let span = kubernetes
                .written
                .get("cluster_cidr")
                .map_or(&kubernetes.span, |written| &written.span);
            out.push(
                Diagnostic::new(
                    format!("{network} has pods for {shares} nodes, and {members} are declared"),
                    span,
                )
                .help(format!("every node gets a /{bits}: write a larger network")),
            );
        }
    }
}

fn networks(
    written: Option<&OneOrMany<Spanned<Network>>>,
    out: &mut Vec<Diagnostic>,
) -> Vec<(Cidr, Span)> {
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
