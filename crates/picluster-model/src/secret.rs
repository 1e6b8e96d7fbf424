//! Secrets: values that cannot be printed, and the placeholders that stand for them.
//!
//! Documents hold only references. A reference met while a template is rendered becomes a
//! *placeholder* inside the text; resources, plans and journals carry the placeholder, and only
//! the engine, at the moment it writes a payload to a node's stdin, puts the value in its place.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// What people see in the place of a secret.
pub const SENSITIVE: &str = "(sensitive)";

/// A value that never shows itself: `Debug` and `Display` print `(sensitive)`, and it is wiped
/// from memory when dropped. It has no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to review.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(sensitive)")
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(sensitive)")
    }
}

/// Where a secret is to be had. Written in documents as `{ secret: NAME }`, `{ env: NAME }`,
/// `{ sops: PATH }` or `{ command: [ARGV…] }`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// A file `secrets/NAME.age` beside the inventory, encrypted with age.
    Secret(String),
    /// A variable of the controller's environment.
    Env(String),
    /// A file read with `sops --decrypt PATH`; `PATH#key.path` takes one value of it.
    Sops(String),
    /// The first line a program of the controller prints.
    Command(Vec<String>),
    /// A value that comes to be on a node of the cluster and is read there by a `cluster_value` of
    /// this name, on whatever node.
    ClusterValue(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Sops(path) => write!(f, "sops {path}"),
            Self::Command(argv) => write!(f, "command {}", argv.first().map_or("", |a| a)),
            Self::ClusterValue(name) => write!(f, "cluster value {name}"),
        }
    }
}

/// How a reference is written, for help texts.
pub(crate) const REFERENCE_FORMS: &str = "keep secrets out of the file: `{ secret: NAME }`, `{ env: NAME }`, `{ sops: PATH }` or `{ command: [ARGV] }`";

/// The JSON Schema of a reference; `nullable` ones may also be nothing.
pub(crate) fn reference_schema(nullable: bool) -> serde_json::Value {
    let mut schema = schemars::schema_for!(SecretRef).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.retain(|key, _| matches!(key.as_str(), "oneOf" | "anyOf"));
        if nullable {
            for branches in object
                .values_mut()
                .filter_map(serde_json::Value::as_array_mut)
            {
                branches.push(serde_json::json!({ "type": "null" }));
            }
        }
    }
    schema
}

/// Placeholder delimiters: private-use code points, refused in documents.
const OPEN: char = '\u{F8F0}';
const CLOSE: char = '\u{F8F1}';

/// What stands between the delimiters: a reference, or one whose value is to be written inside
/// of a JSON string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Placeholder {
    Plain(SecretRef),
    InJson { json: SecretRef },
}

