//! What the role of kubeadm makes of an inventory: the documents kubeadm reads, in the form of each release, and
//! containerd's configuration. Fields as in
//! <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/> and its predecessors.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use picluster_model::render::ClusterContext;
use picluster_model::secret::SecretValues;
use picluster_model::{Color, Diagnostic, Everything, RoleLibrary, load, render};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions};
use picluster_plan::declare::declare;
use picluster_plan::{Declared, NodeState, Plan, RecordAction, Step};
use picluster_resource::query::{Answer, PackageState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Facts, Query, Resource};
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An inventory of a control plane, and perhaps a worker, by lines below `kubernetes`, arguments of the role, and nodes.
fn inventory(version: &str, more: &str, role: &str, nodes: &str) -> String {
    // pkgs.k8s.io begins with v1.24.
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    let url = match minor {
        ..24 => "url: \"http://packages.lan/\", ",
        _ => "",
    };
    let mut text = format!(
        "cluster: rack\nroles: [{{ kubeadm: {{ {role} }} }}]\nkubernetes:\n  distribution: kubeadm\n  version: {version}\n  repository: {{ {url}key: kubernetes.asc }}\n  manifests: [{{ name: flannel, content: \"kind: List\" }}, {{ name: own, content: \"kind: List\" }}]\n"
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
    // What k3s' role asks for; kubeadm's does not.
    let program = serde_json::json!({"sha256": "0".repeat(64), "size": 3, "arch": "arm64"});
    let names = project.inventory.nodes.keys();
    let programs = names.map(|name| (name.clone(), program.clone())).collect();
    let cluster = ClusterContext::new(&project).with_artifacts(programs);
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
        (
            "v1.34.0",
            "endpoint: 192.168.2.250",
            "",
            "  rpi[1:3]: { address: \"192.168.2.{n}\", kubernetes: server }\n",
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

/// A node as it comes from its image.
fn nothing(queries: Vec<Query>) -> Answers {
    let mut answers = Answers::default();
    for query in queries {
        let answer = match &query {
            Query::Path(path) => Answer::Path(
                matches!(path.as_str(), "/" | "/etc" | "/usr/local/bin").then(|| PathState {
                    kind: PathKind::Directory,
                    mode: 0o755,
                    owner: "root".into(),
                    group: "root".into(),
                    size: 0,
                }),
            ),
            Query::Content { .. } => Answer::Content(None),
            Query::Text(_) => Answer::Text(None),
            Query::Secret(_) => Answer::Secret(None),
            Query::Package { .. } => Answer::Package(PackageState {
                status: "un".into(),
                version: None,
                candidate: None,
                available: Vec::new(),
            }),
            Query::Unit(_) => Answer::Unit(UnitState {
                load: "not-found".into(),
                active: "inactive".into(),
                ..UnitState::default()
            }),
            Query::Fragment(text) if text.contains("package database") => Answer::Fragment {
                status: 0,
                stdout: "journals=\n".into(),
            },
            // 90: there are no credentials yet.
            Query::Fragment(text) => Answer::Fragment {
                status: if text.contains("kubectl") { 90 } else { 0 },
                stdout: String::new(),
            },
            Query::ClusterNode { .. } => Answer::Fragment {
                status: 90,
                stdout: String::new(),
            },
            other => panic!("no answer prepared for {other}"),
        };
        answers.0.insert(query, answer);
    }
    answers
}

/// The plan for blank machines.
fn blank(text: &str) -> Plan {
    found(text, &[], &|_, _| None)
}

/// The plan for machines of which some are away, and others answer otherwise than a blank one.
fn found(text: &str, away: &[&str], says: &dyn Fn(&str, &Query) -> Option<Answer>) -> Plan {
    found_of(text, away, &|_| true, says)
}

/// The same with some of the entries alone.
fn found_of(
    text: &str,
    away: &[&str],
    keep: &dyn Fn(&Declared) -> bool,
    says: &dyn Fn(&str, &Query) -> Option<Answer>,
) -> Plan {
    let facts = fs::read_to_string(repository().join("tests/cases/facts/rpios-bookworm-arm64.txt"));
    let facts = Facts::parse(&facts.unwrap()).unwrap();
    let secrets = SecretValues::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let (mut nodes, mut servers, mut agents) = (BTreeMap::new(), Vec::new(), Vec::new());
    for all in of(text) {
        let name = all[0].addr.node.clone();
        // What the machine itself is like is not what this is about.
        let kernel = |d: &Declared| matches!(d.addr.kind.as_str(), "sysctl" | "kernel_module");
        let mut declared: Vec<Declared> =
            all.into_iter().filter(|d| !kernel(d) && keep(d)).collect();
        for item in &mut declared {
            if let Resource::Artifact(key) = &mut item.resource {
                key.sha256 = Some("0".repeat(64));
                key.size = Some(3);
            }
        }
        if declared.iter().any(|d| d.addr.kind == "cluster_server") {
            servers.push(name.clone());
        } else {
            agents.push(name.clone());
        }
        if away.contains(&name.as_str()) {
            let reason = format!("{name}: no route");
            let state = NodeState::Unreachable { reason };
            nodes.insert(name, NodeInput::Closed(state));
            continue;
        }
        let mut answers = nothing(questions(&declared, ctx));
        for (query, answer) in &mut answers.0 {
            if let Some(other) = says(name.as_str(), query) {
                *answer = other;
            }
        }
        let observed = ObservedNode {
            facts: facts.clone(),
            host_key: "SHA256:x".into(),
            answers,
            declared,
        };
        nodes.insert(name, NodeInput::Observed(Box::new(observed)));
    }
    build(&Inputs {
        departing: BTreeSet::new(),
        bootstrap: None,
        servers,
        agents,
        cluster: "rack".parse().unwrap(),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets: &secrets,
        key: b"a key of this test",
    })
}

fn text(stdout: impl Into<String>) -> Option<Answer> {
    Some(Answer::Fragment {
        status: 0,
        stdout: stdout.into(),
    })
}

/// What the cluster says of its nodes: their names, whether they are control planes, whether they are Ready.
fn listed(nodes: &[(&str, bool, bool)]) -> String {
    let item = |(name, server, ready): &(&str, bool, bool)| {
        let labels = match server {
            true => serde_json::json!({"node-role.kubernetes.io/control-plane": ""}),
            false => serde_json::json!({}),
        };
        serde_json::json!({
            "kind": "Node", "metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": if *ready { "True" } else { "Unknown" }}], "nodeInfo": {"kubeletVersion": "v1.33.2"}},
        })
    };
    let items: Vec<Value> = nodes.iter().map(item).collect();
    serde_json::json!({"kind": "List", "items": items}).to_string()
}

