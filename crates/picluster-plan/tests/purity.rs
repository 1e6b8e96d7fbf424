//! Invariant 1: a plan is a function of documents, facts and answers. Any mix of resources on any node
//! gives the same bytes every time, whatever else goes on in the process, and whenever.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;

use picluster_model::secret::{Secret, SecretRef, SecretValues};
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions, removal_questions};
use picluster_plan::owned::{self, Record};
use picluster_plan::{Declared, StepAddr};
use picluster_resource::program::sha256_hex;
use picluster_resource::query::{Answer, ContentState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Facts, Query, Resource};
use proptest::prelude::*;
use serde_json::json;

/// What may be declared; `n` makes it another one.
fn resource(kind: u8, n: u8) -> Resource {
    let token = SecretRef::Env("TOKEN".into()).placeholder();
    let value = match kind {
        0 => json!({"file": {"path": format!("/etc/x{n}/conf"), "content": "a\n"}}),
        1 => json!({"directory": {"path": format!("/etc/x{n}")}}),
        2 => json!({"file": {"path": format!("/etc/secret{n}"), "content": token}}),
        3 => json!({"link": {"path": format!("/etc/l{n}"), "target": format!("/etc/x{n}/conf")}}),
        4 => {
            json!({"unit": {"name": format!("u{n}.service"), "active": true, "restart_on": [format!("/etc/x{n}/conf")]}})
        }
        5 => json!({"line": {"path": "/etc/lines", "line": format!("line {n}")}}),
        _ => {
            json!({"command": {"name": format!("c{n}"), "run": "true", "creates": format!("/srv/c{n}")}})
        }
    };
    serde_json::from_value(value).expect("a resource")
}

const KEY: &[u8] = b"a key of this test";

#[derive(Debug, Clone)]
struct Case {
    /// Kind, number, a barrier, what it needs.
    items: Vec<(u8, u8, bool, Option<prop::sample::Index>)>,
    /// Consumed one a question: what stands on the node.
    dice: Vec<u8>,
    /// Kind and number of what was applied once.
    records: Vec<(u8, u8)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let item = (
        0..7_u8,
        0..4_u8,
        proptest::bool::weighted(0.1),
        proptest::option::weighted(0.3, any::<prop::sample::Index>()),
    );
    (
        proptest::collection::vec(item, 0..14),
        proptest::collection::vec(any::<u8>(), 32),
        proptest::collection::vec((0..4_u8, 0..6_u8), 0..5),
    )
        .prop_map(|(items, dice, records)| Case {
            items,
            dice,
            records,
        })
}

fn answer(query: &Query, die: u8, records: &str) -> Answer {
    let there = !die.is_multiple_of(3);
    match query {
        Query::Path(path) => {
            let directory = path.as_str() == "/etc"
                || path.as_str() == "/srv"
                || !path.as_str().contains("conf") && path.as_str().contains('x');
            Answer::Path((there || path.as_str().len() == 4).then(|| PathState {
                kind: if directory {
                    PathKind::Directory
                } else {
                    PathKind::File
                },
                mode: if directory {
                    0o755
                } else {
                    0o600 + u32::from(die % 2) * 0o44
                },
                owner: "root".into(),
                group: "root".into(),
                size: 2,
            }))
        }
        Query::Content { .. } => Answer::Content(there.then(|| ContentState {
            sha256: sha256_hex(&[die]),
            text: Some("b\n".into()),
        })),
        Query::Text(_) => Answer::Text(there.then(|| format!("line {}\n", die % 4))),
        Query::Link(_) => Answer::Link(there.then(|| "/elsewhere".into())),
        Query::Unit(_) => Answer::Unit(UnitState {
            load: if there { "loaded" } else { "not-found" }.into(),
            active: if die.is_multiple_of(2) {
                "active"
            } else {
                "inactive"
            }
            .into(),
            sub: "running".into(),
            file: "enabled".into(),
            ..UnitState::default()
        }),
        Query::Fragment(text) if text == owned::PROBE => Answer::Fragment {
            status: 0,
            stdout: records.into(),
        },
        Query::Fragment(_) => Answer::Fragment {
            status: u32::from(die % 2),
            stdout: String::new(),
        },
        other => panic!("no answer prepared for {other}"),
    }
}

