//! Why nothing could be learnt from, or done on, a node.

use picluster_model::NodeName;
use picluster_resource::query::AnswerError;

use crate::host::{ConnectError, HostError};
use crate::lock::Owner;

/// What stops work on a node, outside of any step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NodeError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection refused a program, or broke before it started.
    #[error("{node}: {error}")]
    Host {
        /// The node.
        node: NodeName,
        /// What the transport says.
        error: HostError,
    },
    /// The session closed before the answer came; nobody knows how far it got.
    #[error("{node}: the session ended before the answer came{}", said(stderr))]
    Lost {
        /// The node.
        node: NodeName,
        /// The last words on stderr, if any.
        stderr: String,
    },
    /// No answer within the bound.
    #[error("{node}: no answer within {seconds} s while {doing}")]
    Timeout {
        /// The node.
        node: NodeName,
        /// What was going on.
        doing: String,
        /// The bound.
        seconds: u64,
    },
    /// What came back is not what our program prints.
    #[error("{node}: unexpected output: {what}")]
    Garbage {
        /// The node.
        node: NodeName,
        /// What came.
        what: String,
    },
    /// The node-side program gave up.
    #[error("{node}: {what}")]
    GaveUp {
        /// The node.
        node: NodeName,
        /// Its own words.
        what: String,
    },
    /// An answer cannot be understood.
    #[error("{node}: {error}")]
    Answer {
        /// The node.
        node: NodeName,
        /// Which and why.
        error: AnswerError,
    },
    /// Root cannot be had.
    #[error("{node}: {why}")]
    NoRoot {
        /// The node.
        node: NodeName,
        /// Why, and what to do.
        why: String,
    },
    /// sudo did not take the password. It was tried once.
    #[error("{node}: sudo refused the password (tried once)")]
    WrongPassword {
        /// The node.
        node: NodeName,
    },
    /// Another run works on the node.
    #[error("{node}: locked by {}", holder.as_ref().map_or_else(|| "an unknown process".to_owned(), ToString::to_string))]
    Locked {
        /// The node.
        node: NodeName,
        /// Who, when it could be read.
        holder: Option<Box<Owner>>,
        /// Processes that hold the lock, `name (pid)`.
        processes: Vec<String>,
    },
    /// A server was taken down by a step, and does not serve again.
    #[error(
        "{node}: it was taken down by {step} and does not serve the cluster again: {why}; no other server is taken down"
    )]
    NotServing {
        /// The node.
        node: NodeName,
        /// The step.
        step: Box<picluster_plan::StepAddr>,
        /// Why, in words.
        why: String,
    },
    /// Another machine answers under this name and key than the plan was made for.
    #[error("{node}: this is not the machine the plan was made for: {what}")]
    Identity {
        /// The node.
        node: NodeName,
        /// What differs.
        what: String,
    },
}

fn said(stderr: &str) -> String {
    if stderr.trim().is_empty() {
        String::new()
    } else {
        format!("; it said: {}", stderr.trim())
    }
}

impl NodeError {
    /// The node it is about.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Connect(
                ConnectError::Unreachable { node, .. }
                | ConnectError::HostKeyChanged { node, .. }
                | ConnectError::HostKeyUnknown { node, .. }
                | ConnectError::Authentication { node, .. }
                | ConnectError::Local { node, .. },
            )
            | Self::Host { node, .. }
            | Self::Lost { node, .. }
            | Self::Timeout { node, .. }
            | Self::Garbage { node, .. }
            | Self::Answer { node, .. }
            | Self::GaveUp { node, .. }
            | Self::NoRoot { node, .. }
            | Self::WrongPassword { node }
            | Self::Locked { node, .. }
            | Self::NotServing { node, .. }
            | Self::Identity { node, .. } => node,
        }
    }
}