fn file() -> Answer {
    Answer::Path(Some(PathState {
        kind: PathKind::File,
        mode: 0o600,
        owner: "root".into(),
        group: "root".into(),
        size: 1,
    }))
}

/// A member of the cluster, as far as it is asked for files and units.
fn member(query: &Query, remembers: &str, nodes: &str) -> Option<Answer> {
    match query {
        Query::Fragment(script) if script.starts_with("# what this node remembers") => {
            text(remembers)
        }
        Query::Fragment(script) if script.starts_with("# node") => text(nodes),
        Query::Path(path) if path.as_str().ends_with(".conf") => Some(file()),
        Query::Unit(_) => Some(Answer::Unit(UnitState {
            load: "loaded".into(),
            active: "active".into(),
            ..UnitState::default()
        })),
        _ => None,
    }
}

/// A worker whose join was broken off when its kubelet had all it needs: it is Ready, and the token is still valid. It is not revoked
/// before kubeadm has come to its end.
#[test]
fn a_token_is_revoked_behind_all_that_join_with_it() {
    let nodes = listed(&[("rpi01", true, true), ("rpi02", false, true)]);
    let plan = found(
        &inventory("v1.33.2", "", "", TWO),
        &[],
        &|node, query| match query {
            Query::Secret(path) if path.as_str().contains("discovery") => {
                Some(Answer::Secret(Some(picluster_model::Secret::new(
                    r#"{"bootstrapToken":{"token":"abcdef.0123456789abcdef"}}"#.into(),
                ))))
            }
            Query::Fragment(script) if script.starts_with("# join token") => {
                text("secret/bootstrap-token-abcdef\n")
            }
            Query::Path(path) if node == "rpi02" && path.as_str().ends_with("picluster.begun") => {
                Some(file())
            }
            _ if node == "rpi01" => member(query, "server-ca aa\ndatastore etcd\n", &nodes),
            Query::Fragment(script) if script.starts_with("# node rpi02") => {
                let all: Value = serde_json::from_str(&nodes).unwrap();
                text(all["items"][1].to_string())
            }
            _ => member(query, "begun-ca aa\n", ""),
        },
    );
    let called = |s: &Step| s.addr.to_string();
    let step = |name: &str| {
        let all = || plan.steps.iter().map(called).collect::<Vec<_>>();
        let found = plan.steps.iter().find(|s| called(s) == name);
        found.unwrap_or_else(|| panic!("no {name} among {:#?}", all()))
    };
    let join = &step("rpi02/kubeadm/kubeadm[rpi02]").addr;
    // That it is Ready is seen once more, and with that written down: who has no record of it cannot take it out again.
    let ready = &step("rpi02/kubeadm/cluster_node[rpi02]").record;
    assert!(matches!(ready, RecordAction::Write { .. }), "{ready:?}");
    let revoked = step("rpi01/kubeadm/join_token[kubeadm-discovery revoked]");
    assert!(revoked.needs.contains(join), "{:?}", revoked.needs);
}

