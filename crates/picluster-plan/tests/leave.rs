//! Nodes leave their cluster: who is drained and deleted where, in which order, and who may not leave at all.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions, removal_questions};
use picluster_plan::members::MemberStanding;
use picluster_plan::members::takes_down;
use picluster_plan::owned::{PROBE, Record};
use picluster_plan::select::select;
use picluster_plan::{AddrPattern, Declared, NodeState, Plan, StepAddr};
use picluster_resource::query::{Answer, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Facts, Query, Resource};
use serde_json::json;

const KC: [&str; 1] = ["/usr/local/bin/kubectl"];

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A rack: servers `s…` and agents `a…`.
struct Rack<'a> {
    /// Nodes of the inventory that are in the cluster.
    declared: &'a [&'a str],
    /// Nodes that are met, and what they once were is written on them, without being declared in the cluster.
    met: &'a [&'a str],
    /// Nodes of the cluster, by its own word, and whether they are Ready.
    registered: &'a [(&'a str, bool)],
    /// Who is on the cluster's list besides.
    listed: &'a [&'a str],
    /// Whether the cluster answers.
    answers: bool,
    /// Who is to leave.
    departing: &'a [&'a str],
    /// Nodes that cannot be reached.
    away: &'a [&'a str],
    /// Agents that have the datastore of a server.
    was_server: &'a [&'a str],
    /// Servers of the inventory of which nothing is declared, because they are reset.
    reset: &'a [&'a str],
    /// Nodes that nothing can be planned for, by what they remember.
    blocked: &'a [&'a str],
    /// Servers on which something is to stop without which they do not serve.
    stops: &'a [&'a str],
    /// Its servers have come to be by kubeadm.
    kubeadm: bool,
    /// Nodes that are declared as the other thing than they are.
    becomes: &'a [&'a str],
    /// Servers have their datastore for themselves, and are to share one.
    sqlite: bool,
}

fn is_server(node: &str) -> bool {
    node.starts_with('s')
}

fn unit(server: bool) -> &'static str {
    if server {
        "k3s.service"
    } else {
        "k3s-agent.service"
    }
}

/// Whether a node is declared as a server.
fn to_serve(node: &str, rack: &Rack<'_>) -> bool {
    is_server(node) != rack.becomes.contains(&node)
}

fn member(node: &str, server: bool) -> serde_json::Value {
    json!({"cluster_node": {
        "name": node, "unit": unit(server), "server": server, "uninstall": "/uninstall.sh", "kubeconfig": "/etc/k", "kubectl": KC,
    }})
}

fn entry(node: &str, role: &str, value: serde_json::Value) -> Declared {
    let resource: Resource = serde_json::from_value(value).unwrap();
    Declared {
        addr: StepAddr {
            node: name(node),
            role: RoleName::new(role).unwrap(),
            kind: resource.kind().to_owned(),
            key: resource.key(),
        },
        resource,
        id: None,
        needs: Vec::new(),
        barrier: false,
        guarded: false,
        span: None,
    }
}

