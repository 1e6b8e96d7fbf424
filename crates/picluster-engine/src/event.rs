//! What people and programs are told while a run goes on.
//!
//! The stream's promise: everything that starts ends. Each `StepStarted` is followed by exactly
//! one `StepFinished` of the same address (that of a guarded step comes when its group is confirmed
//! or rolled back); every step of the plan gets a `StepFinished` whether it
//! started or not; each node of the plan gets one `NodeFinished`; the last event is `RunFinished`.

use picluster_model::{ClusterName, NodeName};
use picluster_plan::StepAddr;
use picluster_resource::Change;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit_code::ExitCode;
use crate::report::{Counts, NodeEnd, Outcome};

/// The version of the event stream. Raised when a reader of the old form would misread the new.
pub const VERSION: u32 = 1;

/// One event: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// See [`VERSION`].
    pub v: u32,
    /// Milliseconds since the epoch by the controller's clock.
    pub at: i64,
    /// What happened.
    pub event: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A run begins.
    RunStarted {
        /// Its id.
        run: String,
        /// The cluster.
        cluster: ClusterName,
        /// Nodes with something to do.
        nodes: Vec<NodeName>,
        /// Number of steps.
        steps: u32,
    },
    /// A node is dialled.
    NodeConnecting {
        /// The node.
        node: NodeName,
    },
    /// It answered, and is the machine the plan was made for.
    NodeConnected {
        /// The node.
        node: NodeName,
        /// The address dialled.
        address: String,
    },
    /// Nobody answered, or the login failed.
    NodeUnreachable {
        /// The node.
        node: NodeName,
        /// In words.
        reason: String,
    },
    /// Something of our own that outlived its session still runs there and is waited for.
    NodeWaiting {
        /// The node.
        node: NodeName,
        /// The processes, `name (pid)`.
        processes: Vec<String>,
    },
    /// A step begins. Its node may find that nothing is to be done.
    StepStarted {
        /// Its address.
        addr: StepAddr,
    },
    /// A guarded change has left no way in; the node is waited for, which takes it back by itself.
    NodeTakingBack {
        /// The node.
        node: NodeName,
        /// How long that may take.
        seconds: u64,
    },
    /// A step sends a large file: once before its first byte, then now and then, and at the last.
    StepUploading {
        /// Its address.
        addr: StepAddr,
        /// Bytes that have gone out, with those an earlier attempt left on the node.
        sent: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// A step ended, or will not start.
    StepFinished {
        /// Its address.
        addr: StepAddr,
        /// How.
        outcome: Outcome,
        /// How long it took.
        seconds: f64,
        /// What was changed, when something was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change: Option<Change>,
    },
    /// A node was told to reboot.
    NodeRebooting {
        /// The node.
        node: NodeName,
    },
    /// It is back: another boot id, no longer starting.
    NodeBack {
        /// The node.
        node: NodeName,
        /// How long it was away.
        seconds: f64,
    },
    /// A node was told to switch itself off.
    NodePoweringOff {
        /// The node.
        node: NodeName,
    },
    /// It does not answer any more.
    NodeOff {
        /// The node.
        node: NodeName,
        /// How long that took.
        seconds: f64,
    },
    /// A server of the cluster is asked whether it serves: because another one is to be taken down, or because it
    /// was itself.
    NodeProving {
        /// The node.
        node: NodeName,
    },
    /// It has answered.
    NodeProved {
        /// The node.
        node: NodeName,
        /// Its API server and what stands behind it answer.
        serves: bool,
        /// Why it does not serve, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// No step of a node is left. A server may still be asked whether it serves, for the sake of another.
    NodeFinished {
        /// The node.
        node: NodeName,
        /// How it ended.
        end: NodeEnd,
        /// Its steps by outcome.
        counts: Counts,
    },
    /// The run was told to stop.
    Cancelling {
        /// `true`: connections close now; `false`: running steps finish.
        now: bool,
    },
    /// The end of the stream.
    RunFinished {
        /// Steps by outcome, over all nodes.
        counts: Counts,
        /// What the process will return.
        exit: ExitCode,
        /// The number of `exit`.
        code: u8,
        /// Everything that happened, gravest first.
        codes: Vec<u8>,
        /// How long it took.
        seconds: f64,
    },
}

impl Event {
    /// An event of this version.
    #[must_use]
    pub fn new(at: i64, event: EventKind) -> Self {
        Self {
            v: VERSION,
            at,
            event,
        }
    }
}
