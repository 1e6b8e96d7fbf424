//! A running cluster comes to another version: servers first, agents a few at a time, and not at all where Kubernetes does
//! not go that way.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions};
use picluster_plan::{Declared, NodeState, Plan, StepAddr};
use picluster_resource::program::sha256_hex;
use picluster_resource::query::{Answer, ContentState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Facts, Query, Resource};
use serde_json::json;

const OLD: &str = "v1.33.5+k3s1";
const NEW: &str = "v1.34.1+k3s1";
const PROGRAM: &str = "/usr/local/bin/k3s";

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// How a node is found.
#[derive(Clone, Copy)]
enum Found<'a> {
    /// A member; its API (or its server's) says that it has this version.
    Runs(&'a str),
    /// A member whose cluster does not answer; its program has this version.
    Mute(&'a str),
    /// Nothing of a cluster is on it.
    Blank,
    /// It does not answer.
    Away,
}

/// A cluster that is to have one version: node, whether it is a server, how it is found.
struct Rack<'a> {
    wanted: &'a str,
    at_once: u32,
    /// Whether nodes are drained and the datastore is kept.
    careful: bool,
    /// Whether the datastore is outside of the cluster.
    outside: bool,
    /// Whose packages could be newer.
    packages: &'a [&'a str],
    nodes: Vec<(&'a str, bool, Found<'a>)>,
}

