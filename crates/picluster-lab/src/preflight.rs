//! What a machine must have before it can host a lab, asked all at once.

use serde::{Deserialize, Serialize};

/// One missing thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What the lab needs it for, and what was found instead.
    pub why: String,
    /// The command that mends it.
    pub cure: String,
}

impl Missing {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Missing {
            what: what.into(),
            why: why.into(),
            cure: cure.into(),
        }
    }
}

/// Everything this machine lacks for a lab of `nodes` nodes; empty when it is fit. Changes nothing.
pub fn preflight(nodes: usize) -> Vec<Missing> {
    #[cfg(target_os = "linux")]
    {
        crate::linux::preflight::list(nodes)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = nodes;
        vec![Missing::new(
            "Linux",
            "nodes are made of Linux namespaces, and this is another system",
            "run the lab on a Linux machine or in a Linux virtual machine; every other verb works here",
        )]
    }
}
