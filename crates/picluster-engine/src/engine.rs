//! The driver: keeps one connection a node, asks, and carries out plans.

use std::sync::Arc;

use picluster_model::NodeName;
use picluster_plan::Plan;
use picluster_resource::{Answers, Facts, Query};

use crate::counters::{Counters, Tally};
use crate::error::NodeError;
use crate::host::{Connector, Exit, Peer};
use crate::report::Report;
use crate::run::{Access, Line, Run};
use crate::settings::Settings;

/// Speaks to nodes. One connection a node serves facts, probes and apply.
pub struct Engine {
    connector: Arc<dyn Connector>,
    settings: Settings,
    tally: Tally,
}

impl Engine {
    /// An engine without connections.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, settings: Settings) -> Self {
        Self {
            connector,
            settings,
            tally: Tally::default(),
        }
    }

    /// Dials a node, unless it is connected, and asks for its facts.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn facts(&self, node: &NodeName) -> Result<(Facts, Peer), NodeError> {
        let _ = (&self.connector, &self.settings, node);
        Err(unfinished(node))
    }

    /// Asks questions as root, read-only.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn probe(
        &self,
        node: &NodeName,
        _access: &Access,
        _queries: Vec<Query>,
    ) -> Result<Answers, NodeError> {
        Err(unfinished(node))
    }

    /// Runs any command line and hands its output to `sink` line by line.
    ///
    /// # Errors
    /// [`NodeError`] when it could not be started.
    pub async fn exec(
        &self,
        node: &NodeName,
        _access: &Access,
        _command: &str,
        _as_root: bool,
        _sink: &mut (dyn FnMut(Line) + Send),
    ) -> Result<Exit, NodeError> {
        Err(unfinished(node))
    }

    /// Carries out a plan.
    pub async fn apply(&self, _plan: &Plan, _run: Run) -> Report {
        Report {
            nodes: std::collections::BTreeMap::new(),
            interrupted: false,
            seconds: 0.0,
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {}

    /// What was spent so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }
}

fn unfinished(node: &NodeName) -> NodeError {
    NodeError::Garbage {
        node: node.clone(),
        what: "the engine is not finished".into(),
    }
}