const THREE: &str = "  rpi[1:3]: { address: \"192.168.2.{n}\", kubernetes: server }\n";

/// Control planes join one at a time, also where the cluster has one that is down, whether it got as far as its label or not.
#[test]
fn nobody_joins_beside_a_control_plane_that_is_down() {
    for labelled in [true, false] {
        let nodes = listed(&[("rpi1", true, true), ("rpi2", labelled, false)]);
        let inventory = inventory("v1.33.2", "endpoint: 192.168.2.250", "", THREE);
        let plan = found(&inventory, &["rpi2"], &|node, query| match node {
            "rpi1" => member(query, "server-ca aa\ndatastore etcd\n", &nodes),
            _ => None,
        });
        let problems = &plan.nodes["rpi3"].problems;
        let words = "servers join one at a time, and server rpi2 is not Ready";
        assert!(
            problems.iter().any(|p| p.what.contains(words)),
            "{problems:?}"
        );
    }
}

/// Where the control plane cannot be worked on, nobody begins to join: there is nobody to join.
#[test]
fn nobody_joins_a_control_plane_that_is_refused() {
    let plan = found(
        &inventory("v1.33.2", "", "", TWO),
        &[],
        &|node, query| match query {
            Query::Fragment(script)
                if script.starts_with("# what this node remembers") && node == "rpi01" =>
            {
                text("other k3s\n")
            }
            _ => None,
        },
    );
    let joins = |s: &Step| s.addr.to_string() == "rpi02/kubeadm/kubeadm[rpi02]";
    assert!(!plan.steps.iter().any(joins));
    let problems = &plan.nodes["rpi02"].problems;
    let words = "the value kubeadm-discovery depends on rpi01, which cannot be worked on";
    assert!(problems.iter().any(|p| p.what == words), "{problems:?}");
}

/// What one server has made in a run that broke off is what the next one joins with: a second token beside it would come with
/// certificates that the key of the first one does not open.
#[test]
fn one_server_alone_makes_what_others_join_with() {
    let nodes = listed(&[("rpi1", true, true), ("rpi2", true, true)]);
    let inventory = inventory("v1.33.2", "endpoint: 192.168.2.250", "", THREE);
    let made = |holders: &[&str], valid: bool| {
        let plan = found(&inventory, &[], &|node, query| match query {
            Query::Secret(path) if path.as_str().contains("control-plane") => {
                let value = r#"{"bootstrapToken":{"token":"abcdef.0123456789abcdef"},"certificateKey":"00"}"#;
                let value = picluster_model::Secret::new(value.into());
                Some(Answer::Secret(holders.contains(&node).then_some(value)))
            }
            Query::Fragment(script)
                if script.starts_with("# join token") && valid && holders.contains(&node) =>
            {
                text("secret/bootstrap-token-abcdef\n")
            }
            _ if node != "rpi3" => member(query, "server-ca aa\ndatastore etcd\n", &nodes),
            _ => None,
        });
        let tokens = plan.steps.iter().map(|s| s.addr.to_string());
        tokens
            .filter(|a| a.ends_with("join_token[kubeadm-control-plane]"))
            .collect::<Vec<_>>()
    };
    assert_eq!(made(&["rpi1"], true), Vec::<String>::new());
    assert_eq!(made(&["rpi2"], true), Vec::<String>::new());
    // It is in the file, and the cluster does not know it any more.
    let first = ["rpi1/kubeadm/join_token[kubeadm-control-plane]"];
    assert_eq!(made(&["rpi1", "rpi2"], false), first);
    assert_eq!(made(&[], false), first);
}

