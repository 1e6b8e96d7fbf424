//! Which steps of a plan count for the control plane, and what is known of its members. What follows
//! from that over any graph and any failure is tried in [`super::schedule`].

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_plan::members::takes_down;
use picluster_plan::{Guarded, Member, MemberStanding, Plan, StepAddr, Work};
use picluster_resource::kinds::cluster_server::ClusterServer;
use picluster_resource::kinds::unit::Unit;
use picluster_resource::{Effect, Resource};

use super::kit::{Rig, node};
use crate::guard::{Guard as _, Quorum, Standing, Verdict, may_go_down};

fn server(name: &str, unit: &str) -> ClusterServer {
    ClusterServer {
        name: node(name),
        unit: unit.into(),
        data: picluster_resource::NodePath::new("/var/lib/rancher/k3s/server/db").unwrap(),
        check: "true".into(),
        timeout: 60,
    }
}

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

fn step(name: &str) -> StepAddr {
    format!("{name}/picluster/reboot[{name}]").parse().unwrap()
}

/// `a` is the one in question; the others are given by a word each.
fn said(words: &str) -> String {
    let standing = |word: &str, name: &str| match word {
        "blank" => Standing::Blank,
        "unasked" => Standing::Unasked,
        "serves" => Standing::Serves,
        "down" => Standing::Down(step(name)),
        "silent" => Standing::Silent("etcd failed".into()),
        "away" => Standing::Unknown("was not reached".into()),
        "broken" => Standing::Broken(step(name)),
        _ => panic!("{word}"),
    };
    let servers: BTreeMap<NodeName, Standing> = words
        .split_whitespace()
        .zip(["a", "b", "c"])
        .map(|(word, name)| (node(name), standing(word, name)))
        .collect();
    match may_go_down(&node("a"), &servers) {
        Verdict::Go => "go".into(),
        Verdict::Ask(names) => {
            let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
            format!("ask {}", names.join(" "))
        }
        Verdict::No(why) => why,
    }
}

#[test]
fn may_this_member_go_down_now() {
    for (servers, expected) in [
        // No server, no member, the only one: nobody is to be kept up.
        ("", "go"),
        ("unasked", "go"),
        ("silent", "go"),
        ("blank silent away", "go"),
        ("unasked blank blank", "go"),
        // Everybody else has to be seen serving, now.
        ("unasked unasked unasked", "ask b c"),
        ("unasked serves unasked", "ask c"),
        ("unasked serves serves", "go"),
        ("unasked serves blank", "go"),
        ("unasked serves down", "ask c"),
        // One that does not serve may itself go down: it is the one to mend.
        ("silent serves serves", "go"),
        ("down serves serves", "go"),
        ("broken serves serves", "go"),
        ("away serves serves", "go"),
        // And keeps the others up, named, with the reason.
        (
            "unasked silent serves",
            "server b does not serve (etcd failed), so a has to stay up",
        ),
        (
            "unasked serves away",
            "server c was not reached, so a has to stay up",
        ),
        (
            "unasked unasked broken",
            "c/picluster/reboot[c] did not end well, so a has to stay up",
        ),
        (
            "unasked silent away",
            "server b does not serve (etcd failed), and server c was not reached, so a has to stay up",
        ),
        (
            "silent silent serves",
            "server b does not serve (etcd failed), so a has to stay up",
        ),
    ] {
        assert_eq!(said(servers), expected, "{servers}");
    }
}

/// Whatever is known: nobody goes down while another member is not seen serving.
/// The scheduler asks nobody who is at work. The guard does not rely on it: an answer that was on its way when a step
/// began says nothing about the server while the step runs.
#[test]
fn while_one_is_taken_down_no_answer_lets_another_go() {
    let servers = ["a", "b", "c"].map(|name| (node(name), Standing::Serves));
    let steps = ["a", "b", "c"].map(step);
    let mut guard = Quorum::new(servers, steps.clone(), []);
    assert_eq!(guard.verdict(&steps[0]), Verdict::Go);
    guard.started(&steps[0]);
    for name in ["a", "b", "c"] {
        guard.proved(&node(name), Ok(()));
    }
    assert!(matches!(guard.verdict(&steps[1]), Verdict::No(why) if why.contains("is not done")));
    guard.ended(&steps[0], true);
    assert_eq!(guard.verdict(&steps[1]), Verdict::Ask(vec![node("a")]));
}

