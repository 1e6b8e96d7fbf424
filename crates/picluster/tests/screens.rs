//! What people see, as snapshots.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use picluster::show;
use picluster::term::Style;
use picluster_engine::report::{SkipReason, StepReport};
use picluster_engine::{Failure, NodeEnd, NodeReport, Outcome, Report};
use picluster_model::NodeName;
use picluster_plan::{Cause, NodePlan, NodeState, Plan, Problem, Step, StepAddr, Work};
use picluster_resource::{Action, Change, Effect, Resource, Shown};

fn addr(text: &str) -> StepAddr {
    text.parse().unwrap()
}

fn step(at: &str, change: Change, cause: Cause) -> Step {
    let resource: Resource =
        serde_json::from_value(serde_json::json!({"file": {"path": "/etc/x"}})).unwrap();
    Step {
        origin: "roles/base/role.yaml:3:5".into(),
        begun: (cause == Cause::Unfinished).then_some(1_795_255_779),
        ..Step::new(addr(at), Work::Resource(Box::new(resource)), change, cause)
    }
}

fn observed(unchanged: u32, problems: Vec<Problem>) -> NodePlan {
    NodePlan {
        unchanged,
        problems,
        ..NodePlan::new(NodeState::Observed {
            facts: Box::default(),
            host_key: "SHA256:abc".into(),
        })
    }
}

fn sample() -> Plan {
    let hosts = || {
        let mut change = Change::new(Action::Update).field(
            "content",
            Shown::text("sha256 0011"),
            Shown::text("sha256 2233"),
        );
        change.text = Some(
            "@@ -1,2 +1,4 @@\n 127.0.0.1 localhost\n+# BEGIN picluster hosts\n+192.168.2.1 rpi01\n"
                .into(),
        );
        change.bytes = 80;
        change
    };
    let name = |n: &str| {
        Change::new(Action::Update).field("name", Shown::text("raspberrypi"), Shown::text(n))
    };
    let cmdline = || {
        Change::new(Action::Update)
            .field(
                "tokens",
                Shown::Absent,
                Shown::text("cgroup_memory=1 cgroup_enable=memory"),
            )
            .because("the memory controller is off")
            .effect(Effect::Reboot("memory cgroup is off".into()))
    };
    let reboot = || {
        Change::new(Action::Run)
            .field(
                "cgroups/kernel_cmdline[cmdline]",
                Shown::text("waiting"),
                Shown::text("in effect"),
            )
            .effect(Effect::Reboot("memory cgroup is off".into()))
    };
    let mut steps = Vec::new();
    for node in ["rpi01", "rpi02", "rpi03"] {
        steps.push(step(
            &format!("{node}/base/hostname[hostname]"),
            name(node),
            Cause::New,
        ));
        steps.push(step(
            &format!("{node}/base/block[/etc/hosts: hosts]"),
            hosts(),
            Cause::New,
        ));
        steps.push(step(
            &format!("{node}/cgroups/kernel_cmdline[cmdline]"),
            cmdline(),
            Cause::New,
        ));
        steps.push(step(
            &format!("{node}/picluster/reboot[{node}]"),
            reboot(),
            Cause::Follows,
        ));
    }
    steps.push(step(
        "rpi02/users/file[/etc/ssh/sshd_config.d/10-picluster.conf]",
        Change::new(Action::Update).field("mode", Shown::text("0666"), Shown::text("0644")),
        Cause::Drift,
    ));
    steps.push(step(
        "rpi02/users/unit[ssh.service]",
        Change::new(Action::Run)
            .field("reload", Shown::Absent, Shown::text("ssh.service"))
            .effect(Effect::Reload("ssh.service".into())),
        Cause::Follows,
    ));
    steps.push(step(
        "rpi02/base/package[chrony]",
        Change::new(Action::Update).field("chrony", Shown::text("unpacked"), Shown::text("4.6")),
        Cause::Unfinished,
    ));
    steps.push(step(
        "rpi03/base/file[/etc/motd]",
        Change::new(Action::Delete).field("state", Shown::text("present"), Shown::text("absent")),
        Cause::Removed,
    ));
    let node = |n: &str| picluster_model::NodeName::new(n).unwrap();
    let mut nodes = BTreeMap::new();
    nodes.insert(node("rpi01"), observed(7, vec![]));
    nodes.insert(node("rpi02"), observed(5, vec![]));
    nodes.insert(
        node("rpi03"),
        observed(
            6,
            vec![Problem {
                addr: Some(addr("rpi03/base/file[/etc/x]")),
                what: "/etc/x is a directory; a file should be there".into(),
                cure: Some("look at it and move it away: ls -la /etc/x".into()),
                skipped: vec![addr("rpi03/base/file[/etc/y]")],
                because: None,
            }],
        ),
    );
    nodes.insert(
        node("rpi04"),
        NodePlan::new(NodeState::Unreachable {
            reason: "rpi04: unreachable at 192.168.2.4:22: no route to host".into(),
        }),
    );
    nodes.insert(node("rpi05"), NodePlan::new(NodeState::Absent));
    Plan {
        values: Vec::new(),
        leaving: BTreeMap::new(),
        members: BTreeMap::new(),
        format: 1,
        cluster: picluster_model::ClusterName::new("homelab").unwrap(),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        key_id: None,
        nodes,
        steps,
    }
}

