//! Nodes that are switched off: which pods go elsewhere before, and who goes behind whom.
//!
//! It is a plan of its own, not a part of what an inventory wants: nothing on a node differs from it because the node is
//! off.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::{NodeName, RoleName};
use picluster_resource::kinds::node_drained::{NodeDrained, Purpose};
use picluster_resource::{Action, Change, Effect, Resource, Shown};

use super::{Inputs, Item, NodeInput, PLANNER, Workbench, across};
use crate::addr::StepAddr;
use crate::declare::Declared;
use crate::plan::{Cause, FORMAT, NodePlan, NodeState, Plan, Problem, Step, Work};

/// What is to be switched off, and what is known of it besides what was seen.
#[derive(Debug, Clone, Default)]
pub struct Off {
    /// The nodes.
    pub nodes: BTreeSet<NodeName>,
    /// Nodes of the cluster that are no servers.
    pub agents: BTreeSet<NodeName>,
    /// The servers share an etcd, of which a majority has to be up.
    pub etcd: bool,
    /// Nodes that others are reached through, each with those others.
    pub ways: BTreeMap<NodeName, BTreeSet<NodeName>>,
}

/// What a server that stays on does about the pods of those that go, by how its role drains others.
#[must_use]
pub fn drains(server: &NodeName, declared: &[Declared], off: &Off) -> Vec<Declared> {
    let how = declared.iter().find_map(|d| match &d.resource {
        Resource::NodeDrained(how) => Some(how),
        _ => None,
    });
    let (Some(how), Ok(role)) = (how, RoleName::new(PLANNER)) else {
        return Vec::new();
    };
    off.nodes
        .iter()
        .map(|node| {
            let resource = Resource::NodeDrained(NodeDrained {
                node: node.clone(),
                version: None,
                purpose: Purpose::Shutdown,
                ..how.clone()
            });
            Declared {
                addr: StepAddr {
                    node: server.clone(),
                    role: role.clone(),
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
        })
        .collect()
}

/// The plan that switches nodes off. Of those that stay only what [`drains`] says has to be declared.
///
/// Agents go first and together, each when its pods have gone. Servers go one by one behind them, in the inventory's order
/// from behind, so that the first one is the last that goes and the first that is started again. Machines that are no nodes
/// of the cluster come last: what they serve to pods is there as long as a pod is. Who is behind a jump host goes before it.
/// One that cannot be switched off holds nobody up.
#[must_use]
pub fn shutdown(inputs: &Inputs<'_>, off: &Off) -> Plan {
    let mut nodes: BTreeMap<NodeName, NodePlan> = BTreeMap::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut drained: BTreeMap<NodeName, StepAddr> = BTreeMap::new();
    let mut stuck: BTreeSet<NodeName> = BTreeSet::new();
    for (name, input) in &inputs.nodes {
        let node = match input {
            NodeInput::Closed(state) => NodePlan::new(state.clone()),
            NodeInput::Observed(node) => {
                let mut bench = Workbench::new(name, node, inputs);
                bench.items = node.declared.iter().filter_map(parting).collect();
                bench.reorder();
                // Without edges there is no circle.
                bench.sorted = (0..bench.items.len()).collect();
                bench.evaluate();
                bench.items.iter_mut().for_each(told_now);
                bench.emit();
                for item in &bench.items {
                    let Resource::NodeDrained(drain) = item.resource.as_ref() else {
                        continue;
                    };
                    if item.change.is_some() {
                        drained.insert(drain.node.clone(), item.addr.clone());
                    } else if item.problem.is_some() {
                        stuck.insert(drain.node.clone());
                    }
                }
                steps.append(&mut bench.steps);
                NodePlan {
                    unchanged: 0,
                    rolled_back: None,
                    finished: Vec::new(),
                    ..bench.summary()
                }
            }
        };
        if off.nodes.contains(name) || matches!(input, NodeInput::Observed(_)) {
            nodes.insert(name.clone(), node);
        }
    }
    let reached = |name: &&NodeName| {
        off.nodes.contains(*name)
            && !stuck.contains(*name)
            && matches!(nodes[*name].state, NodeState::Observed { .. })
    };
    let words = meaning(inputs, off);
    let mut gone: Vec<(usize, bool, StepAddr)> = Vec::new();
    for (wave, name) in waves(inputs, off) {
        let (true, Some(addr)) = (reached(&name), power_off(name)) else {
            continue;
        };
        let server = inputs.servers.contains(name);
        let earlier = gone.iter().filter(|(w, s, _)| *w < wave || (*s && server));
        let behind = off.ways.get(name).into_iter().flatten();
        // What is still to be done on a node that stays is done while there is a way to it.
        let behind: Vec<&NodeName> = behind.filter(|n| !off.nodes.contains(*n)).collect();
        let on_them = steps.iter().filter(|s| behind.contains(&&s.addr.node));
        let after = earlier
            .map(|(_, _, addr)| addr.clone())
            .chain(on_them.map(|s| s.addr.clone()))
            .collect();
        let mut change =
            Change::new(Action::Run).field("power", Shown::text("on"), Shown::text("off"));
        if server {
            change = change.effect(Effect::Off(words.clone()));
        }
        if !behind.is_empty() {
            let names: Vec<&str> = behind.iter().map(|n| n.as_str()).collect();
            change = change.effect(Effect::Off(format!(
                "the way to {} goes through it, and cannot be gone while it is off",
                names.join(", ")
            )));
        }
        steps.push(Step {
            needs: drained.get(name).cloned().into_iter().collect(),
            after,
            ..Step::new(addr.clone(), Work::PowerOff, change, Cause::Follows)
        });
        gone.push((wave, server, addr));
    }
    let steps = across::sort(steps, &mut nodes);
    Plan {
        format: FORMAT,
        cluster: inputs.cluster.clone(),
        inventory: inputs.inventory.clone(),
        addresses: inputs.addresses.clone(),
        key_id: Some(crate::fingerprint::key_id(inputs.key)),
        nodes,
        steps,
        values: Vec::new(),
        leaving: BTreeMap::new(),
        members: BTreeMap::new(),
    }
}

/// Who goes when: a node goes when all those of lower waves have gone, and servers one behind the other.
fn waves<'a>(inputs: &'a Inputs<'_>, off: &'a Off) -> Vec<(usize, &'a NodeName)> {
    let last = inputs.servers.len() + 1;
    let own = |name: &NodeName| {
        let place = inputs.servers.iter().rev().position(|s| s == name);
        match place {
            Some(place) => place + 1,
            None if off.agents.contains(name) => 0,
            None => last,
        }
    };
    let mut waves: BTreeMap<&NodeName, usize> =
        off.nodes.iter().map(|name| (name, own(name))).collect();
    // Ways do not go in a circle, so that this comes to an end; the bound is for documents that were not checked.
    for _ in 0..off.nodes.len() {
        for (way, behind) in &off.ways {
            let least = behind
                .iter()
                .filter_map(|n| waves.get(n))
                .max()
                .map(|w| w + 1);
            if let (Some(least), Some(wave)) = (least, waves.get_mut(way)) {
                *wave = least.max(*wave);
            }
        }
    }
    let mut order: Vec<(usize, &NodeName)> = waves.into_iter().map(|(n, w)| (w, n)).collect();
    order.sort();
    order
}

fn parting(declared: &Declared) -> Option<Item<'_>> {
    let item = Item {
        departs: true,
        ..Item::new(declared.addr.clone(), Cow::Borrowed(&declared.resource))
    };
    matches!(declared.resource, Resource::NodeDrained(_)).then_some(item)
}

