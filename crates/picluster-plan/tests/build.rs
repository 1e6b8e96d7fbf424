//! What the planner makes of documents, facts and answers: order, causes, what follows.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions, removal_questions};
use picluster_plan::owned::{self, Record};
use picluster_plan::{Cause, Declared, NodeState, Plan, RecordAction, StepAddr};
use picluster_resource::query::{Answer, ContentState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Effect, Facts, Query, Resource};

const KEY: &[u8] = b"a key of this test";

fn resource(json: serde_json::Value) -> Resource {
    serde_json::from_value(json).expect("a resource")
}

fn file(path: &str, content: &str) -> Resource {
    resource(serde_json::json!({"file": {"path": path, "content": content}}))
}

fn declared(resource: Resource) -> Declared {
    Declared {
        addr: StepAddr {
            node: NodeName::new("pi-1").expect("valid"),
            role: picluster_model::RoleName::new("base").expect("valid"),
            kind: resource.kind().to_owned(),
            key: resource.key(),
        },
        resource,
        id: None,
        needs: Vec::new(),
        barrier: false,
        span: None,
    }
}

/// A node on which nothing exists but what `present` says.
fn answer(queries: &[Query], present: &[(&str, PathKind, &str)]) -> Answers {
    let find = |path: &str| present.iter().find(|(p, _, _)| *p == path);
    let state = |kind| PathState {
        kind,
        mode: if kind == PathKind::Directory {
            0o755
        } else {
            0o644
        },
        owner: "root".into(),
        group: "root".into(),
        size: 1,
    };
    let mut answers = Answers::default();
    for query in queries {
        let answer = match query {
            Query::Path(path) => Answer::Path(find(path.as_str()).map(|(_, kind, _)| state(*kind))),
            Query::Content { path, .. } => {
                Answer::Content(find(path.as_str()).map(|(_, _, text)| ContentState {
                    sha256: picluster_resource::program::sha256_hex(text.as_bytes()),
                    text: Some((*text).to_owned()),
                }))
            }
            Query::Text(path) => {
                Answer::Text(find(path.as_str()).map(|(_, _, text)| (*text).to_owned()))
            }
            Query::Fragment(text) if text == owned::PROBE => Answer::Fragment {
                status: 0,
                stdout: find("records")
                    .map(|(_, _, t)| (*t).to_owned())
                    .unwrap_or_default(),
            },
            Query::Fragment(_) => Answer::Fragment {
                status: 0,
                stdout: String::new(),
            },
            Query::Unit(name) => Answer::Unit(UnitState {
                load: if find(name).is_some() {
                    "loaded"
                } else {
                    "not-found"
                }
                .into(),
                active: "active".into(),
                sub: "running".into(),
                file: "enabled".into(),
                ..UnitState::default()
            }),
            other => panic!("no answer prepared for {other}"),
        };
        answers.0.insert(query.clone(), answer);
    }
    answers
}

fn plan_of(items: Vec<Declared>, present: &[(&str, PathKind, &str)]) -> Plan {
    let facts = Facts::default();
    let secrets = SecretValues::default();
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let mut all = questions(&items, ctx);
    let first = answer(&all, present);
    all.extend(removal_questions(&items, &first, ctx));
    let answers = answer(&all, present);
    let mut nodes = BTreeMap::new();
    nodes.insert(
        NodeName::new("pi-1").expect("valid"),
        NodeInput::Observed(Box::new(ObservedNode {
            facts: facts.clone(),
            host_key: "SHA256:x".into(),
            declared: items,
            answers,
        })),
    );
    build(&Inputs {
        servers: Vec::new(),
        cluster: ClusterName::new("test").expect("valid"),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets: &secrets,
        key: KEY,
    })
}

fn addrs(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| s.addr.local()).collect()
}

fn directory(path: &str) -> Resource {
    resource(serde_json::json!({"directory": {"path": path}}))
}

#[test]
fn a_file_waits_for_its_directory_though_declared_before_it() {
    let plan = plan_of(
        vec![
            declared(file("/srv/app/conf", "x\n")),
            declared(directory("/srv/app")),
        ],
        &[("/srv", PathKind::Directory, "")],
    );
    assert_eq!(
        addrs(&plan),
        ["base/directory[/srv/app]", "base/file[/srv/app/conf]"]
    );
    assert_eq!(plan.steps[1].needs, [plan.steps[0].addr.clone()]);
    assert_eq!(plan.steps[1].moved_by, [plan.steps[0].addr.clone()]);
}

#[test]
fn what_is_as_desired_is_no_step_and_the_same_inputs_give_the_same_bytes() {
    let make = || {
        plan_of(
            vec![
                declared(file("/etc/a", "a\n")),
                declared(file("/etc/b", "b\n")),
            ],
            &[
                ("/etc", PathKind::Directory, ""),
                ("/etc/a", PathKind::File, "a\n"),
            ],
        )
    };
    let plan = make();
    assert_eq!(addrs(&plan), ["base/file[/etc/b]"]);
    assert_eq!(plan.nodes.values().map(|n| n.unchanged).sum::<u32>(), 1);
    let bytes = |p: &Plan| serde_json::to_vec(p).expect("json");
    assert_eq!(bytes(&plan), bytes(&make()));
    let back: Plan = serde_json::from_slice(&bytes(&plan)).expect("reads back");
    assert_eq!(back, plan);
}

