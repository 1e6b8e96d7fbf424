//! What the role of k3s makes of an inventory, and which units a change of the inventory restarts: plans over nodes that
//! are exactly as the inventory before wanted them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use picluster_model::inventory::Project;
use picluster_model::render::ClusterContext;
use picluster_model::secret::{Secret, SecretRef, SecretText, SecretValues};
use picluster_model::{Color, Everything, NodeName, RoleLibrary, load, render};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions, removal_questions};
use picluster_plan::declare::declare;
use picluster_plan::owned;
use picluster_plan::{Declared, Plan, RecordAction, Step};
use picluster_resource::program::sha256_hex;
use picluster_resource::query::{Answer, ContentState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Effect, Facts, Query, Resource};
use serde_json::{Value, json};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What an inventory says, besides what all of them do.
#[derive(Clone, Copy, Default)]
struct Says {
    /// Lines below `kubernetes`.
    kubernetes: &'static str,
    /// Lines below the agent.
    agent: &'static str,
    /// Arguments of the role.
    role: &'static str,
    /// What stands for the program.
    program: &'static str,
}

fn project(says: Says) -> Project {
    let mut text = String::from("cluster: rack\nroles:\n");
    text += &format!("  - k3s: {{ {} }}\n", says.role);
    text += "kubernetes:\n  distribution: k3s\n  version: v1.36.3+k3s1\n";
    for line in says.kubernetes.lines() {
        text += &format!("  {line}\n");
    }
    text += "nodes:\n  rpi01: { address: 192.168.2.1, kubernetes: server }\n  rpi02:\n    address: 192.168.2.2\n    kubernetes: agent\n";
    for line in says.agent.lines() {
        text += &format!("    {line}\n");
    }
    loaded(&text)
}

fn loaded(text: &str) -> Project {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.yaml");
    fs::write(&path, text).unwrap();
    let library = RoleLibrary::default().folder(repository().join("roles"));
    let vocabulary = &picluster_resource::Vocabulary;
    load(&path, &library, vocabulary, &Everything)
        .unwrap_or_else(|wrong| panic!("{}\n{text}", render(&wrong, Color::Plain)))
}

/// What stands in files and runs, of both nodes. What asks the cluster is left out, and is as it is.
fn of_nodes(says: Says) -> BTreeMap<NodeName, Vec<Declared>> {
    let project = project(says);
    let facts = fs::read_to_string(repository().join("tests/cases/facts/rpios-bookworm-arm64.txt"));
    let facts = Facts::parse(&facts.unwrap()).unwrap();
    let names: Vec<NodeName> = project.inventory.nodes.keys().cloned().collect();
    let program =
        json!({"sha256": sha256_hex(says.program.as_bytes()), "size": 3, "arch": "arm64"});
    let artifacts = names.iter().map(|name| (name.clone(), program.clone()));
    let cluster = ClusterContext::new(&project).with_artifacts(artifacts.collect());
    let nodes = project.inventory.nodes.values();
    nodes
        .map(|node| {
            let mut all = declare(&project, &cluster, node, &facts)
                .unwrap_or_else(|wrong| panic!("{}", render(&wrong, Color::Plain)));
            let kinds = ["file", "directory", "link", "artifact", "unit"];
            all.retain(|item| kinds.contains(&item.addr.kind.as_str()));
            for item in &mut all {
                item.needs.clear();
            }
            (node.name.clone(), all)
        })
        .collect()
}

fn secrets(token: &str) -> SecretValues {
    let command = |word: &str| SecretRef::Command(vec!["printf".into(), word.into()]);
    SecretValues(
        [
            (command("token"), Secret::new(token.into())),
            (command("agents"), Secret::new("agents".into())),
            (command("registry"), Secret::new("registry".into())),
            (
                SecretRef::ClusterValue("k3s-agent-token".into()),
                Secret::new("K10aa::server:agents".into()),
            ),
        ]
        .into(),
    )
}

