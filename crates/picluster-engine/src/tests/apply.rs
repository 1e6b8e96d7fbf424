//! Whole applies of file steps, with everything that can go wrong on the way.

use picluster_model::secret::{Secret, SecretRef};
use picluster_plan::{Plan, RecordAction};
use picluster_resource::kinds::file::{File, Presence};
use picluster_resource::{Effect, Resource};

use super::agent::until;
use super::kit::{Rig, node};
use crate::event::EventKind;
use crate::exit_code::ExitCode;
use crate::host::ConnectError;
use crate::report::{NodeEnd, Outcome, SkipReason};
use crate::run::Cancel;
use crate::scheduler::AT_ONCE;
use crate::testing::Fault;

fn outcomes(events: &[EventKind]) -> Vec<Outcome> {
    events
        .iter()
        .filter_map(|e| match e {
            EventKind::StepFinished { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
        .collect()
}

fn with_check(resource: Resource, check: &str) -> Resource {
    let Resource::File(file) = resource else {
        return resource;
    };
    Resource::File(File {
        validate: Some(check.into()),
        ..file
    })
}

/// Makes each step need the one before.
fn chain(plan: &mut Plan) {
    for i in 1..plan.steps.len() {
        let before = plan.steps[i - 1].addr.clone();
        if plan.steps[i].addr.node == before.node {
            plan.steps[i].needs.push(before);
        }
    }
}

#[tokio::test]
async fn a_blank_node_is_filled_in_few_round_trips_and_at_one_for_steps_that_need_each_other() {
    let rig = Rig::new();
    let files: Vec<Resource> = (0..20)
        .map(|i| rig.file(&format!("f{i}"), &format!("{i}\n")))
        .collect();
    let plan = rig.plan(&[("pi", files.clone())]).await;
    assert_eq!(plan.steps.len(), 20);
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
    assert_eq!(report.counts().changed, 20);
    assert_eq!(rig.read("f7").as_deref(), Some("7\n"));
    // Facts, probe, lock with the first look, and one for as many as go together.
    let count = rig.engine.counters().total();
    assert_eq!(
        (count.connections, count.execs, count.round_trips),
        (1, 1, 3 + 20_u64.div_ceil(AT_ONCE as u64))
    );
    // Every record was written before its operation.
    assert_eq!(
        std::fs::read_dir(rig.path("owned/@@@@")).unwrap().count(),
        20
    );

    let again = rig.plan(&[("pi", files)]).await;
    assert!(again.is_empty());
    let before = rig.engine.counters().total();
    let (report, _) = rig.apply(&again).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!(report.nodes[&node("pi")].end, NodeEnd::Idle);
    assert_eq!(
        rig.engine.counters().total(),
        before,
        "nothing to do takes no round trip"
    );

    // The old plan again: everything is found as desired.
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.counts().unchanged, 20);

    let rig = Rig::new();
    let files: Vec<Resource> = (0..20).map(|i| rig.file(&format!("f{i}"), "x")).collect();
    let mut plan = rig.plan(&[("pi", files)]).await;
    chain(&mut plan);
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.counts().changed, 20);
    assert_eq!(rig.engine.counters().total().round_trips, 3 + 20);
}

#[tokio::test]
async fn what_changed_since_the_plan_is_refused_unless_a_step_of_the_plan_moved_it() {
    let rig = Rig::new();
    std::fs::write(rig.path("b"), "old").unwrap();
    let resources = vec![
        rig.file("a", "a"),
        rig.file("b", "new"),
        rig.file("c", "c"),
        rig.file("d", "d"),
    ];
    let mut plan = rig.plan(&[("pi", resources)]).await;
    let (b, c) = (plan.steps[1].addr.clone(), plan.steps[2].addr.clone());
    plan.steps[2].needs.push(b.clone());
    std::fs::write(rig.path("b"), "somebody was here").unwrap();
    let (report, _) = rig.apply(&plan).await;
    let steps = &report.nodes[&node("pi")].steps;
    assert_eq!(steps[0].outcome, Outcome::Changed);
    assert!(
        matches!(&steps[1].outcome, Outcome::Stale { what } if what.contains("since the plan")),
        "{steps:?}"
    );
    assert_eq!(steps[2].outcome, Outcome::Skipped(SkipReason::Needs(b)));
    assert_eq!(steps[3].outcome, Outcome::Changed);
    assert_eq!(report.exit_code(), ExitCode::Stale);
    assert_eq!(rig.read("b").as_deref(), Some("somebody was here"));
    assert_eq!(rig.read("c"), None);

    // The same, said to be moved by a step that does change something: within what was shown.
    std::fs::remove_file(rig.path("a")).unwrap();
    let a = plan.steps[0].addr.clone();
    plan.steps[1].moved_by.push(a);
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    assert_eq!(rig.read("b").as_deref(), Some("new"));
    assert!(plan.step(&c).is_some());
}

#[tokio::test]
async fn a_failed_step_says_what_ran_and_what_it_printed_without_secrets() {
    let mut rig = Rig::new();
    let secret = SecretRef::Env("TOKEN".into());
    rig.secrets
        .0
        .insert(secret.clone(), Secret::new("hunter2".into()));
    let bad = with_check(
        rig.file("a", &format!("token: {}\n", secret.placeholder())),
        "{ echo \"refusing $(cat {})\"; false; }",
    );
    let mut plan = rig
        .plan(&[("pi", vec![bad, rig.file("b", "b"), rig.file("c", "c")])])
        .await;
    let a = plan.steps[0].addr.clone();
    plan.steps[1].needs.push(a);
    let (report, events) = rig.apply(&plan).await;
    let steps = &report.nodes[&node("pi")].steps;
    let Outcome::Failed(failure) = &steps[0].outcome else {
        panic!("{steps:?}")
    };
    assert_eq!(failure.status, Some(1));
    assert!(
        failure.output.contains("refusing token: (sensitive)"),
        "{failure:?}"
    );
    assert!(
        failure.output.contains("the new text was refused"),
        "{failure:?}"
    );
    assert_eq!(
        steps[1].outcome,
        Outcome::Skipped(SkipReason::Needs(plan.steps[0].addr.clone()))
    );
    assert_eq!(
        steps[2].outcome,
        Outcome::Changed,
        "independent steps go on"
    );
    assert_eq!(report.exit_code(), ExitCode::NodeFailed);
    assert_eq!(report.nodes[&node("pi")].end, NodeEnd::Incomplete);
    for text in [
        serde_json::to_string(&events).unwrap(),
        format!("{events:?} {report:?}"),
    ] {
        assert!(!text.contains("hunter2"));
    }
    assert_eq!(rig.read("a"), None);
}

#[tokio::test]
async fn a_step_that_runs_but_does_not_help_has_not_converged() {
    let rig = Rig::new();
    // The check is part of the operation and spoils what was written.
    let dir = rig.dir.path().display().to_string();
    let spoilt = with_check(rig.file("a", "a"), &format!("echo spoilt > {{}}; : {dir}"));
    let plan = rig.plan(&[("pi", vec![spoilt])]).await;
    let (report, _) = rig.apply(&plan).await;
    let Outcome::Failed(failure) = &report.nodes[&node("pi")].steps[0].outcome else {
        panic!("{report:?}")
    };
    assert!(failure.what.contains("did not bring about"), "{failure:?}");
    assert!(failure.remaining.is_some());
}

#[tokio::test]
async fn what_answers_late_is_asked_twice() {
    let rig = Rig::new();
    // The first to ask after it ran is told no.
    let (ran, seen) = (rig.path("ran"), rig.path("seen"));
    let late: Resource = serde_json::from_value(serde_json::json!({ "command": {
        "name": "late",
        "run": format!(": > {}", ran.display()),
        "probe": format!("[ -e {1} ] || {{ mv {0} {1}; exit 1; }} 2>/dev/null", ran.display(), seen.display()),
    }}))
    .unwrap();
    let plan = rig.plan(&[("pi", vec![late])]).await;
    let (report, _) = rig.apply(&plan).await;
    let end = &report.nodes[&node("pi")].steps[0];
    assert_eq!(end.outcome, Outcome::Changed);
    assert!(seen.exists());
}

#[tokio::test]
async fn payloads_of_megabytes_go_through_a_plan() {
    let rig = Rig::new();
    let text = "0123456789abcdef".repeat(300_000);
    let plan = rig.plan(&[("pi", vec![rig.file("big", &text)])]).await;
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!(rig.read("big").map(|t| t.len()), Some(text.len()));
}

#[tokio::test]
async fn a_connection_lost_at_any_frame_is_never_success_and_the_next_apply_heals_it() {
    let mut cut = 1;
    loop {
        let rig = Rig::new();
        let files = vec![rig.file("a", "a"), rig.file("b", "b"), rig.file("c", "c")];
        let mut plan = rig.plan(&[("pi", files.clone())]).await;
        chain(&mut plan);
        rig.engine.close().await;
        rig.connector
            .faults(&node("pi"), [Fault::CutAfterFrames(cut)]);
        let (report, _) = rig.apply(&plan).await;
        let steps = &report.nodes[&node("pi")].steps;
        let written = |name: &str| rig.path(name).exists();
        for (step, name) in steps.iter().zip(["a", "b", "c"]) {
            match &step.outcome {
                Outcome::Changed => assert!(written(name), "cut at {cut}"),
                Outcome::Lost { .. } | Outcome::Skipped(_) => {}
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
        let whole = report.exit_code() == ExitCode::Done;
        if !whole {
            assert_eq!(
                report.exit_code(),
                ExitCode::NodeFailed,
                "cut at {cut}: {report:?}"
            );
            let healed = rig.plan(&[("pi", files)]).await;
            let (report, _) = rig.apply(&healed).await;
            assert_eq!(report.exit_code(), ExitCode::Done, "cut at {cut}");
        }
        for name in ["a", "b", "c"] {
            assert_eq!(rig.read(name).as_deref(), Some(name), "cut at {cut}");
        }
        assert_eq!(
            std::fs::read_dir(rig.path("owned/@@@@")).unwrap().count(),
            3,
            "cut at {cut}"
        );
        if whole {
            break;
        }
        cut += 1;
    }
    assert!(cut > 10, "only {cut} frames were cut");
}

#[tokio::test]
async fn a_controller_killed_at_any_event_leaves_what_the_next_one_completes() {
    let mut at = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::at(dir, |_, _| {});
        let files = vec![rig.file("a", "a"), rig.file("b", "b"), rig.file("c", "c")];
        let plan = rig.plan(&[("pi", files.clone())]).await;
        let finished = rig.killed_at(at, &plan).await;
        let Rig { dir, engine, .. } = rig;
        drop(engine);
        let next = Rig::at(dir, |_, _| {});
        let plan = next.plan(&[("pi", files)]).await;
        let (report, _) = next.apply(&plan).await;
        assert_eq!(
            report.exit_code(),
            ExitCode::Done,
            "killed at event {at}: {report:?}"
        );
        for name in ["a", "b", "c"] {
            assert_eq!(
                next.read(name).as_deref(),
                Some(name),
                "killed at event {at}"
            );
        }
        if finished {
            break;
        }
        at += 1;
    }
    assert!(at > 8, "only {at} events");
}

#[tokio::test]
async fn a_lost_connection_is_dialled_again_for_what_does_not_depend_on_it() {
    let rig = Rig::new();
    // One that goes alone.
    let checked = with_check(rig.file("b", "b"), "true {}");
    let files = vec![rig.file("a", "a"), checked];
    let plan = rig.plan(&[("pi", files)]).await;
    // What planning took: facts, library, questions. The lock takes a little more, a step much more.
    let sent = rig.engine.counters().total().bytes_out;
    rig.engine.close().await;
    rig.connector.faults(
        &node("pi"),
        [Fault::CutAfterInput(usize::try_from(sent).unwrap() + 700)],
    );
    let (report, _) = rig.apply(&plan).await;
    let count = report.counts();
    assert_eq!(
        (count.lost, count.changed, count.skipped),
        (1, 1, 0),
        "{report:?}"
    );
}

#[tokio::test]
async fn one_dead_node_stops_nobody_else() {
    let rig = Rig::new();
    let plan = rig
        .plan(&[
            ("pi-1", vec![rig.file("a", "a")]),
            ("pi-2", vec![rig.file("n2/b", "b"), rig.file("n2/c", "c")]),
        ])
        .await;
    rig.engine.close().await;
    rig.connector.refuse(
        &node("pi-1"),
        [ConnectError::Unreachable {
            node: node("pi-1"),
            address: "192.168.2.1:22".into(),
            reason: "no route to host".into(),
        }],
    );
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Unreachable);
    assert!(matches!(
        report.nodes[&node("pi-1")].end,
        NodeEnd::Unreachable { .. }
    ));
    assert_eq!(report.nodes[&node("pi-2")].end, NodeEnd::Done);
    assert!(
        events
            .iter()
            .any(|e| matches!(e, EventKind::NodeUnreachable { .. }))
    );
}

#[tokio::test]
async fn another_machine_under_the_same_name_is_refused_before_any_write() {
    let rig = Rig::new();
    let mut plan = rig.plan(&[("pi", vec![rig.file("a", "a")])]).await;
    rig.engine.close().await;
    let picluster_plan::NodeState::Observed { facts, .. } =
        &mut plan.nodes.get_mut(&node("pi")).unwrap().state
    else {
        panic!()
    };
    facts.now.machine_id = "another".into();
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::IdentityChanged);
    assert_eq!(rig.read("a"), None);
    assert!(
        !rig.path("lock/@@@@.lock").exists(),
        "not even a lock was taken"
    );
}

