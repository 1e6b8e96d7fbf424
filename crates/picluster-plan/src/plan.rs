//! The plan: what is wrong, why, and what will be done about it. Apply consumes nothing else.

use std::collections::BTreeMap;

use picluster_model::{ClusterName, NodeName};
use picluster_resource::{Change, Diagnosis, Facts, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addr::StepAddr;
use crate::members::Member;

/// The version of the plan document. Raised when a reader of the old form would misread the new.
pub const FORMAT: u32 = 1;

/// Everything apply needs to know. Holds no secret: resources carry placeholders, observations are
/// kept as keyed digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// See [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// The inventory it was made from, as the user gave its path.
    pub inventory: String,
    /// Where each node was looked for, `HOST` or `HOST:PORT` as the inventory says it. A plan is for
    /// these places and no others. Empty in plans of a picluster that did not write it yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<NodeName, String>,
    /// Tells the store whose key made the digests in this plan from other stores; says nothing
    /// about the key. Missing in plans of a picluster that did not write it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Every node of the inventory, whatever became of it.
    pub nodes: BTreeMap<NodeName, NodePlan>,
    /// What will be done, in an order that respects every `needs`.
    pub steps: Vec<Step>,
    /// Where the values stand that steps of this plan refer to and that were known when it was
    /// made: read again before it is carried out. Never the values themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueSource>,
    /// Nodes of the cluster that the inventory no longer has there, by the cluster's own list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<NodeName, LeavingNode>,
    /// The servers the inventory declares, whether steps of this plan are theirs or not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<NodeName, Member>,
}

/// A node of ours that the inventory no longer has in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeavingNode {
    /// Where it was logged in to, `[USER@]HOST[:PORT]`.
    pub login: String,
    /// It is a member of the control plane.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub server: bool,
    /// The cluster still has it; otherwise it was deleted there, and its machine is not cleaned yet.
    #[serde(default)]
    pub registered: bool,
    /// This plan takes it out of the cluster, and what is ours off its machine.
    pub removed: bool,
}

/// Where a value that came to be on a node is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueSource {
    /// Its name.
    pub name: String,
    /// The node.
    pub node: NodeName,
    /// The resource that yields it.
    pub resource: Resource,
}

/// One node's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodePlan {
    /// How it was found.
    pub state: NodeState,
    /// Resources that are as desired.
    pub unchanged: u32,
    /// What stands in the way of single resources; their dependents are not planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What a person should know of it; nothing is left undone because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// What an earlier run changed and the node took back, until a guarded change succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Records of resources that are as desired although their mark says that an operation was begun and not finished:
    /// it came to its end with nobody there to hear of it. An apply takes these marks away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<String>,
}

impl NodePlan {
    /// A node found in this state, of which nothing else is known.
    #[must_use]
    pub fn new(state: NodeState) -> Self {
        Self {
            state,
            unchanged: 0,
            problems: Vec::new(),
            warnings: Vec::new(),
            rolled_back: None,
            finished: Vec::new(),
        }
    }

    /// A node nothing is planned for because of this.
    #[must_use]
    pub fn blocked(problem: Problem) -> Self {
        Self::new(NodeState::Blocked {
            problems: vec![problem],
        })
    }
}

/// How a node was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Reached and probed.
    Observed {
        /// Its facts at that time; apply checks that it meets the same machine.
        facts: Box<Facts>,
        /// Its host key's fingerprint.
        host_key: String,
    },
    /// Declared `expected: absent`: known to be off, not dialled.
    Absent,
    /// Nobody answered, or the login failed.
    Unreachable {
        /// In words.
        reason: String,
    },
    /// Its host key is not the pinned one; nothing was sent to it.
    HostKeyChanged {
        /// In words, with both fingerprints.
        reason: String,
    },
    /// Reached, but nothing can be done on it (no sudo, read-only root, unsupported system).
    Blocked {
        /// Each reason in words, with its cure.
        problems: Vec<Problem>,
    },
}

/// Something a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The resource, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<StepAddr>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// Steps that are not planned because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<StepAddr>,
    /// The other node in whose state it lies; nothing is wrong with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<NodeName>,
}

impl Problem {
    /// Something wrong with the node itself.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            addr: None,
            what: what.into(),
            cure: None,
            skipped: Vec::new(),
            because: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Where something on another node keeps it from being done.
    #[must_use]
    pub fn because(mut self, node: Option<NodeName>) -> Self {
        self.because = node;
        self
    }