fn declared(node: &str, rack: &Rack<'_>) -> Vec<Declared> {
    if !rack.declared.contains(&node) {
        return Vec::new();
    }
    let server = to_serve(node, rack);
    let role = if server { "server" } else { "agent" };
    let mut all = vec![
        json!({"cluster_member": {"name": node, "role": role}}),
        member(node, server),
    ];
    if rack.becomes.contains(&node) {
        all.push(json!({"directory": {"path": "/etc/rancher/k3s"}}));
    }
    if server && rack.sqlite {
        all.push(json!({"cluster_founding": {"name": node, "path": "/etc/rancher/k3s/config.yaml.d/50-cluster-init.yaml", "content": "x", "data": "/var/lib/db"}}));
    }
    if server {
        for node in rack.becomes {
            all.push(json!({"node_labels": {"node": node, "labels": {"place": "shelf"}, "taints": [], "kubeconfig": "/etc/k", "kubectl": KC}}));
        }
        let nodes: Vec<_> = rack
            .declared
            .iter()
            .map(|n| json!({"name": n, "login": format!("pi@{n}")}))
            .collect();
        all.push(json!({"cluster_roll": {"server": node, "nodes": nodes, "kubeconfig": "/etc/k", "kubectl": KC}}));
        all.push(json!({"node_drained": {"node": node, "version": "v1", "timeout": 77, "kubeconfig": "/etc/k", "kubectl": KC}}));
        if rack.kubeadm {
            all.push(json!({"kubeadm": {
                "name": node, "role": "server", "content": "kind: InitConfiguration\n---\nkind: JoinConfiguration\n",
                "discovery": "x", "program": "/usr/bin/kubeadm", "kubectl": KC,
            }}));
        }
        if rack.stops.contains(&node) {
            all.push(json!({"unit": {"name": "containerd.service", "active": false}}));
        }
    }
    all.into_iter().map(|v| entry(node, "k3s", v)).collect()
}

/// What an apply has written down on a node.
fn records(node: &str) -> String {
    let role = |role: &str, value| {
        let entry = entry(node, role, value);
        let record = Record::of(&entry.addr.local(), &entry.resource);
        format!("{}\n", serde_json::to_string(&record).unwrap())
    };
    role("k3s", member(node, is_server(node)))
        + &role(
            "k3s",
            json!({"file": {"path": "/etc/rancher/k3s/config.yaml", "content": "x"}}),
        )
        + &role(
            "base",
            json!({"file": {"path": "/etc/motd", "content": "x"}}),
        )
}

fn nodes_of(rack: &Rack<'_>) -> String {
    let mut list: BTreeMap<&str, String> = BTreeMap::new();
    for (node, _) in rack.registered {
        // Who is called otherwise is somebody else's.
        if node.starts_with(['s', 'a']) {
            list.insert(node, format!("pi@{node}"));
        }
    }
    for node in rack.listed {
        list.insert(node, format!("pi@{node}"));
    }
    let roll = serde_json::to_string(&list).unwrap();
    let mut items: Vec<_> = rack
        .registered
        .iter()
        .map(|(node, ready)| {
            let labels = if is_server(node) { json!({"node-role.kubernetes.io/control-plane": "true"}) } else { json!({}) };
            json!({
                "metadata": {"name": node, "labels": labels},
                "status": {"conditions": [{"type": "Ready", "status": if *ready { "True" } else { "Unknown" }}], "nodeInfo": {"kubeletVersion": "v1"}},
            })
        })
        .collect();
    let notes = json!({"picluster/nodes": roll});
    items.push(
        json!({"kind": "Namespace", "metadata": {"name": "kube-system", "annotations": notes}}),
    );
    json!({"kind": "List", "items": items}).to_string()
}

fn answer(query: &Query, node: &str, rack: &Rack<'_>) -> Answer {
    let says = |stdout: String, status| Answer::Fragment { status, stdout };
    match query {
        Query::Fragment(text) if text == PROBE => says(
            if rack.declared.contains(&node)
                && !rack.met.contains(&node)
                && !rack.becomes.contains(&node)
            {
                String::new()
            } else {
                records(node)
            },
            0,
        ),
        Query::Fragment(text) if text.starts_with("# what this node") => says(
            if rack.blocked.contains(&node) {
                "other kubeadm\n".into()
            } else if is_server(node) || rack.was_server.contains(&node) {
                let datastore = if rack.sqlite { "sqlite" } else { "etcd" };
                format!("server-ca aa\ndatastore {datastore}\n")
            } else {
                "agent-ca aa\n".into()
            },
            0,
        ),
        Query::Fragment(text) if text.starts_with("# node") => {
            if rack.answers {
                says(nodes_of(rack), 0)
            } else {
                says(String::new(), 92)
            }
        }
        Query::Unit(of) => Answer::Unit(UnitState {
            load: "loaded".into(),
            active: if of == unit(is_server(node)) || of == "containerd.service" {
                "active"
            } else {
                "inactive"
            }
            .into(),
            ..UnitState::default()
        }),
        Query::Path(path) => Answer::Path(Some(PathState {
            kind: if path.as_str().contains(['.', 'm']) {
                PathKind::File
            } else {
                PathKind::Directory
            },
            mode: 0o755,
            owner: "root".into(),
            group: "root".into(),
            size: 1,
        })),
        Query::ClusterNode { name, .. } => {
            let meta = json!({"name": name, "labels": {"place": "shelf"}});
            says(
                json!({"kind": "Node", "metadata": meta, "status": {}}).to_string(),
                0,
            )
        }
        Query::Content { .. } => Answer::Content(None),
        Query::Text(_) => Answer::Text(None),
        other => panic!("no answer prepared for {other}"),
    }
}

