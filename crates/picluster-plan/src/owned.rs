//! The ownership record: what picluster put on a node, so that what leaves the documents leaves
//! the node, and foreign things stay.
//!
//! One small file a resource, one line of JSON each, below [`DIR`]. A resource that was already as
//! desired when first seen is not picluster's: it gets no record and is never removed.

use picluster_resource::Resource;
use picluster_resource::program::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::plan::RecordAction;

/// Where the records stand on a node.
pub const DIR: &str = "/var/lib/picluster/owned";

/// The question that reads all records: one line of JSON each.
pub const PROBE: &str =
    "# ownership records\nset -- /var/lib/picluster/owned/*.json\n[ ! -e \"$1\" ] || cat \"$@\"";

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `role/kind[key]`.
    pub local: String,
    /// Digest of the desired resource when it was last applied: tells drift from intent.
    pub desired: String,
    /// What to bring about when the resource leaves the documents; `None`: it is only forgotten.
    pub removal: Option<Resource>,
}

/// The file name of the record of `kind[key]`: independent of the role, so a resource that moves
/// from one role to another keeps its record.
#[must_use]
pub fn file_name(kind: &str, key: &str) -> String {
    format!(
        "{}.json",
        &sha256_hex(format!("{kind}[{key}]").as_bytes())[..32]
    )
}

/// Digest of a desired state. Secrets are placeholders in it.
#[must_use]
pub fn desired_digest(resource: &Resource) -> String {
    let json = serde_json::to_vec(resource).unwrap_or_default();
    sha256_hex(&json)[..32].to_owned()
}

impl Record {
    /// The record of a declared resource.
    #[must_use]
    pub fn of(local: &str, resource: &Resource) -> Self {
        Self {
            local: local.to_owned(),
            desired: desired_digest(resource),
            removal: resource.removal(),
        }
    }

    /// Role, kind and key of the resource as it was declared. The key of its removal may be another
    /// (a setting that is taken away has no value any more).
    #[must_use]
    pub fn place(&self) -> Option<(&str, &str, &str)> {
        let (role, rest) = self.local.split_once('/')?;
        let (kind, key) = rest.split_once('[')?;
        Some((role, kind, key.strip_suffix(']')?))
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self, resource: &Resource) -> RecordAction {
        RecordAction::Write {
            name: file_name(resource.kind(), &resource.key()),
            text: serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// Reads what [`PROBE`] printed. Lines that cannot be read are skipped: a record of a newer
    /// version must not stop an older one, and what is not understood is not removed.
    #[must_use]
    pub fn parse_all(output: &str) -> Vec<Self> {
        output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}
