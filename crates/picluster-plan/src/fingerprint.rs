//! Keyed digests of observations and of the values of secrets.

use hmac::{Hmac, Mac};
use picluster_model::secret::{Secret, SecretRef, SecretText, SecretValues};
use picluster_resource::{Observation, Resource};
use serde_json::Value;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The keyed digest of what a step stands on ([`Observation::ground`]): HMAC-SHA-256 over its JSON, 32 hex digits.
///
/// Keyed, because an observation may hold the digest of a secret file, and a plain digest of a
/// short secret can be guessed by whoever finds the plan file. The key is 32 random bytes in the
/// cluster's store; another controller sees other digests and refuses the plan as stale.
#[must_use]
pub fn fingerprint(key: &[u8], observation: &Observation) -> String {
    let json = serde_json::to_vec(&observation.ground()).unwrap_or_default();
    keyed(key, &json)
}

/// What tells one key from another and says nothing about either.
#[must_use]
pub fn key_id(key: &[u8]) -> String {
    keyed(key, b"picluster plan key")[..16].to_owned()
}

/// The secrets a resource mentions.
#[must_use]
pub fn secrets_of(resource: &Resource) -> BTreeSet<SecretRef> {
    let mut found = BTreeSet::new();
    mentioned(
        &serde_json::to_value(resource).unwrap_or_default(),
        &mut found,
    );
    found
}

/// The keyed digest of the values of a resource's secrets; `None` when it has none.
#[must_use]
pub fn sealed(
    key: &[u8],
    resource: &Resource,
    values: &SecretValues,
    later: &[String],
) -> Option<String> {
    let known = |r: &SecretRef| !matches!(r, SecretRef::ClusterValue(n) if later.contains(n));
    let references: BTreeSet<SecretRef> = secrets_of(resource).into_iter().filter(known).collect();
    if references.is_empty() {
        return None;
    }
    let pairs: Vec<(&SecretRef, Option<&String>)> = references
        .iter()
        .map(|r| (r, values.0.get(r).map(Secret::reveal)))
        .collect();
    let json = Secret::new(serde_json::to_string(&pairs).unwrap_or_default());
    Some(keyed(key, json.reveal().as_bytes()))
}

/// The cluster values a resource refers to that nobody knows (yet).
#[must_use]
pub fn later(resource: &Resource, values: &SecretValues) -> BTreeSet<String> {
    secrets_of(resource)
        .into_iter()
        .filter(|reference| !values.0.contains_key(reference))
        .filter_map(|reference| match reference {
            SecretRef::ClusterValue(name) => Some(name),
            _ => None,
        })
        .collect()
}

fn mentioned(value: &Value, found: &mut BTreeSet<SecretRef>) {
    match value {
        Value::String(text) => found.extend(SecretText(text.clone()).references()),
        Value::Array(items) => items.iter().for_each(|v| mentioned(v, found)),
        Value::Object(entries) => entries.values().for_each(|v| mentioned(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn keyed(key: &[u8], bytes: &[u8]) -> String {
    // HMAC takes keys of any length; the error type exists for other MACs.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return "0".repeat(32);
    };
    mac.update(bytes);
    let mut out = String::with_capacity(32);
    for byte in &mac.finalize().into_bytes()[..16] {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn file(content: &str) -> Resource {
        let json = serde_json::json!({ "file": { "path": "/srv/a", "content": content } });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_values_of_secrets_are_sealed_with_the_key() {
        let token = SecretRef::Env("TOKEN".into());
        let resource = file(&format!("token={}\n", token.placeholder()));
        let values =
            |value: &str| SecretValues([(token.clone(), Secret::new(value.into()))].into());
        assert_eq!(secrets_of(&resource), BTreeSet::from([token.clone()]));
        assert_eq!(sealed(b"k", &file("plain\n"), &values("a"), &[]), None);
        let seal = sealed(b"k", &resource, &values("a"), &[]);
        assert!(seal.is_some());
        assert_eq!(seal, sealed(b"k", &resource, &values("a"), &[]));
        assert_ne!(seal, sealed(b"k", &resource, &values("b"), &[]));
        assert_ne!(seal, sealed(b"other", &resource, &values("a"), &[]));
    }
}
