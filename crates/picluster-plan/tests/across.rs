//! What nodes need of each other: values, order, and what becomes of those whose other node cannot
//! give what they wait for.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::{Secret, SecretRef, SecretValues};
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, harvest, questions};
use picluster_plan::owned::{self, Record};
use picluster_plan::{AddrPattern, Declared, NodeState, Plan, StepAddr, Work, select};
use picluster_resource::program::sha256_hex;
use picluster_resource::query::{Answer, ContentState, PathKind, PathState};
use picluster_resource::{Answers, Ctx, Facts, Query, Resource};
use proptest::prelude::*;
use serde_json::json;

const KEY: &[u8] = b"a key of this test";
const TOKEN: &str = "K10aabb::server:hunter2hunter2";

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("valid")
}

fn declared(node: &str, value: serde_json::Value) -> Declared {
    let resource: Resource = serde_json::from_value(value).expect("a resource");
    Declared {
        addr: StepAddr {
            node: name(node),
            role: RoleName::new("r").expect("valid"),
            kind: resource.kind().to_owned(),
            key: resource.key(),
        },
        resource,
        id: None,
        needs: Vec::new(),
        barrier: false,
        guarded: false,
        span: None,
    }
}

/// The value on its node; known when `text` says so.
fn source(node: &str, n: u8) -> Declared {
    declared(
        node,
        json!({"cluster_value": {"name": format!("v{n}"), "path": format!("/srv/v{n}")}}),
    )
}

/// A file with the value in it.
fn user(node: &str, n: u8) -> Declared {
    let text = SecretRef::ClusterValue(format!("v{n}")).placeholder();
    declared(
        node,
        json!({"file": {"path": format!("/etc/t{n}"), "content": text, "mode": "0600"}}),
    )
}

fn file(node: &str, path: &str) -> Declared {
    declared(node, json!({"file": {"path": path, "content": "x\n"}}))
}

/// A node on which these files are there.
fn observed(items: Vec<Declared>, present: &BTreeMap<String, String>) -> NodeInput {
    let facts = Facts::default();
    let secrets = SecretValues::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let mut answers = Answers::default();
    for query in questions(&items, ctx) {
        let text = |path: &str| present.get(path).cloned();
        let answer = match &query {
            Query::Path(path) if matches!(path.as_str(), "/etc" | "/srv") => {
                Answer::Path(Some(PathState {
                    kind: PathKind::Directory,
                    mode: 0o755,
                    owner: "root".into(),
                    group: "root".into(),
                    size: 1,
                }))
            }
            Query::Path(path) => Answer::Path(text(path.as_str()).map(|t| PathState {
                kind: PathKind::File,
                mode: if path.as_str().contains("/t") {
                    0o600
                } else {
                    0o644
                },
                owner: "root".into(),
                group: "root".into(),
                size: t.len() as u64,
            })),
            Query::Content { path, .. } => {
                Answer::Content(text(path.as_str()).map(|t| ContentState {
                    sha256: sha256_hex(t.as_bytes()),
                    text: None,
                }))
            }
            Query::Secret(path) => Answer::Secret(text(path.as_str()).map(Secret::new)),
            Query::Fragment(text) if text == owned::PROBE => Answer::Fragment {
                status: 0,
                stdout: present.get("records").cloned().unwrap_or_default(),
            },
            other => panic!("no answer prepared for {other}"),
        };
        answers.0.insert(query, answer);
    }
    NodeInput::Observed(Box::new(ObservedNode {
        facts,
        host_key: "SHA256:x".into(),
        declared: items,
        answers,
    }))
}

fn plan(nodes: Vec<(&str, NodeInput)>, servers: &[&str]) -> Plan {
    let nodes: BTreeMap<NodeName, NodeInput> = nodes
        .into_iter()
        .map(|(n, input)| (name(n), input))
        .collect();
    let secrets = harvest(&nodes);
    build(&Inputs {
        cluster: ClusterName::new("test").expect("valid"),
        inventory: "inventory.yaml".into(),
        nodes,
        addresses: BTreeMap::new(),
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers: servers.iter().map(|s| name(s)).collect(),
        agents: Vec::new(),
        secrets: &secrets,
        key: KEY,
    })
}

fn with(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(p, t)| ((*p).to_owned(), (*t).to_owned()))
        .collect()
}

fn addrs(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| s.addr.to_string()).collect()
}

