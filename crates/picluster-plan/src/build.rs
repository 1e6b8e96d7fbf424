//! Builds the plan: evaluates every resource of every node, then lets the named transforms add
//! what follows.

mod across;
mod bench;
mod cause;
mod emit;
mod evaluate;
mod gate;
mod guard;
mod leave;
mod order;
mod packages;
mod questions;
mod reboot;
mod removal;
mod servers;
mod shutdown;
mod turn;
mod upgrade;
mod weigh;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::SecretValues;
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_resource::{Answers, Change, ClusterToken, Ctx, Facts, Observation, Resource};

pub use self::questions::{harvest, questions, removal_questions, stands_open};
pub use self::shutdown::{Off, drains, shutdown};
pub use self::turn::turning;
pub(crate) use self::turn::{turned, whole};
pub use self::weigh::numbers_asked;

use self::guard::add_guards;
use self::questions::notes;
use crate::addr::StepAddr;
use crate::declare::Declared;
use crate::graph::Order;
use crate::owned::Open;
use crate::plan::{Cause, FORMAT, NodePlan, NodeState, Plan, Problem, Step};

/// The role name of what the planner adds by itself.
const PLANNER: &str = "picluster";

/// What is written in `needs` for "behind this node's reboot, if it has one".
pub const REBOOT: &str = "reboot";

/// What is known of one node.
#[derive(Debug, Clone)]
pub enum NodeInput {
    /// Not looked at, or looked at in vain.
    Closed(NodeState),
    /// Reached and probed.
    Observed(Box<ObservedNode>),
}

/// A node that was reached and probed.
#[derive(Debug, Clone)]
pub struct ObservedNode {
    /// Its facts.
    pub facts: Facts,
    /// Its host key's fingerprint.
    pub host_key: String,
    /// What it should have.
    pub declared: Vec<Declared>,
    /// Answers to everything [`questions`] and [`removal_questions`] ask.
    pub answers: Answers,
}

/// Everything a plan is a function of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The cluster.
    pub cluster: ClusterName,
    /// The inventory's path, as the user gave it.
    pub inventory: String,
    /// Where each node is looked for, as the inventory says it.
    pub addresses: BTreeMap<NodeName, String>,
    /// Every node of the inventory.
    pub nodes: BTreeMap<NodeName, NodeInput>,
    /// The declared servers, whether they were reached or not.
    pub servers: Vec<NodeName>,
    /// The declared agents, whether they were reached or not.
    pub agents: Vec<NodeName>,
    /// Nodes that are to leave their cluster, with consent: those that the inventory no longer has there, and those that are
    /// reset, of whose cluster's role nothing is declared; and those of [`turning`], which come back.
    pub departing: BTreeSet<NodeName>,
    /// The server that has been told to found the cluster, whatever others remember.
    pub bootstrap: Option<NodeName>,
    /// Values behind placeholders, those of [`harvest`] among them.
    pub secrets: &'a SecretValues,
    /// The key of [`fingerprint`].
    pub key: &'a [u8],
}

/// A node with a change that waits for its end one way or the other: what is looked at now may be
/// gone in a moment.
fn waiting(open: &Open) -> NodePlan {
    let what = format!(
        "an earlier run broke off in the middle of a guarded change; the node takes it back by itself within {} s",
        open.guard_open
    );
    NodePlan::blocked(Problem::new(what).cure(
        "picluster apply takes it back now and goes on; if it stays so, reboot the node: it takes the change back after its start",
    ))
}