/// All of it from the start: values, maps and plan are made anew.
fn bytes(case: &Case, key: &[u8]) -> String {
    let mut secrets = SecretValues::default();
    secrets
        .0
        .insert(SecretRef::Env("TOKEN".into()), Secret::new("s3cret".into()));
    let facts = Facts::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let mut nodes = BTreeMap::new();
    for name in ["pi-1", "pi-2"] {
        let node = NodeName::new(name).expect("valid");
        let resources: Vec<Resource> = case
            .items
            .iter()
            .map(|(kind, n, ..)| resource(*kind, *n))
            .collect();
        let names: Vec<String> = resources
            .iter()
            .map(|r| format!("{}[{}]", r.kind(), r.key()))
            .collect();
        let mut declared: Vec<Declared> = Vec::new();
        for (i, (resource, (_, _, barrier, need))) in resources.iter().zip(&case.items).enumerate()
        {
            if names[..i].contains(&names[i]) {
                continue;
            }
            declared.push(Declared {
                addr: StepAddr {
                    node: node.clone(),
                    role: RoleName::new("base").expect("valid"),
                    kind: resource.kind().to_owned(),
                    key: resource.key(),
                },
                resource: resource.clone(),
                id: None,
                needs: need
                    .iter()
                    .filter(|_| i > 0)
                    .map(|n| names[n.index(i)].clone())
                    .collect(),
                barrier: *barrier,
                guarded: false,
                span: None,
            });
        }
        let records: String = case
            .records
            .iter()
            .map(|(kind, n)| {
                let resource = resource(*kind, *n);
                let record = Record::of(
                    &format!("base/{}[{}]", resource.kind(), resource.key()),
                    &resource,
                );
                serde_json::to_string(&record).expect("json") + "\n"
            })
            .collect();
        let mut answers = Answers::default();
        let mut dice = case.dice.iter().cycle();
        let mut take = |queries: Vec<Query>, answers: &mut Answers| {
            for query in queries {
                let die = *dice.next().unwrap_or(&0);
                answers
                    .0
                    .entry(query.clone())
                    .or_insert_with(|| answer(&query, die, &records));
            }
        };
        take(questions(&declared, ctx), &mut answers);
        take(removal_questions(&declared, &answers, ctx), &mut answers);
        nodes.insert(
            node,
            NodeInput::Observed(Box::new(ObservedNode {
                facts: facts.clone(),
                host_key: "SHA256:x".into(),
                declared,
                answers,
            })),
        );
    }
    let plan = build(&Inputs {
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers: Vec::new(),
        agents: Vec::new(),
        cluster: ClusterName::new("test").expect("valid"),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets: &secrets,
        key,
    });
    serde_json::to_string(&plan).expect("json")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_bytes(case in cases()) {
        let first = bytes(&case, KEY);
        // Another thread has another stack and other random states; time has passed as well.
        let again = std::thread::scope(|s| s.spawn(|| bytes(&case, KEY)).join());
        prop_assert_eq!(&first, &again.unwrap_or_default());
        prop_assert!(!first.contains("s3cret"));
    }
}

/// Invariant 7: what was seen, and which values secrets have, stands in a plan only as a digest that
/// nobody can compare with a guess without the store's key.
#[test]
fn digests_in_a_plan_are_worth_nothing_without_the_key() {
    let case = Case {
        items: vec![(0, 1, false, None), (2, 1, false, None)],
        dice: vec![4],
        records: vec![],
    };
    let digests = |key: &[u8]| -> Vec<String> {
        let plan: picluster_plan::Plan = serde_json::from_str(&bytes(&case, key)).expect("a plan");
        plan.steps
            .iter()
            .flat_map(|s| s.recorded.clone().into_iter().chain(s.secrets.clone()))
            .collect()
    };
    let (mine, others) = (digests(KEY), digests(b"another key"));
    // Two observations and a secret, on each of two nodes.
    assert_eq!((mine.len(), others.len()), (6, 6));
    assert!(mine.iter().all(|d| !others.contains(d)), "{mine:?}");
}