fn plan(rack: &Rack<'_>) -> Plan {
    let secrets = SecretValues::default();
    let mut nodes = BTreeMap::new();
    for node in rack.declared.iter().chain(rack.met) {
        let facts = Facts::default();
        let ctx = Ctx {
            facts: &facts,
            secrets: &secrets,
        };
        if rack.away.contains(node) {
            let reason = format!("{node}: no route");
            let state = NodeState::Unreachable { reason };
            nodes.insert(name(node), NodeInput::Closed(state));
            continue;
        }
        let items = declared(node, rack);
        let ask = |queries: Vec<Query>| -> BTreeMap<Query, Answer> {
            let all = queries.into_iter();
            all.map(|q| (q.clone(), answer(&q, node, rack))).collect()
        };
        let mut answers = Answers(ask(questions(&items, ctx)).into_iter().collect());
        let more = removal_questions(&items, &answers, ctx);
        answers.0.extend(ask(more));
        nodes.insert(
            name(node),
            NodeInput::Observed(Box::new(ObservedNode {
                facts,
                host_key: "SHA256:x".into(),
                declared: items,
                answers,
            })),
        );
    }
    let servers = rack
        .declared
        .iter()
        .chain(rack.reset)
        .filter(|n| to_serve(n, rack));
    build(&Inputs {
        cluster: ClusterName::new("rack").unwrap(),
        inventory: "inventory.yaml".into(),
        nodes,
        addresses: BTreeMap::new(),
        departing: rack.departing.iter().map(|n| name(n)).collect(),
        bootstrap: None,
        servers: servers.map(|n| name(n)).collect(),
        agents: Vec::new(),
        secrets: &secrets,
        key: b"key",
    })
}

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|s| format!("{}/{}[{}]", s.addr.node, s.addr.kind, s.addr.key))
        .collect()
}

/// Everything that a step comes behind.
fn before(plan: &Plan, step: &str) -> BTreeSet<String> {
    let called = |a: &StepAddr| format!("{}/{}[{}]", a.node, a.kind, a.key);
    let at = |wanted: &str| plan.steps.iter().find(|s| called(&s.addr) == wanted);
    let mut open: Vec<String> = at(step)
        .unwrap_or_else(|| panic!("no {step} among {:?}", steps(plan)))
        .needs
        .iter()
        .map(called)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        open.extend(at(&wanted).unwrap().needs.iter().map(called));
        seen.insert(wanted);
    }
    seen
}

const USUAL: Rack<'static> = Rack {
    declared: &["s1", "a1"],
    met: &[],
    registered: &[("s1", true), ("a1", true), ("a2", true), ("theirs", true)],
    listed: &[],
    answers: true,
    departing: &[],
    away: &[],
    was_server: &[],
    reset: &[],
    blocked: &[],
    stops: &[],
    kubeadm: false,
    becomes: &[],
    sqlite: false,
};