#[test]
fn a_value_that_does_not_exist_yet_is_waited_for_across_nodes() {
    // The node that waits comes first by name, the one that gives comes last.
    let plan = plan(
        vec![
            (
                "pi-1",
                observed(vec![user("pi-1", 0), file("pi-1", "/etc/else")], &with(&[])),
            ),
            ("pi-2", observed(vec![source("pi-2", 0)], &with(&[]))),
        ],
        &[],
    );
    assert_eq!(
        addrs(&plan),
        [
            "pi-1/r/file[/etc/else]",
            "pi-2/r/cluster_value[v0]",
            "pi-1/r/file[/etc/t0]"
        ]
    );
    let last = &plan.steps[2];
    assert_eq!(last.needs, [plan.steps[1].addr.clone()]);
    assert_eq!(last.moved_by, [plan.steps[1].addr.clone()]);
    assert_eq!(last.later, ["v0"]);
    assert_eq!(last.recorded, None);
    assert!(
        last.change
            .fields
            .iter()
            .any(|f| f.field == "content" && f.after.to_string() == "(known after apply)")
    );
    assert!(plan.values.is_empty());
}

#[test]
fn a_known_value_is_compared_and_stands_in_the_plan_as_a_reference_only() {
    let nodes = |there: &str| {
        vec![
            (
                "pi-1",
                observed(vec![user("pi-1", 0)], &with(&[("/etc/t0", there)])),
            ),
            (
                "pi-2",
                observed(
                    vec![source("pi-2", 0)],
                    &with(&[("/srv/v0", &format!("{TOKEN}\n"))]),
                ),
            ),
        ]
    };
    assert!(plan(nodes(TOKEN), &[]).is_empty());
    let plan = plan(nodes("an old one"), &[]);
    assert_eq!(addrs(&plan), ["pi-1/r/file[/etc/t0]"]);
    assert!(plan.steps[0].secrets.is_some() && plan.steps[0].later.is_empty());
    assert_eq!(plan.values.len(), 1);
    assert_eq!(plan.values[0].node, name("pi-2"));
    let text = serde_json::to_string(&plan).expect("json");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_a_node_that_was_not_reached_would_give_is_a_problem_that_names_it() {
    let closed = || {
        NodeInput::Closed(NodeState::Unreachable {
            reason: "pi-2: no route".into(),
        })
    };
    let behind = |mut d: Declared| {
        d.needs = vec!["file[/etc/t0]".into()];
        d
    };
    let plan = plan(
        vec![
            (
                "pi-1",
                observed(
                    vec![
                        user("pi-1", 0),
                        behind(file("pi-1", "/etc/b")),
                        file("pi-1", "/etc/c"),
                    ],
                    &with(&[]),
                ),
            ),
            ("pi-2", closed()),
        ],
        &["pi-2"],
    );
    assert_eq!(addrs(&plan), ["pi-1/r/file[/etc/c]"]);
    let problem = &plan.nodes[&name("pi-1")].problems[0];
    assert_eq!(
        problem.what,
        "the value v0 depends on pi-2, which was not reached"
    );
    assert_eq!(problem.because, Some(name("pi-2")));
    assert_eq!(problem.skipped.len(), 1);
    assert!(
        problem
            .cure
            .as_deref()
            .is_some_and(|c| c.contains("picluster apply"))
    );
}

#[test]
fn what_was_applied_before_stays_while_the_other_node_is_away() {
    let item = user("pi-1", 0);
    let record =
        serde_json::to_string(&Record::of("r/file[/etc/t0]", &item.resource)).expect("json");
    let plan = plan(
        vec![
            (
                "pi-1",
                observed(
                    vec![item],
                    &with(&[("/etc/t0", TOKEN), ("records", &format!("{record}\n"))]),
                ),
            ),
            ("pi-2", NodeInput::Closed(NodeState::Absent)),
        ],
        &["pi-2"],
    );
    assert!(plan.is_empty());
    let node = &plan.nodes[&name("pi-1")];
    assert!(node.problems.is_empty());
    assert_eq!(node.unchanged, 1);
}

#[test]
fn a_problem_travels_to_those_who_wait_for_it() {
    // The source waits for a file that cannot be written: a directory stands there.
    let mut waiting = source("pi-2", 0);
    waiting.needs = vec!["file[/srv]".into()];
    let plan = plan(
        vec![
            ("pi-1", observed(vec![user("pi-1", 0)], &with(&[]))),
            (
                "pi-2",
                observed(vec![file("pi-2", "/srv"), waiting], &with(&[])),
            ),
        ],
        &[],
    );
    assert!(plan.is_empty(), "{:?}", addrs(&plan));
    let problem = &plan.nodes[&name("pi-1")].problems[0];
    assert!(
        problem
            .what
            .contains("pi-2/r/cluster_value[v0], which cannot be done"),
        "{}",
        problem.what
    );
    assert_eq!(problem.because, Some(name("pi-2")));
}

#[test]
fn nodes_that_wait_for_each_other_are_named() {
    let cross = |node: &str, give: u8, want: u8| {
        let mut source = source(node, give);
        source.needs = vec![format!("file[/etc/t{want}]")];
        observed(vec![user(node, want), source], &with(&[]))
    };
    let plan = plan(
        vec![("pi-1", cross("pi-1", 0, 1)), ("pi-2", cross("pi-2", 1, 0))],
        &[],
    );
    assert!(plan.is_empty());
    let problem = &plan.nodes[&name("pi-1")].problems[0];
    assert!(
        problem
            .what
            .starts_with("these wait for each other: pi-1/r/"),
        "{}",
        problem.what
    );
    assert_eq!(problem.skipped.len(), 3);
}

proptest! {
    /// Whatever needs whatever on whichever node: every step stands behind all it needs, a part of the
    /// plan is closed, nothing that waits for a value is planned without its source, and the same
    /// inputs give the same bytes.
    #[test]
    fn any_web_of_nodes_gives_an_order(
        items in proptest::collection::vec((0..4_usize, 0..4_u8, 0..5_u8, proptest::option::of(0..3_u8)), 1..24),
        there in proptest::collection::btree_set((0..4_usize, 0..4_u8), 0..6),
        closed in proptest::collection::btree_set(0..4_usize, 0..2),
    ) {
        let names = ["pi-0", "pi-1", "pi-2", "pi-3"];
        let make = || {
            let nodes = (0..4).map(|n| {
                if closed.contains(&n) {
                    return (names[n], NodeInput::Closed(NodeState::Absent));
                }
                let mut seen = BTreeSet::new();
                let mine = items.iter().filter(|(node, ..)| *node == n).filter_map(|(_, v, kind, need)| {
                    let mut d = match kind {
                        0 => source(names[n], *v),
                        1 | 2 => user(names[n], *v),
                        _ => file(names[n], &format!("/etc/f{v}")),
                    };
                    d.needs = need.iter().map(|v| format!("file[/etc/t{v}]")).collect();
                    seen.insert(d.addr.to_string()).then_some(d)
                }).collect();
                let present = there.iter().filter(|(node, _)| *node == n)
                    .map(|(_, v)| (format!("/srv/v{v}"), format!("{TOKEN}{v}")))
                    .collect();
                (names[n], observed(mine, &present))
            }).collect();
            plan(nodes, &["pi-0", "pi-2"])
        };
        let plan = make();
        prop_assert_eq!(serde_json::to_vec(&plan).unwrap(), serde_json::to_vec(&make()).unwrap());
        let mut done: BTreeSet<StepAddr> = BTreeSet::new();
        let mut values: BTreeSet<String> = BTreeSet::new();
        for step in &plan.steps {
            for need in &step.needs {
                prop_assert!(done.contains(need), "{} stands before {need}", step.addr);
            }
            for value in &step.later {
                prop_assert!(values.contains(value), "{} has nobody to give {value}", step.addr);
            }
            if let Work::Resource(resource) = &step.work
                && let Resource::ClusterValue(source) = resource.as_ref()
            {
                values.insert(source.name.clone());
            }
            done.insert(step.addr.clone());
        }
        for node in plan.nodes.values() {
            for problem in &node.problems {
                prop_assert!(problem.cure.is_some());
                for skipped in &problem.skipped {
                    prop_assert!(!done.contains(skipped));
                }
            }
        }
        for only in names {
            let mut part = plan.clone();
            select::select(&mut part, &[AddrPattern::new(only)], &[]);
            let kept: BTreeSet<&StepAddr> = part.steps.iter().map(|s| &s.addr).collect();
            for step in &part.steps {
                prop_assert!(step.needs.iter().all(|n| kept.contains(n)));
            }
        }
    }
}
