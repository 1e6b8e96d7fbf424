//! How a run ended: by node and by step.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_plan::{Problem, StepAddr};
use picluster_resource::Change;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit_code::ExitCode;
use crate::lock::Owner;

/// How one step ended. Every step of a plan ends with exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was already as desired; nothing was written.
    Unchanged,
    /// It was brought to the desired state, and that was seen afterwards.
    Changed,
    /// It went wrong.
    Failed(Box<Failure>),
    /// Not started, because of another step or the state of its node.
    Skipped(SkipReason),
    /// The session ended while the step ran: nobody knows how far it got. Never success.
    Lost {
        /// What is known.
        what: String,
    },
    /// It was done, and the node took it back by itself, because there was no way in any more.
    RolledBack {
        /// Why, and what was restored.
        what: String,
    },
    /// What stands on the node is not what the plan was made from; nothing was written.
    Stale {
        /// What differs.
        what: String,
    },
}

/// Why a step was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// This step, which it needs, was not done. Always the first cause, itself not skipped
    /// because of another step.
    Needs(StepAddr),
    /// Its node cannot be worked on.
    Node(NodeName),
    /// A rule about what may be down together keeps it from starting, in words.
    Guard(String),
    /// The run was told to stop.
    Cancelled,
}

/// What went wrong in a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// In one sentence.
    pub what: String,
    /// What to do about it, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// The shell text that ran on the node, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// The end of what it printed, secrets masked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// What still differs, when it did not converge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Change>,
}

impl Failure {
    /// A failure of which only this is known.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ..Self::default()
        }
    }
}

impl Outcome {
    /// Whether steps that need this one may start.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Unchanged | Self::Changed)
    }
}

/// How work on one node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeEnd {
    /// There was nothing to do on it; it was not dialled.
    Idle,
    /// All its steps are done.
    Done,
    /// A step failed, was lost, refused or skipped; each says why.
    Incomplete,
    /// Nobody answered, or the login failed.
    Unreachable {
        /// In words.
        reason: String,
    },
    /// The host key, machine id or serial is another one. Nothing was sent or written.
    IdentityChanged {
        /// In words.
        reason: String,
        /// Its key is the pinned one, but it is not the machine the plan was made for: only a new
        /// plan can tell whether that machine is a stranger.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        since_plan: bool,
    },
    /// Another run works on it.
    Locked {
        /// Who, when it could be read.
        holder: Option<Owner>,
        /// In words.
        reason: String,
    },
    /// Reached, but no step could be run (no root, broken shell).
    Failed {
        /// In words.
        reason: String,
    },
    /// The run was told to stop before its steps were done.
    Interrupted,
}

/// One node's part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// How it ended.
    pub end: NodeEnd,
    /// Its steps, in the plan's order.
    pub steps: Vec<StepReport>,
    /// What stood in the way of single resources when the plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// One step's part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its address.
    pub addr: StepAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took; zero when it was not started.
    pub seconds: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// By node; every node of the plan.
    pub nodes: BTreeMap<NodeName, NodeReport>,
    /// It was told to stop before it was done.
    pub interrupted: bool,
    /// How long it took.
    pub seconds: f64,
}

/// How many steps ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// See [`Outcome::Unchanged`].
    pub unchanged: u32,
    /// See [`Outcome::Changed`].
    pub changed: u32,
    /// See [`Outcome::Failed`].
    pub failed: u32,
    /// See [`Outcome::Skipped`].
    pub skipped: u32,
    /// See [`Outcome::Lost`].
    pub lost: u32,
    /// See [`Outcome::Stale`].
    pub stale: u32,
    /// See [`Outcome::RolledBack`].
    #[serde(default)]
    pub rolled_back: u32,
}

impl Counts {
    /// Counts outcomes.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            *match outcome {
                Outcome::Unchanged => &mut counts.unchanged,
                Outcome::Changed => &mut counts.changed,
                Outcome::Failed(_) => &mut counts.failed,
                Outcome::Skipped(_) => &mut counts.skipped,
                Outcome::Lost { .. } => &mut counts.lost,
                Outcome::Stale { .. } => &mut counts.stale,
                Outcome::RolledBack { .. } => &mut counts.rolled_back,
            } += 1;
        }
        counts
    }
}

impl Report {
    /// Counts the steps.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::of(
            self.nodes
                .values()
                .flat_map(|n| &n.steps)
                .map(|s| &s.outcome),
        )
    }

    /// The process's exit code: the gravest of what happened.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::worst(self.exit_codes())
    }

    /// Everything that happened, as exit codes, gravest first; empty when all went well.
    #[must_use]
    pub fn exit_codes(&self) -> Vec<ExitCode> {
        let mut codes = Vec::new();
        if self.interrupted {
            codes.push(ExitCode::Interrupted);
        }
        for node in self.nodes.values() {
            match &node.end {
                NodeEnd::IdentityChanged { .. } => codes.push(ExitCode::IdentityChanged),
                NodeEnd::Unreachable { .. } => codes.push(ExitCode::Unreachable),
                NodeEnd::Locked { .. } => codes.push(ExitCode::Locked),
                NodeEnd::Failed { .. } => codes.push(ExitCode::NodeFailed),
                NodeEnd::Idle | NodeEnd::Done | NodeEnd::Incomplete | NodeEnd::Interrupted => {}
            }
            if !node.problems.is_empty() {
                codes.push(ExitCode::NodeFailed);
            }
            for step in &node.steps {
                match &step.outcome {
                    Outcome::Skipped(SkipReason::Guard(_)) | Outcome::Failed(_) => {
                        codes.push(ExitCode::NodeFailed)
                    }
                    // We closed the connection ourselves: the node finishes the step and stops.
                    Outcome::Lost { .. } if self.interrupted => {}
                    Outcome::Lost { .. } => codes.push(ExitCode::NodeFailed),
                    Outcome::Stale { .. } => codes.push(ExitCode::Stale),
                    Outcome::RolledBack { .. } => codes.push(ExitCode::RolledBack),
                    Outcome::Unchanged | Outcome::Changed | Outcome::Skipped(_) => {}
                }
            }
        }
        codes.sort_by_key(|code| std::cmp::Reverse(code.gravity()));
        codes.dedup();
        codes
    }
}