#[test]
fn who_left_the_inventory_is_named_and_stays_until_somebody_consents() {
    let plan = plan(&USUAL);
    assert_eq!(steps(&plan), Vec::<String>::new());
    let leaving: Vec<_> = plan.leaving.iter().collect();
    assert_eq!(leaving.len(), 1, "{leaving:?}");
    let (node, how) = leaving[0];
    assert_eq!((node.as_str(), how.login.as_str()), ("a2", "pi@a2"));
    assert!(!how.removed && !how.server);
}

#[test]
fn it_is_drained_then_deleted_and_only_then_cleaned() {
    let rack = Rack {
        met: &["a2"],
        departing: &["a2"],
        ..USUAL
    };
    let plan = plan(&rack);
    assert!(plan.leaving[&name("a2")].removed);
    let deleted = before(&plan, "s1/node_absent[a2]");
    assert_eq!(deleted, ["s1/node_drained[a2]".to_owned()].into());
    let left = before(&plan, "a2/cluster_node[a2]");
    assert!(left.contains("s1/node_absent[a2]"), "{left:?}");
    // Its files go when it has left, and what else is ours when it is out of the cluster.
    let config = before(&plan, "a2/file[/etc/rancher/k3s/config.yaml]");
    assert!(config.contains("a2/cluster_node[a2]"), "{config:?}");
    let other = before(&plan, "a2/file[/etc/motd]");
    assert!(other.contains("s1/node_absent[a2]") && !other.contains("a2/cluster_node[a2]"));
    // And its name comes off the list last.
    let forgotten = before(&plan, "s1/cluster_roll[s1 without a2]");
    assert!(forgotten.contains("a2/file[/etc/motd]"), "{forgotten:?}");
    // As the role drains others.
    let drain = plan.steps.iter().find(|s| s.addr.kind == "node_drained");
    let shown = format!("{:?}", drain.unwrap().change.effects);
    assert!(shown.contains("77 s"), "{shown}");
}

#[test]
fn one_that_is_away_is_deleted_without_waiting_for_its_pods() {
    let rack = Rack {
        met: &["a2"],
        away: &["a2"],
        departing: &["a2"],
        registered: &[("s1", true), ("a1", true), ("a2", false)],
        ..USUAL
    };
    assert_eq!(steps(&plan(&rack)), ["s1/node_absent[a2]"]);
}

#[test]
fn a_server_that_left_the_inventory_counts_until_it_has_left_the_cluster() {
    let mut rack = Rack {
        declared: &["s1", "s2"],
        registered: &[("s1", true), ("s2", true), ("s3", false)],
        ..USUAL
    };
    let standing = |plan: &Plan| plan.members.get(&name("s3")).map(|m| m.standing.clone());
    assert!(
        matches!(standing(&plan(&rack)), Some(MemberStanding::Unknown(why)) if why.contains("--remove-nodes"))
    );
    rack.met = &["s3"];
    rack.away = &["s3"];
    rack.departing = &["s3"];
    // Who is to leave counts until the cluster has let it go, and what takes another one down comes behind that.
    assert_eq!(standing(&plan(&rack)), Some(MemberStanding::Leaves));
    rack.stops = &["s1", "s2"];
    let shown = plan(&rack);
    for step in ["s1/unit[containerd.service]", "s2/unit[containerd.service]"] {
        let all = before(&shown, step);
        assert!(all.contains("s1/node_absent[s3]"), "{step}: {all:?}");
    }
    // It is gone there, and its machine is not clean.
    rack.registered = &[("s1", true), ("s2", true)];
    rack.listed = &["s3"];
    assert_eq!(standing(&plan(&rack)), None);
}