/// The text of a file with its secrets in it.
fn filled(text: &str, values: &SecretValues) -> String {
    let text = SecretText(text.to_owned()).reveal(values).unwrap();
    text.reveal().clone()
}

fn body(resource: &Resource) -> Value {
    let all = serde_json::to_value(resource).unwrap();
    all.as_object().unwrap().values().next().unwrap().clone()
}

/// A node as `items` want it; a blank one without them.
fn answers(queries: &[Query], items: &[Declared], values: &SecretValues, records: &str) -> Answers {
    let mut there: BTreeMap<String, (PathKind, u32, String)> = BTreeMap::new();
    for path in ["/", "/usr/local/bin", "/etc", "/etc/systemd/system"] {
        there.insert(path.into(), (PathKind::Directory, 0o755, String::new()));
    }
    let mut links = BTreeMap::new();
    let mut units = BTreeSet::new();
    for item in items {
        let body = body(&item.resource);
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let mode = u32::from_str_radix(&text("mode"), 8).unwrap_or(0o755);
        let (kind, content) = match item.addr.kind.as_str() {
            "directory" => (PathKind::Directory, String::new()),
            "file" => (PathKind::File, filled(&text("content"), values)),
            "artifact" => (PathKind::File, text("sha256")),
            "link" => {
                links.insert(text("path"), text("target"));
                (PathKind::Link, String::new())
            }
            _ => {
                units.insert(text("name"));
                continue;
            }
        };
        there.insert(text("path"), (kind, mode, content));
    }
    let mut answers = Answers::default();
    for query in queries {
        let at = |path: &str| there.get(path).cloned();
        let answer = match query {
            Query::Path(path) => {
                Answer::Path(at(path.as_str()).map(|(kind, mode, text)| PathState {
                    kind,
                    mode,
                    owner: "root".into(),
                    group: "root".into(),
                    size: text.len() as u64,
                }))
            }
            Query::Link(path) => Answer::Link(links.get(path.as_str()).cloned()),
            Query::Content { path, .. } => {
                Answer::Content(at(path.as_str()).map(|(_, _, text)| {
                    let sha256 = match path.as_str() {
                        "/usr/local/bin/k3s" => text.clone(),
                        _ => sha256_hex(text.as_bytes()),
                    };
                    ContentState {
                        sha256,
                        text: Some(text),
                    }
                }))
            }
            Query::Unit(name) => Answer::Unit(match units.contains(name) {
                true => UnitState {
                    load: "loaded".into(),
                    active: "active".into(),
                    sub: "running".into(),
                    file: "enabled".into(),
                    ..UnitState::default()
                },
                false => UnitState {
                    load: "not-found".into(),
                    active: "inactive".into(),
                    ..UnitState::default()
                },
            }),
            Query::Fragment(text) => Answer::Fragment {
                status: 0,
                stdout: match text == owned::PROBE {
                    true => records.to_owned(),
                    false => String::new(),
                },
            },
            Query::ClusterNode { .. } => Answer::Fragment {
                status: 0,
                stdout: String::new(),
            },
            Query::Secret(_) => Answer::Secret(None),
            other => panic!("no answer prepared for {other}"),
        };
        answers.0.insert(query.clone(), answer);
    }
    answers
}

