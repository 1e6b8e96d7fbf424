//! Which steps of a plan count for the control plane, and what is known of its members at first. What
//! follows from that over any graph and any failure is tried in [`super::schedule`].

use picluster_plan::{NodeState, Plan, Work};
use picluster_resource::Effect;

use super::kit::{Rig, node};
use crate::guard::{Guard as _, Quorum, takes_down};

/// Three nodes; each reboots.
async fn reboots(rig: &Rig) -> Plan {
    let files = ["a", "b", "c"].map(|name| vec![rig.file(name, name)]);
    let [a, b, c] = files;
    let mut plan = rig.plan(&[("pi-1", a), ("pi-2", b), ("pi-3", c)]).await;
    for step in &mut plan.steps {
        step.work = Work::Reboot { verify: Vec::new() };
    }
    plan
}

#[tokio::test]
async fn a_server_goes_only_when_all_others_were_reached_and_none_is_away() {
    let rig = Rig::new();
    let mut plan = reboots(&rig).await;
    let [one, two, three] = [0, 1, 2].map(|i| plan.steps[i].addr.clone());
    let servers = [node("pi-1"), node("pi-2")];
    let mut guard = Quorum::of_plan(&plan, servers.clone());
    assert_eq!(guard.admits(&one), Ok(()));
    guard.started(&one);
    assert!(guard.admits(&two).is_err(), "one is away");
    assert_eq!(guard.admits(&three), Ok(()), "it is no server");
    guard.ended(&one, true);
    assert_eq!(guard.admits(&two), Ok(()));
    guard.started(&two);
    guard.ended(&two, false);
    // It answers, but what was to be verified of it was not.
    guard.seen(&two.node);
    assert!(
        guard
            .admits(&one)
            .is_err_and(|why| why.contains("did not end well"))
    );

    for (state, words) in [
        (NodeState::Absent, "is declared absent"),
        (
            NodeState::Unreachable {
                reason: "no route".into(),
            },
            "was not reached",
        ),
    ] {
        plan.nodes.get_mut(&node("pi-2")).unwrap().state = state;
        let guard = Quorum::of_plan(&plan, servers.clone());
        assert!(
            guard
                .admits(&one)
                .is_err_and(|why| why.contains("pi-2") && why.contains(words))
        );
    }
    // A server of which the plan says nothing at all.
    let guard = Quorum::of_plan(&plan, [node("pi-1"), node("pi-9")]);
    assert!(guard.admits(&one).is_err());
}

#[tokio::test]
async fn restarts_of_what_the_control_plane_stands_on_count_like_reboots() {
    let rig = Rig::new();
    let mut step = rig
        .plan(&[("pi", vec![rig.file("a", "a")])])
        .await
        .steps
        .remove(0);
    assert!(!takes_down(&step));
    for (unit, down) in [
        ("ssh.service", false),
        ("k3s.service", true),
        ("NetworkManager.service", true),
    ] {
        step.change.effects = [Effect::Restart(unit.into())].into();
        assert_eq!(takes_down(&step), down, "{unit}");
    }
    step.change.effects.clear();
    step.work = Work::Reboot { verify: Vec::new() };
    assert!(takes_down(&step));
}
