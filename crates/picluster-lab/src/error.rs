//! What can go wrong: which node, what was not done, what to run next.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::preflight::Missing;

/// Any failure of a lab verb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// This machine lacks something; the list is complete, each with its cure.
    #[error("this machine cannot host a lab yet; nothing was started\n{}", render_missing(.0))]
    Missing(Vec<Missing>),
    /// The spec describes something that cannot be.
    #[error("{}{what}; the lab was not started", .node.as_ref().map(|n| format!("node {n}: ")).unwrap_or_default())]
    BadSpec {
        /// The node at fault, if it is one node.
        node: Option<String>,
        /// What is wrong with it.
        what: String,
    },
    /// No lab of this name is running.
    #[error("lab {name} is not running; start it with `picluster lab up`")]
    NotRunning {
        /// Name of the lab.
        name: String,
    },
    /// A lab of this name is running already.
    #[error("lab {name} is running already; `picluster lab down` ends it")]
    AlreadyRunning {
        /// Name of the lab.
        name: String,
    },
    /// An image could not be built; nothing of the attempt is left.
    #[error("image {image} was not built: {what}\n{log}")]
    Image {
        /// Suite of the image.
        image: String,
        /// The step that failed.
        what: String,
        /// The end of the builder's output.
        log: String,
    },
    /// The lab's processes could not be started, or ended before the nodes answered.
    #[error("lab {name} did not start: {what}\nlog: {}\nnext: `picluster lab down`, then `picluster lab up`", log.display())]
    Start {
        /// Name of the lab.
        name: String,
        /// What happened.
        what: String,
        /// File with everything the lab's processes said.
        log: PathBuf,
    },
    /// A verb failed on one node.
    #[error("node {node}: {what}")]
    Node {
        /// Name of the node.
        node: String,
        /// What was not done, and what to do next where that is known.
        what: String,
    },
    /// The lab was asked for something about itself and could not do it.
    #[error("lab {name}: {what}")]
    Lab {
        /// Name of the lab.
        name: String,
        /// What was not done.
        what: String,
    },
    /// A file or process of the lab's own could not be used.
    #[error("{what}: {source}")]
    Io {
        /// The attempt, with its path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A failure as it travels from the lab's inside to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub node: Option<String>,
    pub what: String,
}

impl Failure {
    pub(crate) fn into_error(self, lab: &str) -> LabError {
        match self.node {
            Some(node) => LabError::Node {
                node,
                what: self.what,
            },
            None => LabError::Lab {
                name: lab.to_owned(),
                what: self.what,
            },
        }
    }
}

impl LabError {
    pub(crate) fn bad_spec(node: &str, what: impl Into<String>) -> Self {
        LabError::BadSpec {
            node: Some(node.to_owned()),
            what: what.into(),
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
        let what = what.into();
        move |source| LabError::Io { what, source }
    }
}

fn render_missing(list: &[Missing]) -> String {
    list.iter()
        .map(|m| format!("  - {}: {}\n    mend it: {}", m.what, m.why, m.cure))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A failed step inside the lab's own processes: text for the log and for the caller.
#[derive(Debug)]
pub(crate) struct Trouble(pub String);

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Trouble(text)
    }
}

/// Adds the attempt to a system error.
pub(crate) trait Attempt<T> {
    /// `what` is the attempt, e.g. `mount /proc`.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Trouble>;
}

impl<T, E: std::fmt::Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Trouble> {
        self.map_err(|e| Trouble(format!("{}: {e}", what())))
    }
}