fn declared(node: &str, server: bool, rack: &Rack<'_>) -> Vec<Declared> {
    let unit = if server {
        "k3s.service"
    } else {
        "k3s-agent.service"
    };
    let all = [
        (
            "member",
            vec![],
            json!({"cluster_member": {
                "name": node, "role": if server { "server" } else { "agent" }, "external_datastore": server && rack.outside,
            }}),
        ),
        (
            "program",
            vec!["member"],
            json!({"file": {"path": PROGRAM, "content": rack.wanted, "mode": "0755"}}),
        ),
        (
            "unit",
            vec!["member"],
            json!({"unit": {"name": unit, "active": true, "restart_on": [PROGRAM]}}),
        ),
        (
            "ready",
            vec!["member"],
            json!({"cluster_node": {
                "name": node, "unit": unit, "version": rack.wanted, "server": server, "program": PROGRAM,
                "max_unavailable": rack.at_once, "kubeconfig": "/etc/k", "kubectl": [PROGRAM],
            }}),
        ),
    ];
    let mut all = Vec::from(all);
    if !rack.packages.is_empty() {
        // As in the roles: what needs a working kernel comes behind the reboot.
        for (_, needs, _) in &mut all[2..] {
            needs.push("reboot");
        }
        all.push((
            "packages",
            vec![],
            json!({"package_upgrade": {"which": "all"}}),
        ));
    }
    if server && rack.careful {
        let (kubeconfig, kubectl) = ("/etc/k", [PROGRAM]);
        // The first server sees to the agents and to the copy, as in the role.
        let first = rack.nodes.iter().find(|(_, server, _)| *server);
        let first = first.is_some_and(|(name, ..)| *name == node);
        let agents = rack.nodes.iter().filter(|(_, server, _)| first && !server);
        for name in agents.map(|(name, ..)| *name).chain([node]) {
            all.push(("drained", vec!["member"], json!({"node_drained": {"node": name, "version": rack.wanted, "kubeconfig": kubeconfig, "kubectl": kubectl}})));
            all.push(("open", vec!["member"], json!({"node_schedulable": {"node": name, "kubeconfig": kubeconfig, "kubectl": kubectl}})));
        }
        if first {
            all.push(("copy", vec!["member"], json!({"datastore_snapshot": {
                "node": node, "version": rack.wanted, "unit": unit, "program": PROGRAM, "data": "/data", "kubeconfig": kubeconfig, "kubectl": kubectl,
            }})));
        }
    }
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

/// What the API says of the nodes that it has heard of.
fn registered(rack: &Rack<'_>, cordoned: &[&str]) -> String {
    let items: Vec<_> = rack
        .nodes
        .iter()
        .filter_map(|(node, _, found)| {
            let (version, ready) = match found {
                Found::Runs(version) => (*version, "True"),
                Found::Away => (OLD, "True"),
                Found::Mute(version) => (*version, "Unknown"),
                Found::Blank => return None,
            };
            let ours = cordoned.contains(node);
            let notes = if ours { json!({"picluster/cordoned": rack.wanted, "picluster/drained": rack.wanted}) } else { json!({}) };
            Some(json!({
                "metadata": {"name": node, "annotations": notes},
                "spec": {"unschedulable": ours},
                "status": {"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": {"kubeletVersion": version}},
            }))
        })
        .collect();
    json!({"kind": "List", "items": items}).to_string()
}

fn answer(
    query: &Query,
    server: bool,
    found: Found<'_>,
    (rack, cordoned): (&Rack<'_>, &[&str]),
    newer: bool,
) -> Answer {
    let program = match found {
        Found::Runs(version) | Found::Mute(version) => Some(version),
        Found::Blank | Found::Away => None,
    };
    let says = |stdout: String, status| Answer::Fragment { status, stdout };
    match query {
        Query::Path(path) if path.as_str() == PROGRAM => {
            Answer::Path(program.map(|text| PathState {
                kind: PathKind::File,
                mode: 0o755,
                owner: "root".into(),
                group: "root".into(),
                size: text.len() as u64,
            }))
        }
        Query::Path(_) => Answer::Path(Some(PathState {
            kind: PathKind::Directory,
            mode: 0o755,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        })),
        Query::Content { .. } => Answer::Content(program.map(|text| ContentState {
            sha256: sha256_hex(text.as_bytes()),
            text: Some(text.into()),
        })),
        Query::Unit(unit) => {
            let mine = unit.contains("agent") != server;
            let runs = mine && matches!(found, Found::Runs(_));
            Answer::Unit(UnitState {
                load: "loaded".into(),
                active: if runs { "active" } else { "inactive" }.into(),
                ..UnitState::default()
            })
        }
        Query::Fragment(text) if text.starts_with("# what this node remembers") => match found {
            Found::Runs(_) | Found::Mute(_) if !server => says("agent-ca aa\n".into(), 0),
            Found::Runs(_) if rack.outside => says("server-ca aa\n".into(), 0),
            Found::Runs(_) => says("server-ca aa\ndatastore sqlite\n".into(), 0),
            Found::Mute(version) => says(
                format!("server-ca aa\ndatastore sqlite\nversion {version}\n"),
                0,
            ),
            Found::Blank | Found::Away => says(String::new(), 0),
        },
        Query::Fragment(text) if text.starts_with("# node") => match found {
            Found::Runs(_) => says(registered(rack, cordoned), 0),
            Found::Mute(_) => says(String::new(), 92),
            Found::Blank | Found::Away => says(String::new(), 90),
        },
        Query::Fragment(text) if text.starts_with("# age of the package lists") => {
            says("now 1000000\nlists\nat 999000\n".into(), 0)
        }
        Query::Fragment(text) if text.starts_with("# packages to upgrade") => says(
            match newer {
                true => "running 6.1.0-28-amd64\nInst bash [5.1] (5.2 Debian:12/stable [amd64])\nasked\n",
                false => "running 6.1.0-28-amd64\nasked\n",
            }
            .into(),
            0,
        ),
        Query::Fragment(text) if text.starts_with("# copies") && rack.outside => {
            says(String::new(), 0)
        }
        Query::Fragment(text) if text.starts_with("# copies") => says("sqlite\n".into(), 0),
        Query::Fragment(_) => says(String::new(), 0),
        other => panic!("no answer prepared for {other}"),
    }
}

fn plan(rack: &Rack<'_>) -> Plan {
    plan_with(rack, &[])
}

/// With nodes that an earlier run has drained.
fn plan_with(rack: &Rack<'_>, cordoned: &[&str]) -> Plan {
    let secrets = SecretValues::default();
    let mut servers = Vec::new();
    let mut nodes = BTreeMap::new();
    for (node, server, found) in &rack.nodes {
        servers.extend(server.then(|| name(node)));
        let input = if matches!(found, Found::Away) {
            NodeInput::Closed(NodeState::Unreachable {
                reason: format!("{node}: no route"),
            })
        } else {
            let facts = Facts::default();
            let ctx = Ctx {
                facts: &facts,
                secrets: &secrets,
            };
            let items = declared(node, *server, rack);
            let answers = questions(&items, ctx)
                .into_iter()
                .map(|query| {
                    (
                        query.clone(),
                        answer(
                            &query,
                            *server,
                            *found,
                            (rack, cordoned),
                            rack.packages.contains(node),
                        ),
                    )
                })
                .collect();
            NodeInput::Observed(Box::new(ObservedNode {
                facts,
                host_key: "SHA256:x".into(),
                declared: items,
                answers: Answers(answers),
            }))
        };
        nodes.insert(name(node), input);
    }
    build(&Inputs {
        cluster: ClusterName::new("rack").unwrap(),
        inventory: "inventory.yaml".into(),
        nodes,
        addresses: BTreeMap::new(),
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers,
        agents: Vec::new(),
        secrets: &secrets,
        key: b"key",
    })
}

/// Nodes whose Ready a step of this node's program comes behind, however far.
fn behind(plan: &Plan, node: &str) -> BTreeSet<String> {
    let step = |addr: &StepAddr| plan.steps.iter().find(|s| s.addr == *addr).unwrap();
    let first = plan
        .steps
        .iter()
        .find(|s| s.addr.node == name(node) && s.addr.kind == "file");
    let mut open: Vec<&StepAddr> = first
        .unwrap_or_else(|| panic!("{node} has no step"))
        .needs
        .iter()
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(addr) = open.pop() {
        if seen.insert(addr.clone()) {
            open.extend(&step(addr).needs);
        }
    }
    let ready = seen.into_iter().filter(|a| a.kind == "cluster_node");
    ready.map(|a| a.node.to_string()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn rack<'a>(nodes: &[(&'a str, bool, Found<'a>)]) -> Rack<'a> {
    Rack {
        wanted: NEW,
        at_once: 1,
        careful: false,
        outside: false,
        packages: &[],
        nodes: nodes.to_vec(),
    }
}

use Found::{Away, Blank, Mute, Runs};

#[test]
fn servers_go_first_and_agents_one_behind_the_other() {
    let mut rack = rack(&[
        ("a1", false, Runs(OLD)),
        ("a2", false, Runs(OLD)),
        ("a3", false, Runs(OLD)),
        ("s1", true, Runs(OLD)),
    ]);
    let plan_of_one = plan(&rack);
    assert_eq!(behind(&plan_of_one, "s1"), set(&[]));
    assert_eq!(behind(&plan_of_one, "a1"), set(&["s1"]));
    assert_eq!(behind(&plan_of_one, "a2"), set(&["s1", "a1"]));
    assert_eq!(behind(&plan_of_one, "a3"), set(&["s1", "a1", "a2"]));

    rack.at_once = 2;
    let plan_of_two = plan(&rack);
    assert_eq!(behind(&plan_of_two, "a2"), set(&["s1"]));
    assert_eq!(behind(&plan_of_two, "a3"), set(&["s1", "a1"]));
}

#[test]
fn who_joins_waits_for_no_turn_and_who_is_there_is_not_waited_for() {
    let plan = plan(&rack(&[
        ("a1", false, Runs(OLD)),
        ("a2", false, Blank),
        ("a3", false, Runs(NEW)),
        ("a4", false, Runs(OLD)),
        ("s1", true, Runs(NEW)),
    ]));
    assert_eq!(behind(&plan, "a1"), set(&[]));
    assert_eq!(behind(&plan, "a2"), set(&[]));
    assert_eq!(behind(&plan, "a4"), set(&["a1"]));
    assert!(!plan.steps.iter().any(|s| s.addr.node == name("a3")));
}

#[test]
fn a_cluster_from_blank_waits_for_nobody_with_its_programs() {
    let plan = plan(&rack(&[
        ("a1", false, Blank),
        ("a2", false, Blank),
        ("s1", true, Blank),
    ]));
    for node in ["a1", "a2", "s1"] {
        assert_eq!(behind(&plan, node), set(&[]), "{node}");
    }
}

/// Nothing of the cluster is written on any node; what is said, and at whom it points.
fn refused(rack: &Rack<'_>, words: &[&str]) {
    let plan = plan(rack);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    for (node, of) in &plan.nodes {
        if matches!(of.state, NodeState::Unreachable { .. }) {
            continue;
        }
        let problem = of
            .problems
            .first()
            .unwrap_or_else(|| panic!("{node} has no problem"));
        for word in words {
            assert!(problem.what.contains(word), "{node}: {}", problem.what);
        }
        assert!(problem.cure.is_some());
        let points = problem.because.clone().unwrap_or(node.clone());
        assert_eq!(points, name("s1"), "{node}");
    }
}

#[test]
fn a_skipped_minor_and_an_older_release_are_refused_on_all_nodes() {
    let mut jump = rack(&[
        ("a1", false, Runs(OLD)),
        ("a2", false, Blank),
        ("s1", true, Runs(OLD)),
    ]);
    jump.wanted = "v1.35.0+k3s1";
    refused(&jump, &["s1 runs v1.33.5+k3s1", "skips v1.34"]);
    jump.wanted = "v1.33.4+k3s1";
    refused(&jump, &["s1 runs v1.33.5+k3s1", "is older"]);
    // A server that does not run is known by its program.
    jump.nodes[2].2 = Mute(OLD);
    jump.wanted = "v1.36.3+k3s1";
    refused(&jump, &["s1 runs v1.33.5+k3s1", "skips v1.34"]);
}

#[test]
fn agents_keep_their_release_while_the_server_is_away() {
    let plan = plan(&rack(&[("a1", false, Runs(OLD)), ("s1", true, Away)]));
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    let problem = &plan.nodes[&name("a1")].problems[0];
    assert_eq!(problem.because, Some(name("s1")));
    assert!(
        problem.what.starts_with("it keeps v1.33.5+k3s1: "),
        "{}",
        problem.what
    );
}

#[test]
fn agents_wait_for_a_server_that_has_to_be_started_first() {
    let plan = plan(&rack(&[
        ("a1", false, Mute(OLD)),
        ("a2", false, Mute(OLD)),
        ("s1", true, Mute(OLD)),
    ]));
    assert_eq!(behind(&plan, "a1"), set(&["s1"]));
    assert_eq!(behind(&plan, "a2"), set(&["s1", "a1"]));
}

/// Everything that a step comes behind, `node/kind[key]`.
fn before(plan: &Plan, step: &str) -> BTreeSet<String> {
    let name = |addr: &StepAddr| format!("{}/{}[{}]", addr.node, addr.kind, addr.key);
    let at = |wanted: &str| plan.steps.iter().find(|s| name(&s.addr) == wanted);
    let first = at(step).unwrap_or_else(|| panic!("no step {step} among {:?}", names(plan)));
    let mut open: Vec<String> = first.needs.iter().map(name).collect();
    let mut seen = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        open.extend(at(&wanted).unwrap().needs.iter().map(name));
        seen.insert(wanted);
    }
    seen
}

fn names(plan: &Plan) -> Vec<String> {
    let steps = plan.steps.iter();
    steps
        .map(|s| format!("{}/{}[{}]", s.addr.node, s.addr.kind, s.addr.key))
        .collect()
}

/// Steps that drain, let in again and keep a copy.
fn care(plan: &Plan) -> Vec<String> {
    let kinds = ["node_drained", "node_schedulable", "datastore_snapshot"];
    let all = names(plan);
    all.into_iter()
        .filter(|n| kinds.iter().any(|k| n.contains(k)))
        .collect()
}

fn careful<'a>(nodes: &[(&'a str, bool, Found<'a>)]) -> Rack<'a> {
    Rack {
        careful: true,
        packages: &[],
        ..rack(nodes)
    }
}

#[test]
fn each_is_drained_before_its_program_goes_and_takes_pods_again_when_it_is_ready() {
    let program = format!("file[{PROGRAM}]");
    let plan = plan(&careful(&[
        ("a1", false, Runs(OLD)),
        ("a2", false, Runs(OLD)),
        ("s1", true, Runs(OLD)),
    ]));
    // The server: its pods go, the datastore is kept, then its program.
    let copy = "s1/datastore_snapshot[s1]";
    assert!(before(&plan, copy).contains("s1/node_drained[s1]"));
    let server = before(&plan, &format!("s1/{program}"));
    assert!(
        server.contains(copy) && server.contains("s1/node_drained[s1]"),
        "{server:?}"
    );
    let open = before(&plan, "s1/node_schedulable[s1]");
    assert!(open.contains("s1/cluster_node[s1]"), "{open:?}");
    // The agents behind it, one behind the other; who drains them is the server.
    let first = before(&plan, "s1/node_drained[a1]");
    assert!(first.contains("s1/node_schedulable[s1]"), "{first:?}");
    assert!(before(&plan, &format!("a1/{program}")).contains("s1/node_drained[a1]"));
    assert!(before(&plan, "s1/node_schedulable[a1]").contains("a1/cluster_node[a1]"));
    let second = before(&plan, "s1/node_drained[a2]");
    assert!(second.contains("s1/node_schedulable[a1]"), "{second:?}");
    assert!(before(&plan, &format!("a2/{program}")).contains("s1/node_drained[a2]"));
    assert_eq!(care(&plan).len(), 7, "{:?}", care(&plan));
}

#[test]
fn of_a_datastore_outside_of_the_cluster_no_copy_is_made_and_the_plan_says_so() {
    let nodes = [
        ("s1", true, Runs(OLD)),
        ("s2", true, Runs(OLD)),
        ("a1", false, Runs(OLD)),
    ];
    let told = |plan: &Plan| -> Vec<String> {
        let reasons = plan.steps.iter().filter_map(|s| {
            let reason = s.change.fields.iter().find_map(|f| f.reason.clone())?;
            reason
                .contains("no copy is made")
                .then(|| format!("{}/{}", s.addr.node, s.addr.kind))
        });
        reasons.collect()
    };
    let outside = plan(&Rack {
        outside: true,
        ..careful(&nodes)
    });
    assert_eq!(told(&outside), ["s1/file"], "{:?}", names(&outside));
    assert!(!care(&outside).iter().any(|s| s.contains("snapshot")));
    // Servers go one by one all the same.
    assert!(behind(&outside, "s2").contains("s1"));
    let own = plan(&careful(&nodes[..1]));
    assert_eq!(told(&own), Vec::<String>::new());
    assert!(care(&own).iter().any(|s| s.contains("snapshot")));
}

#[test]
fn several_servers_are_drained_one_behind_the_other() {
    let plan = plan(&careful(&[
        ("s1", true, Runs(OLD)),
        ("s2", true, Runs(OLD)),
        ("a1", false, Runs(OLD)),
    ]));
    let second = before(&plan, "s2/node_drained[s2]");
    assert!(second.contains("s1/node_schedulable[s1]"), "{second:?}");
    assert!(before(&plan, "s1/node_drained[a1]").contains("s2/cluster_node[s2]"));
}

#[test]
fn a_server_that_was_left_halfway_goes_before_the_others() {
    // The one whose k3s an earlier run has left down: as long as it is, nobody else may go.
    for halfway in [0, 1, 2] {
        let how = |n| if n == halfway { Mute(OLD) } else { Runs(OLD) };
        let names = ["s1", "s2", "s3"];
        let all: Vec<_> = (0..3).map(|n| (names[n], true, how(n))).collect();
        let plan = plan(&careful(&all));
        for (n, server) in names.iter().enumerate() {
            let said: Vec<_> = plan.nodes.values().flat_map(|n| &n.problems).collect();
            assert!(said.is_empty(), "{halfway}: {said:?}");
            let waits = behind(&plan, server).contains(names[halfway]);
            assert_eq!(waits, n != halfway, "{server}, {halfway}");
        }
    }
}

#[test]
fn nobody_is_drained_who_keeps_his_release_or_cannot_be_reached() {
    let nobody: Vec<String> = Vec::new();
    // At the release already.
    let same = careful(&[("a1", false, Runs(NEW)), ("s1", true, Runs(NEW))]);
    assert_eq!(care(&plan(&same)), nobody);
    // The one that is away would have to go, and cannot.
    let away = careful(&[
        ("a1", false, Away),
        ("a2", false, Runs(NEW)),
        ("s1", true, Runs(NEW)),
    ]);
    assert_eq!(care(&plan(&away)), nobody);
    // Nowhere to go for the pods of the only node.
    let alone = careful(&[("s1", true, Runs(OLD))]);
    assert_eq!(care(&plan(&alone)), ["s1/datastore_snapshot[s1]"]);
    // A blank cluster.
    let blank = careful(&[("a1", false, Blank), ("s1", true, Blank)]);
    assert_eq!(care(&plan(&blank)), nobody);
    // A jump that is refused drains nobody.
    let mut jump = careful(&[("a1", false, Runs(OLD)), ("s1", true, Runs(OLD))]);
    jump.wanted = "v1.36.3+k3s1";
    assert_eq!(care(&plan(&jump)), nobody);
}

#[test]
fn a_server_that_does_not_serve_is_not_drained_and_its_agents_are() {
    let plan = plan(&careful(&[
        ("a1", false, Mute(OLD)),
        ("s1", true, Mute(OLD)),
    ]));
    let all = care(&plan);
    assert!(!all.contains(&"s1/node_drained[s1]".to_owned()), "{all:?}");
    assert!(before(&plan, "s1/node_drained[a1]").contains("s1/cluster_node[s1]"));
    assert!(before(&plan, &format!("s1/file[{PROGRAM}]")).contains("s1/datastore_snapshot[s1]"));
}

#[test]
fn what_a_broken_off_run_has_drained_takes_pods_again_also_when_nothing_else_is_to_do() {
    // Broken off between the drain and the program: it is not drained again, and let in behind its Ready.
    let half = careful(&[
        ("a1", false, Runs(OLD)),
        ("a2", false, Runs(NEW)),
        ("s1", true, Runs(NEW)),
    ]);
    let plan_of_half = plan_with(&half, &["a1"]);
    assert_eq!(care(&plan_of_half), ["s1/node_schedulable[a1]"]);
    assert!(before(&plan_of_half, "s1/node_schedulable[a1]").contains("a1/cluster_node[a1]"));
    // Broken off behind it.
    let done = careful(&[("a1", false, Runs(NEW)), ("s1", true, Runs(NEW))]);
    assert_eq!(
        names(&plan_with(&done, &["a1"])),
        ["s1/node_schedulable[a1]"]
    );
}

#[test]
fn a_part_of_a_plan_that_drains_lets_in_again() {
    let nodes = [
        ("a1", false, Runs(OLD)),
        ("a2", false, Runs(OLD)),
        ("s1", true, Runs(NEW)),
    ];
    let mut plan = plan(&careful(&nodes));
    let idle =
        picluster_plan::select::select(&mut plan, &[picluster_plan::AddrPattern::new("a1")], &[]);
    assert!(idle.is_empty());
    assert_eq!(
        care(&plan),
        ["s1/node_drained[a1]", "s1/node_schedulable[a1]"]
    );
}

#[test]
fn packages_of_members_go_like_an_upgrade_drained_one_after_the_other_and_behind_the_servers() {
    let mut rack = careful(&[
        ("a1", false, Runs(NEW)),
        ("a2", false, Runs(NEW)),
        ("a3", false, Runs(NEW)),
        ("s1", true, Runs(NEW)),
    ]);
    rack.packages = &["a1", "a3", "s1"];
    let plan = plan(&rack);
    for (node, last) in [("s1", ""), ("a1", "s1"), ("a3", "a1")] {
        let upgrade = before(&plan, &format!("{node}/package_upgrade[apt]"));
        assert!(
            upgrade.contains(format!("s1/node_drained[{node}]").as_str()),
            "{node}"
        );
        let reboot = before(&plan, &format!("{node}/reboot[{node}]"));
        assert!(
            reboot.contains(format!("{node}/package_upgrade[apt]").as_str()),
            "{node}"
        );
        let ready = before(&plan, &format!("{node}/cluster_node[{node}]"));
        assert!(
            ready.contains(format!("{node}/reboot[{node}]").as_str()),
            "{node}"
        );
        let open = before(&plan, &format!("s1/node_schedulable[{node}]"));
        assert!(
            open.contains(format!("{node}/cluster_node[{node}]").as_str()),
            "{node}"
        );
        // One after the other.
        if !last.is_empty() {
            let drain = before(&plan, &format!("s1/node_drained[{node}]"));
            assert!(
                drain.contains(format!("s1/node_schedulable[{last}]").as_str()),
                "{node}"
            );
        }
    }
    // Nobody else is drained, nothing is kept, and no program moves.
    assert!(
        !names(&plan)
            .iter()
            .any(|n| n.contains("a2") || n.contains("snapshot") || n.contains("file[")),
        "{:?}",
        names(&plan)
    );
    // What is not in a cluster yet goes at once, and what was refused to be drained keeps its packages.
    let mut blank = careful(&[("a1", false, Blank), ("s1", true, Blank)]);
    blank.packages = &["a1", "s1"];
    let plan = self::plan(&blank);
    assert!(before(&plan, "a1/package_upgrade[apt]").is_empty());
    assert!(
        !names(&plan).iter().any(|n| n.contains("drained")),
        "{:?}",
        names(&plan)
    );
}

#[test]
fn packages_and_a_version_share_one_drain() {
    let mut rack = careful(&[("a1", false, Runs(OLD)), ("s1", true, Runs(NEW))]);
    rack.packages = &["a1"];
    let plan = plan(&rack);
    for step in [
        "a1/package_upgrade[apt]".to_owned(),
        format!("a1/file[{PROGRAM}]"),
    ] {
        assert!(
            before(&plan, &step).contains("s1/node_drained[a1]"),
            "{step}"
        );
    }
    let drains = names(&plan)
        .iter()
        .filter(|n| n.contains("node_drained"))
        .count();
    assert_eq!(drains, 1);
}

#[test]
fn a_run_that_was_broken_off_in_an_upgrade_of_packages_is_brought_to_its_end() {
    // Drained, upgraded, and killed before the pods came back.
    let mut rack = careful(&[("a1", false, Runs(NEW)), ("s1", true, Runs(NEW))]);
    rack.packages = &["nobody"];
    let plan = plan_with(&rack, &["a1"]);
    assert_eq!(names(&plan), ["s1/node_schedulable[a1]"]);
}
