//! Several servers on embedded etcd: who joins behind whom, what an earlier run has left halfway, and who leaves when.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, numbers_asked, questions};
use picluster_plan::members::MemberStanding;
use picluster_plan::{Declared, NodeState, Plan, StepAddr};
use picluster_resource::query::{Answer, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Facts, Numbers, Query, Resource};
use serde_json::json;

const KC: [&str; 1] = ["/usr/local/bin/kubectl"];
const DROPIN: &str = "/etc/rancher/k3s/config.yaml.d";
const DATA: &str = "/var/lib/rancher/k3s/server/db/etcd/member";
const CA: &str = "/var/lib/rancher/k3s/server/tls/server-ca.crt";

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// How a server is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Ready and a voter.
    Votes,
    /// A member, Ready by its kubelet's word, and no voter.
    Learns,
    /// A member whose unit has not come up, and which the cluster does not know as a node.
    Halfway,
    /// Nothing of a cluster is on it.
    Blank,
    /// A join was broken off before it was a member of etcd; its unit does not run.
    Begun,
    /// The same, and its unit tries.
    Trying,
    /// It was not reached, and the cluster says that it is Ready and votes.
    AwayVotes,
    /// It was not reached, and the cluster says that it is not Ready.
    AwayDown,
    /// It was not reached, and the cluster does not know it.
    AwayUnknown,
}

use Found::{AwayDown, AwayUnknown, AwayVotes, Begun, Blank, Halfway, Learns, Trying, Votes};

impl Found {
    fn reached(self) -> bool {
        !matches!(self, AwayVotes | AwayDown | AwayUnknown)
    }

    /// What the cluster says: Ready, and whether it votes.
    fn registered(self) -> Option<(&'static str, &'static str)> {
        match self {
            Votes | AwayVotes => Some(("True", "True")),
            Learns => Some(("True", "False")),
            AwayDown => Some(("Unknown", "True")),
            Halfway | Blank | Begun | Trying | AwayUnknown => None,
        }
    }
}

struct Rack<'a> {
    servers: &'a [(&'a str, Found)],
    /// Servers that the inventory does not have any more, and whether they are Ready; they are to leave.
    leaving: &'a [(&'a str, bool)],
}

fn declared(node: &str, rack: &Rack<'_>) -> Vec<Declared> {
    let names: Vec<&str> = rack.servers.iter().map(|(n, _)| *n).collect();
    let addresses: Vec<String> = names.iter().map(|n| format!("{n}.lan")).collect();
    let nodes: Vec<_> = names
        .iter()
        .map(|n| json!({"name": n, "login": format!("pi@{n}")}))
        .collect();
    let all = [
        (
            "member",
            vec![],
            json!({"cluster_member": {"name": node, "role": "server"}}),
        ),
        (
            "founding",
            vec!["member"],
            json!({"cluster_founding": {"name": node, "path": format!("{DROPIN}/50-cluster-init.yaml"), "content": "cluster-init: true\n", "data": DATA}}),
        ),
        (
            "join",
            vec!["member"],
            json!({"cluster_join": {
                "name": node, "path": format!("{DROPIN}/50-server.yaml"), "founding": format!("{DROPIN}/50-cluster-init.yaml"),
                "servers": names, "addresses": addresses, "port": 6443,
            }}),
        ),
        (
            "unit",
            vec!["member", "founding"],
            json!({"unit": {"name": "k3s.service", "active": true}}),
        ),
        (
            "ready",
            vec!["member"],
            json!({"cluster_node": {"name": node, "unit": "k3s.service", "server": true, "voter": true, "kubeconfig": "/etc/k", "kubectl": KC}}),
        ),
        (
            "server",
            vec![],
            json!({"cluster_server": {"name": node, "unit": "k3s.service", "data": CA, "check": "true"}}),
        ),
        (
            "roll",
            vec!["ready"],
            json!({"cluster_roll": {"server": node, "nodes": nodes, "kubeconfig": "/etc/k", "kubectl": KC}}),
        ),
    ];
    all.into_iter()
        .map(|(id, needs, value)| {
            let resource: Resource = serde_json::from_value(value).unwrap();
            Declared {
                addr: StepAddr {
                    node: name(node),
                    role: RoleName::new("k3s").unwrap(),
                    kind: resource.kind().to_owned(),
                    key: resource.key(),
                },
                resource,
                id: Some(id.into()),
                needs: needs.into_iter().map(str::to_owned).collect(),
                barrier: false,
                guarded: false,
                span: None,
            }
        })
        .collect()
}