/// Nobody founds a cluster while another server had begun to join one, and kube-vip's file is written on no server that may be no member.
#[test]
fn who_had_begun_to_join_remembers_the_cluster() {
    let text_of = inventory("v1.33.2", "endpoint: 192.168.2.250", "", THREE)
        .replace("roles: [", "roles: [{ kube-vip: { interface: eth0 } }, ");
    let plan = found(&text_of, &[], &|node, query| match query {
        Query::Fragment(script)
            if script.starts_with("# what this node remembers") && node == "rpi2" =>
        {
            text("begun-ca aabbccddeeff00\n")
        }
        _ => None,
    });
    let problems = &plan.nodes["rpi1"].problems;
    let problem = problems.iter().find(|p| {
        p.what
            .contains("rpi1 is blank, and rpi2 remembers a cluster (CA aabbccddeeff…)")
    });
    let problem = problem.unwrap_or_else(|| panic!("{problems:?}"));
    let file = "rpi1/kube-vip/file[/etc/kubernetes/manifests/kube-vip.yaml]";
    assert!(
        problem.skipped.iter().any(|a| a.to_string() == file),
        "{:?}",
        problem.skipped
    );
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| s.addr.role.as_str() == "kube-vip"),
        "{:?}",
        plan.steps
            .iter()
            .map(|s| s.addr.to_string())
            .collect::<Vec<_>>()
    );
    // Nor beside another cluster.
    let plan = found(&text_of, &[], &|node, query| {
        let ca = if node == "rpi2" { "bb" } else { "aa" };
        member(
            query,
            &format!("server-ca {ca}\ndatastore etcd\n"),
            &listed(&[]),
        )
    });
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| s.addr.role.as_str() == "kube-vip")
    );
}

/// The API of a member does not answer: it says why, where its etcd knows.
#[test]
fn a_member_whose_api_does_not_answer_says_why() {
    for (said, what, cure) in [
        (
            "etcd_server_has_leader 0\n",
            "its etcd runs and has no leader",
            "--force-new-cluster",
        ),
        (
            "etcd_server_has_leader 1\n",
            "the cluster does not answer it",
            "crictl ps -a",
        ),
        (
            "",
            "the cluster does not answer it",
            "journalctl -u kubelet.service",
        ),
    ] {
        let of_cluster = |d: &Declared| {
            let kind = d.addr.kind.as_str();
            matches!(
                kind,
                "cluster_member" | "kubeadm" | "manifest" | "cluster_node" | "cluster_server"
            )
        };
        let inventory = inventory("v1.33.2", "", "", TWO);
        let plan = found_of(
            &inventory,
            &["rpi02"],
            &of_cluster,
            &|_, query| match query {
                Query::Fragment(script) if script.starts_with("# what this node") => {
                    text("server-ca aa\ndatastore etcd\n")
                }
                Query::Fragment(script) if script.contains("kubectl") => Some(Answer::Fragment {
                    status: 92,
                    stdout: said.into(),
                }),
                _ => member(query, "", ""),
            },
        );
        let problems = &plan.nodes["rpi01"].problems;
        let named = |p: &&picluster_plan::Problem| {
            p.what.contains(what) && p.cure.as_ref().is_some_and(|c| c.contains(cure))
        };
        assert!(problems.iter().any(|p| named(&p)), "{problems:?}");
    }
}

