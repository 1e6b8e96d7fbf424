//! The questions a node can be asked, and their answers.
//!
//! Resources ask in this small language instead of writing shell, so that the questions of all
//! resources of a node can be joined: one `stat`, one `sha256sum`, one `dpkg-query`, one
//! `systemctl show` serve them all. [`Query::Fragment`] is there for what has no word of its own.

use std::collections::BTreeMap;
use std::fmt;

use picluster_model::Secret;
use serde::{Deserialize, Serialize};

use crate::path::NodePath;

/// A read-only question to a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// What stands at a path (not following a link).
    Path(NodePath),
    /// Where a symbolic link points.
    Link(NodePath),
    /// A file's digest, and its text when the digest is not `expect` and the file is small.
    Content {
        /// The file (links are followed).
        path: NodePath,
        /// The digest hoped for, 64 hex digits.
        expect: Option<String>,
        /// `true`: never send the text, whatever the digest.
        secret: bool,
    },
    /// A small file's whole text.
    Text(NodePath),
    /// As [`Query::Text`], of a file whose text is a secret.
    Secret(NodePath),
    /// An apt package: installed version, hold, and (when it is missing or at another version) what
    /// apt could install.
    Package {
        /// Its name, without architecture.
        name: String,
        /// The version hoped for, or its beginning and `*`; `None`: any.
        version: Option<String>,
        /// Whether apt is asked at all what it could install, should the package be missing or at
        /// another version. That costs time; who wants it gone need not know.
        candidates: bool,
    },
    /// A systemd unit.
    Unit(String),
    /// A kernel parameter, dotted.
    Sysctl(String),
    /// An account.
    Account(String),
    /// A group of accounts.
    Group(String),
    /// A node of a Kubernetes cluster, asked for with credentials and a kubectl of this machine. All that are asked for with the
    /// same come with one start of kubectl; where all nodes are asked for anyway, with none of their own.
    ClusterNode {
        /// The credentials.
        kubeconfig: NodePath,
        /// Where kubectl is; the first that exists is used.
        kubectl: Vec<NodePath>,
        /// Its name in the cluster.
        name: String,
    },
    /// Any read-only shell text. Its stdout and status are the answer.
    Fragment(String),
}

impl fmt::Display for Query {
    /// A one-line name, used as a key in test data: `path /etc/x`, `unit ssh.service`, …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path {path}"),
            Self::Link(path) => write!(f, "link {path}"),
            Self::Content { path, .. } => write!(f, "content {path}"),
            Self::Text(path) => write!(f, "text {path}"),
            Self::Secret(path) => write!(f, "secret {path}"),
            Self::Package { name, .. } => write!(f, "package {name}"),
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::Sysctl(key) => write!(f, "sysctl {key}"),
            Self::Account(name) => write!(f, "account {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::ClusterNode { name, .. } => write!(f, "cluster node {name}"),
            Self::Fragment(text) => {
                // The first line of a fragment is by convention a comment that names it.
                let first = text.lines().next().unwrap_or("");
                write!(f, "fragment {}", first.trim_start_matches(['#', ' ']))
            }
        }
    }
}

/// An answer, by kind of question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Query::Path`]; `None`: nothing there.
    Path(Option<PathState>),
    /// To [`Query::Link`]: its target, `None` when it is no link.
    Link(Option<String>),
    /// To [`Query::Content`]; `None`: no such file.
    Content(Option<ContentState>),
    /// To [`Query::Text`]; `None`: no such file.
    Text(Option<String>),
    /// To [`Query::Secret`]; `None`: no such file.
    #[serde(skip)]
    Secret(Option<Secret<String>>),
    /// To [`Query::Package`].
    Package(PackageState),
    /// To [`Query::Unit`].
    Unit(UnitState),
    /// To [`Query::Sysctl`]; `None`: the kernel has no such key (yet).
    Sysctl(Option<String>),
    /// To [`Query::Account`].
    Account(Option<AccountState>),
    /// To [`Query::Group`]: numeric id and members.
    Group(Option<GroupState>),
    /// To [`Query::Fragment`], and to [`Query::ClusterNode`]: the node as JSON.
    Fragment {
        /// Exit status.
        status: u32,
        /// Standard output.
        stdout: String,
    },
}

/// What `stat` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathState {
    /// Kind of thing.
    pub kind: PathKind,
    /// Permission bits, e.g. `0o644`.
    pub mode: u32,
    /// Owner's name (or number).
    pub owner: String,
    /// Group's name (or number).
    pub group: String,
    /// Size in bytes.
    pub size: u64,
}

/// Kind of thing at a path, from the file type bits of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// A file's content as far as it was needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentState {
    /// SHA-256 of the whole file, 64 hex digits.
    pub sha256: String,
    /// The text, when it was asked for, differs, is small and is text.
    pub text: Option<String>,
}

/// What dpkg and apt say of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackageState {
    /// The letters of `db:Status-Abbrev`: want, state and, rarely, `R`: `ii`, `hi`, `rc`, `iU`,
    /// `iHR`; empty when dpkg has never heard of it.
    pub status: String,
    /// The installed (or half-installed) version.
    pub version: Option<String>,
    /// apt's candidate; `None` when it was not asked or there is none.
    pub candidate: Option<String>,
    /// All versions apt could install; empty when it was not asked.
    pub available: Vec<String>,
}

impl PackageState {
    /// Fully installed (dpkg state `i`, or waiting for triggers).
    #[must_use]
    pub fn installed(&self) -> bool {
        matches!(self.status.as_bytes().get(1), Some(b'i' | b't' | b'W'))
    }

    /// On hold.
    #[must_use]
    pub fn held(&self) -> bool {
        self.status.starts_with('h')
    }
}