/// Repairs placeholders that were quoted as parts of JSON strings: the value that takes their
/// place will be quoted then.
pub(crate) fn requote_in_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((body, behind)) = after.split_once(CLOSE) else {
            break;
        };
        out.push_str(before);
        let reference = serde_json::from_str::<String>(&format!("\"{body}\""))
            .ok()
            .and_then(|body| serde_json::from_str::<Placeholder>(&body).ok());
        match reference {
            Some(Placeholder::Plain(reference) | Placeholder::InJson { json: reference }) => {
                let inner = serde_json::to_string(&reference).unwrap_or_default();
                out.push_str(&format!("{OPEN}{{\"json\":{inner}}}{CLOSE}"));
            }
            None => out.push_str(&format!("{OPEN}{body}{CLOSE}")),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Whether every delimiter in `text` belongs to a whole placeholder: a filter such as `upper`
/// or `truncate` breaks them, and with them the secret.
pub(crate) fn placeholders_whole(text: &str) -> bool {
    SecretText(text.to_owned())
        .pieces()
        .iter()
        .all(|piece| match piece {
            Piece::Plain(text) => !text.contains([OPEN, CLOSE]),
            Piece::Secret(..) => true,
        })
}

impl SecretRef {
    /// The text that stands for this secret inside rendered templates.
    #[must_use]
    pub fn placeholder(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{OPEN}{json}{CLOSE}")
    }
}

/// Text that may hold placeholders of secrets. Safe to print, compare and store: it holds
/// references, never values.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct SecretText(pub String);

/// A secret that was asked for and is not in the resolved set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not resolved")]
pub struct Unresolved(pub SecretRef);

/// The values of all secrets a run may need, resolved before the first connection.
#[derive(Default, Clone, Debug)]
pub struct SecretValues(pub BTreeMap<SecretRef, Secret<String>>);

impl SecretText {
    /// The secrets mentioned in this text, in order.
    #[must_use]
    pub fn references(&self) -> Vec<SecretRef> {
        self.pieces()
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Secret(reference, _) => Some(reference),
                Piece::Plain(_) => None,
            })
            .collect()
    }

    /// Whether any secret stands in this text.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.0.contains(OPEN)
    }

    /// The text with every placeholder replaced by its value.
    ///
    /// # Errors
    /// [`Unresolved`] names the first reference without a value.
    pub fn reveal(&self, values: &SecretValues) -> Result<Secret<String>, Unresolved> {
        let mut out = String::with_capacity(self.0.len());
        for piece in self.pieces() {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Secret(reference, in_json) => match values.0.get(&reference) {
                    Some(value) if in_json => {
                        let quoted =
                            Secret::new(serde_json::to_string(value.reveal()).unwrap_or_default());
                        out.push_str(unquoted(quoted.reveal()));
                    }
                    Some(value) => out.push_str(value.reveal()),
                    None => return Err(Unresolved(reference)),
                },
            }
        }
        Ok(Secret::new(out))
    }

    /// The text for people: secrets shown as `(sensitive)`.
    #[must_use]
    pub fn masked(&self) -> String {
        self.pieces()
            .into_iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text,
                Piece::Secret(..) => SENSITIVE,
            })
            .collect()
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(open) = rest.find(OPEN) {
            let body_at = open + OPEN.len_utf8();
            let Some(close) = rest[body_at..].find(CLOSE).map(|n| body_at + n) else {
                break;
            };
            let piece = match serde_json::from_str(&rest[body_at..close]) {
                Ok(Placeholder::Plain(reference)) => Piece::Secret(reference, false),
                Ok(Placeholder::InJson { json }) => Piece::Secret(json, true),
                Err(_) => break,
            };
            pieces.push(Piece::Plain(&rest[..open]));
            pieces.push(piece);
            rest = &rest[close + CLOSE.len_utf8()..];
        }
        pieces.push(Piece::Plain(rest));
        pieces
    }
}

fn unquoted(json: &str) -> &str {
    json.strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(json)
}

enum Piece<'a> {
    Plain(&'a str),
    /// The reference, and whether it stands inside of a JSON string.
    Secret(SecretRef, bool),
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?} {secret}"), "(sensitive) (sensitive)");
    }

    #[test]
    fn placeholders_are_found_masked_and_replaced() {
        let reference = SecretRef::Env("TOKEN".into());
        let text = SecretText(format!("token: {}\n", reference.placeholder()));
        assert!(text.is_sensitive());
        assert_eq!(text.references(), vec![reference.clone()]);
        assert_eq!(text.masked(), "token: (sensitive)\n");
        let mut values = SecretValues::default();
        assert_eq!(text.reveal(&values), Err(Unresolved(reference.clone())));
        values.0.insert(reference, Secret::new("s3cret".into()));
        let revealed = text.reveal(&values).map(|s| s.reveal().clone());
        assert_eq!(revealed, Ok("token: s3cret\n".into()));
    }

    #[test]
    fn a_secret_in_json_is_quoted_when_it_is_put_in() {
        let reference = SecretRef::Command(vec!["pass".into(), "a\"b".into()]);
        let json = serde_json::to_string(&serde_json::json!({
            "password": format!("x{}y", reference.placeholder())
        }))
        .unwrap();
        let text = SecretText(requote_in_json(&json));
        assert_eq!(text.references(), vec![reference.clone()]);
        assert!(placeholders_whole(&text.0) && !placeholders_whole(&json));
        let mut values = SecretValues::default();
        values.0.insert(reference, Secret::new("q\"\\\n".into()));
        let revealed = text.reveal(&values).unwrap();
        let back: serde_json::Value = serde_json::from_str(revealed.reveal()).unwrap();
        assert_eq!(back["password"], "xq\"\\\ny");
    }
}
