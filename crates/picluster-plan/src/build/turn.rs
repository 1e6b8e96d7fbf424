//! A member that is to become the other thing: an agent a server, or a server an agent. It leaves its cluster as what it was, and
//! comes back as what it is to be, in one plan: nothing else takes what it was off it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::kubernetes::{Distribution, KubernetesRole};
use picluster_model::secret::SecretValues;
use picluster_model::{NodeName, RoleName};
use picluster_resource::kinds::cluster_member::{ClusterMember, Memory};
use picluster_resource::kinds::cluster_node::ClusterNode;
use picluster_resource::kinds::command::Command;
use picluster_resource::kinds::node_drained::Purpose;
use picluster_resource::{
    Action, Answers, ClusterToken, Ctx, Diff, Kind, Observation, Resource, Seen, Token,
};

use super::questions::records;
use super::{Inputs, Item, NodeInput, PLANNER, Workbench};
use crate::addr::StepAddr;
use crate::declare::Declared;
use crate::plan::{Cause, Problem, Step, Work};

/// Whether a machine is the other thing than it is to be, by what it remembers.
pub(super) fn is_other(role: KubernetesRole, memory: &Memory) -> bool {
    match role {
        KubernetesRole::Agent => memory.datastore,
        KubernetesRole::Server => {
            !memory.datastore && memory.agent_ca.is_some() && memory.server_ca.is_none()
        }
    }
}

/// What takes a machine that is to become the other thing out of its cluster, by its own record of what it was; `None`: it is
/// what it is to be, or it has no such record.
pub(super) fn leaves_as(
    declared: &[Declared],
    answers: &Answers,
    ctx: Ctx<'_>,
) -> Option<Resource> {
    let member: &ClusterMember = declared.iter().find_map(|d| match &d.resource {
        Resource::ClusterMember(member) => Some(member),
        _ => None,
    })?;
    let wanted = declared.iter().find_map(|d| match &d.resource {
        Resource::ClusterNode(node) => Some(node),
        _ => None,
    })?;
    let seen = Resource::ClusterMember(member.clone())
        .observe(answers, ctx)
        .ok()?;
    let Observation::ClusterMember(Seen::Now(memory)) = seen else {
        return None;
    };
    if member.distribution != Distribution::K3s || !is_other(member.role, &memory) {
        return None;
    }
    records(answers)
        .into_iter()
        .find_map(|record| match record.removal {
            Some(Resource::ClusterNode(was))
                if was.name == wanted.name && was.unit != wanted.unit =>
            {
                Some(Resource::ClusterNode(was))
            }
            _ => None,
        })
}

/// The nodes that are to become the other thing and can.
#[must_use]
pub fn turning(
    nodes: &BTreeMap<NodeName, NodeInput>,
    secrets: &SecretValues,
) -> BTreeSet<NodeName> {
    let turns = |input: &NodeInput| match input {
        NodeInput::Observed(node) => {
            let ctx = Ctx {
                facts: &node.facts,
                secrets,
            };
            leaves_as(&node.declared, &node.answers, ctx).is_some()
        }
        NodeInput::Closed(_) => false,
    };
    let all = nodes.iter().filter(|(_, input)| turns(input));
    all.map(|(name, _)| name.clone()).collect()
}

/// Transform: a node that may become the other thing leaves as what it was.
pub(super) fn add(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) -> BTreeSet<NodeName> {
    let mut turning = BTreeSet::new();
    for bench in benches
        .iter_mut()
        .filter(|b| inputs.departing.contains(b.node))
    {
        let declared = &bench.observed.declared;
        let role = bench.member().map(|i| bench.items[i].addr.role.clone());
        let (Some(was), Some(role), Ok(planner)) = (
            leaves_as(declared, &bench.observed.answers, bench.ctx),
            role,
            RoleName::new(PLANNER),
        ) else {
            continue;
        };
        let addr = StepAddr {
            node: bench.node.clone(),
            role: planner,
            kind: was.kind().to_owned(),
            key: was.key(),
        };
        bench.turns = Some(role);
        bench.items.push(Item {
            cause: Cause::Intent,
            removed: true,
            ..Item::new(addr, Cow::Owned(was))
        });
        bench.reorder();
        turning.insert(bench.node.clone());
    }
    for bench in benches {
        bench.turning.clone_from(&turning);
    }
    turning
}

/// The nodes that become the other thing by these steps.
pub(crate) fn turned(steps: &[Step]) -> BTreeSet<NodeName> {
    let leaves =
        |step: &&Step| step.addr.role.as_str() == PLANNER && step.addr.kind == ClusterNode::NAME;
    steps
        .iter()
        .filter(leaves)
        .map(|step| step.addr.node.clone())
        .collect()
}

