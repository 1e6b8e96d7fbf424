//! Members of the control plane are asked whether they serve, right before one of them is taken down and
//! after it, also those that have nothing else to do. Real shells, real locks; what serves is a file.

use std::time::Duration;

use picluster_plan::{Member, MemberStanding, Plan};
use picluster_resource::kinds::cluster_server::ClusterServer;
use picluster_resource::{Effect, NodePath};

use super::kit::{Rig, check_events, node};
use crate::event::EventKind;
use crate::exit_code::ExitCode;
use crate::guard::Quorum;
use crate::report::{NodeEnd, Outcome, Report, SkipReason};

const SERVERS: [&str; 3] = ["pi-1", "pi-2", "pi-3"];

fn rig() -> Rig {
    Rig::with(|_, settings| settings.serve_hiccup = Duration::from_millis(30))
}

/// Three servers. What is written on the first and the third takes each down; the second has nothing to do. A server
/// serves unless there is a file that says why it does not.
async fn plan(rig: &Rig) -> Plan {
    let mut plan = rig
        .plan(&[
            ("pi-1", vec![rig.file("a", "a")]),
            ("pi-2", vec![]),
            ("pi-3", vec![rig.file("c", "c")]),
        ])
        .await;
    for step in &mut plan.steps {
        let restart = Effect::Restart("k3s.service".into());
        step.change.effects.insert(restart);
    }
    for name in SERVERS {
        let why = rig.path(&format!("why-{name}")).display().to_string();
        let server = ClusterServer {
            name: node(name),
            unit: "k3s.service".into(),
            data: NodePath::new("/var/lib/rancher/k3s/server/db").unwrap(),
            check: format!("! cat {why} 2>/dev/null"),
            timeout: 1,
        };
        let member = Member {
            standing: MemberStanding::Member,
            server: Some(server),
        };
        plan.members.insert(node(name), member);
    }
    plan
}

async fn apply(rig: &Rig, plan: &Plan) -> (Report, Vec<EventKind>) {
    let (run, mut received, _cancel) = rig.run("r1");
    let guard = Quorum::of_plan(plan, SERVERS.map(node));
    let report = rig.engine.apply_guarded(plan, run, Box::new(guard)).await;
    let mut events = Vec::new();
    while let Ok(event) = received.try_recv() {
        events.push(event.event);
    }
    check_events(plan, &report, &events);
    (report, events)
}

fn outcome<'a>(report: &'a Report, name: &str) -> &'a Outcome {
    &report.nodes[&node(name)].steps[0].outcome
}

fn held_back(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Skipped(SkipReason::Guard(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_others_are_asked_before_each_and_each_is_asked_after_it() {
    let rig = rig();
    let plan = plan(&rig).await;
    let (report, events) = apply(&rig, &plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    let told: Vec<String> = events
        .iter()
        .filter_map(|e| match e {
            EventKind::NodeProved { node, serves, .. } => Some(format!("{node} {serves}")),
            EventKind::StepStarted { addr } => Some(format!("{} goes", addr.node)),
            EventKind::StepFinished { addr, .. } => Some(format!("{} done", addr.node)),
            _ => None,
        })
        .collect();
    // Both others answer, since the one before was done, before each goes: also the second server, which has no step.
    let mut since = Vec::new();
    let mut gone = Vec::new();
    for what in &told {
        let (name, how) = what.split_once(' ').unwrap();
        match how {
            "true" => since.push(name),
            "goes" => {
                let unproven = |n: &&str| *n != name && !since.contains(n);
                let unproven: Vec<&str> = SERVERS.into_iter().filter(|n| unproven(n)).collect();
                assert!(unproven.is_empty(), "{what}, {unproven:?}: {told:?}");
                gone.push(name);
            }
            _ => since.clear(),
        }
    }
    gone.sort_unstable();
    assert_eq!(gone, ["pi-1", "pi-3"], "{told:?}");
    // And the last one itself, at the end.
    assert!(!since.is_empty(), "{told:?}");
}

#[tokio::test]
async fn one_that_does_not_serve_keeps_the_others_up_and_is_named() {
    let rig = rig();
    let plan = plan(&rig).await;
    std::fs::write(rig.path("why-pi-2"), "etcd failed: no leader\n").unwrap();
    let (report, _) = apply(&rig, &plan).await;
    assert_eq!(report.exit_code(), ExitCode::NodeFailed);
    for name in ["pi-1", "pi-3"] {
        let why = held_back(outcome(&report, name));
        assert!(
            why.contains("server pi-2 does not serve") && why.contains("etcd failed: no leader"),
            "{why}"
        );
    }
    assert!(!rig.path("a").exists() && !rig.path("c").exists());
}

#[tokio::test]
async fn one_that_another_run_works_on_keeps_the_others_up() {
    let rig = rig();
    let plan = plan(&rig).await;
    // Another controller's run on the second server: its program holds the lock for as long as its session.
    let other = Rig::with(|_, settings| {
        settings.paths.lock = rig.path("lock/@@@@.lock").display().to_string();
    });
    let mut theirs = super::kit::owner("r0");
    theirs.controller = "elsewhere".into();
    let theirs = serde_json::to_string(&theirs).unwrap();
    let message = crate::session::Message::script(crate::agent::locked(&theirs, ""));
    let link = other.engine.link(&node("pi-2"));
    link.lock()
        .await
        .ask(
            &super::agent::root(),
            message,
            Duration::from_secs(9),
            "locking",
        )
        .await
        .unwrap();
    let (report, _) = apply(&rig, &plan).await;
    for name in ["pi-1", "pi-3"] {
        let why = held_back(outcome(&report, name));
        assert!(why.contains("pi-2: locked by"), "{why}");
    }
    assert!(
        matches!(report.nodes[&node("pi-2")].end, NodeEnd::Locked { .. }),
        "{report:?}"
    );
    assert!(!rig.path("a").exists() && !rig.path("c").exists());
}

#[tokio::test]
async fn one_that_does_not_come_back_is_a_failure_and_nobody_follows_it() {
    let rig = rig();
    let mut plan = plan(&rig).await;
    // The first goes first, and what is written there is what breaks it.
    let first = plan.steps[0].addr.clone();
    assert_eq!(first.node, node("pi-1"));
    plan.steps[1].needs.push(first);
    let written = rig.path("a").display().to_string();
    if let Some(server) = plan
        .members
        .get_mut(&node("pi-1"))
        .and_then(|member| member.server.as_mut())
    {
        server.check = format!("[ ! -e {written} ] || {{ echo connection refused; exit 1; }}");
    }
    let (report, _) = apply(&rig, &plan).await;
    assert_eq!(report.exit_code(), ExitCode::NodeFailed);
    assert_eq!(*outcome(&report, "pi-1"), Outcome::Changed);
    let NodeEnd::Failed { reason } = &report.nodes[&node("pi-1")].end else {
        panic!("{report:?}");
    };
    assert!(
        reason.contains("does not serve the cluster again")
            && reason.contains("connection refused"),
        "{reason}"
    );
    let why = held_back(outcome(&report, "pi-3"));
    assert!(why.contains("server pi-1 does not serve"), "{why}");
    assert!(!rig.path("c").exists());
}
