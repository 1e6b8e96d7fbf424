//! What a lab says while it comes up.

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
#[non_exhaustive]
pub enum Progress {
    /// An image is being built because it was not there, or its recipe changed.
    ImageBuilding {
        /// Suite of the image.
        image: String,
    },
    /// A line of the image builder.
    ImageLine {
        /// Suite of the image.
        image: String,
        /// The line, without its end.
        line: String,
    },
    /// An image is complete.
    ImageBuilt {
        /// Suite of the image.
        image: String,
        /// Wall seconds it took.
        seconds: f64,
    },
    /// The lab did something to this machine on its own authority (e.g. raised an inotify limit as root).
    Notice {
        /// What was done.
        text: String,
    },
    /// Nodes are being started.
    Starting {
        /// How many.
        nodes: usize,
    },
    /// A node's sshd answered.
    NodeReady {
        /// Its name.
        node: String,
        /// Wall seconds since its start.
        seconds: f64,
    },
}

/// What the lab's processes write to the one who starts them: one JSON object a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StartLine {
    Progress(Progress),
    Ready,
    Failed { what: String },
}