/// Where steps have fallen out of a plan, because they wait for each other or somebody wants a part of it, nobody is drained or
/// deleted who would not come back.
pub(crate) fn whole(steps: &mut Vec<Step>, turning: &BTreeSet<NodeName>) {
    let both = |node: &NodeName| {
        let own = |step: &&Step| step.addr.node == *node && step.addr.kind == ClusterNode::NAME;
        steps.iter().filter(own).count() == 2
    };
    let stuck: BTreeSet<&NodeName> = turning.iter().filter(|node| !both(node)).collect();
    let about = |step: &Step| match &step.work {
        Work::Resource(resource) => match resource.as_ref() {
            Resource::NodeDrained(drain) if drain.purpose == Purpose::Removal => {
                stuck.contains(&drain.node)
            }
            Resource::NodeAbsent(absent) => stuck.contains(&absent.node),
            Resource::ClusterNode(node) => {
                step.addr.role.as_str() == PLANNER && stuck.contains(&node.name)
            }
            _ => false,
        },
        Work::Reboot { .. } | Work::PowerOff => false,
    };
    // What waits for such a step does not go without it.
    let mut gone: BTreeSet<StepAddr> = BTreeSet::new();
    for step in steps.iter() {
        if about(step) || step.needs.iter().any(|need| gone.contains(need)) {
            gone.insert(step.addr.clone());
        }
    }
    steps.retain(|step| !gone.contains(&step.addr));
}

/// Transform: who cannot become what it is to be stays what it is, whole. Returns whether something became a problem.
pub(super) fn hold_back(benches: &mut [Workbench<'_>]) -> bool {
    let turning = benches.first().map(|b| b.turning.clone());
    let broken = |bench: &Workbench<'_>| {
        let mut items = bench.items.iter().enumerate();
        items.any(|(i, item)| {
            bench.turns.as_ref() == Some(&item.addr.role)
                && (item.problem.is_some() || bench.is_skipped(i))
        })
    };
    let mut stuck = turning.unwrap_or_default();
    stuck.retain(|node| benches.iter().find(|b| b.node == node).is_none_or(broken));
    let about = |resource: &Resource| match resource {
        Resource::NodeDrained(drain) => stuck.get(&drain.node).cloned(),
        Resource::NodeAbsent(absent) => stuck.get(&absent.node).cloned(),
        _ => None,
    };
    let mut moved = false;
    for bench in benches {
        for i in 0..bench.items.len() {
            let item = &bench.items[i];
            let own = item.removed && matches!(item.resource.as_ref(), Resource::ClusterNode(_));
            let node = match (item.departs, own && stuck.contains(bench.node)) {
                (true, _) => about(item.resource.as_ref()),
                (_, true) => Some(bench.node.clone()),
                (false, false) => None,
            };
            let Some(node) = node.filter(|_| item.change.is_some()) else {
                continue;
            };
            let problem = Problem::new(format!(
                "{node} stays what it is: what it is to be cannot be done"
            ))
            .cure(format!("mend what stands in the way on {node} first"))
            .because((node != *bench.node).then_some(node));
            let problem = problem.of(item.addr.clone());
            bench.fail(i, problem);
            moved = true;
        }
    }
    moved
}

impl Workbench<'_> {
    /// What has to be seen of an entry again, once a node has left as what it was: what is there now goes with that.
    pub(super) fn gone_by_then(&self, i: usize) -> Option<Observation> {
        let item = &self.items[i];
        let resource = item.resource.as_ref();
        if let Resource::NodeLabels(labels) = resource
            && self.turning.contains(&labels.node)
            && !(labels.labels.is_empty() && labels.taints.is_empty())
        {
            let joined = ClusterToken::Joined(labels.node.clone());
            return Some(resource.not_before(Token::Cluster(joined)));
        }
        if item.removed || self.turns.as_ref() != Some(&item.addr.role) {
            return None;
        }
        let goes = match resource {
            Resource::ClusterNode(_) => true,
            Resource::File(_)
            | Resource::Directory(_)
            | Resource::Link(_)
            | Resource::Artifact(_)
            | Resource::Command(Command {
                creates: Some(_), ..
            }) => {
                let seen = resource.observe(&self.observed.answers, self.ctx).ok()?;
                let made =
                    |diff| matches!(diff, Diff::Change(change) if change.action == Action::Create);
                seen.not_yet().is_none() && !made(resource.diff(&seen, self.ctx))
            }
            _ => false,
        };
        let was = self
            .items
            .iter()
            .find_map(|item| match item.resource.as_ref() {
                Resource::ClusterNode(node) if item.removed => Some(node.unit.clone()),
                _ => None,
            })?;
        goes.then(|| resource.not_before(Token::Unit(was)))
    }
}