fn listed(rack: &Rack<'_>) -> String {
    let node = |name: &str, ready: &str, voter: &str| {
        json!({
            "kind": "Node",
            "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": "true"}},
            "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "EtcdIsVoter", "status": voter}], "nodeInfo": {"kubeletVersion": "v1"}},
        })
    };
    let known = rack.servers.iter();
    let mut items: Vec<_> = known
        .filter_map(|(n, found)| {
            let (ready, voter) = found.registered()?;
            Some(node(n, ready, voter))
        })
        .collect();
    for (name, ready) in rack.leaving {
        items.push(node(name, if *ready { "True" } else { "Unknown" }, "True"));
    }
    let all = rack.servers.iter().map(|(n, _)| *n);
    let all = all.chain(rack.leaving.iter().map(|(n, _)| *n));
    let list: BTreeMap<&str, String> = all.map(|n| (n, format!("pi@{n}"))).collect();
    let list = serde_json::to_string(&list).unwrap();
    items.push(json!({"kind": "Namespace", "metadata": {"name": "kube-system", "annotations": {"picluster/nodes": list}}}));
    json!({"kind": "List", "items": items}).to_string()
}

fn answer(query: &Query, found: Found, rack: &Rack<'_>) -> Answer {
    let says = |stdout: &str, status| Answer::Fragment {
        status,
        stdout: stdout.to_owned(),
    };
    let member = matches!(found, Votes | Learns | Halfway);
    let path = |kind: PathKind| {
        Answer::Path(Some(PathState {
            kind,
            mode: 0o755,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        }))
    };
    match query {
        Query::Fragment(text) if text.starts_with("# what this node") => match found {
            _ if member => says("server-ca aa\ndatastore etcd\n", 0),
            Begun | Trying => says("server-ca aa\n", 0),
            _ => says("", 0),
        },
        Query::Fragment(text) if text.starts_with("# node") => match found {
            Votes | Learns => says(&listed(rack), 0),
            Halfway | Begun | Trying => says("", 92),
            _ => says("", 90),
        },
        Query::Fragment(_) => says("", 0),
        Query::Path(at) if at.as_str() == DATA && !member => Answer::Path(None),
        Query::Path(at) if at.as_str() == CA && matches!(found, Blank) => Answer::Path(None),
        Query::Path(at) if at.as_str().ends_with(".yaml") => Answer::Path(None),
        Query::Path(_) => path(PathKind::Directory),
        // Any other server will do.
        Query::Text(at) if at.as_str().ends_with("50-server.yaml") && found != Blank => {
            Answer::Text(Some("server: https://s1.lan:6443\n".into()))
        }
        Query::Text(_) => Answer::Text(None),
        Query::Unit(_) => Answer::Unit(UnitState {
            load: "loaded".into(),
            active: match found {
                Votes | Learns => "active",
                Halfway | Trying => "activating",
                _ => "inactive",
            }
            .into(),
            ..UnitState::default()
        }),
        other => panic!("no answer prepared for {other}"),
    }
}

fn plan(rack: &Rack<'_>) -> Plan {
    with(rack, |_, _| ())
}

fn with(rack: &Rack<'_>, also: impl Fn(&str, &mut Answers)) -> Plan {
    let secrets = SecretValues::default();
    let mut nodes = BTreeMap::new();
    for (node, found) in rack.servers {
        let input = if found.reached() {
            let facts = Facts::default();
            let ctx = Ctx {
                facts: &facts,
                secrets: &secrets,
            };
            let declared = declared(node, rack);
            let asked = questions(&declared, ctx).into_iter();
            let answers = asked.map(|q| (q.clone(), answer(&q, *found, rack)));
            let mut answers = Answers(answers.collect());
            also(node, &mut answers);
            NodeInput::Observed(Box::new(ObservedNode {
                facts,
                host_key: "SHA256:x".into(),
                declared,
                answers,
            }))
        } else {
            let reason = format!("{node}: no route");
            NodeInput::Closed(NodeState::Unreachable { reason })
        };
        nodes.insert(name(node), input);
    }
    for (node, _) in rack.leaving {
        let reason = format!("{node}: no route");
        nodes.insert(
            name(node),
            NodeInput::Closed(NodeState::Unreachable { reason }),
        );
    }
    build(&Inputs {
        cluster: ClusterName::new("rack").unwrap(),
        inventory: "inventory.yaml".into(),
        nodes,
        addresses: BTreeMap::new(),
        departing: rack.leaving.iter().map(|(n, _)| name(n)).collect(),
        bootstrap: None,
        servers: rack.servers.iter().map(|(n, _)| name(n)).collect(),
        agents: Vec::new(),
        secrets: &secrets,
        key: b"key",
    })
}

