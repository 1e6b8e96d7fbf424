//! Who each node was when it was last met: claims beside the pinned key's proof.
//!
//! A host key can be copied to another card or board together with everything else. A machine-id or
//! a board serial that changed under the pinned key therefore stops the node until somebody says
//! that it was on purpose (`picluster forget-key NODE`).

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_resource::Facts;
use serde::{Deserialize, Serialize};

/// What a node claims to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The board's serial number; empty on machines without a device tree.
    pub serial: String,
    /// `uname -m`: what to fetch for it. No claim: it says nothing about who the node is.
    #[serde(default)]
    pub machine: String,
}

impl Identity {
    /// From a node's facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        Self {
            machine_id: facts.now.machine_id.clone(),
            serial: facts.board.serial.clone(),
            machine: facts.arch.kernel.clone(),
        }
    }

    /// In which way `now` is somebody else; `None`: it is the same machine.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Option<String> {
        let differs = |what: &str, before: &str, after: &str| {
            (before != after).then(|| format!("{what} was {before:?}, now it is {after:?}"))
        };
        differs("the machine-id", &self.machine_id, &now.machine_id)
            .or_else(|| differs("the board's serial number", &self.serial, &now.serial))
    }
}

/// All nodes that were met, by name.
pub type Identities = BTreeMap<NodeName, Identity>;