#[tokio::test]
async fn records_are_dropped_also_for_what_is_already_gone() {
    let rig = Rig::new();
    let Resource::File(file) = rig.file("a", "") else {
        panic!()
    };
    let gone = Resource::File(File {
        state: Presence::Absent,
        ..file
    });
    std::fs::write(rig.path("a"), "a").unwrap();
    let mut plan = rig.plan(&[("pi", vec![gone])]).await;
    plan.steps[0].record = RecordAction::Drop {
        name: "r.json".into(),
    };
    std::fs::create_dir_all(rig.path("owned/@@@@")).unwrap();
    for outcome in [Outcome::Changed, Outcome::Unchanged] {
        std::fs::write(rig.path("owned/@@@@/r.json"), "{}").unwrap();
        let (_, events) = rig.apply(&plan).await;
        assert_eq!(outcomes(&events), [outcome]);
        assert!(!rig.path("owned/@@@@/r.json").exists());
        assert!(!rig.path("a").exists());
    }
}

#[tokio::test]
async fn what_was_begun_and_did_not_end_well_is_marked_until_it_does() {
    let rig = Rig::new();
    let marks = || -> Vec<String> {
        std::fs::read_dir(rig.path("owned/@@@@"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".begun"))
            .collect()
    };
    let file = rig.file("a", "text\n");
    let flag = rig.path("good").display().to_string();
    let checked = with_check(file.clone(), &format!("test -e {flag} # {{}}"));
    let plan = rig.plan(&[("pi", vec![checked])]).await;
    let (_, events) = rig.apply(&plan).await;
    assert!(matches!(outcomes(&events)[0], Outcome::Failed(_)));
    let RecordAction::Write { name, .. } = &plan.steps[0].record else {
        panic!("no record")
    };
    assert_eq!(marks(), [picluster_plan::owned::Begun::file_name(name)]);
    let mark = rig.read(&format!("owned/@@@@/{}", marks()[0])).unwrap();
    assert_eq!(mark, format!("{{\"begun\":\"{name}\",\"at\":0}}\n"));
    std::fs::write(&flag, "").unwrap();
    let (_, events) = rig.apply(&plan).await;
    assert_eq!(outcomes(&events), [Outcome::Changed]);
    assert_eq!(marks(), Vec::<String>::new());

    // One that ended well and did not bring about what was wanted.
    let idle: Resource = serde_json::from_value(serde_json::json!({
        "command": { "name": "idle", "run": "true", "creates": rig.path("never").display().to_string() }
    }))
    .unwrap();
    let plan = rig.plan(&[("pi", vec![idle])]).await;
    let (_, events) = rig.apply(&plan).await;
    assert!(
        matches!(outcomes(&events)[0], Outcome::Failed(_)),
        "{events:?}"
    );
    assert_eq!(marks().len(), 1);
}