fn of(servers: &[(&'static str, Found)]) -> Plan {
    plan(&Rack {
        servers,
        leaving: &[],
    })
}

fn called(addr: &StepAddr) -> String {
    format!("{}/{}[{}]", addr.node, addr.kind, addr.key)
}

/// Everything that a step comes behind, however far.
fn before(plan: &Plan, step: &str) -> BTreeSet<String> {
    let at = |wanted: &str| plan.steps.iter().find(|s| called(&s.addr) == wanted);
    let all = || plan.steps.iter().map(|s| called(&s.addr));
    let first =
        at(step).unwrap_or_else(|| panic!("no {step} among {:?}", all().collect::<Vec<_>>()));
    let mut open: Vec<String> = first.needs.iter().map(called).collect();
    let mut seen = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        open.extend(at(&wanted).unwrap().needs.iter().map(called));
        seen.insert(wanted);
    }
    seen
}

/// The servers behind whose Ready the start of one comes.
fn behind(plan: &Plan, node: &str) -> Vec<String> {
    let all = before(plan, &format!("{node}/unit[k3s.service]"));
    let ready = all.iter().filter(|s| s.contains("/cluster_node["));
    ready
        .map(|s| s.split('/').next().unwrap().to_owned())
        .collect()
}

fn starts(plan: &Plan, node: &str) -> bool {
    let unit = format!("{node}/unit[k3s.service]");
    plan.steps.iter().any(|s| called(&s.addr) == unit)
}

#[test]
fn one_joins_at_a_time_behind_whatever_an_earlier_run_has_left() {
    for (servers, joins, waits) in [
        // Three blank ones: the founder first.
        ([("s1", Blank), ("s2", Blank), ("s3", Blank)], "s2", "s1"),
        ([("s1", Blank), ("s2", Blank), ("s3", Blank)], "s3", "s1 s2"),
        // Nobody is halfway.
        ([("s1", Votes), ("s2", Votes), ("s3", Blank)], "s3", ""),
        ([("s1", Votes), ("s2", Blank), ("s3", Blank)], "s3", "s2"),
        // A learner, and one that has not come up yet.
        ([("s1", Votes), ("s2", Learns), ("s3", Blank)], "s3", "s2"),
        ([("s1", Votes), ("s2", Halfway), ("s3", Blank)], "s3", "s2"),
        (
            [("s1", Halfway), ("s2", Blank), ("s3", Blank)],
            "s3",
            "s1 s2",
        ),
        ([("s1", Votes), ("s2", Blank), ("s3", Halfway)], "s2", "s3"),
        // One that is about to join has the first turn.
        ([("s1", Votes), ("s2", Blank), ("s3", Trying)], "s2", "s3"),
        // One that was stopped before it was a member is nobody yet.
        ([("s1", Votes), ("s2", Begun), ("s3", Blank)], "s3", "s2"),
        ([("s1", Votes), ("s2", Blank), ("s3", Begun)], "s3", "s2"),
        // Who is away and votes, or was never there, is in nobody's way.
        ([("s1", Votes), ("s2", AwayVotes), ("s3", Blank)], "s3", ""),
        (
            [("s1", Votes), ("s2", AwayUnknown), ("s3", Blank)],
            "s3",
            "",
        ),
    ] {
        let plan = of(&servers);
        let wanted: Vec<&str> = waits.split_whitespace().collect();
        assert_eq!(
            behind(&plan, joins),
            wanted,
            "{joins} of {}",
            told(&servers)
        );
    }
}

fn told(servers: &[(&str, Found)]) -> String {
    let word = |f: &Found| match f {
        Votes => "votes",
        Learns => "learns",
        Halfway => "halfway",
        Blank => "blank",
        Begun => "begun",
        Trying => "trying",
        AwayVotes => "away, votes",
        AwayDown => "away, down",
        AwayUnknown => "away, unknown",
    };
    let all: Vec<String> = servers
        .iter()
        .map(|(n, f)| format!("{n}: {}", word(f)))
        .collect();
    all.join("; ")
}

#[test]
fn nobody_joins_while_a_member_is_down_that_nobody_can_wait_for() {
    let plan = of(&[
        ("s1", Votes),
        ("s2", Votes),
        ("s3", AwayDown),
        ("s4", Blank),
    ]);
    assert!(!starts(&plan, "s4"));
    let problems = &plan.nodes[&name("s4")].problems;
    let problem = problems.iter().find(|p| p.what.contains("one at a time"));
    let problem = problem.unwrap_or_else(|| panic!("{problems:?}"));
    assert!(
        problem.what.contains("server s3 is not Ready"),
        "{}",
        problem.what
    );
    assert_eq!(problem.because, Some(name("s3")));
    assert!(problem.cure.as_ref().unwrap().contains("--remove-nodes"));
    // It is the card that is new, and its own node that is not Ready: it may join.
    let own = of(&[("s1", Votes), ("s2", Votes), ("s3", Blank)]);
    assert!(starts(&own, "s3"));
}

#[test]
fn a_join_that_was_broken_off_before_it_counted_holds_nobody_up() {
    let standing = |plan: &Plan, node: &str| plan.members[&name(node)].standing.clone();
    let plan = of(&[("s1", Votes), ("s2", Begun), ("s3", Blank)]);
    assert_eq!(standing(&plan, "s1"), MemberStanding::Member);
    assert_eq!(standing(&plan, "s2"), MemberStanding::Blank);
    assert_eq!(standing(&plan, "s3"), MemberStanding::Blank);
    // One that tries, or is a learner, may be counted the next moment: others wait for it.
    for found in [Trying, Halfway, Learns] {
        let plan = of(&[("s1", Votes), ("s2", found), ("s3", Blank)]);
        assert_eq!(standing(&plan, "s2"), MemberStanding::Member);
    }
}

#[test]
fn who_is_down_leaves_before_anybody_joins_and_who_serves_leaves_afterwards() {
    let plan = plan(&Rack {
        servers: &[("s1", Votes), ("s2", Votes), ("s5", Blank)],
        leaving: &[("s3", false), ("s4", true)],
    });
    let joins = before(&plan, "s5/unit[k3s.service]");
    assert!(joins.contains("s1/node_absent[s3]"), "{joins:?}");
    assert!(!joins.contains("s1/node_absent[s4]"), "{joins:?}");
    let leaves = before(&plan, "s1/node_absent[s4]");
    assert!(leaves.contains("s5/cluster_node[s5]"), "{leaves:?}");
}

/// Servers of a rack, of which one tells these numbers; all are blank.
fn weighed(told: &str, measured: &str) -> Plan {
    let rack = Rack {
        servers: &[("s1", Blank), ("s2", Blank), ("s3", Blank)],
        leaving: &[],
    };
    let says = |text: &str| Answer::Fragment {
        status: 0,
        stdout: text.into(),
    };
    with(&rack, |node, answers| {
        if node == "s2" {
            answers.0.insert(Numbers::query(), says(told));
            answers.0.insert(Numbers::flush_query(), says(measured));
        }
    })
}

#[test]
fn a_server_whose_port_is_taken_is_left_alone_and_keeps_others_from_founding_without_it() {
    let plan = weighed("place /var/lib\nport 2379 nginx\n", "");
    let NodeState::Blocked { problems } = &plan.nodes[&name("s2")].state else {
        panic!("{:?}", plan.nodes[&name("s2")]);
    };
    assert_eq!(
        problems[0].what,
        "`nginx` listens on port 2379, which etcd needs"
    );
    // Nobody knows what is wrong with it, so that it is counted as one that was not reached.
    assert!(!starts(&plan, "s1") && !starts(&plan, "s3"));
}

#[test]
fn a_slow_disk_is_said_and_keeps_nobody_from_joining() {
    let plan = weighed(
        "place /var/lib\nmount /\ndisk mmcblk0 0\n",
        "flushed 64 0.992\n",
    );
    let said = |node: &str| {
        plan.nodes[&name(node)]
            .warnings
            .iter()
            .map(|w| w.what.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        said("s2"),
        [
            "a flush of mmcblk0 (an SD card or eMMC) takes 15.5 ms, the mean of 64 that were measured; etcd wants 99 of 100 within 10 ms"
        ]
    );
    assert!(said("s1").is_empty());
    assert!(["s1", "s2", "s3"].iter().all(|node| starts(&plan, node)));
}

#[test]
fn only_who_is_to_hold_an_etcd_is_measured() {
    let rack = Rack {
        servers: &[("s1", Blank)],
        leaving: &[],
    };
    let mut declared = declared("s1", &rack);
    let asked = |declared: &[Declared], measure| {
        let all = numbers_asked(declared, measure);
        (
            all.contains(&Numbers::query()),
            all.contains(&Numbers::flush_query()),
        )
    };
    assert_eq!(asked(&declared, true), (true, true));
    assert_eq!(asked(&declared, false), (true, false));
    declared.retain(|d| d.addr.kind != "cluster_founding");
    assert_eq!(asked(&declared, true), (true, false));
    declared.retain(|d| d.addr.kind != "cluster_member");
    assert_eq!(asked(&declared, true), (false, false));
}
