//! The `kubernetes` section, and whether the nodes go with it.

mod config;
mod files;
mod kubeadm;
mod networks;

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::inventory::{KubeconfigDocument, KubernetesDocument};
use crate::document::text::NonEmpty;
use crate::document::{Entries, Spanned};
use crate::inventory::Node;
use crate::kubernetes::{Distribution, Kubeconfig, Kubernetes, KubernetesRole, KubernetesVersion};
use crate::load::node::Draft;
use crate::load::{Scope, ssh};
use crate::name::NodeName;
use crate::suggest;
use crate::yaml::Yaml;

/// Components k3s brings, by the names `--disable` knows
/// (<https://docs.k3s.io/installation/packaged-components>).
const COMPONENTS: [&str; 6] = [
    "coredns",
    "local-storage",
    "metrics-server",
    "runtimes",
    "servicelb",
    "traefik",
];

/// Reads the section; `None` when there is none or it is wrong.
pub fn read(scope: &Scope<'_>, out: &mut Vec<Diagnostic>) -> Option<Kubernetes> {
    let section = scope.document.kubernetes.as_ref()?;
    let written = scope.root.get("kubernetes")?;
    let document = &section.value;
    let (cluster_cidr, service_cidr) = networks::read(document, out);
    config::check(document, written, out);
    components(document, out);
    names(document, out);
    let (artifact, checksum) = files::artifact(scope, document, written, out);
    let manifests = files::manifests(scope, document, out);
    let distribution = document.distribution?;
    let images = files::images(scope, document, distribution, out);
    of_k3s(distribution, written, out);
    let version = document.version.as_ref()?;
    let version = match KubernetesVersion::parse(&version.value.0, distribution) {
        Ok(version) => version,
        Err(rule) => {
            out.push(
                Diagnostic::new(
                    format!("{:?} is not a release of {distribution}", version.value.0),
                    &version.span,
                )
                .help(rule),
            );
            return None;
        }
    };
    let repository = kubeadm::repository(scope, document, &version, out);
    if distribution == Distribution::Kubeadm {
        let networks = [cluster_cidr.as_slice(), service_cidr.as_slice()];
        kubeadm::check(document, &version, networks, &section.span, out);
    }
    Some(Kubernetes {
        distribution,
        repository,
        version,
        endpoint: document.endpoint.as_ref().map(|e| e.value.0.clone()),
        disable: texts(document.disable.as_ref()),
        tls_san: texts(document.tls_san.as_ref()),
        cluster_cidr,
        service_cidr,
        by_ipv6: false,
        token: document.token.clone(),
        agent_token: document.agent_token.clone(),
        artifact,
        checksum,
        images,
        config: entries(document.config.as_ref()),
        agent_config: entries(document.agent_config.as_ref()),
        registries: written.get("registries").filter(|r| !r.is_null()).cloned(),
        kubeconfig: kubeconfig(scope, document.kubeconfig.as_ref()),
        manifests,
        written: written.clone(),
        span: section.span.clone(),
    })
}