#[test]
fn never_two_down_in_any_situation() {
    let words = [
        "blank", "unasked", "serves", "down", "silent", "away", "broken",
    ];
    for a in words {
        for b in words {
            for c in words {
                if said(&format!("{a} {b} {c}")) == "go" {
                    let fine = |w| matches!(w, "blank" | "serves");
                    assert!(a == "blank" || fine(b) && fine(c), "{a} {b} {c}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_plan_knows_of_its_servers() {
    let rig = Rig::new();
    let mut plan = reboots(&rig).await;
    let [one, two, three] = [0, 1, 2].map(|i| plan.steps[i].addr.clone());
    let servers = [node("pi-1"), node("pi-2")];
    for (name, standing) in [
        ("pi-1", MemberStanding::Member),
        ("pi-2", MemberStanding::Member),
    ] {
        let member = Member {
            standing,
            server: Some(server(name, "k3s.service")),
        };
        plan.members.insert(node(name), member);
    }
    let mut guard = Quorum::of_plan(&plan, servers.clone());
    assert_eq!(guard.verdict(&three), Verdict::Go, "it is no server");
    assert_eq!(guard.verdict(&one), Verdict::Ask(vec![node("pi-2")]));
    guard.proved(&node("pi-2"), Ok(()));
    assert_eq!(guard.verdict(&one), Verdict::Go);
    guard.started(&one);
    assert!(matches!(guard.verdict(&two), Verdict::No(why) if why.contains("not done")));
    guard.ended(&one, true);
    assert_eq!(guard.owed_by(&node("pi-1")), Some(&one));
    assert_eq!(guard.verdict(&two), Verdict::Ask(vec![node("pi-1")]));
    guard.proved(&node("pi-1"), Ok(()));
    guard.started(&two);
    guard.ended(&two, false);
    // It serves, but what was to be verified of it was not.
    guard.proved(&node("pi-2"), Ok(()));
    assert!(matches!(guard.verdict(&one), Verdict::No(why) if why.contains("did not end well")));

    for (standing, words) in [
        (
            MemberStanding::Unknown("is declared absent".into()),
            "is declared absent",
        ),
        (
            MemberStanding::Unknown("was not reached".into()),
            "was not reached",
        ),
    ] {
        plan.members.get_mut(&node("pi-2")).unwrap().standing = standing;
        let guard = Quorum::of_plan(&plan, servers.clone());
        let why = guard.verdict(&one);
        assert!(
            matches!(&why, Verdict::No(why) if why.contains("pi-2") && why.contains(words)),
            "{why:?}"
        );
    }
    // One that was never a member is nobody to wait for; when it has started, it is.
    plan.members.get_mut(&node("pi-2")).unwrap().standing = MemberStanding::Blank;
    let mut guard = Quorum::of_plan(&plan, servers.clone());
    assert_eq!(guard.verdict(&one), Verdict::Go);
    assert_eq!(guard.verdict(&two), Verdict::Go);
    // A plan that knows nothing of its servers, and a server that its plan does not know.
    guard = Quorum::of_plan(&plan, [node("pi-1"), node("pi-9")]);
    assert!(matches!(guard.verdict(&one), Verdict::No(why) if why.contains("pi-9")));
}

#[tokio::test]
async fn a_blank_server_counts_from_its_first_start_on() {
    let rig = Rig::new();
    let mut plan = reboots(&rig).await;
    let unit = Unit::named("k3s.service");
    plan.steps[1].work = Work::Resource(Box::new(Resource::Unit(unit)));
    let (reboot, join) = (plan.steps[0].addr.clone(), plan.steps[1].addr.clone());
    for (name, standing) in [
        ("pi-1", MemberStanding::Member),
        ("pi-2", MemberStanding::Blank),
    ] {
        let member = Member {
            standing,
            server: Some(server(name, "k3s.service")),
        };
        plan.members.insert(node(name), member);
    }
    let mut guard = Quorum::of_plan(&plan, [node("pi-1"), node("pi-2")]);
    assert_eq!(guard.verdict(&reboot), Verdict::Go);
    guard.started(&join);
    assert_eq!(guard.verdict(&reboot), Verdict::Ask(vec![node("pi-2")]));
}

#[tokio::test]
async fn restarts_of_what_the_control_plane_stands_on_count_like_reboots() {
    let rig = Rig::new();
    let mut step = rig
        .plan(&[("pi", vec![rig.file("a", "a")])])
        .await
        .steps
        .remove(0);
    let own = server("pi", "mine.service");
    assert!(!takes_down(&step, Some(&own)));
    for (unit, down) in [
        ("ssh.service", false),
        ("k3s.service", true),
        ("mine.service", true),
        ("NetworkManager.service", true),
    ] {
        step.change.effects = [Effect::Restart(unit.into())].into();
        assert_eq!(takes_down(&step, Some(&own)), down, "{unit}");
    }
    step.change.effects.clear();
    step.guard = Some(Guarded {
        group: 1,
        last: true,
        boot: false,
        tried: false,
    });
    assert!(
        takes_down(&step, None),
        "it may cut the node off for a while"
    );
    step.guard = None;
    step.work = Work::Reboot { verify: Vec::new() };
    assert!(takes_down(&step, None));
}