#[test]
fn any_server_that_stays_lets_the_others_go_and_one_of_them_keeps_the_list() {
    let mut rack = Rack {
        declared: &["s1", "s2", "s3"],
        registered: &[("s1", true), ("s2", true), ("s3", true)],
        ..USUAL
    };
    assert_eq!(steps(&plan(&rack)), Vec::<String>::new());
    // Somebody new: it is written once, by the first that can.
    rack.registered = &[("s1", true), ("s2", true)];
    let lists = |plan: &Plan| -> Vec<String> {
        let all = steps(plan).into_iter();
        all.filter(|s| s.contains("cluster_roll")).collect()
    };
    assert_eq!(lists(&plan(&rack)), ["s1/cluster_roll[s1]"]);
    rack.away = &["s1"];
    assert_eq!(lists(&plan(&rack)), ["s2/cluster_roll[s2]"]);

    // The first one is reset: the next one drains and deletes it.
    let reset = Rack {
        declared: &["s2", "s3"],
        met: &["s1"],
        reset: &["s1"],
        departing: &["s1"],
        registered: &[("s1", true), ("s2", true), ("s3", true)],
        ..USUAL
    };
    let shown = plan(&reset);
    assert_eq!(shown.members[&name("s1")].standing, MemberStanding::Leaves);
    let left = before(&shown, "s1/cluster_node[s1]");
    for step in ["s2/node_absent[s1]", "s2/node_drained[s1]"] {
        assert!(left.contains(step), "{left:?}");
    }
    assert!(shown.nodes[&name("s1")].problems.is_empty());
}