/// Whether the first server is reached at an address of IPv6.
pub fn is_by_ipv6(nodes: &IndexMap<NodeName, Node>) -> bool {
    let first = nodes
        .values()
        .find(|node| node.kubernetes == Some(KubernetesRole::Server));
    first.is_some_and(|node| node.address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Whether the nodes go with the section: someone serves, their number can decide, and nobody
/// lives inside of its networks.
pub fn check_nodes(
    kubernetes: &Kubernetes,
    nodes: &IndexMap<NodeName, Node>,
    drafts: &[Draft],
    out: &mut Vec<Diagnostic>,
) {
    let agent = nodes
        .values()
        .find(|node| node.kubernetes == Some(KubernetesRole::Agent));
    let servers: Vec<&Node> = nodes
        .values()
        .filter(|node| node.kubernetes == Some(KubernetesRole::Server))
        .collect();
    if let (Some(agent), []) = (agent, servers.as_slice()) {
        out.push(
            Diagnostic::new("no node is a server", &kubernetes.span)
                .related(&agent.span, "an agent needs one to join")
                .help("write `kubernetes: server` on at least one node"),
        );
    }
    if kubernetes.distribution == Distribution::Kubeadm {
        kubeadm::one_address(kubernetes, &servers, drafts, out);
    }
    quorum(kubernetes, &servers, drafts, out);
    networks::check_nodes(kubernetes, nodes, drafts, out);
}

/// Where a node says what it does in the cluster.
fn place(node: &Node, drafts: &[Draft]) -> crate::span::Span {
    drafts
        .iter()
        .find(|draft| draft.name == node.name.as_str())
        .and_then(|draft| draft.yaml.get("kubernetes"))
        .map_or(&node.span, |role| &role.span)
        .clone()
}

/// An even number of members of etcd tolerates no more losses than one less
/// (<https://etcd.io/docs/v3.6/faq/#why-an-odd-number-of-cluster-members>).
fn quorum(kubernetes: &Kubernetes, servers: &[&Node], drafts: &[Draft], out: &mut Vec<Diagnostic>) {
    let external = kubernetes.config.contains_key("datastore-endpoint");
    if servers.is_empty() || servers.len() % 2 == 1 || external {
        return;
    }
    let Some(last) = servers.last() else { return };
    let count = servers.len();
    let place = |node: &Node| place(node, drafts);
    let message = if count == 2 {
        String::from("two servers: when either is down, both stop")
    } else {
        format!("{count} servers tolerate no more losses than {}", count - 1)
    };
    let outside = match kubernetes.distribution {
        Distribution::K3s => {
            ", or a database outside of the cluster: `config: { datastore-endpoint: … }`"
        }
        Distribution::Kubeadm => "",
    };
    let mut finding = Diagnostic::new(message, &place(last)).help(format!(
        "etcd needs more than half of its members: declare {} or {} servers{outside}; to replace a server, write the new one in the place of the old one: it joins first",
        count - 1,
        count + 1,
    ));
    if let Some(first) = servers.first().map(|node| place(node))
        && first != place(last)
    {
        finding = finding.related(&first, "the first server");
    }
    out.push(finding);
}

/// What only k3s has.
fn of_k3s(distribution: Distribution, written: &Yaml, out: &mut Vec<Diagnostic>) {
    if distribution == Distribution::K3s {
        return;
    }
    for key in [
        "disable",
        "registries",
        "config",
        "agent_config",
        "token",
        "agent_token",
        "artifact",
        "checksum",
    ] {
        if let Some(place) = written.key_span(key) {
            out.push(
                Diagnostic::new(format!("{distribution} has no `{key}`"), place)
                    .help(format!("remove `{key}`: it is for k3s")),
            );
        }
    }
}

/// Names of components that are slips of the fingers, or names of what is inside of them. Other
/// names pass: k3s disables whatever lies in its folder of manifests.
fn components(document: &KubernetesDocument, out: &mut Vec<Diagnostic>) {
    for name in document.disable.iter().flatten() {
        let text = name.value.0.as_str();
        if COMPONENTS.contains(&text) {
            continue;
        }
        let meant = match text {
            "klipper-lb" | "service-lb" | "klipper" => Some("servicelb"),
            "local-path" | "local-path-provisioner" => Some("local-storage"),
            "dns" | "core-dns" => Some("coredns"),
            "metrics" => Some("metrics-server"),
            "ingress" => Some("traefik"),
            _ => suggest::nearest(text, COMPONENTS),
        };
        if let Some(meant) = meant {
            out.push(
                Diagnostic::new(format!("k3s has no component `{text}`"), &name.span)
                    .help(format!("did you mean `{meant}`?")),
            );
        } else if !text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        {
            out.push(
                Diagnostic::new(format!("{text:?} is not a component"), &name.span)
                    .help(format!("components: {}", COMPONENTS.join(", "))),
            );
        }
    }
}

/// Names in a certificate are names or addresses, without scheme, port or path.
fn names(document: &KubernetesDocument, out: &mut Vec<Diagnostic>) {
    for name in document.tls_san.iter().flatten() {
        let text = name.value.0.as_str();
        let is_name = text.len() <= 253
            && text.split('.').enumerate().all(|(index, label)| {
                index == 0 && label == "*"
                    || !label.is_empty()
                        && label.len() <= 63
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        if !is_name && text.parse::<std::net::IpAddr>().is_err() {
            out.push(
                Diagnostic::new(
                    format!("{text:?} is neither a name nor an IP address"),
                    &name.span,
                )
                .help("write it without https://, port and path: k8s.lan"),
            );
        }
    }
}

fn kubeconfig(scope: &Scope<'_>, document: Option<&KubeconfigDocument>) -> Kubeconfig {
    let cluster = scope.document.cluster.as_ref();
    Kubeconfig {
        mode: document
            .and_then(|d| d.mode.as_ref())
            .map_or_else(|| String::from("0600"), |mode| format!("{:0>4}", mode.0)),
        merge: document.and_then(|d| d.merge).unwrap_or(true),
        context: document
            .and_then(|d| d.context.as_ref())
            .map(|context| context.0.clone())
            .or_else(|| cluster.map(|name| name.value.0.clone()))
            .unwrap_or_default(),
        path: document
            .and_then(|d| d.path.as_ref())
            .map(|path| ssh::join(scope.folder, &path.0)),
    }
}

fn texts(list: Option<&Vec<Spanned<NonEmpty>>>) -> Vec<String> {
    list.into_iter()
        .flatten()
        .map(|text| text.value.0.clone())
        .collect()
}

fn entries(
    written: Option<&Entries<crate::document::inventory::ConfigValue>>,
) -> IndexMap<String, Yaml> {
    written
        .into_iter()
        .flat_map(|config| &config.0)
        .map(|(key, _, value)| (key.clone(), value.0.clone()))
        .collect()
}
