//! How a rack is: one survey, made into a report for people and programs. A pure function; what reads files is in
//! [`last`].

pub mod last;
pub mod warning;

use std::collections::BTreeMap;

use picluster_engine::NodeEnd;
use picluster_model::inventory::{Node, Project};
use picluster_model::kubernetes::KubernetesRole;
use picluster_model::{ClusterName, NodeName};
use picluster_plan::{NodeState, Plan, Problem};
use picluster_resource::kinds::cluster_node::{Registered, Roll};
use picluster_resource::{Facts, Health};
use schemars::JsonSchema;
use serde::Serialize;

use crate::show::closed;
use crate::survey::{Readings, without_node};

use last::Applied;
use warning::Warning;

/// The version of what `status --json` prints. Raised when a reader of the old form would misread the new.
pub const FORMAT: u32 = 1;

/// Seconds by which a node's own record may be newer than the end of a run that is known here and still be of that run.
const SAME_RUN: i64 = 60;

/// What `status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    /// See [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// When, in seconds since the epoch by the controller's clock.
    pub at: i64,
    /// The Kubernetes that runs on it, where the inventory names one.
    pub kubernetes: Option<Kubernetes>,
    /// Every node that was asked for.
    pub nodes: BTreeMap<NodeName, NodeStatus>,
    /// What a person should look at, by node.
    pub warnings: Vec<Warning>,
}

/// The Kubernetes of a rack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kubernetes {
    /// The version the inventory wants.
    pub version: String,
    /// The server whose word `kubernetes` of each node is; `null`: none could be asked, or there is no cluster yet.
    pub told_by: Option<NodeName>,
}

/// How a node was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Looked at.
    Observed,
    /// Declared `expected: absent`: not dialled.
    Absent,
    /// Nobody answered.
    Unreachable,
    /// Its host key, or the machine under it, is another one.
    HostKeyChanged,
    /// Reached, but nothing can be planned for it.
    Blocked,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NodeStatus {
    /// How it was found.
    pub state: State,
    /// Why it could not be looked at, or what stands in the way of single resources.
    pub problems: Vec<Problem>,
    /// What the inventory wants it to be in the cluster.
    pub role: Option<KubernetesRole>,
    /// Its facts, where it was reached.
    pub facts: Option<Facts>,
    /// How the machine is, where it could be asked.
    pub health: Option<Health>,
    /// When it was started, in seconds since the epoch by the controller's clock.
    pub up_since: Option<i64>,
    /// How many steps an apply would do on it; `null`: nothing could be planned.
    pub changes: Option<usize>,
    /// What the cluster says of it; `null`: it has no role in one, or nobody told.
    pub kubernetes: Option<InCluster>,
    /// When picluster last worked on it, as far as that is known.
    pub last_apply: Option<LastApply>,
}

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InCluster {
    /// How it stands there.
    pub standing: Standing,
    /// The version of its kubelet; empty when it is not registered.
    pub version: String,
    /// Its taints, `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
    pub taints: Vec<String>,
}

/// How a node stands in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its condition `Ready` is `True`.
    Ready,
    /// It is `False`.
    NotReady,
    /// It is `Unknown`, or there is none: its kubelet has not reported for a while, or never.
    Unknown,
    /// There is no such node in the cluster.
    NotRegistered,
    /// A machine with another machine id is registered under its name.
    AnotherMachine,
}

/// When picluster last worked on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastApply {
    /// In seconds since the epoch.
    pub at: i64,
    /// Who says so.
    pub by: Source,
    /// The run, where a journal of this controller tells of it.
    pub run: Option<String>,
    /// How it ended, where a journal of this controller tells of it.
    pub end: Option<NodeEnd>,
}

/// Who tells of the last apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A journal of this controller, by its clock.
    Journal,
    /// The ownership records on the node, by its own clock: the last run that changed something there.
    Node,
}

/// Everything a report is a function of.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The documents.
    pub project: &'a Project,
    /// The nodes that are asked for.
    pub nodes: Vec<&'a Node>,
    /// What an apply would do.
    pub plan: &'a Plan,
    /// Whether that could be found out.
    pub planned: bool,
    /// What was read on nodes.
    pub readings: &'a BTreeMap<NodeName, Readings>,
    /// What this controller's journals tell.
    pub applied: BTreeMap<NodeName, Applied>,
    /// When, in seconds since the epoch by the controller's clock.
    pub at: i64,
}