/// k3s takes a member of etcd away with its Node. With kubeadm the server that deletes it does, through its own etcd; of an agent as
/// well, because a control plane whose join broke off looks like one.
#[test]
fn with_kubeadm_the_member_of_etcd_goes_with_the_node() {
    let mut rack = Rack {
        declared: &["s1", "s2"],
        met: &["s3", "a2"],
        away: &["s3"],
        departing: &["s3", "a2"],
        registered: &[("s1", true), ("s2", true), ("s3", false), ("a2", true)],
        kubeadm: true,
        ..USUAL
    };
    let shown = plan(&rack);
    let member = |plan: &Plan, node: &str| {
        let step = plan
            .steps
            .iter()
            .find(|s| s.addr.kind == "node_absent" && s.addr.key == node);
        let body = serde_json::to_value(step.unwrap()).unwrap().to_string();
        body.contains(r#""stacked_etcd":"s1""#)
    };
    assert!(member(&shown, "s3") && member(&shown, "a2"));
    assert!(shown.nodes.values().all(|n| n.problems.is_empty()));
    // Its machine is cleaned behind that, where it is met.
    rack.away = &[];
    let left = before(&plan(&rack), "s3/cluster_node[s3]");
    assert!(left.contains("s1/node_absent[s3]"), "{left:?}");
    rack.kubeadm = false;
    assert!(!member(&plan(&rack), "s3"));
}

#[test]
fn nothing_is_taken_off_a_machine_that_no_server_can_let_go() {
    let rack = Rack {
        met: &["a2"],
        departing: &["a2"],
        registered: &[("s1", true), ("a1", true), ("a2", true)],
        blocked: &["s1"],
        ..USUAL
    };
    let plan = plan(&rack);
    let touched: Vec<String> = steps(&plan)
        .into_iter()
        .filter(|step| step.starts_with("a2/"))
        .collect();
    assert!(touched.is_empty(), "{touched:?}");
    let told = &plan.nodes[&name("a2")].problems;
    assert!(
        told.iter()
            .any(|p| p.what.contains("the cluster still counts on it")),
        "{told:?}"
    );
}

#[test]
fn a_run_that_was_broken_off_behind_the_deletion_is_brought_to_its_end() {
    let mut rack = Rack {
        // Its own list still names a2.
        registered: &[("s1", true), ("a1", true)],
        listed: &["a2"],
        ..USUAL
    };
    let shown = plan(&rack);
    assert!(!shown.leaving[&name("a2")].registered);
    assert_eq!(steps(&shown), Vec::<String>::new());
    rack.met = &["a2"];
    rack.departing = &["a2"];
    let all = steps(&plan(&rack));
    assert!(all.contains(&"a2/cluster_node[a2]".to_owned()), "{all:?}");
    assert!(!all.iter().any(|s| s.contains("node_absent")), "{all:?}");
    assert!(all.contains(&"s1/cluster_roll[s1 without a2]".to_owned()));
    // It never comes back: said once more, it is forgotten.
    rack.away = &["a2"];
    assert_eq!(steps(&plan(&rack)), ["s1/cluster_roll[s1 without a2]"]);
}

#[test]
fn a_machine_that_stays_in_the_inventory_does_not_leave_its_cluster_without_consent() {
    let mut rack = Rack {
        met: &["a2"],
        ..USUAL
    };
    let held = plan(&rack);
    // What is not the cluster's goes as ever.
    assert_eq!(steps(&held), ["a2/file[/etc/motd]"]);
    let problem = &held.nodes[&name("a2")].problems[0];
    assert!(problem.cure.as_ref().unwrap().contains("--remove-nodes"));
    assert_eq!(problem.skipped.len(), 1);
    // Nor with consent, while nobody can delete it in the cluster.
    rack.departing = &["a2"];
    rack.answers = false;
    let stuck = plan(&rack);
    let problem = &stuck.nodes[&name("a2")].problems[0];
    assert!(
        problem.what.contains("s1 does not answer for the cluster"),
        "{}",
        problem.what
    );
    assert!(!steps(&stuck).contains(&"a2/cluster_node[a2]".to_owned()));
}

#[test]
fn a_server_leaves_only_while_the_others_serve() {
    let rack = Rack {
        declared: &["s1"],
        met: &["s2"],
        registered: &[("s1", true), ("s2", true)],
        departing: &["s2"],
        ..USUAL
    };
    let plan = plan(&rack);
    let deleted = plan.steps.iter().find(|s| s.addr.kind == "node_absent");
    assert!(takes_down(deleted.unwrap(), None));
    let agent = Rack {
        met: &["a2"],
        departing: &["a2"],
        ..USUAL
    };
    let plan = self::plan(&agent);
    let deleted = plan.steps.iter().find(|s| s.addr.kind == "node_absent");
    assert!(!takes_down(deleted.unwrap(), None));
}

#[test]
fn servers_are_deleted_one_behind_the_other_and_those_that_are_down_first() {
    let rack = Rack {
        declared: &["s1"],
        met: &["s2", "s3"],
        registered: &[("s1", true), ("s2", true), ("s3", false)],
        departing: &["s2", "s3"],
        ..USUAL
    };
    let plan = plan(&rack);
    let second = before(&plan, "s1/node_absent[s2]");
    assert!(second.contains("s1/node_absent[s3]"), "{second:?}");
    let first = before(&plan, "s1/node_absent[s3]");
    assert!(!first.contains("s1/node_absent[s2]"), "{first:?}");
}

#[test]
fn when_all_go_nobody_is_drained_and_servers_go_last() {
    let rack = Rack {
        declared: &[],
        met: &["s1", "a1"],
        departing: &["s1", "a1"],
        reset: &["s1"],
        ..USUAL
    };
    let plan = plan(&rack);
    let all = steps(&plan);
    assert!(!all.iter().any(|s| s.contains("node_absent")), "{all:?}");
    let server = before(&plan, "s1/cluster_node[s1]");
    assert!(server.contains("a1/cluster_node[a1]"), "{server:?}");
}

#[test]
fn a_server_does_not_become_an_agent_before_it_has_left() {
    let rack = Rack {
        was_server: &["a1"],
        ..USUAL
    };
    let plan = plan(&rack);
    assert_eq!(steps(&plan), Vec::<String>::new());
    let problem = &plan.nodes[&name("a1")].problems[0];
    assert!(
        problem
            .what
            .contains("a server of its cluster and is to be an agent"),
        "{}",
        problem.what
    );
    // Nothing on it says how it was made.
    let cure = problem.cure.as_ref().unwrap();
    assert!(cure.contains("sudo k3s-uninstall.sh"), "{cure}");
}

/// The addresses of steps, with their roles: what a node is to be stands under the same name as what it was.
fn addresses(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| s.addr.to_string()).collect()
}