#[test]
fn nodes_that_left_the_inventory() {
    let mut plan = sample();
    plan.steps.clear();
    let leaving = |login: &str, removed| picluster_plan::plan::LeavingNode {
        login: login.into(),
        server: false,
        registered: true,
        removed,
    };
    let name = |n: &str| picluster_model::NodeName::new(n).unwrap();
    plan.leaving
        .insert(name("rpi08"), leaving("pi@192.168.2.8", false));
    insta::assert_snapshot!(
        "plan_with_a_node_that_left",
        show::plan::plan(&plan, 0, Style::plain(100))
    );
    plan.leaving.clear();
    plan.leaving
        .insert(name("rpi08"), leaving("pi@192.168.2.8", true));
    plan.leaving
        .insert(name("rpi09"), leaving("192.168.2.9", true));
    plan.nodes.insert(name("rpi08"), observed(0, Vec::new()));
    let reason = "rpi09: no route to host".into();
    plan.nodes.insert(
        name("rpi09"),
        NodePlan::new(NodeState::Unreachable { reason }),
    );
    insta::assert_snapshot!(
        "plan_that_removes_nodes",
        show::plan::plan(&plan, 0, Style::plain(100))
    );
}

#[test]
fn a_plan() {
    insta::assert_snapshot!(show::plan::plan(&sample(), 0, Style::plain(100)));
}

/// What differs in the node's own name and address is shown once, and what differs in more is shown for itself.
#[test]
fn a_plan_for_many_blank_nodes() {
    let mut plan = sample();
    plan.steps.clear();
    plan.nodes.clear();
    let names: Vec<String> = (1..=3)
        .map(|n| format!("cp{n}"))
        .chain((1..=40).map(|n| format!("edge{n:02}")))
        .collect();
    for (n, name) in names.iter().enumerate() {
        let id = picluster_model::NodeName::new(name.as_str()).unwrap();
        plan.nodes.insert(id.clone(), observed(3, vec![]));
        plan.addresses.insert(id, format!("10.0.0.{n}:2222"));
        let text = |after: &str| Shown::text(after);
        let hostname = Change::new(Action::Update).field("name", text("raspberrypi"), text(name));
        plan.steps.push(step(
            &format!("{name}/base/hostname[hostname]"),
            hostname,
            Cause::New,
        ));
        let mut config = Change::new(Action::Create)
            .field("content", Shown::Absent, text(&format!("sha256 {n:08x}")))
            .field("mode", Shown::Absent, text("0600"));
        let more = if name == "edge07" {
            "+debug: true\n"
        } else {
            ""
        };
        config.text = Some(format!(
            "@@ -0,0 +1,3 @@\n+node-name: \"{name}\"\n+node-ip: 10.0.0.{n}\n+server: \"https://10.0.0.0:6443\"\n{more}"
        ));
        config.bytes = 60 + name.len() as u64;
        plan.steps.push(step(
            &format!("{name}/k3s/file[/etc/rancher/k3s/config.yaml]"),
            config,
            Cause::New,
        ));
        let cause = if name == "cp3" {
            Cause::Drift
        } else {
            Cause::New
        };
        let joined = Change::new(Action::Create)
            .field("node", text("never joined"), text("Ready"))
            .effect(Effect::Restart("k3s.service".into()));
        plan.steps.push(step(
            &format!("{name}/k3s/cluster_node[{name}]"),
            joined,
            cause,
        ));
        let zone = if n % 2 == 0 { "north" } else { "south" };
        let labels = Change::new(Action::Create).field("label zone", Shown::Absent, text(zone));
        plan.steps.push(step(
            &format!("cp1/k3s/node_labels[{name}]"),
            labels,
            Cause::New,
        ));
        if n > 30 {
            let drained = Change::new(Action::Run).field(
                "pods",
                text(&format!("on {name}")),
                text("elsewhere"),
            );
            plan.steps.push(step(
                &format!("cp1/k3s/node_drained[{name}]"),
                drained,
                Cause::New,
            ));
        }
    }
    insta::assert_snapshot!(show::plan::plan(&plan, 0, Style::plain(100)));
}