/// The plan for nodes that are as `before` wanted them, and have the records of it.
fn plan(
    wanted: BTreeMap<NodeName, Vec<Declared>>,
    before: &BTreeMap<NodeName, Vec<Declared>>,
    values: (&SecretValues, &SecretValues),
    records: &BTreeMap<NodeName, String>,
) -> Plan {
    let facts = Facts::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: values.1,
    };
    let mut nodes = BTreeMap::new();
    for (name, items) in wanted {
        let was = before.get(&name).map_or(&[][..], Vec::as_slice);
        let notes = records.get(&name).map_or("", String::as_str);
        let mut all = questions(&items, ctx);
        let first = answers(&all, was, values.0, notes);
        all.extend(removal_questions(&items, &first, ctx));
        let answers = answers(&all, was, values.0, notes);
        nodes.insert(
            name,
            NodeInput::Observed(Box::new(ObservedNode {
                facts: facts.clone(),
                host_key: "SHA256:x".into(),
                declared: items,
                answers,
            })),
        );
    }
    build(&Inputs {
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers: Vec::new(),
        agents: Vec::new(),
        cluster: "rack".parse().unwrap(),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets: values.1,
        key: b"a key of this test",
    })
}

/// Steps that change the nodes from one inventory to the other, and the units that restart.
fn changed(before: (Says, &str), after: (Says, &str)) -> (Vec<String>, Vec<String>) {
    let (was, old, new) = (of_nodes(before.0), secrets(before.1), secrets(after.1));
    let blank = plan(
        was.clone(),
        &BTreeMap::new(),
        (&old, &old),
        &BTreeMap::new(),
    );
    let mut records: BTreeMap<NodeName, String> = BTreeMap::new();
    for step in &blank.steps {
        if let RecordAction::Write { text, .. } = &step.record {
            let notes = records.entry(step.addr.node.clone()).or_default();
            notes.push_str(&format!("{}\n", text.trim_end()));
        }
    }
    let same = plan(was.clone(), &was, (&old, &old), &records);
    assert!(same.steps.is_empty(), "before: {:?}", same.steps);
    let plan = plan(of_nodes(after.0), &was, (&old, &new), &records);
    let short = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let mut files = Vec::new();
    let mut restarts = Vec::new();
    for step in &plan.steps {
        for effect in &step.change.effects {
            if let Effect::Restart(unit) = effect {
                restarts.push(format!("{} {unit}", step.addr.node));
            }
        }
        if step.addr.kind != "unit" {
            files.push(format!("{} {}", step.addr.node, short(&step.addr.key)));
        }
    }
    files.sort();
    restarts.sort();
    restarts.dedup();
    (files, restarts)
}

const SERVER: &str = "rpi01 k3s.service";
const AGENT: &str = "rpi02 k3s-agent.service";

