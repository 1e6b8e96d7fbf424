//! Takes secrets out of what a node printed.

use picluster_model::secret::{SENSITIVE, Secret, SecretValues};
use zeroize::Zeroize as _;

use crate::report::Failure;

/// Shorter values would be found everywhere and hide nothing.
const SHORTEST: usize = 3;
/// Lines of a secret of several lines are hidden one by one from this length on.
const SHORTEST_LINE: usize = 8;
/// As much output as a failure keeps.
const OUTPUT: usize = 8 * 1024;

/// Knows all secrets of a run by value.
#[derive(Debug, Clone, Default)]
pub struct Masker {
    values: Vec<Secret<String>>,
}

impl Masker {
    /// For these secrets, and others that no document mentions (a password that was typed).
    pub fn new<'a>(
        secrets: &'a SecretValues,
        others: impl IntoIterator<Item = &'a Secret<String>>,
    ) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for value in secrets.0.values().chain(others) {
            let value = value.reveal();
            texts.push(value.clone());
            texts.push(value.trim().to_owned());
            // A k3s token (`K10HASH::USER:PASSWORD`): its password opens the same door.
            if let Some((_, password)) = value.trim().rsplit_once(':')
                && value.contains("::")
            {
                texts.push(password.to_owned());
            }
            texts.extend(
                value
                    .lines()
                    .map(str::trim)
                    .filter(|l| l.len() >= SHORTEST_LINE)
                    .map(str::to_owned),
            );
        }
        // Longest first: a value that is part of another must not leave the rest of it behind.
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts.dedup();
        Self {
            values: texts
                .into_iter()
                .filter(|t| t.len() >= SHORTEST)
                .map(Secret::new)
                .collect(),
        }
    }

    /// The text without secrets.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for value in &self.values {
            if out.contains(value.reveal().as_str()) {
                let masked = out.replace(value.reveal().as_str(), SENSITIVE);
                out.zeroize();
                out = masked;
            }
        }
        out
    }

    /// A failure without secrets, its output cut to its last lines. Cut after masking: a cut
    /// through a secret would leave half of it.
    pub(crate) fn failure(&self, failure: Failure) -> Failure {
        let output = self.mask(&failure.output);
        let mut from = output.len().saturating_sub(OUTPUT);
        while !output.is_char_boundary(from) {
            from += 1;
        }
        Failure {
            what: self.mask(&failure.what),
            cure: failure.cure.map(|c| self.mask(&c)),
            command: failure.command.map(|c| self.mask(&c)),
            status: failure.status,
            output: output[from..].to_owned(),
            remaining: failure.remaining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picluster_model::secret::SecretRef;

    #[test]
    fn every_value_and_every_long_line_of_it_is_hidden() {
        let mut secrets = SecretValues::default();
        for (name, value) in [
            ("short", "hunter2"),
            ("long", "hunter2-and-more"),
            ("pem", "-----BEGIN\nabcdefghij\nxyz\n"),
            ("empty", ""),
        ] {
            secrets
                .0
                .insert(SecretRef::Env(name.into()), Secret::new(value.into()));
        }
        let sudo = Secret::new(String::from("pässword"));
        let masker = Masker::new(&secrets, [&sudo]);
        assert_eq!(
            masker.mask("a hunter2 b hunter2-and-more c abcdefghij d xyz e pässword"),
            "a (sensitive) b (sensitive) c (sensitive) d xyz e (sensitive)"
        );
        let long = format!("{}hunter2", "x".repeat(OUTPUT - 4));
        let failure = masker.failure(Failure {
            output: long,
            ..Failure::default()
        });
        assert!(!failure.output.contains("ter2"));
        assert!(failure.output.ends_with("(sensitive)"));
    }
}
