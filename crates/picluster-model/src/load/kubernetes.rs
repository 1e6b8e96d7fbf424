//! The `kubernetes` section, and whether the nodes go with it.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::text::Network;
use crate::document::{OneOrMany, Spanned};
use crate::kubernetes::{Cidr, Kubernetes, KubernetesVersion};
use crate::load::Scope;

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
