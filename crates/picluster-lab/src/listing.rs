//! A node's overlay as seen from outside: every path that differs from the card as it was flashed.

use serde::{Deserialize, Serialize};

/// Kind of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// The path was on the card and has been removed (overlay whiteout).
    Removed,
    /// Socket, pipe or device.
    Other,
}

/// One path of the overlay's upper layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute path on the node. Bytes that are no UTF-8 are shown as U+FFFD.
    pub path: String,
    /// Kind.
    pub kind: EntryKind,
    /// Inode number in the upper layer.
    pub inode: u64,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner as the node sees it.
    pub uid: u32,
    /// Group as the node sees it.
    pub gid: u32,
    /// Size in bytes (length of the target of a symlink).
    pub size: u64,
    /// Last change of content, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of content or metadata, nanoseconds since 1970.
    pub ctime_ns: i128,
    /// SHA-256 of a file's content or a symlink's target, in hex. Empty for everything else.
    pub sha256: String,
}