/// Nothing in this plan makes a silent cluster speak: without an answer nobody's pods can be moved.
fn told_now(item: &mut Item<'_>) {
    if item.awaits.take().is_none() {
        return;
    }
    let node = &item.addr.key;
    let problem = Problem::new(format!(
        "the cluster does not answer, so that the pods of {node} cannot be moved; it stays on"
    ))
    .cure(format!(
        "picluster shutdown --no-drain {node} switches it off with its pods"
    ));
    item.change = None;
    item.problem = Some(problem.of(item.addr.clone()));
}

fn power_off(node: &NodeName) -> Option<StepAddr> {
    Some(StepAddr {
        node: node.clone(),
        role: RoleName::new(PLANNER).ok()?,
        kind: "power_off".into(),
        key: node.to_string(),
    })
}

/// What it means for the cluster that servers go.
fn meaning(inputs: &Inputs<'_>, off: &Off) -> String {
    let all = inputs.servers.len();
    let stays = |name: &&NodeName| {
        !off.nodes.contains(*name)
            && matches!(
                inputs.nodes.get(*name),
                Some(NodeInput::Observed(_)) | Some(NodeInput::Closed(NodeState::Observed { .. }))
            )
    };
    let stay = inputs.servers.iter().filter(stays).count();
    let majority = all / 2 + 1;
    match (stay, off.etcd) {
        (0, _) => "the cluster stops: no server stays on; what runs on nodes that stay goes on, and nobody watches it".into(),
        (_, true) if stay < majority => format!(
            "the cluster stops: {stay} of {all} servers stay on, and etcd needs {majority}; the API does not answer before {majority} are on again"
        ),
        (_, true) if stay == majority && all > stay => format!(
            "the cluster goes on with {stay} of {all} servers, just the {majority} that etcd needs: all of them have to serve (picluster status tells), and none may fail meanwhile"
        ),
        _ => format!("the cluster goes on with {stay} of {all} servers, if those serve: picluster status tells"),
    }
}
