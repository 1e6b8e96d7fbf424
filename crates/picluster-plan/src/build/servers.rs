//! The servers of the cluster: which of them are members, and which steps take one down.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_resource::kinds::cluster_node::{self, ClusterNode};
use picluster_resource::kinds::cluster_roll::Registered;
use picluster_resource::{Effect, Observation, Resource, Seen};

use super::leave::Roll;
use super::{Inputs, Part, Workbench, across, leave};
use crate::addr::StepAddr;
use crate::members::{Member, MemberStanding, lets_go, takes_down};
use crate::plan::{NodePlan, Problem, Step};

/// What is known of the declared servers, and of those that only the cluster has: they count in it all the same.
pub(super) fn members(
    inputs: &Inputs<'_>,
    nodes: &BTreeMap<NodeName, NodePlan>,
    benches: &[Workbench<'_>],
    roll: Option<&Roll>,
) -> BTreeMap<NodeName, Member> {
    let of = |standing: MemberStanding| Member {
        standing,
        server: None,
    };
    let unknown = |why: &str| of(MemberStanding::Unknown(why.to_owned()));
    let counting: BTreeMap<&NodeName, &Registered> = roll
        .into_iter()
        .flat_map(Roll::servers)
        .map(|node| (&node.name, node))
        .collect();
    let declared = |name: &NodeName| {
        let comes_back = benches.iter().any(|b| b.node == name && b.turns.is_some());
        if inputs.departing.contains(name) && !comes_back {
            // Where the cluster does not count on it, nobody has to wait for one that goes.
            return of(match counting.contains_key(name) {
                true => MemberStanding::Leaves,
                false => MemberStanding::Blank,
            });
        }
        let Some(bench) = benches.iter().find(|bench| bench.node == name) else {
            let why = nodes.get(name).map(|node| across::found(&node.state));
            return unknown(why.unwrap_or("was not looked at"));
        };
        let declared = bench.items.iter().find_map(|i| match i.resource.as_ref() {
            Resource::ClusterServer(server) => Some(server),
            _ => None,
        });
        let Some(server) = declared else {
            return unknown("has no role that says how one sees it serve (cluster_server)");
        };
        let standing = match bench.observed.answers.path(&server.data) {
            // What a join that was broken off has left there makes nobody a member.
            Ok(Some(_)) if bench.part == Some(Part::Joins) && !bench.runs => MemberStanding::Blank,
            Ok(Some(_)) => MemberStanding::Member,
            Ok(None) => MemberStanding::Blank,
            Err(diagnosis) => MemberStanding::Unknown(diagnosis.what),
        };
        Member {
            standing,
            server: Some(server.clone()),
        }
    };
    let declared_as_server = |node: &&&Registered| inputs.servers.contains(&node.name);
    let foreign = counting.values().filter(|node| !declared_as_server(node)).map(|node| {
        let why = if node.declared {
            "is a server of the cluster, and no longer declared as one (picluster apply --remove-nodes lets it leave and come back as an agent)"
        } else { "is a server of the cluster that the inventory no longer has (picluster apply --remove-nodes takes it out)"
        };
        let standing = match inputs.departing.contains(&node.name) {
            true => MemberStanding::Leaves,
            false => MemberStanding::Unknown(why.to_owned()),
        };
        (node.name.clone(), of(standing))
    });
    let servers = inputs.servers.iter();
    foreign
        .chain(servers.map(|name| (name.clone(), declared(name))))
        .collect()
}

/// Transform: while a member that is to leave counts in its cluster, it may be the one too many that is down: what takes
/// another one down comes behind its deletion.
pub(super) fn behind_departures(steps: &mut [Step], members: &BTreeMap<NodeName, Member>) {
    let go: BTreeMap<StepAddr, NodeName> = steps
        .iter()
        .filter_map(|step| Some((step.addr.clone(), lets_go(step)?.clone())))
        .collect();
    if go.is_empty() {
        return;
    }
    let index: BTreeMap<StepAddr, usize> = steps
        .iter()
        .enumerate()
        .map(|(i, step)| (step.addr.clone(), i))
        .collect();
    // What a deletion itself waits for cannot wait for it.
    let mut first: BTreeSet<StepAddr> = BTreeSet::new();
    let mut open: Vec<StepAddr> = go.keys().cloned().collect();
    while let Some(addr) = open.pop() {
        let needs = index.get(&addr).map(|i| steps[*i].needs.iter());
        open.extend(
            needs
                .into_iter()
                .flatten()
                .filter(|a| !first.contains(*a))
                .cloned(),
        );
        first.insert(addr);
    }
    for step in steps {
        let Some(member) = members.get(&step.addr.node) else {
            continue;
        };
        let stays = !matches!(
            member.standing,
            MemberStanding::Blank | MemberStanding::Leaves
        );
        if stays && !first.contains(&step.addr) && takes_down(step, member.server.as_ref()) {
            step.needs.extend(go.keys().cloned());
        }
    }
}

/// Transform: says of every step that can take a member down that it does.
pub(super) fn announce(steps: &mut [Step], members: &BTreeMap<NodeName, Member>) {
    let stay = members
        .values()
        .filter(|m| m.standing != MemberStanding::Leaves);
    let words = if stay.count() == 1 {
        "the only server: the API does not answer meanwhile, what runs on the nodes goes on"
    } else {
        "a server goes down; before that all others are seen to serve, and after it the server itself"
    };
    for step in steps {
        let Some(member) = members.get(&step.addr.node) else {
            continue;
        };
        let counts = !matches!(
            member.standing,
            MemberStanding::Blank | MemberStanding::Leaves
        );
        if counts && takes_down(step, member.server.as_ref()) {
            let effect = Effect::ServerDown(words.into());
            step.change.effects.insert(effect);
        }
    }
}

/// The entry of a node that a test picks out.
fn entry(bench: &Workbench<'_>, pick: impl Fn(&Resource) -> bool) -> Option<usize> {
    let declared = |i: &usize| !bench.items[*i].removed && pick(bench.items[*i].resource.as_ref());
    (0..bench.items.len()).find(declared)
}

fn join(bench: &Workbench<'_>) -> Option<usize> {
    entry(bench, |r| matches!(r, Resource::ClusterJoin(_)))
}

/// The start of what makes a server serve: of its unit, or the run of kubeadm.
fn start(bench: &Workbench<'_>) -> Option<usize> {
    if let Some(kubeadm) = entry(bench, |r| matches!(r, Resource::Kubeadm(_))) {
        return Some(kubeadm);
    }
    let node = entry(bench, |r| matches!(r, Resource::ClusterNode(_)))?;
    let Resource::ClusterNode(node) = bench.items[node].resource.as_ref() else {
        return None;
    };
    let unit = node.unit.clone();
    entry(
        bench,
        |r| matches!(r, Resource::Unit(found) if found.name == unit),
    )
}

/// The entry that waits until a server serves.
fn node<'a>(bench: &'a Workbench<'_>) -> Option<(usize, &'a ClusterNode)> {
    let i = entry(bench, |r| matches!(r, Resource::ClusterNode(_)))?;
    match bench.items[i].resource.as_ref() {
        Resource::ClusterNode(node) => Some((i, node)),
        _ => None,
    }
}

