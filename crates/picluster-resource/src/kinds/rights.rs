//! Permission bits, owner and group, which files, directories and artifacts declare alike.

use crate::change::{Change, Shown};
use crate::kind::Diagnosis;
use crate::kinds::file::parse_mode;
use crate::path::NodePath;
use crate::query::{PathKind, PathState};

/// What is wanted of a path, besides what it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights<'a> {
    /// Permission bits.
    pub mode: u32,
    /// Owner, by name.
    pub owner: &'a str,
    /// Group, by name.
    pub group: &'a str,
}

impl Rights<'_> {
    /// The permission bits as octal text.
    pub(crate) fn mode_text(&self) -> String {
        format!("{:04o}", self.mode)
    }

    /// Adds the fields of something that is new.
    pub(crate) fn given(&self, change: Change) -> Change {
        change
            .field("mode", Shown::Absent, Shown::text(self.mode_text()))
            .field("owner", Shown::Absent, Shown::text(self.owner))
            .field("group", Shown::Absent, Shown::text(self.group))
    }

    /// Adds the fields that differ from what was seen.
    pub(crate) fn compared(&self, seen: &PathState, change: Change) -> Change {
        change
            .field_if("mode", &format!("{:04o}", seen.mode), &self.mode_text())
            .field_if("owner", &seen.owner, self.owner)
            .field_if("group", &seen.group, self.group)
    }

    /// The same for what should be a file. Those of a link are not a file's: shown as new.
    pub(crate) fn compared_as_file(&self, seen: &PathState, change: Change) -> Change {
        if seen.kind == PathKind::File {
            self.compared(seen, change)
        } else {
            self.given(change)
        }
    }
}

/// The rule for a `mode` field; `such_as` is one that suits the kind.
pub(crate) fn check_mode(mode: &str, such_as: &str) -> Option<String> {
    parse_mode(mode)
        .is_none()
        .then(|| format!("mode {mode:?} is not an octal permission such as {such_as:?} (quote it)"))
}

/// Refuses a place where something stands that is neither a file nor a link.
///
/// # Errors
/// What stands there.
pub(crate) fn only_a_file(path: &NodePath, seen: Option<&PathState>) -> Result<(), Diagnosis> {
    let what = match seen.map(|state| state.kind) {
        None | Some(PathKind::File | PathKind::Link) => return Ok(()),
        Some(PathKind::Directory) => "a directory",
        Some(PathKind::Other) => "a device, socket or pipe",
    };
    Err(Diagnosis::new(format!(
        "{path} is {what}; only a file is written or removed here"
    ))
    .cure(format!("look at it and move it away: ls -la {path}")))
}

/// The first digits of a digest, enough for eyes.
pub(crate) fn short(sha256: &str) -> String {
    format!("sha256 {}", &sha256[..sha256.len().min(12)])
}