    /// About this resource of the node.
    #[must_use]
    pub fn of(mut self, addr: StepAddr) -> Self {
        self.addr = Some(addr);
        self
    }
}

impl From<Diagnosis> for Problem {
    fn from(diagnosis: Diagnosis) -> Self {
        Self {
            cure: diagnosis.cure,
            ..Self::new(diagnosis.what)
        }
    }
}

/// One thing to do on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its address.
    pub addr: StepAddr,
    /// Where it is declared, `file:line:col`; empty for what the planner adds.
    pub origin: String,
    /// What to do.
    pub work: Work,
    /// What will change, as shown.
    pub change: Change,
    /// Why it differs.
    pub cause: Cause,
    /// With [`Cause::Unfinished`]: when it was begun, in seconds since the epoch by the clock of the
    /// controller that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<i64>,
    /// Steps of this plan that must be done (changed or found unchanged) before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepAddr>,
    /// Steps of this plan that must have ended before, however they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepAddr>,
    /// Earlier steps of this plan that may move this step's pre-state: after one of them has
    /// changed something, the pre-state need not be as recorded, but the change must stay within
    /// what was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved_by: Vec<StepAddr>,
    /// Keyed digest of the observation the change was computed from; `None` when it could not be
    /// observed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// Keyed digest of the values of the secrets in it; `None` when there are none. With other
    /// values the step is not the one that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
    /// Values it refers to that were not known when the plan was made. Once a step that it needs has
    /// brought them about, it is compared again, within what was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<String>,
    /// Units that must take this change up: the pending mark is set before the change begins.
    /// `(unit, restart)`; `false` means a reload is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<(String, bool)>,
    /// What happens to the node's ownership record.
    pub record: RecordAction,
    /// The node takes it back by itself unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guarded>,
}

impl Step {
    /// A step the planner adds: it stands in no document, and no record tells of it.
    #[must_use]
    pub fn new(addr: StepAddr, work: Work, change: Change, cause: Cause) -> Self {
        Self {
            addr,
            origin: String::new(),
            work,
            change,
            cause,
            begun: None,
            needs: Vec::new(),
            after: Vec::new(),
            moved_by: Vec::new(),
            recorded: None,
            secrets: None,
            later: Vec::new(),
            marks: Vec::new(),
            record: RecordAction::Keep,
            guard: None,
        }
    }
}

/// A step's place among the steps of its node that are confirmed, or taken back, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guarded {
    /// The group's number on its node.
    pub group: u32,
    /// Its last step: after it the change is confirmed over a new connection.
    pub last: bool,
    /// It is about boot files, which count at the next boot.
    pub boot: bool,
    /// All of the group's boot files can be tried for one boot before they are put in place.
    #[serde(default)]
    pub tried: bool,
}

/// A guarded change that a node took back because nobody confirmed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// The steps, `role/kind[key]`.
    pub rolled_back: Vec<String>,
    /// When, in seconds since the epoch by the node's clock.
    pub at: i64,
    /// For how many seconds it had waited.
    pub within: u64,
    /// They were boot files, and the node did not start with them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tried: bool,
}

/// The work of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Bring one resource to its desired state.
    Resource(Box<Resource>),
    /// Reboot the node, prove it by a new boot id, and verify that these resources are in effect.
    Reboot {
        /// Resources that wait for the reboot.
        verify: Vec<Resource>,
    },
    /// Switch the node off, and see that it does not answer any more.
    PowerOff,
}

/// Why a resource differs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// picluster has not applied it to this node before.
    New,
    /// The documents changed since it was last applied.
    Intent,
    /// The documents say what they said; somebody or something changed the node.
    Drift,
    /// The documents say what they said; an earlier run began it and did not bring it to an end.
    Unfinished,
    /// It follows from another step of this plan.
    Follows,
    /// It left the documents and is taken away.
    Removed,
}

/// What happens to the ownership record of a step's resource: a small file below
/// [`crate::owned::DIR`] on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordAction {
    /// Nothing.
    Keep,
    /// Written before the operation begins.
    Write {
        /// File name below the directory.
        name: String,
        /// Its one line of JSON.
        text: String,
    },
    /// Deleted after the operation; also when the resource is already gone.
    Drop {
        /// File name below the directory.
        name: String,
    },
}

impl Plan {
    /// The step at an address.
    #[must_use]
    pub fn step(&self, addr: &StepAddr) -> Option<&Step> {
        self.steps.iter().find(|s| &s.addr == addr)
    }

    /// Whether there is nothing to do on any node that was reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