#[tokio::test]
async fn a_mark_of_what_came_to_its_end_unheard_goes_with_the_next_apply() {
    let rig = Rig::new();
    let resource = rig.file("a", "text\n");
    let plan = rig.plan(&[("pi", vec![resource.clone()])]).await;
    rig.apply(&plan).await;
    let RecordAction::Write { name, .. } = &plan.steps[0].record else {
        panic!("no record")
    };
    let mark = format!(
        "owned/@@@@/{}",
        picluster_plan::owned::Begun::file_name(name)
    );
    let begun = format!("{{\"begun\":\"{name}\",\"at\":0}}\n");
    // Nothing is left to do but that.
    std::fs::write(rig.path(&mark), &begun).unwrap();
    let mut again = rig.plan(&[("pi", vec![resource.clone()])]).await;
    assert!(again.steps.is_empty());
    again.nodes.get_mut(&node("pi")).unwrap().finished = vec![name.clone()];
    rig.apply(&again).await;
    assert_eq!(rig.read(&mark), None);
    // Where what a killed run left running still has the lock when it is to go.
    std::fs::write(rig.path(&mark), &begun).unwrap();
    let lock = rig.path("lock/@@@@.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = rig.path("held");
    let mut left = std::process::Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", ": > \"$0\"; sleep 0.5"])
        .arg(&held)
        .spawn()
        .unwrap();
    until(|| held.exists()).await;
    rig.apply(&again).await;
    assert_eq!(rig.read(&mark), None);
    left.wait().unwrap();
    // Where it came to its end after the plan was made.
    std::fs::remove_file(rig.path("a")).unwrap();
    let late = rig.plan(&[("pi", vec![resource])]).await;
    rig.apply(&late).await;
    std::fs::write(rig.path(&mark), &begun).unwrap();
    let (_, events) = rig.apply(&late).await;
    assert_eq!(outcomes(&events), [Outcome::Unchanged]);
    assert_eq!(rig.read(&mark), None);
    // The same where the killed run had written the record already.
    let mut late = late;
    late.steps[0].record = RecordAction::Keep;
    std::fs::write(rig.path(&mark), &begun).unwrap();
    let (_, events) = rig.apply(&late).await;
    assert_eq!(outcomes(&events), [Outcome::Unchanged]);
    assert_eq!(rig.read(&mark), None);
}

