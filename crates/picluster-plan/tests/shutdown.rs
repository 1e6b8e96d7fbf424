//! Nodes are switched off: who goes behind whom, whose pods go elsewhere before, and what it means for the cluster.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, Off, drains, questions, shutdown};
use picluster_plan::{Declared, NodeState, Plan, StepAddr};
use picluster_resource::query::Answer;
use picluster_resource::{Answers, Ctx, Effect, Facts, Resource};
use serde_json::json;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// Servers `s…`, agents `a…`, and machines that are no nodes of the cluster.
#[derive(Default)]
struct Rack<'a> {
    nodes: &'a [&'a str],
    off: &'a [&'a str],
    away: &'a [&'a str],
    /// Who is reached through whom.
    ways: &'a [(&'a str, &'a str)],
    /// The server that is asked about pods, where it can be; the nodes its cluster has.
    teller: Option<(&'a str, &'a [&'a str])>,
    external: bool,
}

fn how() -> Declared {
    let resource: Resource = serde_json::from_value(json!({"node_drained": {
        "node": "s1", "version": "v1", "timeout": 77, "kubeconfig": "/etc/k", "kubectl": ["/usr/local/bin/kubectl"],
    }}))
    .unwrap();
    Declared {
        addr: "s1/k3s/node_drained[s1]".parse().unwrap(),
        resource,
        id: None,
        needs: Vec::new(),
        barrier: false,
        guarded: false,
        span: None,
    }
}

fn kubectl(nodes: &[&str]) -> String {
    let items: Vec<_> = nodes
        .iter()
        .map(|node| {
            json!({
                "metadata": {"name": node},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}},
            })
        })
        .collect();
    json!({"kind": "List", "items": items}).to_string()
}

fn plan(rack: &Rack<'_>) -> Plan {
    let set = |names: &[&str]| -> BTreeSet<NodeName> { names.iter().map(|n| name(n)).collect() };
    let servers: Vec<NodeName> = rack
        .nodes
        .iter()
        .filter(|n| n.starts_with('s'))
        .map(|n| name(n))
        .collect();
    let mut ways: BTreeMap<NodeName, BTreeSet<NodeName>> = BTreeMap::new();
    for (node, way) in rack.ways {
        ways.entry(name(way)).or_default().insert(name(node));
    }
    let off = Off {
        nodes: set(rack.off),
        agents: rack
            .off
            .iter()
            .filter(|n| n.starts_with('a'))
            .map(|n| name(n))
            .collect(),
        etcd: servers.len() > 1 && !rack.external,
        ways,
    };
    let secrets = SecretValues::default();
    let facts = Facts::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let nodes = rack
        .nodes
        .iter()
        .map(|node| {
            let mut observed = ObservedNode {
                facts: facts.clone(),
                host_key: "SHA256:abc".into(),
                declared: Vec::new(),
                answers: Answers::default(),
            };
            if let Some((teller, registered)) = rack.teller.filter(|(t, _)| t == node) {
                observed.declared = drains(&name(teller), &[how()], &off);
                for query in questions(&observed.declared, ctx) {
                    let stdout = kubectl(registered);
                    observed
                        .answers
                        .0
                        .insert(query, Answer::Fragment { status: 0, stdout });
                }
            }
            let input = if rack.away.contains(node) {
                NodeInput::Closed(NodeState::Unreachable {
                    reason: format!("{node}: no route"),
                })
            } else {
                NodeInput::Observed(Box::new(observed))
            };
            (name(node), input)
        })
        .collect();
    shutdown(
        &Inputs {
            cluster: ClusterName::new("rack").unwrap(),
            inventory: "inventory.yaml".into(),
            addresses: BTreeMap::new(),
            nodes,
            servers,
            departing: BTreeSet::new(),
            agents: Vec::new(),
            bootstrap: None,
            secrets: &secrets,
            key: b"key",
        },
        &off,
    )
}

/// Each step with what it needs and what it comes after, by short names: `drain a1`, `off a1`.
fn told(plan: &Plan) -> Vec<String> {
    let short = |addr: &StepAddr| {
        let what = if addr.kind == "power_off" {
            "off"
        } else {
            "drain"
        };
        format!("{what} {}", addr.key)
    };
    let list = |word: &str, all: &[StepAddr]| {
        let mut all: Vec<String> = all.iter().map(short).collect();
        all.sort();
        match all.is_empty() {
            true => String::new(),
            false => format!(" {word} {}", all.join(", ")),
        }
    };
    plan.steps
        .iter()
        .map(|s| {
            format!(
                "{}{}{}",
                short(&s.addr),
                list("needs", &s.needs),
                list("after", &s.after)
            )
        })
        .collect()
}