/// One founds, the others come one behind the other, with what one server has made for them.
#[test]
fn control_planes_join_one_behind_the_other() {
    let text = inventory(
        "v1.33.2",
        "endpoint: 192.168.2.250",
        "",
        "  rpi[1:3]: { address: \"192.168.2.{n}\", kubernetes: server }\n  rpi4: { address: 192.168.2.4, kubernetes: agent }\n",
    );
    let plan = blank(&text);
    for (name, node) in &plan.nodes {
        assert!(node.problems.is_empty(), "{name}: {:?}", node.problems);
    }
    let by_addr: BTreeMap<String, &Step> = plan
        .steps
        .iter()
        .map(|step| (step.addr.to_string(), step))
        .collect();
    let behind = |addr: &str| {
        let mut open = vec![addr.to_owned()];
        let mut found = BTreeSet::new();
        while let Some(addr) = open.pop() {
            let needs = by_addr[&addr].needs.iter().map(ToString::to_string);
            open.extend(needs.filter(|need| found.insert(need.clone())));
        }
        found
    };
    let what = |node: &str| {
        let step = by_addr[&format!("{node}/kubeadm/kubeadm[{node}]")];
        serde_json::to_value(&step.change.fields[0].after)
            .unwrap()
            .to_string()
    };
    assert!(
        what("rpi1").contains("founds the cluster"),
        "{}",
        what("rpi1")
    );
    for (node, before) in [("rpi2", "rpi1"), ("rpi3", "rpi2")] {
        assert!(what(node).contains("as a control plane"), "{}", what(node));
        let all = behind(&format!("{node}/kubeadm/kubeadm[{node}]"));
        let ready = format!("{before}/kubeadm/cluster_node[{before}]");
        let token = "rpi1/kubeadm/join_token[kubeadm-control-plane]";
        assert!(
            all.contains(&ready) && all.contains(token),
            "{node}: {all:?}"
        );
    }
    let tokens: Vec<&String> = by_addr
        .keys()
        .filter(|addr| addr.contains("join_token"))
        .collect();
    assert_eq!(
        tokens,
        [
            "rpi1/kubeadm/join_token[kubeadm-control-plane revoked]",
            "rpi1/kubeadm/join_token[kubeadm-control-plane]",
            "rpi1/kubeadm/join_token[kubeadm-discovery revoked]",
            "rpi1/kubeadm/join_token[kubeadm-discovery]",
        ]
    );
    let revoked = behind("rpi1/kubeadm/join_token[kubeadm-control-plane revoked]");
    assert!(revoked.contains("rpi3/kubeadm/cluster_node[rpi3]"));
    // A worker waits for the cluster, and not for all of its servers.
    let worker = behind("rpi4/kubeadm/kubeadm[rpi4]");
    assert!(
        !worker
            .iter()
            .any(|addr| addr.starts_with("rpi2/") || addr.starts_with("rpi3/"))
    );
}

/// What cannot go together is said when the role is read.
#[test]
fn containerd_2_needs_a_kubelet_that_speaks_cri_v1() {
    let wrong = nodes(&inventory("v1.22.0", "", "containerd: 2", TWO)).unwrap_err();
    let said = render(&wrong, Color::Plain);
    assert!(
        said.contains("containerd 2 does not go with v1.22.0"),
        "{said}"
    );
    assert!(nodes(&inventory("v1.23.0", "", "containerd: 2", TWO)).is_ok());
}

/// kube-vip: a static pod with kubeadm, a daemon set with k3s, both at the cluster's address.
#[test]
fn kube_vip_has_the_clusters_address() {
    let servers = "  rpi[1:3]: { address: \"192.168.2.{n}\", kubernetes: server }\n";
    let with = |text: &str| text.replace("roles: [", "roles: [{ kube-vip: { interface: eth0 } }, ");
    let mut shown = String::new();
    for version in ["v1.28.0", "v1.29.0"] {
        let text = with(&inventory(version, "endpoint: 192.168.2.250", "", servers));
        for all in of(&text).iter().take(2) {
            let pod = said(
                all,
                "file",
                "/etc/kubernetes/manifests/kube-vip.yaml",
                "content",
            );
            shown += &format!("######## {version} {}\n{pod}\n", all[0].addr.node);
        }
    }
    let k3s = format!(
        "cluster: rack\nroles: [kube-vip]\nkubernetes: {{ distribution: k3s, version: v1.33.5+k3s1, endpoint: \"[fd00::250]:6443\" }}\nnodes:\n{servers}"
    );
    let all = &of(&k3s)[0];
    let path = "/var/lib/rancher/k3s/server/manifests/kube-vip.yaml";
    shown += &format!("######## k3s\n{}\n", said(all, "manifest", path, "content"));
    insta::assert_snapshot!("kube-vip", shown);
}