/// Puts the step of a file first on its node; all others need it.
fn first(plan: &mut Plan, name: &str) {
    let at = plan
        .steps
        .iter()
        .position(|s| s.addr.key.ends_with(&format!("/{name}")))
        .unwrap();
    let step = plan.steps.remove(at);
    for other in plan
        .steps
        .iter_mut()
        .filter(|s| s.addr.node == step.addr.node)
    {
        other.needs.push(step.addr.clone());
    }
    plan.steps.insert(0, step);
}

/// A step that waits on the node until the test lets it go.
fn gate(rig: &Rig, name: &str) -> Resource {
    let dir = rig.dir.path().display();
    with_check(
        rig.file(name, name),
        &format!(
            "{{ : > {dir}/{name}.started; while [ ! -e {dir}/{name}.go ]; do sleep 0.01; done; : {{}}; }}"
        ),
    )
}

#[tokio::test]
async fn the_first_interrupt_lets_running_steps_finish_and_starts_nothing() {
    let rig = Rig::new();
    let mut plan = rig
        .plan(&[
            ("pi-1", vec![gate(&rig, "a"), rig.file("b", "b")]),
            ("pi-2", vec![gate(&rig, "n2/c")]),
        ])
        .await;
    first(&mut plan, "a");
    let (run, _events, cancel) = rig.run("r1");
    let interrupt = async {
        until(|| rig.path("a.started").exists() && rig.path("n2/c.started").exists()).await;
        cancel.send(Cancel::Finish).unwrap();
        std::fs::write(rig.path("a.go"), "").unwrap();
        std::fs::write(rig.path("n2/c.go"), "").unwrap();
    };
    let (report, ()) = tokio::join!(rig.engine.apply(&plan, run), interrupt);
    let steps = &report.nodes[&node("pi-1")].steps;
    assert_eq!(steps[0].outcome, Outcome::Changed);
    assert_eq!(steps[1].outcome, Outcome::Skipped(SkipReason::Cancelled));
    assert_eq!(report.nodes[&node("pi-1")].end, NodeEnd::Interrupted);
    assert_eq!(report.nodes[&node("pi-2")].end, NodeEnd::Done, "{report:?}");
    assert_eq!(report.exit_code(), ExitCode::Interrupted);
    assert_eq!(rig.read("b"), None);
}