#[test]
fn a_change_of_the_inventory_restarts_exactly_those_that_read_what_it_changes() {
    let kubernetes = |kubernetes| Says {
        kubernetes,
        ..Says::default()
    };
    let mirrors = "registries: { mirrors: { docker.io: { endpoint: [\"http://one.lan:5000\"] } } }";
    let other = "registries: { mirrors: { docker.io: { endpoint: [\"http://two.lan:5000\"] } } }";
    let configs = "registries: { configs: { \"one.lan:5000\": { auth: { username: pi, password: { command: [printf, registry] } } } } }";
    let config = ["rpi01 config.yaml"].as_slice();
    let both = ["rpi01 registries.yaml", "rpi02 registries.yaml"].as_slice();
    type Row<'a> = (&'a str, Says, Says, &'a [&'a str], &'a [&'a str]);
    let rows: Vec<Row<'_>> = vec![
        (
            "registries come",
            kubernetes(""),
            kubernetes(mirrors),
            both,
            &[SERVER, AGENT],
        ),
        (
            "registries change",
            kubernetes(mirrors),
            kubernetes(other),
            both,
            &[SERVER, AGENT],
        ),
        (
            "registries get a password",
            kubernetes(mirrors),
            kubernetes(configs),
            both,
            &[SERVER, AGENT],
        ),
        (
            "registries go",
            kubernetes(configs),
            kubernetes(""),
            both,
            &[SERVER, AGENT],
        ),
        (
            "disable",
            kubernetes(""),
            kubernetes("disable: [traefik, servicelb]"),
            config,
            &[SERVER],
        ),
        (
            "disable less",
            kubernetes("disable: [traefik, servicelb]"),
            kubernetes("disable: [servicelb]"),
            config,
            &[SERVER],
        ),
        (
            "tls_san",
            kubernetes(""),
            kubernetes("tls_san: [k8s.lan]"),
            config,
            &[SERVER],
        ),
        (
            "mode of the kubeconfig",
            kubernetes(""),
            kubernetes("kubeconfig: { mode: \"0644\" }"),
            config,
            &[SERVER],
        ),
        // What concerns this machine alone concerns no node.
        (
            "context of the kubeconfig",
            kubernetes(""),
            kubernetes("kubeconfig: { context: other }"),
            &[],
            &[],
        ),
        (
            "any key of servers",
            kubernetes(""),
            kubernetes("config: { flannel-backend: host-gw }"),
            config,
            &[SERVER],
        ),
        (
            "any key of agents",
            kubernetes(""),
            kubernetes("agent_config: { kubelet-arg: [max-pods=30] }"),
            &["rpi02 config.yaml"],
            &[AGENT],
        ),
        (
            "networks",
            kubernetes(""),
            kubernetes("cluster_cidr: 10.44.0.0/16\nservice_cidr: 10.45.0.0/16"),
            config,
            &[SERVER],
        ),
        (
            "the registration address",
            kubernetes(""),
            kubernetes("endpoint: k8s.lan"),
            &["rpi01 config.yaml", "rpi02 config.yaml"],
            &[SERVER, AGENT],
        ),
        (
            "the port",
            kubernetes(""),
            kubernetes("config: { https-listen-port: 7443 }"),
            &["rpi01 config.yaml", "rpi02 config.yaml"],
            &[SERVER, AGENT],
        ),
        (
            "a token of servers",
            kubernetes(""),
            kubernetes("token: { command: [printf, token] }"),
            &["rpi01 config.yaml", "rpi01 token"],
            &[SERVER],
        ),
        (
            "a token of agents",
            kubernetes(""),
            kubernetes("agent_token: { command: [printf, agents] }"),
            &["rpi01 agent-token", "rpi01 config.yaml"],
            &[SERVER],
        ),
        (
            "a token goes",
            kubernetes("token: { command: [printf, token] }"),
            kubernetes(""),
            &["rpi01 config.yaml", "rpi01 token"],
            &[SERVER],
        ),
        (
            "the environment",
            Says::default(),
            Says {
                role: "environment: { HTTP_PROXY: \"http://proxy.lan\" }",
                ..Says::default()
            },
            &["rpi01 k3s.service.env", "rpi02 k3s-agent.service.env"],
            &[SERVER, AGENT],
        ),
        (
            "the program",
            Says::default(),
            Says {
                program: "new",
                ..Says::default()
            },
            &["rpi01 k3s", "rpi02 k3s"],
            &[SERVER, AGENT],
        ),
        // These are the cluster's, and no unit reads them.
        (
            "labels and taints",
            Says::default(),
            Says {
                agent: "labels: { disk: nvme }\ntaints: [\"slow=yes:NoSchedule\"]",
                ..Says::default()
            },
            &[],
            &[],
        ),
        (
            "how long is waited",
            Says::default(),
            Says {
                role: "timeout: 600",
                ..Says::default()
            },
            &[],
            &[],
        ),
    ];
    for (name, before, after, files, restarts) in rows {
        let found = changed((before, "token"), (after, "token"));
        assert_eq!(found.0, files, "{name}");
        assert_eq!(found.1, restarts, "{name}");
    }
    let token = kubernetes("token: { command: [printf, token] }");
    let found = changed((token, "old"), (token, "new"));
    assert_eq!(found, (vec!["rpi01 token".into()], vec![SERVER.into()]));
}

/// The text of a file of `node`.
fn text(nodes: &BTreeMap<NodeName, Vec<Declared>>, node: &str, path: &str) -> String {
    let items = &nodes[&NodeName::new(node).unwrap()];
    let item = items.iter().find(|i| i.addr.key == path);
    let item = item.unwrap_or_else(|| panic!("{node} has no {path}"));
    body(&item.resource)["content"].as_str().unwrap().to_owned()
}