/// A file may hold what a placeholder looks like: then each node's is shown as it is.
#[test]
fn text_that_looks_like_a_placeholder_is_left_alone() {
    let mut plan = sample();
    plan.steps.clear();
    for (node, text) in [("rpi01", "rpi01 or <node>"), ("rpi02", "rpi02 or <node>")] {
        let change = Change::new(Action::Update).field("name", Shown::Absent, Shown::text(text));
        plan.steps.push(step(
            &format!("{node}/base/file[/etc/x]"),
            change,
            Cause::New,
        ));
    }
    let shown = show::plan::plan(&plan, 0, Style::plain(100));
    for part in ["name  rpi01 or <node>\n", "name  rpi02 or <node>\n"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("own name"), "{shown}");
}

#[test]
fn numbers_that_a_person_should_know() {
    let mut plan = Plan {
        steps: Vec::new(),
        ..sample()
    };
    plan.nodes
        .retain(|name, _| ["rpi01", "rpi02"].contains(&name.as_str()));
    for (name, what, cure) in [
        (
            "rpi01",
            "a flush of mmcblk0 (an SD card or eMMC) takes 15.5 ms, the mean of 64 that were measured; etcd wants 99 of 100 within 10 ms",
            "put the datastore on an SSD or NVMe (role data-disk)",
        ),
        (
            "rpi02",
            "it has 925 MiB of memory, and a server wants 2 GB",
            "make it an agent",
        ),
    ] {
        let node = plan.nodes.get_mut(&NodeName::new(name).unwrap()).unwrap();
        node.problems.clear();
        node.warnings.push(Problem::new(what).cure(cure));
    }
    insta::assert_snapshot!(show::plan::plan(&plan, 0, Style::plain(100)));
    let json = serde_json::to_value(&plan).unwrap();
    insta::assert_json_snapshot!(json["nodes"]["rpi02"]["warnings"]);
}

#[test]
fn an_empty_plan() {
    let mut plan = sample();
    plan.steps.clear();
    plan.nodes.retain(|n, _| n.as_str() < "rpi03");
    insta::assert_snapshot!(show::plan::plan(&plan, 0, Style::plain(100)));
}

#[test]
fn colours_only_when_asked_for() {
    let style = Style {
        color: true,
        width: 100,
    };
    assert!(show::plan::plan(&sample(), 0, style).contains("\u{1b}[32m"));
    assert!(!show::plan::plan(&sample(), 0, Style::plain(100)).contains('\u{1b}'));
}

fn report() -> Report {
    let node = |n: &str| picluster_model::NodeName::new(n).unwrap();
    let done = |at: &str, outcome, seconds| StepReport {
        addr: addr(at),
        outcome,
        seconds,
    };
    let failure = Failure {
        what: "the operation failed".into(),
        command: Some("apt-get -y install nosuch".into()),
        status: Some(100),
        output: (1..=30).map(|n| format!("line {n} of apt\n")).collect(),
        cure: None,
        remaining: None,
    };
    let mut nodes = BTreeMap::new();
    nodes.insert(
        node("rpi01"),
        NodeReport {
            problems: vec![],
            end: NodeEnd::Done,
            steps: vec![
                done("rpi01/base/hostname[hostname]", Outcome::Changed, 0.4),
                done("rpi01/base/file[/etc/motd]", Outcome::Unchanged, 0.0),
            ],
        },
    );
    nodes.insert(
        node("rpi02"),
        NodeReport {
            problems: vec![],
            end: NodeEnd::Incomplete,
            steps: vec![
                done(
                    "rpi02/base/package[nosuch]",
                    Outcome::Failed(Box::new(failure)),
                    3.2,
                ),
                done(
                    "rpi02/base/unit[nosuch.service]",
                    Outcome::Skipped(SkipReason::Needs(addr("rpi02/base/package[nosuch]"))),
                    0.0,
                ),
                done(
                    "rpi02/base/file[/etc/y]",
                    Outcome::Stale {
                        what: "mode was 0644 when planned, now it is 0600".into(),
                    },
                    0.0,
                ),
            ],
        },
    );
    nodes.insert(
        node("rpi03"),
        NodeReport {
            problems: vec![],
            end: NodeEnd::Unreachable {
                reason: "rpi03: unreachable at 192.168.2.3:22: timed out after 10 s".into(),
            },
            steps: vec![done(
                "rpi03/base/file[/etc/y]",
                Outcome::Skipped(SkipReason::Node(node("rpi03"))),
                0.0,
            )],
        },
    );
    Report {
        nodes,
        interrupted: false,
        seconds: 12.34,
    }
}