/// What systemd says of a unit (`systemctl show`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, `error`, …
    pub load: String,
    /// `ActiveState`: `active`, `inactive`, `activating`, `failed`, …
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `UnitFileState`: `enabled`, `disabled`, `static`, `masked`, `generated`, empty, …
    pub file: String,
    /// `NeedDaemonReload`: a file of the unit changed since systemd read it.
    pub need_daemon_reload: bool,
    /// `Result`: why it failed (`exit-code`, `timeout`, `oom-kill`, …); `success` otherwise.
    #[serde(default)]
    pub result: String,
    /// `TriggeredBy`: sockets, timers and paths that start it.
    #[serde(default)]
    pub triggered_by: Vec<String>,
    /// A change of its inputs has not been taken up: the mark in [`crate::program::PENDING_DIR`]
    /// stands. Holds `restart` or `reload`.
    pub pending: Option<String>,
}

/// An account, from `/etc/passwd`, `/etc/shadow` and `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// Numeric id.
    pub uid: u32,
    /// Primary group's name.
    pub group: String,
    /// Supplementary groups, sorted.
    pub groups: Vec<String>,
    /// Comment field.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// State of the password.
    pub password: PasswordState,
}

/// A password as far as it may be known: never the hash itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordState {
    /// The field is empty: logs in without one.
    Empty,
    /// Begins with `!` or `*`: no password works.
    Locked,
    /// A hash; here the SHA-256 of the hash text.
    Hash(String),
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Numeric id.
    pub gid: u32,
    /// Members named in `/etc/group`.
    pub members: Vec<String>,
}

/// All answers of a node, by question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers(pub BTreeMap<Query, Answer>);

/// An answer that is missing, of another kind, or unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node's answer to `{query}` makes no sense: {why}")]
pub struct AnswerError {
    /// The question's name.
    pub query: String,
    /// What is wrong.
    pub why: String,
}

macro_rules! getter {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $out:ty, $query:expr, $pat:pat => $val:expr) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`crate::Diagnosis`] when it was not asked or could not be read.
        pub fn $name(&self, $($arg: $ty),*) -> Result<$out, crate::Diagnosis> {
            let query = $query;
            match self.0.get(&query) {
                Some($pat) => Ok($val),
                _ => Err(crate::Diagnosis::new(format!("the node gave no usable answer to `{query}`"))),
            }
        }
    };
}

impl Answers {
    getter!(/// The answer to [`Query::Path`].
        path(path: &NodePath) -> Option<&PathState>, Query::Path(path.clone()), Answer::Path(p) => p.as_ref());
    getter!(/// The answer to [`Query::Link`].
        link(path: &NodePath) -> Option<&str>, Query::Link(path.clone()), Answer::Link(p) => p.as_deref());
    getter!(/// The answer to [`Query::Text`].
        text(path: &NodePath) -> Option<&str>, Query::Text(path.clone()), Answer::Text(t) => t.as_deref());
    getter!(/// The answer to [`Query::Secret`].
        secret(path: &NodePath) -> Option<&Secret<String>>, Query::Secret(path.clone()), Answer::Secret(t) => t.as_ref());
    getter!(/// The answer to [`Query::Unit`].
        unit(name: &str) -> &UnitState, Query::Unit(name.to_owned()), Answer::Unit(u) => u);
    getter!(/// The answer to [`Query::Sysctl`].
        sysctl(key: &str) -> Option<&str>, Query::Sysctl(key.to_owned()), Answer::Sysctl(v) => v.as_deref());
    getter!(/// The answer to [`Query::Account`].
        account(name: &str) -> Option<&AccountState>, Query::Account(name.to_owned()), Answer::Account(a) => a.as_ref());
    getter!(/// The answer to [`Query::Group`].
        group(name: &str) -> Option<&GroupState>, Query::Group(name.to_owned()), Answer::Group(g) => g.as_ref());
    getter!(/// The answer to [`Query::Fragment`]: status and stdout.
        fragment(text: &str) -> (u32, &str), Query::Fragment(text.to_owned()), Answer::Fragment { status, stdout } => (*status, stdout.as_str()));
    /// The answer to a [`Query::Package`].
    ///
    /// # Errors
    /// [`crate::Diagnosis`] when it was not asked or could not be read.
    pub fn package(&self, query: &Query) -> Result<&PackageState, crate::Diagnosis> {
        match self.0.get(query) {
            Some(Answer::Package(state)) => Ok(state),
            _ => Err(crate::Diagnosis::new(format!(
                "the node gave no usable answer to `{query}`"
            ))),
        }
    }

    /// The answer to a [`Query::ClusterNode`]: status, and the node as JSON.
    ///
    /// # Errors
    /// [`crate::Diagnosis`] when it was not asked or could not be read.
    pub fn cluster_node(&self, query: &Query) -> Result<(u32, &str), crate::Diagnosis> {
        match self.0.get(query) {
            Some(Answer::Fragment { status, stdout }) => Ok((*status, stdout)),
            _ => Err(crate::Diagnosis::new(format!(
                "the node gave no usable answer to `{query}`"
            ))),
        }
    }

    /// The answer to a [`Query::Content`].
    ///
    /// # Errors
    /// [`crate::Diagnosis`] when it was not asked or could not be read.
    pub fn content(&self, query: &Query) -> Result<Option<&ContentState>, crate::Diagnosis> {
        match self.0.get(query) {
            Some(Answer::Content(c)) => Ok(c.as_ref()),
            _ => Err(crate::Diagnosis::new(format!(
                "the node gave no usable answer to `{query}`"
            ))),
        }
    }
}
