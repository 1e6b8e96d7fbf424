//! What an apply is given besides its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use picluster_model::NodeName;
use picluster_model::secret::{Secret, SecretValues};
use picluster_resource::facts::RootAccess;
use tokio::sync::{mpsc, watch};

use crate::event::Event;
use crate::lock::Owner;
use crate::upload::Artifacts;

/// How root is had on a node.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// As the facts say.
    pub root: RootAccess,
    /// The sudo password, where one is wanted. Sent only after sudo has asked for it.
    pub password: Option<Secret<String>>,
}

/// How far a run has been told to stop. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Cancel {
    /// Go on.
    #[default]
    No,
    /// Running steps finish, nothing new starts (first Ctrl-C).
    Finish,
    /// Connections close; nodes stop at the next step boundary (second Ctrl-C).
    Now,
}

/// One run of a plan.
pub struct Run {
    /// Names the run in the journal, in events and in locks on nodes.
    pub id: String,
    /// Who runs it; the caller holds the [`crate::ControllerLock`] of `owner.store`.
    pub owner: Owner,
    /// How root is had; a node without an entry gets what its facts say, without a password.
    pub access: BTreeMap<NodeName, Access>,
    /// Values behind the placeholders.
    pub secrets: SecretValues,
    /// Key of the plan's fingerprints.
    pub key: Secret<Vec<u8>>,
    /// Where the bytes of artifacts come from.
    pub artifacts: Arc<dyn Artifacts>,
    /// Where events go. Dropped events (a receiver that is gone) stop nothing.
    pub events: mpsc::UnboundedSender<Event>,
    /// Told to stop.
    pub cancel: watch::Receiver<Cancel>,
}

/// Which of its two streams a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line a program wrote, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where to.
    pub stream: Stream,
    /// The text; invalid UTF-8 is replaced.
    pub text: String,
}