#[test]
fn a_recap_with_failures() {
    let mut report = report();
    let idle = |n: &str| {
        let end = NodeReport {
            problems: vec![],
            end: NodeEnd::Idle,
            steps: vec![],
        };
        (picluster_model::NodeName::new(n).unwrap(), end)
    };
    report.nodes.extend([idle("rpi04"), idle("rpi05")]);
    report.nodes.extend(["rpi06", "rpi07"].map(|n| {
        let (name, mut end) = idle(n);
        end.end = NodeEnd::IdentityChanged {
            reason: format!("{n}: it is not who it was"),
            since_plan: n == "rpi07",
        };
        (name, end)
    }));
    let text = show::recap::recap(
        &report,
        &[idle("rpi05").0].into(),
        "picluster apply --only 'rpi0[1-7]' inventory.yaml",
        Style::plain(100),
    );
    insta::assert_snapshot!(text);
}

/// A plan of steps `(address, needs)`, and a report in which each took so many seconds.
fn timed(steps: &[(&str, &[&str], f64)]) -> (Plan, Report) {
    let mut plan = sample();
    plan.steps.clear();
    let mut report = report();
    report.nodes.clear();
    report.seconds = 14.9;
    for (at, needs, seconds) in steps {
        plan.steps.push(Step {
            needs: needs.iter().map(|n| addr(n)).collect(),
            ..step(at, Change::new(Action::Run), Cause::New)
        });
        let end = report
            .nodes
            .entry(addr(at).node)
            .or_insert_with(|| NodeReport {
                problems: vec![],
                end: NodeEnd::Done,
                steps: vec![],
            });
        end.steps.push(StepReport {
            addr: addr(at),
            outcome: Outcome::Changed,
            seconds: *seconds,
        });
    }
    (plan, report)
}

#[test]
fn the_recap_says_what_the_run_could_not_have_been_shorter_than() {
    let (boot, serve, join) = (
        "rpi01/picluster/reboot[rpi01]",
        "rpi01/k3s/cluster_node[rpi01]",
        "rpi02/k3s/cluster_node[rpi02]",
    );
    let (unit, labels, host) = (
        "rpi02/k3s/unit[k3s-agent.service]",
        "rpi01/k3s/node_labels[rpi02]",
        "rpi01/base/hostname[hostname]",
    );
    let steps: [(&str, &[&str], f64); 7] = [
        (host, &[], 0.3),
        (boot, &[host], 2.4),
        (serve, &[boot], 2.3),
        // Longer than any of them, and nobody waits for it.
        ("rpi03/base/package[a]", &[], 6.0),
        (unit, &[serve], 0.1),
        (join, &[unit], 3.7),
        (labels, &[join], 0.1),
    ];
    let (plan, report) = timed(&steps);
    let text = show::critical::critical(&plan, &report, Style::plain(100)).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn of_a_short_run_the_recap_says_no_more_than_how_long_it_was() {
    let (plan, report) = timed(&[("rpi01/base/hostname[hostname]", &[], 1.9)]);
    assert_eq!(
        show::critical::critical(&plan, &report, Style::plain(100)),
        None
    );
}

#[test]
fn a_failure_takes_at_most_fifteen_lines() {
    let report = report();
    for node in report.nodes.values() {
        for s in &node.steps {
            let text =
                show::recap::step_failure(&s.addr, &s.outcome, node, "again", Style::plain(80));
            assert!(text.unwrap_or_default().lines().count() <= 15);
        }
    }
}