#[test]
fn what_k3s_reads_is_for_root_alone_and_holds_every_key_as_it_was_written() {
    let says = Says {
        kubernetes: r#"disable: [traefik, servicelb]
tls_san: [k8s.lan]
kubeconfig: { mode: "0640" }
token: { command: [printf, token] }
agent_token: { command: [printf, agents] }
registries:
  mirrors: { "*": {}, docker.io: { endpoint: ["http://one.lan:5000"], rewrite: { "^rancher/(.*)": "mirror/$1" } } }
  configs: { "one.lan:5000": { auth: { username: pi, password: { command: [printf, registry] } } } }
config:
  write-kubeconfig-group: adm
  flannel-backend: host-gw
  secrets-encryption: true
  disable-network-policy: false
  etcd-snapshot-retention: 5
  kube-apiserver-arg+: ["audit-log-path=/var/log/audit.log", "oidc-issuer-url=https://id.lan/?a=1&b=<2>"]
  not-a-key-of-any-release-yet: "it's 'quoted': #, \"too\""
  datastore-endpoint: { command: [printf, token] }
agent_config:
  kubelet-arg: [max-pods=30]
  node-ip: 10.9.0.2
"#,
        role: "environment: { HTTP_PROXY: \"http://proxy.lan\" }",
        ..Says::default()
    };
    let nodes = of_nodes(says);
    for (node, items) in &nodes {
        for item in items.iter().filter(|i| i.addr.kind == "file") {
            let path = item.addr.key.as_str();
            let secret = path.starts_with("/etc/rancher/") || path.ends_with(".env");
            let body = body(&item.resource);
            let mode = body["mode"].as_str().unwrap();
            let wanted = match path {
                _ if secret => "0600",
                _ if path.ends_with(".sh") => "0755",
                _ => "0644",
            };
            assert_eq!(mode, wanted, "{node}: {path}");
            assert_eq!(
                (&body["owner"], &body["group"]),
                (&json!("root"), &json!("root"))
            );
        }
    }
    let values = secrets("sesame");
    let mut shown = String::new();
    for (node, path) in [
        ("rpi01", "/etc/rancher/k3s/config.yaml"),
        ("rpi01", "/etc/rancher/k3s/registries.yaml"),
        ("rpi01", "/etc/systemd/system/k3s.service.env"),
        ("rpi02", "/etc/rancher/k3s/config.yaml"),
        ("rpi02", "/etc/systemd/system/k3s-agent.service.env"),
    ] {
        let text = filled(&text(&nodes, node, path), &values);
        shown += &format!("== {node} {path}\n{text}");
    }
    insta::assert_snapshot!(shown);
    assert_eq!(
        text(&nodes, "rpi01", "/etc/rancher/k3s/registries.yaml"),
        text(&nodes, "rpi02", "/etc/rancher/k3s/registries.yaml")
    );
}