/// What is said of the node's going off.
fn said(plan: &Plan, node: &str) -> String {
    let addr = StepAddr {
        node: name(node),
        role: RoleName::new("picluster").unwrap(),
        kind: "power_off".into(),
        key: node.into(),
    };
    let effects = &plan.step(&addr).unwrap().change.effects;
    let words: Vec<&str> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Off(words) => Some(words.as_str()),
            _ => None,
        })
        .collect();
    words.join("; ")
}

#[test]
fn all_go_agents_first_servers_one_by_one_and_other_machines_last() {
    let all = ["s1", "s2", "s3", "a1", "a2", "nas"];
    let plan = plan(&Rack {
        nodes: &all,
        off: &all,
        away: &["a2"],
        ..Rack::default()
    });
    assert_eq!(
        told(&plan),
        [
            "off a1",
            "off s3 after off a1",
            "off s2 after off a1, off s3",
            "off s1 after off a1, off s2, off s3",
            "off nas after off a1, off s1, off s2, off s3",
        ]
    );
    assert!(said(&plan, "s1").contains("no server stays on"));
    // It is named, and nobody waits for it.
    assert!(matches!(
        plan.nodes[&name("a2")].state,
        NodeState::Unreachable { .. }
    ));
}

#[test]
fn while_a_server_stays_on_it_moves_the_pods_of_those_that_go() {
    let nodes = ["s1", "s2", "s3", "a1", "a2"];
    let plan = plan(&Rack {
        nodes: &nodes,
        off: &["a1", "s3"],
        teller: Some(("s1", &nodes)),
        ..Rack::default()
    });
    assert_eq!(
        told(&plan),
        [
            "drain a1",
            "drain s3",
            "off a1 needs drain a1",
            "off s3 needs drain s3 after off a1",
        ]
    );
    assert!(plan.steps[..2].iter().all(|s| s.addr.node == name("s1")));
    let json = serde_json::to_string(&plan.steps[0].work).unwrap();
    assert!(
        json.contains("\"purpose\":\"shutdown\"") && json.contains("\"timeout\":77"),
        "{json}"
    );
    // Who is no node of the cluster has no pods.
    let plan = self::plan(&Rack {
        nodes: &nodes,
        off: &["a1", "a2"],
        teller: Some(("s1", &["s1", "s2", "s3", "a2"])),
        ..Rack::default()
    });
    assert_eq!(told(&plan), ["drain a2", "off a1", "off a2 needs drain a2"]);
}

#[test]
fn what_it_means_for_the_cluster_is_said() {
    let three = ["s1", "s2", "s3"];
    for (nodes, off, away, external, words) in [
        (
            &three[..],
            &["s3"][..],
            &[][..],
            false,
            "goes on with 2 of 3 servers, just the 2 that etcd needs",
        ),
        (
            &three,
            &["s3", "s2"],
            &[],
            false,
            "1 of 3 servers stay on, and etcd needs 2",
        ),
        // One that is down already is missing, too.
        (
            &three,
            &["s3"],
            &["s1"],
            false,
            "1 of 3 servers stay on, and etcd needs 2",
        ),
        (
            &["s1", "s2", "s3", "s4", "s5"],
            &["s3"],
            &[],
            false,
            "goes on with 4 of 5 servers",
        ),
        (
            &["s1", "s2", "s3"],
            &["s3", "s2"],
            &[],
            true,
            "goes on with 1 of 3 servers",
        ),
        (&["s3", "a1"], &["s3"], &[], false, "no server stays on"),
    ] {
        let plan = plan(&Rack {
            nodes,
            off,
            away,
            external,
            ..Rack::default()
        });
        let said = said(&plan, "s3");
        assert!(said.contains(words), "{off:?} of {nodes:?}: {said}");
    }
}

#[test]
fn who_is_the_way_to_others_goes_behind_them() {
    // a1 is the way to the servers, s3 is the way to a2; nas stays, and is reached through s2.
    let plan = plan(&Rack {
        nodes: &["s1", "s2", "s3", "a1", "a2", "nas"],
        off: &["s1", "s2", "s3", "a1", "a2"],
        ways: &[
            ("s1", "a1"),
            ("s2", "a1"),
            ("s3", "a1"),
            ("a2", "s3"),
            ("nas", "s2"),
        ],
        ..Rack::default()
    });
    assert_eq!(
        told(&plan),
        [
            "off a2",
            "off s3 after off a2",
            "off s2 after off a2, off s3",
            "off s1 after off a2, off s2, off s3",
            "off a1 after off a2, off s1, off s2, off s3",
        ]
    );
    assert!(said(&plan, "s2").contains("the way to nas goes through it"));
    // A server that stays does the drain while there is a way to it.
    let all = ["s1", "s2", "a1"];
    let plan = self::plan(&Rack {
        nodes: &all,
        off: &["a1"],
        ways: &[("s1", "a1")],
        teller: Some(("s1", &all)),
        ..Rack::default()
    });
    assert_eq!(
        told(&plan),
        ["drain a1", "off a1 needs drain a1 after drain a1"]
    );
}