impl Status {
    /// Makes the report.
    #[must_use]
    pub fn of(seen: &Seen<'_>) -> Self {
        let inventory = &seen.project.inventory;
        let rolls: Vec<(NodeName, &Roll)> = inventory
            .servers()
            .filter_map(|name| {
                let roll = seen.readings.get(&name)?.roll.as_ref()?;
                Some((name, roll))
            })
            .collect();
        let told = rolls.iter().find_map(|(name, roll)| match roll {
            Roll::Nodes(nodes) => Some((name, nodes.as_slice())),
            Roll::Never | Roll::Silent => None,
        });
        let kubernetes = inventory.kubernetes.as_ref().map(|k| Kubernetes {
            version: k.version.to_string(),
            told_by: told.map(|(name, _)| name.clone()),
        });
        let nodes: BTreeMap<NodeName, NodeStatus> = seen
            .nodes
            .iter()
            .map(|node| {
                let status = seen.node(node, told.map(|(_, nodes)| nodes));
                (node.name.clone(), status)
            })
            .collect();
        let silent: Vec<&NodeName> = rolls
            .iter()
            .filter(|(name, roll)| matches!(roll, Roll::Silent) && nodes.contains_key(name))
            .map(|(name, _)| name)
            .collect();
        let mut warnings = warning::all(&nodes, kubernetes.as_ref(), &silent);
        warnings.extend(warning::of_plan(seen.plan, &nodes));
        warnings.sort_by(|a, b| a.node.cmp(&b.node));
        Self {
            format: FORMAT,
            cluster: inventory.cluster.clone(),
            at: seen.at,
            kubernetes,
            nodes,
            warnings,
        }
    }
}

impl Seen<'_> {
    fn node(&self, node: &Node, told: Option<&[Registered]>) -> NodeStatus {
        let name = &node.name;
        let readings = self.readings.get(name);
        let facts = readings.map(|r| &r.facts);
        let health = readings.and_then(|r| r.health.as_ref());
        let plan = self.plan.nodes.get(name);
        let (state, mut problems) = match plan.map(|p| &p.state) {
            Some(NodeState::Observed { .. }) => (State::Observed, Vec::new()),
            Some(NodeState::Absent) | None => (State::Absent, Vec::new()),
            Some(NodeState::Unreachable { reason }) => (
                State::Unreachable,
                vec![Problem::new(without_node(reason, name)).cure(closed::UNREACHABLE)],
            ),
            Some(NodeState::HostKeyChanged { reason }) => (
                State::HostKeyChanged,
                vec![Problem::new(without_node(reason, name)).cure(closed::changed_key(name))],
            ),
            Some(NodeState::Blocked { problems }) => (State::Blocked, problems.clone()),
        };
        problems.extend(plan.into_iter().flat_map(|p| p.problems.iter().cloned()));
        let steps = self.plan.steps.iter().filter(|s| s.addr.node == *name);
        let up = health.and_then(|h| h.up_s);
        NodeStatus {
            state,
            problems,
            role: node.kubernetes,
            facts: facts.cloned(),
            health: health.cloned(),
            up_since: up
                .and_then(|up| i64::try_from(up).ok())
                .map(|up| self.at - up),
            changes: (state == State::Observed && self.planned).then(|| steps.count()),
            kubernetes: node
                .kubernetes
                .and_then(|_| Some(InCluster::of(name, facts, told?))),
            last_apply: last_apply(self.applied.get(name), health.and_then(|h| h.applied)),
        }
    }
}

impl InCluster {
    fn of(name: &NodeName, facts: Option<&Facts>, told: &[Registered]) -> Self {
        let Some(node) = told.iter().find(|n| n.name == name.as_str()) else {
            return Self {
                standing: Standing::NotRegistered,
                version: String::new(),
                taints: Vec::new(),
            };
        };
        let here = facts.map_or("", |f| f.now.machine_id.as_str());
        let another = !node.is(here);
        Self {
            standing: match node.ready.as_str() {
                _ if another => Standing::AnotherMachine,
                "True" => Standing::Ready,
                "False" => Standing::NotReady,
                _ => Standing::Unknown,
            },
            version: node.version.clone(),
            taints: node.taints.clone(),
        }
    }
}

/// The later of what the journals of this controller and the node itself tell: another controller may have been there
/// since.
fn last_apply(journal: Option<&Applied>, node: Option<i64>) -> Option<LastApply> {
    match (journal, node) {
        (Some(run), stamp) if stamp.is_none_or(|at| at <= run.at + SAME_RUN) => Some(LastApply {
            at: run.at,
            by: Source::Journal,
            run: Some(run.run.clone()),
            end: Some(run.end.clone()),
        }),
        (_, stamp) => stamp.map(|at| LastApply {
            at,
            by: Source::Node,
            run: None,
            end: None,
        }),
    }
}
