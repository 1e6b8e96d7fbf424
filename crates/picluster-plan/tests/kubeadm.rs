//! What the role of kubeadm makes of an inventory: the documents kubeadm reads, in the form of each release, and
//! containerd's configuration. Fields as in
//! <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/> and its predecessors.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use picluster_model::render::ClusterContext;
use picluster_model::{Color, Diagnostic, Everything, RoleLibrary, load, render};
use picluster_plan::Declared;
use picluster_plan::declare::declare;
use picluster_resource::{Facts, Resource};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An inventory of a control plane, and perhaps a worker, by lines below `kubernetes`, arguments of the role, and nodes.
fn inventory(version: &str, more: &str, role: &str, nodes: &str) -> String {
    let mut text = format!(
        "cluster: rack\nroles: [{{ kubeadm: {{ {role} }} }}]\nkubernetes:\n  distribution: kubeadm\n  version: {version}\n  repository: {{ key: kubernetes.asc }}\n  manifests: [{{ name: flannel, content: \"kind: List\" }}, {{ name: own, content: \"kind: List\" }}]\n"
    );
    for line in more.lines() {
        text += &format!("  {line}\n");
    }
    text + "nodes:\n" + nodes
}

const TWO: &str = "  rpi01: { address: 192.168.2.1, kubernetes: server }\n  rpi02: { address: 192.168.2.2, kubernetes: agent }\n";

fn nodes(text: &str) -> Result<Vec<Vec<Declared>>, Vec<Diagnostic>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.yaml");
    fs::write(&path, text).unwrap();
    let library = RoleLibrary::default().folder(repository().join("roles"));
    let project = load(
        &path,
        &library,
        &picluster_resource::Vocabulary,
        &Everything,
    )?;
    let facts = fs::read_to_string(repository().join("tests/cases/facts/rpios-bookworm-arm64.txt"));
    let facts = Facts::parse(&facts.unwrap()).unwrap();
    let cluster = ClusterContext::new(&project);
    let nodes = project.inventory.nodes.values();
    nodes
        .map(|node| declare(&project, &cluster, node, &facts))
        .collect()
}

fn of(text: &str) -> Vec<Vec<Declared>> {
    nodes(text).unwrap_or_else(|wrong| panic!("{}\n{text}", render(&wrong, Color::Plain)))
}

/// What a resource says under a key.
fn said(all: &[Declared], kind: &str, key: &str, field: &str) -> String {
    let item = all
        .iter()
        .find(|item| item.addr.kind == kind && item.addr.key == key)
        .unwrap_or_else(|| panic!("no {kind}[{key}]"));
    let body = serde_json::to_value(&item.resource).unwrap();
    match &body.as_object().unwrap().values().next().unwrap()[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn the_documents_have_the_form_of_the_release() {
    let full = "endpoint: k8s.lan\ntls_san: [10.0.0.9]\ncluster_cidr: 10.244.0.0/16\nservice_cidr: 10.97.0.0/16";
    let mut shown = String::new();
    for (version, more, role, of_nodes) in [
        ("v1.20.2", "cluster_cidr: 10.244.0.0/16", "", TWO),
        ("v1.21.14", "", "", TWO),
        ("v1.22.0", "", "", TWO),
        ("v1.30.14", full, "", TWO),
        ("v1.31.0", full, "image_repository: registry.lan/k8s", TWO),
        (
            "v1.37.0",
            "endpoint: \"[2001:db8::1]:8443\"",
            "",
            "  rpi01: { address: \"2001:db8::1\", kubernetes: server }\n",
        ),
        (
            "v1.36.1",
            "",
            "workloads_on_control_plane: true",
            "  rpi01: { address: rpi01.lan, kubernetes: server }\n  rpi02: { address: rpi02.lan, kubernetes: agent }\n",
        ),
    ] {
        for all in of(&inventory(version, more, role, of_nodes)) {
            let node = all[0].addr.node.to_string();
            shown += &format!(
                "######## {version} {node}\n{}\n",
                said(&all, "kubeadm", &node, "content")
            );
        }
    }
    insta::assert_snapshot!("documents", shown);
}

#[test]
fn the_form_of_containerds_configuration_is_that_of_its_release() {
    let mut shown = String::new();
    for (version, role) in [
        ("v1.20.2", "containerd: 1"),
        ("v1.24.0", "containerd: 1"),
        ("v1.33.2", ""),
        ("v1.36.1", "containerd: 2"),
        ("v1.31.0", "containerd: 2, image_repository: registry.lan"),
    ] {
        let all = &of(&inventory(version, "", role, TWO))[1];
        let text = said(all, "file", "/etc/containerd/config.toml", "content");
        shown += &format!("######## {version} {role}\n{text}\n");
    }
    insta::assert_snapshot!("containerd", shown);
}

/// Every release there is renders, and says a pause image.
#[test]
fn every_minor_renders() {
    for minor in 20..=40 {
        for all in of(&inventory(&format!("v1.{minor}.0"), "", "", TWO)) {
            let text = said(&all, "file", "/etc/containerd/config.toml", "content");
            assert!(text.contains("/pause:3."), "v1.{minor}: {text}");
        }
    }
}

#[test]
fn packages_are_of_the_release_and_from_its_repository() {
    let all = &of(&inventory("v1.33.2", "", "", TWO))[0];
    assert_eq!(
        said(
            all,
            "file",
            "/etc/apt/sources.list.d/kubernetes.sources",
            "content"
        ),
        "# Written by picluster. One minor release of Kubernetes: every one has a repository of its own.\nTypes: deb\nURIs: https://pkgs.k8s.io/core:/stable:/v1.33/deb/\nSuites: /\nSigned-By: /etc/apt/keyrings/kubernetes.asc\n"
    );
    let packages: Vec<&Resource> = all
        .iter()
        .map(|item| &item.resource)
        .filter(|resource| matches!(resource, Resource::Package(p) if p.hold == Some(true)))
        .collect();
    let [Resource::Package(packages)] = packages[..] else {
        panic!("{packages:?}");
    };
    assert_eq!(
        packages.names,
        ["kubelet=1.33.2-*", "kubeadm=1.33.2-*", "kubectl=1.33.2-*"]
    );
}

/// The network comes before the node is Ready and is not waited for; the others come behind, and are.
#[test]
fn the_network_comes_first() {
    let all = &of(&inventory("v1.33.2", "", "", TWO))[0];
    let find = |name: &str| {
        let key = format!("/etc/kubernetes/picluster/{name}.yaml");
        all.iter()
            .find(|item| item.addr.kind == "manifest" && item.addr.key == key)
            .unwrap()
    };
    let waits = |name: &str| matches!(&find(name).resource, Resource::Manifest(m) if m.wait);
    assert!(!waits("flannel") && waits("own"));
    assert!(!find("flannel").needs.contains(&"ready".to_owned()));
    assert!(find("own").needs.contains(&"ready".to_owned()));
    let ready = all
        .iter()
        .find(|item| item.addr.kind == "cluster_node")
        .unwrap();
    assert!(ready.needs.contains(&"network".to_owned()));
}