/// Makes the plan.
#[must_use]
pub fn build(inputs: &Inputs<'_>) -> Plan {
    let mut nodes = BTreeMap::new();
    let mut benches = Vec::new();
    for (name, input) in &inputs.nodes {
        match input {
            NodeInput::Closed(state) => {
                nodes.insert(name.clone(), NodePlan::new(state.clone()));
            }
            NodeInput::Observed(node) => {
                if let Some(open) = Open::parse(notes(&node.answers)) {
                    nodes.insert(name.clone(), waiting(&open));
                    continue;
                }
                benches.push(Workbench::new(name, node, inputs));
            }
        }
    }
    let turning = turn::add(&mut benches, inputs);
    let mut weighed = weigh::weigh(&benches, inputs);
    let roll = leave::Roll::of(&benches, inputs);
    leave::add(&mut benches, inputs, roll.as_ref());
    benches.retain_mut(|bench| match bench.prepare() {
        Ok(()) => true,
        Err(cycle) => {
            nodes.insert(bench.node.clone(), bench.blocked_by(&cycle));
            false
        }
    });
    gate::keep(&mut benches, &mut nodes, inputs, &mut weighed);
    upgrade::refuse(&mut benches);
    for bench in &mut benches {
        bench.evaluate();
    }
    across::settle(&mut benches, inputs, roll.as_ref());
    let mut steps = Vec::new();
    for bench in &mut benches {
        bench.gather_guarded();
        bench.emit();
        bench.add_reboot();
        steps.append(&mut bench.steps);
        nodes.insert(bench.node.clone(), bench.summary());
    }
    for (name, found) in weighed {
        if let Some(node) = nodes.get_mut(&name) {
            node.warnings = found.warned;
        }
    }
    let members = servers::members(inputs, &nodes, &benches, roll.as_ref());
    servers::behind_departures(&mut steps, &members);
    let mut steps = across::sort(steps, &mut nodes);
    turn::whole(&mut steps, &turning);
    add_guards(&mut steps);
    let leaving = roll.map(|roll| roll.leaving(inputs)).unwrap_or_default();
    servers::announce(&mut steps, &members);
    let values = across::sources(&steps, &benches);
    Plan {
        format: FORMAT,
        cluster: inputs.cluster.clone(),
        inventory: inputs.inventory.clone(),
        addresses: inputs.addresses.clone(),
        key_id: Some(crate::fingerprint::key_id(inputs.key)),
        nodes,
        steps,
        values,
        leaving,
        members,
    }
}

/// One resource on its way through the transforms.
struct Item<'a> {
    addr: StepAddr,
    resource: Cow<'a, Resource>,
    origin: String,
    barrier: bool,
    guarded: bool,
    needs: &'a [String],
    id: Option<&'a str>,
    seen: Option<Observation>,
    problem: Option<Problem>,
    change: Option<Change>,
    cause: Cause,
    begun: Option<i64>,
    marks: BTreeMap<String, bool>,
    /// Present for what is being taken away.
    removed: bool,
    /// What of another node it was found waiting for.
    awaits: Option<ClusterToken>,
    /// Steps of other nodes it comes behind.
    foreign: BTreeSet<StepAddr>,
    /// It comes behind the reboot of its node.
    after_reboot: bool,
    /// Nobody declares it: it takes another node out of the cluster.
    departs: bool,
    /// Nobody declares it: a unit that has to take up what is removed.
    reader: bool,
}

/// A node's resources while its part of the plan is made.
struct Workbench<'a> {
    node: &'a NodeName,
    observed: &'a ObservedNode,
    ctx: Ctx<'a>,
    key: &'a [u8],
    items: Vec<Item<'a>>,
    order: Order,
    sorted: Vec<usize>,
    steps: Vec<Step>,
    /// The cluster still counts on it, while it is to leave.
    registered: bool,
    /// What its reboot comes behind, on other nodes.
    reboot_behind: BTreeSet<StepAddr>,
    /// What it does for the control plane in this plan, where it is a server.
    part: Option<Part>,
    /// Its server's unit runs, or is about to.
    runs: bool,
    /// It leaves its cluster and comes back as something else, by this role.
    turns: Option<RoleName>,
    /// The nodes that do.
    turning: BTreeSet<NodeName>,
}

/// What a declared server does in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It founds the cluster.
    Founds,
    /// It has no datastore, or was removed from the cluster: it joins.
    Joins,
    /// It is a member.
    Member,
}