#[tokio::test]
async fn the_second_interrupt_closes_connections_and_the_node_stops_at_the_boundary() {
    let rig = Rig::new();
    let files = vec![gate(&rig, "a"), rig.file("b", "b")];
    let mut plan = rig.plan(&[("pi", files.clone())]).await;
    first(&mut plan, "a");
    let (run, _events, cancel) = rig.run("r1");
    let interrupt = async {
        until(|| rig.path("a.started").exists()).await;
        cancel.send(Cancel::Finish).unwrap();
        cancel.send(Cancel::Now).unwrap();
    };
    let (report, ()) = tokio::join!(rig.engine.apply(&plan, run), interrupt);
    let steps = &report.nodes[&node("pi")].steps;
    assert!(matches!(steps[0].outcome, Outcome::Lost { .. }));
    assert_eq!(report.exit_code(), ExitCode::Interrupted);
    // The step goes on to its end, nobody is there to see it, and nothing follows.
    std::fs::write(rig.path("a.go"), "").unwrap();
    until(|| rig.read("a").as_deref() == Some("a")).await;
    assert_eq!(rig.read("b"), None);
    let plan = rig.plan(&[("pi", files)]).await;
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!(rig.read("b").as_deref(), Some("b"));
}

#[tokio::test]
async fn an_orphan_of_ours_is_waited_for_by_name_and_somebody_elses_run_is_respected() {
    let rig = Rig::new();
    let files = vec![gate(&rig, "a"), rig.file("b", "b")];
    let mut plan = rig.plan(&[("pi", files.clone())]).await;
    first(&mut plan, "a");
    let (run, _events, cancel) = rig.run("r1");
    let interrupt = async {
        until(|| rig.path("a.started").exists()).await;
        cancel.send(Cancel::Now).unwrap();
    };
    tokio::join!(rig.engine.apply(&plan, run), interrupt);

    // Another user's run is refused at once, and told who.
    let (mut other, _e, _c) = rig.run("r2");
    other.owner.user = "bob".into();
    let report = rig.engine.apply(&plan, other).await;
    assert_eq!(report.exit_code(), ExitCode::Locked);
    let NodeEnd::Locked {
        holder: Some(holder),
        reason,
    } = &report.nodes[&node("pi")].end
    else {
        panic!("{report:?}")
    };
    assert_eq!((holder.user.as_str(), holder.run.as_str()), ("ann", "r1"));
    assert!(reason.contains("ann@desk"), "{reason}");

    // Ours waits until the step is done.
    let (run, mut events, _c) = rig.run("r3");
    let watch = async {
        loop {
            let event = events.recv().await.expect("the run is not over");
            if let EventKind::NodeWaiting { processes, .. } = event.event {
                break processes;
            }
        }
    };
    let release = async {
        let processes = watch.await;
        std::fs::write(rig.path("a.go"), "").unwrap();
        processes
    };
    let (report, processes) = tokio::join!(rig.engine.apply(&plan, run), release);
    assert!(!processes.is_empty());
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    assert_eq!(
        report.nodes[&node("pi")].steps[0].outcome,
        Outcome::Unchanged,
        "the orphan did it"
    );
}

