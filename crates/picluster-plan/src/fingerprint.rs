//! Keyed digests of observations.

use hmac::{Hmac, Mac};
use picluster_resource::Observation;
use sha2::Sha256;
use std::fmt::Write as _;

/// The keyed digest of an observation: HMAC-SHA-256 over its JSON, 32 hex digits.
///
/// Keyed, because an observation may hold the digest of a secret file, and a plain digest of a
/// short secret can be guessed by whoever finds the plan file. The key is 32 random bytes in the
/// cluster's store; another controller sees other digests and refuses the plan as stale.
#[must_use]
pub fn fingerprint(key: &[u8], observation: &Observation) -> String {
    let json = serde_json::to_vec(observation).unwrap_or_default();
    // HMAC takes keys of any length; the error type exists for other MACs.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(&json);
    let mut out = String::with_capacity(32);
    for byte in &mac.finalize().into_bytes()[..16] {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
