//! The ownership record: what picluster put on a node, so that what leaves the documents leaves
//! the node, and foreign things stay.
//!
//! One small file a resource, one line of JSON each, below [`DIR`]. A resource that was already as
//! desired when first seen is not picluster's: it gets no record and is never removed.

use picluster_model::secret::SecretValues;
use picluster_resource::Resource;
use picluster_resource::program::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::fingerprint::{key_id, later, sealed};
use crate::plan::{RecordAction, RolledBack};

/// Where the records stand on a node.
pub const DIR: &str = "/var/lib/picluster/owned";

/// The question that reads what picluster wrote down on a node, one line of JSON each: the records,
/// the marks of operations that were begun and not finished, and the restarts that are owed.
pub const PROBE: &str = r#"# ownership records
if cd /var/lib/picluster/owned 2>/dev/null; then
set -- *.json; [ ! -e "$1" ] || cat "$@"
set -- *.begun; [ ! -e "$1" ] || cat "$@"
fi
cat /var/lib/picluster/rolled-back 2>/dev/null
if [ -e /var/lib/picluster/guard/paths ]; then
u=0; read -r u < /run/picluster/guard.until; read -r n _ < /proc/uptime
printf '{"guard_open":%s}\n' "$((u > ${n%%.*} ? u - ${n%%.*} : 0))"
fi 2>/dev/null
cd /run/picluster/pending 2>/dev/null || exit 0
for u in *; do [ ! -f "$u" ] || printf '{"owed":"%s"}\n' "$u"; done"#;

/// What an operation that was begun leaves beside its record until it has ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// The record's file name.
    pub begun: String,
    /// When, in seconds since the epoch by the controller's clock.
    pub at: i64,
}

impl Begun {
    /// The mark's own file name, from its record's.
    #[must_use]
    pub fn file_name(record: &str) -> String {
        let stem = record.strip_suffix(".json").unwrap_or(record);
        format!("{stem}.begun")
    }

    /// Reads the marks out of what [`PROBE`] printed.
    #[must_use]
    pub fn parse_all(output: &str) -> Vec<Self> {
        lines(output)
    }
}

/// A unit that has not taken up a change of what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owed {
    /// The unit.
    pub owed: String,
}

impl Owed {
    /// Reads them out of what [`PROBE`] printed.
    #[must_use]
    pub fn parse_all(output: &str) -> Vec<Self> {
        lines(output)
    }
}

/// A guarded change that is neither confirmed nor taken back yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Seconds until the node takes it back.
    pub guard_open: u64,
}

impl Open {
    /// Reads it out of what [`PROBE`] printed.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        lines(output).pop()
    }
}

impl RolledBack {
    /// Reads it out of what [`PROBE`] printed.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        lines(output).pop()
    }
}

fn lines<T: serde::de::DeserializeOwned>(output: &str) -> Vec<T> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `role/kind[key]`.
    pub local: String,
    /// Digest of the desired resource when it was last applied: tells drift from intent.
    pub desired: String,
    /// Keyed digest of the values of its secrets, and which key: tells a value that was changed on
    /// purpose from drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Sealed>,
    /// What to bring about when the resource leaves the documents; `None`: it is only forgotten.
    pub removal: Option<Resource>,
    /// Units that read it, and whether they have to restart to do so: they take up its removal also
    /// when they have left the documents with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<(String, bool)>,
}

/// A keyed digest of secret values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key: a digest with another one says nothing.
    pub key: String,
    /// The digest.
    pub digest: String,
}

impl Sealed {
    /// Of the values of a resource's secrets; `None` when it has none.
    #[must_use]
    pub fn of(key: &[u8], resource: &Resource, values: &SecretValues) -> Option<Self> {
        Some(Self {
            digest: {
                let unknown: Vec<String> = later(resource, values).into_iter().collect();
                sealed(key, resource, values, &unknown)?
            },
            key: key_id(key),
        })
    }

    /// Whether the values are known to be others.
    fn differs(&self, other: &Self) -> bool {
        self.key == other.key && self.digest != other.digest
    }
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
            secrets: None,
            removal: resource.removal(),
            readers: Vec::new(),
        }
    }

    /// With the digest of its secrets.
    #[must_use]
    pub fn sealed(mut self, secrets: Option<Sealed>) -> Self {
        self.secrets = secrets;
        self
    }

    /// With the units that read it.
    #[must_use]
    pub fn read_by(mut self, readers: Vec<(String, bool)>) -> Self {
        self.readers = readers;
        self
    }

    /// Whether the documents still say what they said when it was applied.
    #[must_use]
    pub fn is_of(&self, resource: &Resource, secrets: Option<&Sealed>) -> bool {
        let other = match (&self.secrets, secrets) {
            (Some(before), Some(now)) => before.differs(now),
            _ => false,
        };
        self.desired == desired_digest(resource) && !other
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
        lines(output)
    }
}