/// The step behind which a server serves, if it is one of this plan.
fn ready(bench: &Workbench<'_>) -> Option<StepAddr> {
    let item = &bench.items[node(bench)?.0];
    item.change.is_some().then(|| item.addr.clone())
}

/// Whether the cluster can count on a server as it is: it is Ready and, on embedded etcd, a voter, by the cluster's own word.
pub(super) fn counts(bench: &Workbench<'_>) -> bool {
    let Some((i, node)) = node(bench) else {
        return false;
    };
    matches!(&bench.items[i].seen, Some(Observation::ClusterNode(Seen::Now(seen))) if node.counts(seen))
}

/// Whether a server keeps its cluster in etcd together with others, so that they join one at a time.
fn votes(bench: &Workbench<'_>) -> bool {
    let several = |r: &Resource| matches!(r, Resource::Kubeadm(k) if k.is_one_of_several());
    node(bench).is_some_and(|(_, node)| node.voter) || entry(bench, several).is_some()
}

/// Servers that the cluster has, that it cannot count on, and that this plan cannot wait for: in the words of the cluster.
fn in_the_way(benches: &[Workbench<'_>], inputs: &Inputs<'_>) -> BTreeMap<NodeName, String> {
    // Only k3s says of a node whether it votes. kubeadm ends a join well when etcd has taken the member in.
    let tells = |bench: &Workbench<'_>| {
        let node = node(bench)?.1;
        match node.roll(&bench.observed.answers) {
            Some(cluster_node::Roll::Nodes(nodes)) => Some((nodes, node.voter)),
            _ => None,
        }
    };
    let (told, says) = benches.iter().find_map(tells).unwrap_or_default();
    // kubeadm labels a control plane last, behind its membership in etcd.
    let server = |n: &cluster_node::Registered| {
        n.server || inputs.servers.iter().any(|s| s.as_str() == n.name)
    };
    let waited_for = |name: &NodeName| {
        let bench = benches.iter().find(|bench| bench.node == name);
        bench.is_some_and(|bench| counts(bench) || ready(bench).is_some())
    };
    told.into_iter()
        .filter(|n| server(n) && (n.ready != "True" || says && !n.voter))
        .filter_map(|n| {
            let name = NodeName::new(&n.name).ok()?;
            let why = if n.ready == "True" {
                "is no voter of etcd"
            } else {
                "is not Ready"
            };
            (!waited_for(&name) && !inputs.departing.contains(&name))
                .then(|| (name, why.to_owned()))
        })
        .collect()
}