#[test]
fn drift_intent_and_news_are_told_apart_by_the_record() {
    let wanted = file("/etc/a", "new\n");
    let present = |record: &str| {
        plan_of(
            vec![declared(wanted.clone())],
            &[
                ("/etc", PathKind::Directory, ""),
                ("/etc/a", PathKind::File, "old\n"),
                ("records", PathKind::File, record),
            ],
        )
        .steps[0]
            .cause
    };
    let line = |resource: &Resource| {
        format!(
            "{}\n",
            serde_json::to_string(&Record::of("base/file[/etc/a]", resource)).expect("json")
        )
    };
    assert_eq!(present(""), Cause::New);
    assert_eq!(present(&line(&wanted)), Cause::Drift);
    assert_eq!(present(&line(&file("/etc/a", "old\n"))), Cause::Intent);
}

#[test]
fn what_left_the_documents_is_removed_and_foreign_files_stay() {
    let gone = file("/etc/gone", "x\n");
    let record = format!(
        "{}\n",
        serde_json::to_string(&Record::of("base/file[/etc/gone]", &gone)).expect("json")
    );
    let plan = plan_of(
        vec![],
        &[
            ("/etc/gone", PathKind::File, "x\n"),
            ("/etc/foreign", PathKind::File, "y\n"),
            ("records", PathKind::File, &record),
        ],
    );
    assert_eq!(addrs(&plan), ["base/file[/etc/gone]"]);
    assert_eq!(plan.steps[0].cause, Cause::Removed);
    assert!(matches!(plan.steps[0].record, RecordAction::Drop { .. }));
    // Already gone by hand: the record still has to go.
    let plan = plan_of(vec![], &[("records", PathKind::File, &record)]);
    assert_eq!(addrs(&plan), ["base/file[/etc/gone]"]);
}

#[test]
fn a_barrier_stands_between_before_and_behind() {
    let mut middle = declared(file("/etc/m", "m\n"));
    middle.barrier = true;
    let plan = plan_of(
        vec![
            declared(file("/etc/a", "a\n")),
            middle,
            declared(file("/etc/z", "z\n")),
        ],
        &[("/etc", PathKind::Directory, "")],
    );
    assert_eq!(
        addrs(&plan),
        [
            "base/file[/etc/a]",
            "base/file[/etc/m]",
            "base/file[/etc/z]"
        ]
    );
    assert_eq!(plan.steps[2].needs.len(), 2);
}

#[test]
fn a_circle_is_named_and_stops_that_node_only() {
    let mut a = declared(file("/etc/a", "a\n"));
    a.needs = vec!["file[/etc/b]".into()];
    let mut b = declared(file("/etc/b", "b\n"));
    b.needs = vec!["file[/etc/a]".into()];
    let plan = plan_of(vec![a, b], &[("/etc", PathKind::Directory, "")]);
    assert!(plan.steps.is_empty());
    let NodeState::Blocked { problems } = &plan.nodes.values().next().expect("one").state else {
        panic!("not blocked");
    };
    assert!(
        problems[0]
            .what
            .contains("base/file[/etc/a] -> base/file[/etc/b]"),
        "{}",
        problems[0].what
    );
}

#[test]
fn a_problem_skips_what_depends_on_it_and_nothing_else() {
    let mut dependent = declared(file("/etc/b", "b\n"));
    dependent.needs = vec!["file[/etc/a]".into()];
    let plan = plan_of(
        vec![
            declared(file("/etc/a", "a\n")),
            dependent,
            declared(file("/etc/c", "c\n")),
        ],
        &[
            ("/etc", PathKind::Directory, ""),
            ("/etc/a", PathKind::Directory, ""),
        ],
    );
    assert_eq!(addrs(&plan), ["base/file[/etc/c]"]);
    let node = plan.nodes.values().next().expect("one");
    assert_eq!(node.problems.len(), 1);
    assert_eq!(node.problems[0].skipped.len(), 1);
    assert!(node.problems[0].what.contains("/etc/a is a directory"));
}

#[test]
fn a_unit_takes_up_what_changes_beneath_it() {
    let unit = resource(
        serde_json::json!({"unit": {"name": "ssh.service", "active": true, "restart_on": ["/etc/ssh/x.conf"]}}),
    );
    let plan = plan_of(
        vec![
            declared(unit),
            declared(file("/etc/ssh/x.conf", "Port 22\n")),
        ],
        &[
            ("/etc/ssh", PathKind::Directory, ""),
            ("ssh.service", PathKind::File, ""),
        ],
    );
    assert_eq!(
        addrs(&plan),
        ["base/file[/etc/ssh/x.conf]", "base/unit[ssh.service]"]
    );
    assert_eq!(plan.steps[0].marks, [("ssh.service".to_owned(), true)]);
    assert_eq!(plan.steps[1].cause, Cause::Follows);
    assert!(
        plan.steps[1]
            .change
            .effects
            .contains(&Effect::Restart("ssh.service".into()))
    );
}
