//! Files whose digest is known because it was computed when they looked just as they look now.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// How a file looks from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since the epoch.
    modified: i128,
    /// Of the inode: cannot be set back by hand.
    changed: i128,
}

/// Within this time a second change may leave the same time behind.
const COARSE_NS: i128 = 2_000_000_000;

impl Stamp {
    /// Of a file.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        let ns = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: ns(meta.mtime(), meta.mtime_nsec()),
            changed: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether the file was left alone for so long that its times would tell of a change.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i128::try_from(d.as_nanos()).ok())
            .unwrap_or(0);
        now - self.changed.max(self.modified) > COARSE_NS
    }
}

/// Digests by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps(BTreeMap<String, (Stamp, Digest)>);

impl Stamps {
    /// The digest of the file at `path` that looks like `stamp`.
    #[must_use]
    pub fn get(&self, path: &str, stamp: &Stamp) -> Option<Digest> {
        self.0
            .get(path)
            .filter(|(s, _)| s == stamp)
            .map(|(_, d)| *d)
    }

    /// Remembers one, when it can be told from a later state.
    pub fn set(&mut self, path: &str, stamp: Stamp, digest: Digest) -> bool {
        stamp.is_settled() && {
            self.0.insert(path.to_owned(), (stamp, digest));
            true
        }
    }

    /// Forgets files that are gone.
    pub fn prune(&mut self) {
        self.0.retain(|path, _| std::path::Path::new(path).exists());
    }
}
