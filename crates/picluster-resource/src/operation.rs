//! What is sent to a node to close a gap.

use std::time::Duration;

use picluster_model::Secret;

use crate::path::NodePath;
use crate::shell::words;

/// A script and what it reads.
///
/// The script runs in a subshell of the node-side program, as root, with [`crate::program::PRELUDE_SH`] in scope,
/// `set -eu` in force, and the payload as its standard input. Its output (both streams) is shown
/// only when it fails.
#[derive(Debug, Clone)]
pub struct Operation {
    /// POSIX sh text. Holds no secret: argv and scripts can be seen on the node.
    pub script: String,
    /// What the script finds on standard input.
    pub payload: Payload,
    /// What is too large for standard input: sent before the script runs, which finds the path of
    /// the complete file in `$staged`.
    pub staged: Option<Staged>,
    /// The file that the script's `put` makes of its standard input, where the script does that and
    /// nothing else with it. It may then be prepared before, together with those of other steps: the
    /// script finds its path in `$ready`.
    pub puts: Option<Put>,
    /// How long it may take before it is reported as stuck.
    pub timeout: Duration,
}

/// A file of the controller that is streamed to the node before a script runs. Never held in
/// memory as a whole, on neither side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// SHA-256 of the whole, 64 hex digits: tells the controller which file it is, and both ends
    /// whether it has arrived.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is collected, on the file system of its final place. Its name ends in a dot and
    /// something of the digest; what has the same name up to that dot is an older upload for the
    /// same place and is removed. What a broken connection leaves here is taken up again.
    pub path: NodePath,
}

/// A whole file that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Its place.
    pub path: String,
    /// Permission bits as octal text.
    pub mode: String,
    /// Owner, by name.
    pub owner: String,
    /// Group, by name.
    pub group: String,
}

/// How a node takes a change back by itself, without any help from here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Undo {
    /// Files that are put back as they were, or removed where there was none.
    pub files: Vec<NodePath>,
    /// sh text, run when all files of the guarded changes are back, the last change first. Holds no
    /// secret.
    pub script: String,
}

impl Undo {
    /// Puts one file back.
    #[must_use]
    pub fn file(path: &NodePath) -> Self {
        Self {
            files: vec![path.clone()],
            script: String::new(),
        }
    }
}

/// The standard input of an operation.
#[derive(Debug, Clone, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// Bytes, treated as secret whether they are or not.
    Bytes(Secret<Vec<u8>>),
}

impl Payload {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.reveal().len(),
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Operation {
    /// A script without payload, bounded to one minute.
    pub fn script(script: impl Into<String>) -> Self {
        Self {
            script: script.into(),
            payload: Payload::None,
            staged: None,
            puts: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Makes these bytes the content of a file.
    #[must_use]
    pub fn put(path: &str, [mode, owner, group]: [&str; 3], bytes: Vec<u8>) -> Self {
        Self {
            puts: Some(Put {
                path: path.to_owned(),
                mode: mode.to_owned(),
                owner: owner.to_owned(),
                group: group.to_owned(),
            }),
            ..Self::script(format!("put {}", words([path, mode, owner, group]))).with_payload(bytes)
        }
    }

    /// Does something before.
    #[must_use]
    pub fn behind(mut self, script: &str) -> Self {
        self.script.insert_str(0, script);
        self
    }

    /// Does something behind it.
    #[must_use]
    pub fn then(mut self, script: &str) -> Self {
        self.script.push_str(script);
        self
    }

    /// Gives it standard input.
    #[must_use]
    pub fn with_payload(mut self, bytes: Vec<u8>) -> Self {
        self.payload = Payload::Bytes(Secret::new(bytes));
        self
    }

    /// Gives it a file that is sent before.
    #[must_use]
    pub fn with_staged(mut self, staged: Staged) -> Self {
        self.staged = Some(staged);
        self
    }

    /// Sets the bound. The time that sending takes is not part of it.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}