#[tokio::test]
async fn an_idle_orphan_is_asked_to_stop() {
    let rig = Rig::new();
    let plan = rig.plan(&[("pi", vec![rig.file("a", "a")])]).await;
    // An agent whose controller is gone without the node noticing: locked, waiting for a line.
    let idle = Rig::with(|_, s| {
        s.paths = {
            let mut paths = s.paths.clone();
            paths.run = rig.path("run/@@@@").display().to_string();
            paths.lock = rig.path("lock/@@@@.lock").display().to_string();
            paths
        }
    });
    let owner = serde_json::to_string(&super::kit::owner("r0")).unwrap();
    let message = crate::session::Message::script(crate::agent::locked(&owner, ""));
    let link = idle.engine.link(&node("pi"));
    let frames = link
        .lock()
        .await
        .ask(
            &super::agent::root(),
            message,
            std::time::Duration::from_secs(9),
            "locking",
        )
        .await
        .unwrap();
    assert_eq!(frames[0].status, 0);
    let (report, events) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
}

#[tokio::test]
async fn after_a_change_to_the_way_in_only_a_new_connection_counts() {
    for works in [true, false] {
        let rig = Rig::new();
        let mut plan = rig
            .plan(&[("pi", vec![rig.file("sshd", "x"), rig.file("b", "b")])])
            .await;
        plan.steps[0]
            .change
            .effects
            .insert(Effect::Access("sshd".into()));
        if !works {
            let reason = ConnectError::Authentication {
                node: node("pi"),
                user: "me".into(),
                address: "local".into(),
                reason: "publickey".into(),
            };
            rig.connector.refuse(&node("pi"), [reason]);
        }
        let (report, _) = rig.apply(&plan).await;
        let steps = &report.nodes[&node("pi")].steps;
        if works {
            assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
            assert_eq!(rig.engine.counters().total().connections, 2);
        } else {
            assert!(
                matches!(&steps[0].outcome, Outcome::Failed(f) if f.what.contains("no way in")),
                "{steps:?}"
            );
            assert_eq!(
                steps[1].outcome,
                Outcome::Skipped(SkipReason::Node(node("pi")))
            );
            assert_eq!(rig.read("b"), None);
        }
    }
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_reported_with_what_runs_and_is_not_killed() {
    let rig = Rig::new();
    let mut plan = rig
        .plan(&[("pi", vec![gate(&rig, "a"), rig.file("b", "b")])])
        .await;
    first(&mut plan, "a");
    tokio::time::pause();
    let (run, _events, _cancel) = rig.run("r1");
    // Time stands still until the step waits, then it runs as fast as it can.
    let report = {
        let mut apply = std::pin::pin!(rig.engine.apply(&plan, run));
        tokio::time::resume();
        tokio::select! {
            biased;
            _ = &mut apply => panic!("it cannot be over"),
            () = until(|| rig.path("a.started").exists()) => {}
        }
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(60 + 120 + 1)).await;
        tokio::time::resume();
        apply.await
    };
    let steps = &report.nodes[&node("pi")].steps;
    let Outcome::Failed(failure) = &steps[0].outcome else {
        panic!("{steps:?}")
    };
    assert!(
        failure.what.starts_with("it did not end within 60 s"),
        "{failure:?}"
    );
    assert!(matches!(steps[1].outcome, Outcome::Skipped(_)));
    std::fs::write(rig.path("a.go"), "").unwrap();
    until(|| rig.read("a").as_deref() == Some("a")).await;
}

#[tokio::test]
async fn an_interrupt_does_not_wait_for_a_lock() {
    let rig = Rig::new();
    let mut plan = rig.plan(&[("pi", vec![gate(&rig, "a")])]).await;
    first(&mut plan, "a");
    let (run, _events, cancel) = rig.run("r1");
    let interrupt = async {
        until(|| rig.path("a.started").exists()).await;
        cancel.send(Cancel::Now).unwrap();
    };
    tokio::join!(rig.engine.apply(&plan, run), interrupt);
    let (run, mut events, cancel) = rig.run("r2");
    let interrupt = async {
        while !matches!(
            events.recv().await.map(|e| e.event),
            Some(EventKind::NodeWaiting { .. })
        ) {}
        cancel.send(Cancel::Finish).unwrap();
    };
    let (report, ()) = tokio::join!(rig.engine.apply(&plan, run), interrupt);
    assert_eq!(report.nodes[&node("pi")].end, NodeEnd::Interrupted);
    assert_eq!(report.exit_code(), ExitCode::Interrupted);
    std::fs::write(rig.path("a.go"), "").unwrap();
    until(|| rig.read("a").is_some()).await;
}
