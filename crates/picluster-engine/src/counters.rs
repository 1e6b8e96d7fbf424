//! What was spent on the wire: the budgets are kept by counting.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use picluster_model::NodeName;
use serde::Serialize;

/// What one node cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct NodeCounters {
    /// Connections dialled with success.
    pub connections: u64,
    /// Exec sessions opened.
    pub execs: u64,
    /// Messages that were answered: each cost one round trip.
    pub round_trips: u64,
    /// Bytes written to sessions.
    pub bytes_out: u64,
    /// Bytes read from sessions.
    pub bytes_in: u64,
}

/// What all nodes cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// By node.
    pub nodes: BTreeMap<NodeName, NodeCounters>,
}

impl Counters {
    /// The sum over all nodes.
    #[must_use]
    pub fn total(&self) -> NodeCounters {
        self.nodes
            .values()
            .fold(NodeCounters::default(), |a, b| NodeCounters {
                connections: a.connections + b.connections,
                execs: a.execs + b.execs,
                round_trips: a.round_trips + b.round_trips,
                bytes_out: a.bytes_out + b.bytes_out,
                bytes_in: a.bytes_in + b.bytes_in,
            })
    }
}

/// The counters while they run.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counters>);

impl Tally {
    /// Changes one node's counters.
    pub(crate) fn count(&self, node: &NodeName, change: impl FnOnce(&mut NodeCounters)) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(counters.nodes.entry(node.clone()).or_default());
    }

    /// A copy of them now.
    pub(crate) fn snapshot(&self) -> Counters {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
