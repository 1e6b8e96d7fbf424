//! The servers of the cluster: which of them are members, and which steps take one down.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_resource::{Effect, Resource};

use super::{Inputs, Part, Workbench, across};
use crate::addr::StepAddr;
use crate::members::{Member, MemberStanding, takes_down};
use crate::plan::{LeavingNode, NodePlan, Problem, Step};

/// What is known of the declared servers, and of those that only the cluster has: they count in it all the same.
pub(super) fn members(
    inputs: &Inputs<'_>,
    nodes: &BTreeMap<NodeName, NodePlan>,
    benches: &[Workbench<'_>],
    left: &BTreeMap<NodeName, LeavingNode>,
) -> BTreeMap<NodeName, Member> {
    let unknown = |why: &str| Member {
        standing: MemberStanding::Unknown(why.to_owned()),
        server: None,
    };
    let of = |name: &NodeName| {
        if inputs.departing.contains(name) {
            // Nobody has to wait for one that goes: the others have to do without it.
            return Member {
                standing: MemberStanding::Blank,
                server: None,
            };
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
            Ok(Some(_)) => MemberStanding::Member,
            Ok(None) => MemberStanding::Blank,
            Err(diagnosis) => MemberStanding::Unknown(diagnosis.what),
        };
        Member {
            standing,
            server: Some(server.clone()),
        }
    };
    let counting = left
        .iter()
        .filter(|(_, node)| node.server && node.registered && !node.removed)
        .map(|(name, _)| {
            let why = "is a server of the cluster that the inventory no longer has (picluster apply --remove-nodes takes it out)";
            (name.clone(), unknown(why))
        });
    let servers = inputs.servers.iter();
    let declared = servers.map(|name| (name.clone(), of(name)));
    counting.chain(declared).collect()
}

/// Transform: says of every step that can take a member down that it does.
pub(super) fn announce(steps: &mut [Step], members: &BTreeMap<NodeName, Member>) {
    let words = if members.len() == 1 {
        "the only server: the API does not answer meanwhile, what runs on the nodes goes on"
    } else {
        "a server goes down; before that all others are seen to serve, and after it the server itself"
    };
    for step in steps {
        let Some(member) = members.get(&step.addr.node) else {
            continue;
        };
        if member.standing != MemberStanding::Blank && takes_down(step, member.server.as_ref()) {
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

/// The start of what makes a server serve.
fn start(bench: &Workbench<'_>) -> Option<usize> {
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

/// The step behind which a server serves, if it is one of this plan.
fn ready(bench: &Workbench<'_>) -> Option<StepAddr> {
    let i = entry(bench, |r| matches!(r, Resource::ClusterNode(_)))?;
    let item = &bench.items[i];
    item.change.is_some().then(|| item.addr.clone())
}

/// Transform: a server that cannot be told where to join is not started: it would found a cluster of its own. Returns
/// whether something became a problem.
pub(super) fn hold_back(benches: &mut [Workbench<'_>]) -> bool {
    let mut moved = false;
    for bench in benches {
        let (Some(Part::Joins), Some(join), Some(start)) = (bench.part, join(bench), start(bench))
        else {
            continue;
        };
        let broken = bench.items[join].problem.is_some() || bench.is_skipped(join);
        if !broken || bench.items[start].change.is_none() {
            continue;
        }
        let problem = Problem::new(format!(
            "it cannot be told where to join ({}), and must not found a cluster",
            bench.items[join].addr.local()
        ))
        .of(bench.items[start].addr.clone());
        bench.fail(start, problem);
        moved = true;
    }
    moved
}

/// Transform: servers join one at a time, in the order of the inventory, each once the one before it is a voter; who has
/// founded the cluster is told to join like the others, once another one has.
pub(super) fn in_turn(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) {
    let at = |name: &NodeName, benches: &[Workbench<'_>]| {
        benches.iter().position(|bench| bench.node == name)
    };
    let order: Vec<usize> = inputs
        .servers
        .iter()
        .filter_map(|name| at(name, benches))
        .collect();
    let joining: Vec<usize> = order
        .iter()
        .copied()
        .filter(|b| benches[*b].part == Some(Part::Joins))
        .collect();
    let founder = order
        .iter()
        .find(|b| benches[**b].part == Some(Part::Founds))
        .and_then(|b| ready(&benches[*b]));
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
        bench.items[start].foreign.extend(told);
        bench.items[start].foreign.extend(before.clone());
        if mine.is_some() {
            first = first.or_else(|| mine.clone());
            before = mine;
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
