//! Exit codes: stable, documented, one type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the process tells its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ExitCode {
    /// 0: done. For `plan` also with changes, unless `--detailed-exitcode`.
    Done = 0,
    /// 1: usage, configuration or tool error before any write.
    Usage = 1,
    /// 2: the plan has changes (with `--detailed-exitcode`).
    Changes = 2,
    /// 3: a node failed.
    NodeFailed = 3,
    /// 4: some nodes were unreachable, the rest converged.
    Unreachable = 4,
    /// 5: a stale plan was refused.
    Stale = 5,
    /// 6: locked by another run.
    Locked = 6,
    /// 7: a guarded change was rolled back.
    RolledBack = 7,
    /// 8: a host's identity changed.
    IdentityChanged = 8,
    /// 130: interrupted safely.
    Interrupted = 130,
}

impl ExitCode {
    /// All codes, in the order the reference lists them.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Usage,
        Self::Changes,
        Self::NodeFailed,
        Self::Unreachable,
        Self::Stale,
        Self::Locked,
        Self::RolledBack,
        Self::IdentityChanged,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What it means, in one line.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Usage => "usage, configuration or tool error before any write",
            Self::Changes => "the plan has changes (with --detailed-exitcode)",
            Self::NodeFailed => "a node failed",
            Self::Unreachable => "some nodes were unreachable, the rest converged",
            Self::Stale => "a stale plan was refused",
            Self::Locked => "locked by another run",
            Self::RolledBack => "a guarded change was rolled back",
            Self::IdentityChanged => "a host's identity changed",
            Self::Interrupted => "interrupted safely",
        }
    }

    /// Rank when several things happened at once: 8 > 7 > 3 > 5 > 6 > 130 > 4. An interrupted run
    /// in which a node also failed says that the node failed; nodes that did not answer matter
    /// less than that the rest did not get its turn.
    #[must_use]
    pub fn gravity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Changes => 1,
            Self::Unreachable => 2,
            Self::Interrupted => 3,
            Self::Locked => 4,
            Self::Stale => 5,
            Self::NodeFailed => 6,
            Self::RolledBack => 7,
            Self::IdentityChanged => 8,
            // Before any write: nothing else can have happened.
            Self::Usage => 9,
        }
    }

    /// The gravest of several; [`ExitCode::Done`] of none.
    #[must_use]
    pub fn worst(codes: impl IntoIterator<Item = Self>) -> Self {
        codes
            .into_iter()
            .max_by_key(|code| code.gravity())
            .unwrap_or(Self::Done)
    }
}
