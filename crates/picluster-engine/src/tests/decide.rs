//! What is run is what was shown, whatever has happened to the node meanwhile.

use std::cell::Cell;

use picluster_model::secret::SecretValues;
use picluster_plan::Step;
use picluster_plan::fingerprint::fingerprint;
use picluster_resource::program::sha256_hex;
use picluster_resource::query::{Answer, ContentState, PathKind, PathState};
use picluster_resource::{Answers, Ctx, Diff, Facts, Observation, Query, Resource};
use proptest::prelude::*;

use super::kit::{KEY, Rig};
use crate::decide::{Decision, decide};

/// What stands at the path of the file: nothing, or text, mode and owner.
type Seen = Option<(u8, u8, u8)>;

const TEXTS: [&str; 3] = ["wanted", "old", "strange"];
const MODES: [u32; 3] = [0o640, 0o600, 0o644];
const OWNERS: [&str; 2] = ["", "nobody"];

fn seen() -> impl Strategy<Value = Seen> {
    proptest::option::of((0..3_u8, 0..3_u8, 0..2_u8))
}

/// The observation, as it would be read from the node.
fn observe(resource: &Resource, seen: Seen, ctx: Ctx<'_>) -> Observation {
    let Resource::File(file) = resource else {
        panic!()
    };
    let mut answers = Answers::default();
    for query in resource.queries(ctx).unwrap() {
        let answer = match &query {
            Query::Path(path) if path.as_str() != file.path.as_str() => Some(directory()),
            Query::Path(_) => seen.map(|(text, mode, owner)| PathState {
                kind: PathKind::File,
                mode: MODES[mode as usize],
                owner: if owner == 0 {
                    file.owner.clone()
                } else {
                    OWNERS[1].into()
                },
                group: file.group.clone(),
                size: TEXTS[text as usize].len() as u64,
            }),
            Query::Content { .. } => {
                let content = seen.map(|(text, ..)| ContentState {
                    sha256: sha256_hex(TEXTS[text as usize].as_bytes()),
                    text: Some(TEXTS[text as usize].into()),
                });
                answers.0.insert(query.clone(), Answer::Content(content));
                continue;
            }
            other => panic!("{other}"),
        };
        answers.0.insert(query.clone(), Answer::Path(answer));
    }
    resource.observe(&answers, ctx).unwrap()
}

fn directory() -> PathState {
    PathState {
        kind: PathKind::Directory,
        mode: 0o755,
        owner: "root".into(),
        group: "root".into(),
        size: 0,
    }
}

/// A step of the real planner, and its resource.
fn step() -> (Step, Resource) {
    let rig = Rig::new();
    let Resource::File(mut file) = rig.file("a", TEXTS[0]) else {
        panic!()
    };
    // Who exists on every system: no question about the account is asked.
    (file.owner, file.group) = ("root".into(), "root".into());
    let resource = Resource::File(file);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut plan = runtime.block_on(rig.plan(&[("pi", vec![resource.clone()])]));
    (plan.steps.remove(0), resource)
}

#[test]
fn nothing_is_run_that_was_not_shown() {
    let (template, resource) = step();
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // (when planned, whether it could be seen then, now, whether a step of the plan moved it)
    let cases = (seen(), any::<bool>(), seen(), any::<bool>());
    let (ran, refused) = (Cell::new(0), Cell::new(0));
    proptest::test_runner::TestRunner::new(config)
        .run(&cases, |(planned, known, now, moved)| {
            let before = observe(&resource, planned, ctx);
            let Diff::Change(shown) = resource.diff(&before, ctx) else {
                return Ok(());
            };
            let mut step = template.clone();
            step.recorded = known.then(|| fingerprint(KEY, &before));
            step.change = shown.clone();
            let current = observe(&resource, now, ctx);
            let as_desired = resource.diff(&current, ctx) == Diff::NoOp;
            match decide(&step, &resource, &current, ctx, KEY, moved) {
                Decision::Unchanged => prop_assert!(as_desired),
                Decision::Go { change, .. } => {
                    ran.set(ran.get() + 1);
                    prop_assert!(!as_desired);
                    // As recorded, or moved by a step that was named; never more than was shown.
                    prop_assert!(planned == now || moved || !known, "moved by nobody");
                    prop_assert!(
                        change.is_within(&shown),
                        "{change:?} was not shown, but {shown:?}"
                    );
                    for field in &change.fields {
                        prop_assert!(
                            shown
                                .fields
                                .iter()
                                .any(|f| f.field == field.field && f.after == field.after)
                        );
                    }
                }
                Decision::Stale(what) => {
                    refused.set(refused.get() + 1);
                    prop_assert!(planned != now && !as_desired);
                    prop_assert!(!what.is_empty());
                }
                Decision::Problem(failure) => prop_assert!(false, "{failure:?}"),
            }
            Ok(())
        })
        .unwrap();
    assert!(
        ran.get() > 100 && refused.get() > 100,
        "{ran:?} {refused:?}"
    );
}

#[test]
fn values_that_were_not_shown_are_not_written() {
    let (step, resource) = step();
    let Resource::File(file) = &resource else {
        panic!()
    };
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let now = observe(&resource, Some((1, 0, 0)), ctx);
    let go = |resource: &Resource| {
        matches!(
            decide(&step, resource, &now, ctx, KEY, true),
            Decision::Go { .. }
        )
    };
    assert!(go(&resource));
    // The same fields, but another text than the one the plan showed.
    let other = Resource::File(picluster_resource::kinds::file::File {
        content: "another".into(),
        ..file.clone()
    });
    assert!(!go(&other));
}

/// A node that was made Ready by other steps of the run is waited for all the same, and so written down as ours; one that
/// came to be so by itself is somebody else's.
#[test]
fn a_node_is_ours_when_a_step_of_the_run_has_moved_it() {
    let (mut step, _) = step();
    let node: Resource = serde_json::from_value(serde_json::json!({"cluster_node": {
        "name": "n", "unit": "kubelet.service", "kubeconfig": "/k", "kubectl": ["/kubectl"],
    }}))
    .unwrap();
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let ready = serde_json::json!({"metadata": {"name": "n"}, "kind": "Node", "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let mut answers = Answers::default();
    for query in node.queries(ctx).unwrap() {
        let answer = match &query {
            Query::Unit(_) => Answer::Unit(picluster_resource::query::UnitState {
                load: "loaded".into(),
                active: "active".into(),
                ..Default::default()
            }),
            _ => Answer::Fragment {
                status: 0,
                stdout: ready.to_string(),
            },
        };
        answers.0.insert(query, answer);
    }
    let seen = node.observe(&answers, ctx).unwrap();
    assert_eq!(node.diff(&seen, ctx), Diff::NoOp);
    step.recorded = Some(fingerprint(KEY, &seen));
    step.secrets = picluster_plan::fingerprint::sealed(KEY, &node, &secrets, &step.later);
    let decided = |moved| decide(&step, &node, &seen, ctx, KEY, moved);
    assert!(
        matches!(decided(true), Decision::Go { .. }),
        "{:?}",
        decided(true)
    );
    assert!(matches!(decided(false), Decision::Unchanged));
}