/// Transform: a server that cannot be told where to join is not started: it would found a cluster of its own; and none joins
/// while another one is neither a voter nor anything this plan can wait for. Returns whether something became a problem.
pub(super) fn hold_back(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) -> bool {
    let mut moved = false;
    let in_the_way = in_the_way(benches, inputs);
    for bench in benches {
        let (Some(Part::Joins), Some(start)) = (bench.part, start(bench)) else {
            continue;
        };
        if bench.items[start].change.is_none() {
            continue;
        }
        let untold = join(bench)
            .filter(|join| bench.items[*join].problem.is_some() || bench.is_skipped(*join));
        let votes = votes(bench);
        let other = in_the_way
            .iter()
            .find(|(name, _)| votes && *name != bench.node);
        let problem = match (untold, other) {
            (Some(join), _) => Problem::new(format!(
                "it cannot be told where to join ({}), and must not found a cluster",
                bench.items[join].addr.local()
            )),
            (None, Some((name, why))) => Problem::new(format!(
                "it does not join yet: servers join one at a time, and server {name} {why}"
            ))
            .cure(format!(
                "bring {name} up, then run: picluster apply; if it is gone for good, take it out of the inventory and run: picluster apply --remove-nodes"
            ))
            .because(Some(name.clone())),
            (None, None) => continue,
        };
        let problem = problem.of(bench.items[start].addr.clone());
        bench.fail(start, problem);
        moved = true;
    }
    moved
}

/// Transform: servers join one at a time, in the order of the inventory, each once the one before it is a voter, and behind any
/// that an earlier run has left halfway; who has founded the cluster is told to join like the others, once another one has.
pub(super) fn in_turn(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>, roll: Option<&Roll>) {
    let at = |name: &NodeName, benches: &[Workbench<'_>]| {
        benches.iter().position(|bench| bench.node == name)
    };
    let order: Vec<usize> = inputs
        .servers
        .iter()
        .filter_map(|name| at(name, benches))
        .collect();
    let mut joining: Vec<usize> = order
        .iter()
        .copied()
        .filter(|b| benches[*b].part == Some(Part::Joins))
        .collect();
    // Who is about to join already has the first turn.
    joining.sort_by_key(|b| !benches[*b].runs);
    let founder = order
        .iter()
        .find(|b| benches[**b].part == Some(Part::Founds))
        .and_then(|b| ready(&benches[*b]));
    // Those that an earlier run has left as learners, or not Ready.
    let halfway: Vec<StepAddr> = order
        .iter()
        .filter(|b| benches[**b].part == Some(Part::Member) && !counts(&benches[**b]))
        .filter_map(|b| ready(&benches[*b]))
        .collect();
    // etcd takes nobody while one of its members is away.
    let (away, leave) = leave::deletions(benches, roll);
    let mut before = founder;
    let mut first: Option<StepAddr> = None;
    for b in joining {
        let bench = &mut benches[b];
        let mine = ready(bench);
        let Some(start) = start(bench) else { continue };
        // With a datastore outside of the cluster there is nothing to be told.
        let told = join(bench).map(|join| {
            let mut behind: Vec<usize> = bench.order.all_before(join).into_iter().collect();
            behind.push(join);
            behind
        });
        let told: Vec<StepAddr> = told
            .into_iter()
            .flatten()
            .filter(|i| *i != start && bench.items[*i].change.is_some())
            .map(|i| bench.items[i].addr.clone())
            .collect();
        let foreign = &mut bench.items[start].foreign;
        foreign.extend(told);
        foreign.extend(halfway.iter().chain(&away).cloned());
        foreign.extend(before.clone());
        if mine.is_some() {
            first = first.or_else(|| mine.clone());
            before = mine;
        }
    }
    // One that serves goes when whoever comes for it votes: until then it is one more that may be lost.
    if first.is_some() {
        for (b, i) in leave {
            benches[b].items[i].foreign.extend(before.clone());
        }
    }
    let members = order
        .iter()
        .filter(|b| benches[**b].part == Some(Part::Member))
        .count();
    for b in order {
        let bench = &mut benches[b];
        if bench.part == Some(Part::Joins) {
            continue;
        }
        let own = ready(bench);
        let Some(join) = join(bench) else { continue };
        if bench.items[join].change.is_none() {
            continue;
        }
        let others = members > usize::from(bench.part == Some(Part::Member));
        if !others && first.is_none() {
            // Nobody else has joined: it stays the one that founded.
            bench.items[join].change = None;
            continue;
        }
        bench.items[join].foreign.extend(own);
        if !others {
            bench.items[join].foreign.extend(first.clone());
        }
    }
}
