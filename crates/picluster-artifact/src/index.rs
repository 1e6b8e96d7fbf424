//! What is known of releases: which digest stands behind a name.

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::digest::Digest;

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `k3s`.
    pub component: String,
    /// The tag of its release.
    pub version: String,
    /// For which machines.
    pub arch: Arch,
    /// Where it is published: the same name elsewhere may be another file.
    pub url: String,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What was looked up.
    #[serde(flatten)]
    pub key: Key,
    /// Its digest.
    pub sha256: Digest,
    /// Its size in bytes, once it is known.
    pub size: Option<u64>,
    /// Who says that this is its digest: the address of a list of checksums, or `inventory`.
    pub checksum_from: String,
    /// When that was learnt, in seconds since the epoch.
    pub learnt: u64,
}
