//! What only a cluster of kubeadm says, and what it must.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostic;
use crate::document::inventory::KubernetesDocument;
use crate::inventory::Node;
use crate::kubernetes::{Cidr, Distribution, Kubernetes, KubernetesVersion, Repository};
use crate::load::node::Draft;
use crate::load::{Scope, ssh};
use crate::span::Span;

/// The oldest release whose configuration is known.
const OLDEST: (u32, u32) = (1, 20);

/// The repository of the packages.
pub fn repository(
    scope: &Scope<'_>,
    document: &KubernetesDocument,
    version: &KubernetesVersion,
    out: &mut Vec<Diagnostic>,
) -> Option<Repository> {
    let written = document.repository.as_ref()?;
    if document.distribution != Some(Distribution::Kubeadm) {
        out.push(
            Diagnostic::new("k3s comes from no apt repository", &written.span).help(
                "remove `repository`: it is for kubeadm; where k3s comes from is said by `artifact`",
            ),
        );
        return None;
    }
    let key = written.value.key.as_ref()?;
    let path = ssh::join(scope.folder, &key.value.0);
    scope.wants_file(&path, &key.span);
    let url = match &written.value.url {
        None => Repository::published(version),
        Some(url) => {
            other_minor(&url.value.0, &url.span, version, out);
            let text = url.value.0.trim_end_matches('/');
            format!("{text}/")
        }
    };
    Some(Repository { url, key: path })
}

/// A repository of pkgs.k8s.io holds one minor release, which stands in its address.
fn other_minor(url: &str, place: &Span, version: &KubernetesVersion, out: &mut Vec<Diagnostic>) {
    let minor = format!("v{}.{}", version.major, version.minor);
    let named: BTreeSet<&str> = url
        .split('/')
        .filter(|part| {
            part.strip_prefix('v').is_some_and(|rest| {
                let numbers: Vec<&str> = rest.split('.').collect();
                numbers.len() == 2 && numbers.iter().all(|n| n.parse::<u32>().is_ok())
            })
        })
        .collect();
    if let Some(other) = named.iter().find(|part| **part != minor) {
        out.push(
            Diagnostic::new(
                format!("this is the repository of {other}, and {version} is wanted"),
                place,
            )
            .help(format!(
                "every minor release has a repository of its own: write {minor} in the place of {other}"
            )),
        );
    }
}

/// The oldest release that pkgs.k8s.io has
/// (<https://kubernetes.io/blog/2023/08/15/pkgs-k8s-io-introduction/>).
const PUBLISHED: (u32, u32) = (1, 24);

/// The first release in which two families go by themselves: the feature gate `IPv6DualStack` is off before
/// (<https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates-removed/>).
const DUAL_STACK: (u32, u32) = (1, 21);

/// What a cluster of kubeadm must say.
pub fn check(
    document: &KubernetesDocument,
    version: &KubernetesVersion,
    networks: [&[Cidr]; 2],
    section: &Span,
    out: &mut Vec<Diagnostic>,
) {
    let release = (version.major, version.minor);
    let too_old = release < OLDEST;
    if let Some(written) = document.repository.as_ref()
        && written.value.url.is_none()
        && !too_old
        && release < PUBLISHED
    {
        out.push(
            Diagnostic::new(
                format!("pkgs.k8s.io has no packages of {version}: it begins with v1.24"),
                &written.span,
            )
            .help("name a repository that has them: repository: { url: …, key: … }; or take a newer release"),
        );
    }
    let two = networks.iter().find(|list| list.len() > 1);
    if two.is_some()
        && !too_old
        && release < DUAL_STACK
        && let Some(written) = &document.version
    {
        out.push(
            Diagnostic::new(
                format!("{version} has dual stack switched off (the feature gate IPv6DualStack is alpha before v1.21)"),
                &written.span,
            )
            .help("write one network for pods and one for services, or take v1.21 or newer"),
        );
    }
    if document.repository.is_none() && !too_old && release < PUBLISHED {
        out.push(
            Diagnostic::new("the repository of the packages is not said", section).help(format!(
                "pkgs.k8s.io begins with v1.24 and has none of {version}: name one that has: repository: {{ url: …, key: … }}"
            )),
        );
    } else if document.repository.is_none() {
        let url = Repository::published(version);
        out.push(
            Diagnostic::new("the key of the packages' repository is not said", section).help(
                format!(
                    "fetch it once, look at it, and keep it beside the inventory: curl -fLo kubernetes.asc {url}Release.key; then add `repository: {{ key: kubernetes.asc }}`"
                ),
            ),
        );
    }
    if document.manifests.as_ref().is_none_or(Vec::is_empty) {
        out.push(
            Diagnostic::new("nothing brings the network of pods, so no node would become Ready", section)
                .help("kubeadm brings none: add the manifest of one, the first of `manifests`: { name: flannel, path: kube-flannel.yml }"),
        );
    }
    if (version.major, version.minor) < OLDEST
        && let Some(written) = &document.version
    {
        out.push(
            Diagnostic::new(format!("{version} is too old"), &written.span)
                .help(format!("v{}.{} is the oldest", OLDEST.0, OLDEST.1)),
        );
    }
}

/// Several control planes are reached by one address: it is in every certificate and credential that kubeadm writes, and cannot be
/// given later (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/>).
pub fn one_address(
    kubernetes: &Kubernetes,
    servers: &[&Node],
    drafts: &[Draft],
    out: &mut Vec<Diagnostic>,
) {
    let [first, second, ..] = servers else {
        return;
    };
    if kubernetes.endpoint.is_some() {
        return;
    }
    out.push(
        Diagnostic::new(
            format!(
                "{} control planes are declared, and no `endpoint` at which the cluster is reached",
                servers.len()
            ),
            &super::place(second, drafts),
        )
        .related(&super::place(first, drafts), "the first")
        .help("write `endpoint: HOST` under `kubernetes`: a name or an address that leads to any of them, by a load balancer or the role kube-vip"),
    );
}