/// Everything that a step comes behind, by address.
fn all_before(plan: &Plan, step: &str) -> BTreeSet<String> {
    let at = |wanted: &str| plan.steps.iter().find(|s| s.addr.to_string() == wanted);
    let first = at(step).unwrap_or_else(|| panic!("no {step} among {:?}", addresses(plan)));
    let mut open: Vec<String> = first.needs.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        open.extend(at(&wanted).unwrap().needs.iter().map(ToString::to_string));
        seen.insert(wanted);
    }
    seen
}

#[test]
fn who_is_to_become_something_else_stays_what_it_is_until_somebody_consents() {
    for (declared, becomes, is) in [
        (&["s1", "a1"], "a1", "an agent"),
        (&["s1", "s2"], "s2", "a server"),
    ] {
        let becomes = [becomes];
        let plan = plan(&Rack {
            declared,
            registered: &[("s1", true), ("s2", true), ("a1", true)],
            becomes: &becomes,
            ..USUAL
        });
        let problems = &plan.nodes[&name(becomes[0])].problems;
        let member = problems.iter().find(|p| p.what.starts_with("it is "));
        let member = member.unwrap_or_else(|| panic!("{problems:?}"));
        assert!(member.what.contains(is), "{}", member.what);
        let cure = member.cure.as_deref().unwrap();
        assert!(cure.starts_with("picluster apply --remove-nodes"), "{cure}");
        // Nothing of what makes it what it is goes.
        let gone =
            |a: &String| a.contains("node_absent") || a.contains("/etc/rancher/k3s/config.yaml");
        assert!(!addresses(&plan).iter().any(gone), "{:?}", addresses(&plan));
    }
}

#[test]
fn an_agent_leaves_as_what_it_was_and_comes_back_as_a_server() {
    let plan = plan(&Rack {
        registered: &[("s1", true), ("a1", true)],
        becomes: &["a1"],
        departing: &["a1"],
        ..USUAL
    });
    assert!(plan.leaving.is_empty(), "{:?}", plan.leaving);
    let was = "a1/picluster/cluster_node[a1]";
    let gone = all_before(&plan, was);
    assert_eq!(
        gone,
        [
            "s1/picluster/node_drained[a1]",
            "s1/picluster/node_absent[a1]"
        ]
        .map(str::to_owned)
        .into()
    );
    // What is there now goes with what it was, and is made again behind that; its labels come back when it has.
    for step in [
        "a1/k3s/directory[/etc/rancher/k3s]",
        "a1/k3s/cluster_node[a1]",
    ] {
        assert!(all_before(&plan, step).contains(was), "{step}");
    }
    let labels = all_before(&plan, "s1/k3s/node_labels[a1]");
    assert!(labels.contains("a1/k3s/cluster_node[a1]"), "{labels:?}");
    assert_ne!(plan.members[&name("a1")].standing, MemberStanding::Leaves);
}

#[test]
fn a_server_leaves_etcd_and_comes_back_as_an_agent() {
    let rack = Rack {
        declared: &["s1", "s2", "s3"],
        registered: &[("s1", true), ("s2", true), ("s3", true)],
        becomes: &["s3"],
        departing: &["s3"],
        ..USUAL
    };
    let plan = plan(&rack);
    assert_eq!(plan.members[&name("s3")].standing, MemberStanding::Leaves);
    let absent = plan.steps.iter().find(|s| s.addr.kind == "node_absent");
    let absent = absent.expect("it is deleted");
    assert!(takes_down(absent, None), "its vote is counted");
    let was = "s3/picluster/cluster_node[s3]";
    assert!(all_before(&plan, was).contains("s1/picluster/node_absent[s3]"));
    assert!(all_before(&plan, "s3/k3s/cluster_node[s3]").contains(was));
    assert!(all_before(&plan, "s1/k3s/node_labels[s3]").contains("s3/k3s/cluster_node[s3]"));
}