/// The plan of a blank rack, on the systems of the fixtures. Who cannot run the program has none.
fn blank(project: &Project, system: impl Fn(&str) -> &'static str) -> Plan {
    let values = secrets("token");
    let facts = |node: &str| {
        let path = repository().join(format!("tests/cases/facts/{}.txt", system(node)));
        Facts::parse(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let program = json!({"sha256": sha256_hex(b"k3s"), "size": 3, "arch": "arm64"});
    let nodes = project.inventory.nodes.values();
    let artifacts = nodes
        .filter(|node| facts(node.name.as_str()).arch.userland == "arm64")
        .map(|node| (node.name.clone(), program.clone()));
    let cluster = ClusterContext::new(project).with_artifacts(artifacts.collect());
    let mut nodes = BTreeMap::new();
    for node in project.inventory.nodes.values() {
        let facts = facts(node.name.as_str());
        let declared = declare(project, &cluster, node, &facts)
            .unwrap_or_else(|wrong| panic!("{}", render(&wrong, Color::Plain)));
        let ctx = Ctx {
            facts: &facts,
            secrets: &values,
        };
        let mut all = questions(&declared, ctx);
        let first = answers(&all, &[], &values, "");
        all.extend(removal_questions(&declared, &first, ctx));
        let answers = answers(&all, &[], &values, "");
        let observed = ObservedNode {
            facts,
            host_key: "SHA256:x".into(),
            declared,
            answers,
        };
        nodes.insert(node.name.clone(), NodeInput::Observed(Box::new(observed)));
    }
    build(&Inputs {
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers: project.inventory.servers().collect(),
        agents: project.inventory.agents().collect(),
        cluster: "rack".parse().unwrap(),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets: &values,
        key: b"a key of this test",
    })
}

/// Agents wait for the server, and for nobody else.
#[test]
fn agents_come_side_by_side_once_the_server_serves() {
    let text = "cluster: rack\nkubernetes: { distribution: k3s, version: v1.36.3+k3s1 }\nnodes:\n  rpi01: { address: 192.168.2.1, kubernetes: server }\n  rpi[02:04]: { address: \"192.168.2.{n}\", kubernetes: agent }\n";
    let plan = blank(&loaded(text), |_| "rpios-bookworm-arm64");
    let steps = plan.steps.iter();
    let by_addr: BTreeMap<String, &Step> = steps.map(|s| (s.addr.to_string(), s)).collect();
    for agent in ["rpi02", "rpi03", "rpi04"] {
        let joins = format!("{agent}/k3s/cluster_node[{agent}]");
        let (mut open, mut behind) = (vec![joins], BTreeSet::new());
        while let Some(addr) = open.pop() {
            let needs = by_addr[&addr].needs.iter().map(ToString::to_string);
            open.extend(needs.filter(|need| behind.insert(need.clone())));
        }
        let server = "rpi01/k3s/cluster_node[rpi01]";
        assert!(behind.contains(server), "{agent}: {behind:?}");
        let others = |need: &&String| !need.starts_with(agent) && !need.starts_with("rpi01/");
        let waits: Vec<&String> = behind.iter().filter(others).collect();
        assert!(waits.is_empty(), "{agent} waits for {waits:?}");
        // The program does not wait for the server, either.
        let program = format!("{agent}/k3s/artifact[/usr/local/bin/k3s]");
        let own = |step: &&Step| step.needs.iter().all(|n| n.node.as_str() == agent);
        assert!(own(&by_addr[&program]), "{program}");
    }
}

/// Of machines that k3s is not built for the reason is said, and nothing of it is planned for them; the others go on.
#[test]
fn a_machine_that_cannot_run_k3s_is_refused_alone_and_gets_nothing_of_it() {
    for (system, why, cure) in [
        (
            "rpios-bookworm-armv6",
            "k3s has no build for ARMv6",
            "take `kubernetes:` away from this node",
        ),
        (
            "rpios-bookworm-armhf",
            "it has a 64-bit kernel and a 32-bit system",
            "arm_64bit=0",
        ),
    ] {
        let plan = blank(&project(Says::default()), |name| match name {
            "rpi02" => system,
            _ => "rpios-bookworm-arm64",
        });
        let of = |name: &str| {
            plan.steps
                .iter()
                .filter(|s| s.addr.node.as_str() == name)
                .count()
        };
        assert_eq!(of("rpi02"), 0, "{system}");
        assert!(of("rpi01") > 5, "{system}");
        let node = &plan.nodes[&NodeName::new("rpi02").unwrap()];
        let said = serde_json::to_string(node).unwrap();
        assert!(
            said.contains(why) && said.contains(cure),
            "{system}: {said}"
        );
    }
}
