//! What one resource needs of another, so that order need not be written by hand.

use std::fmt;

use picluster_model::NodeName;
use serde::{Deserialize, Serialize};

use crate::path::NodePath;

/// A thing on a node that one resource makes and another needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Token {
    /// A file, directory or link.
    Path(NodePath),
    /// Whatever stands below a directory: needed by what reads all of it. Nobody provides it; every
    /// [`Token::Path`] below the directory counts.
    Below(NodePath),
    /// An apt package.
    Package(String),
    /// The apt package lists (made by a repository, needed by packages).
    AptIndex,
    /// A systemd unit, with its suffix.
    Unit(String),
    /// An account.
    User(String),
    /// A group of accounts.
    Group(String),
    /// The kernel's swap being off.
    SwapOff,
    /// The image's own first boot being over.
    FirstBoot,
    /// A kernel module, named with underscores.
    Module(String),
    /// A file system, by a name that stays: `LABEL=data`, `UUID=…`.
    FileSystem(String),
    /// An API server on this machine that answers.
    ApiServer,
    /// Something of the cluster as a whole: made on one node, needed on others.
    Cluster(ClusterToken),
}

/// What one node of a cluster makes and others wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterToken {
    /// The Kubernetes API serves.
    Api,
    /// A node is registered with the cluster.
    Joined(NodeName),
    /// The pods of a node have gone elsewhere, for as long as something is done to it.
    Drained(NodeName),
    /// A value that comes to be on a node is known: see [`crate::kinds::cluster_value`].
    Value(String),
}

impl fmt::Display for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("the Kubernetes API"),
            Self::Joined(node) => write!(f, "node {node} of the cluster"),
            Self::Drained(node) => write!(f, "node {node} without its pods"),
            Self::Value(name) => write!(f, "the value {name}"),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path}"),
            Self::Below(path) => write!(f, "what is in {path}"),
            Self::Package(name) => write!(f, "package {name}"),
            Self::AptIndex => f.write_str("the package lists"),
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::SwapOff => f.write_str("swap off"),
            Self::FirstBoot => f.write_str("the end of the first boot"),
            Self::Module(name) => write!(f, "kernel module {name}"),
            Self::ApiServer => f.write_str("an API server that answers"),
            Self::Cluster(token) => write!(f, "{token}"),
            Self::FileSystem(name) => write!(f, "file system {name}"),
        }
    }
}

/// "When this token changes, I must act": a unit and the files it reads at start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reaction {
    /// The input that changes.
    pub on: Token,
    /// The unit that must take it up, and that is marked as owing that before the input changes.
    /// `None`: nothing owes anything; it is only looked at again.
    pub unit: Option<String>,
    /// `true`: restart; `false`: reload is enough.
    pub restart: bool,
}