#[test]
fn where_nobody_stays_who_could_let_it_go_it_stays_what_it_is() {
    let plan = plan(&Rack {
        registered: &[("s1", true), ("a1", true)],
        becomes: &["s1", "a1"],
        departing: &["s1", "a1"],
        ..USUAL
    });
    // What other roles have left behind is nobody's membership.
    assert_eq!(
        addresses(&plan),
        ["a1/base/file[/etc/motd]", "s1/base/file[/etc/motd]"]
    );
}

#[test]
fn who_cannot_come_back_is_neither_drained_nor_deleted() {
    let rack = Rack {
        registered: &[("s1", true), ("a1", true)],
        becomes: &["a1"],
        departing: &["a1"],
        sqlite: true,
        ..USUAL
    };
    let plan = plan(&rack);
    let all = addresses(&plan);
    let goes = |a: &&String| {
        a.contains("node_absent") || a.contains("node_drained") || a.starts_with("a1/picluster")
    };
    assert!(!all.iter().any(|a| goes(&a)), "{all:?}");
    let said: Vec<&str> = plan
        .nodes
        .values()
        .flat_map(|n| &n.problems)
        .map(|p| p.what.as_str())
        .collect();
    assert!(said.iter().any(|w| w.contains("SQLite")), "{said:?}");
    assert!(
        said.iter().any(|w| w.contains("a1 stays what it is")),
        "{said:?}"
    );
}

#[test]
fn a_server_and_an_agent_change_places_in_one_plan() {
    let plan = plan(&Rack {
        declared: &["s1", "s2", "s3", "a1"],
        registered: &[("s1", true), ("s2", true), ("s3", true), ("a1", true)],
        becomes: &["s3", "a1"],
        departing: &["s3", "a1"],
        ..USUAL
    });
    let waiting: Vec<_> = plan.nodes.values().flat_map(|n| &n.problems).collect();
    assert!(waiting.is_empty(), "{waiting:?}");
    for node in ["s3", "a1"] {
        let was = format!("{node}/picluster/cluster_node[{node}]");
        let back = all_before(&plan, &format!("{node}/k3s/cluster_node[{node}]"));
        assert!(back.contains(&was), "{back:?}");
        assert!(all_before(&plan, &was).contains(&format!("s1/picluster/node_absent[{node}]")));
    }
}

#[test]
fn by_a_part_of_a_plan_nobody_goes_who_would_not_come_back() {
    let pattern = |text: &str| vec![AddrPattern::new(text)];
    let parts = [
        (pattern("s1"), vec![]),
        (vec![], pattern("a1")),
        (vec![], pattern("s3/k3s/*")),
    ];
    for (only, except) in parts {
        let mut plan = plan(&Rack {
            declared: &["s1", "s2", "s3", "a1"],
            registered: &[("s1", true), ("s2", true), ("s3", true), ("a1", true)],
            becomes: &["s3", "a1"],
            departing: &["s3", "a1"],
            ..USUAL
        });
        let whole = plan.steps.iter().map(|s| s.addr.to_string());
        let goes = [
            "s1/picluster/node_absent[s3]",
            "s1/picluster/node_absent[a1]",
        ];
        assert_eq!(whole.filter(|a| goes.contains(&a.as_str())).count(), 2);
        select(&mut plan, &only, &except);
        let has = |addr: String| plan.steps.iter().any(|s| s.addr.to_string() == addr);
        for node in ["s3", "a1"] {
            let back = has(format!("{node}/picluster/cluster_node[{node}]"))
                && has(format!("{node}/k3s/cluster_node[{node}]"));
            for kind in ["node_drained", "node_absent"] {
                let goes = has(format!("s1/picluster/{kind}[{node}]"));
                assert!(!goes || back, "{only:?} {except:?}: {kind}[{node}]");
            }
        }
    }
}
