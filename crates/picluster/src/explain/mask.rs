//! Secrets that somebody wrote down: documents hold references to them, and yet a password may stand
//! in a value that is passed through.

use picluster_model::secret::SENSITIVE;
use serde_json::Value;

/// The last word of names of what nobody else is to read.
const WORDS: [&str; 7] = [
    "password",
    "passwd",
    "passphrase",
    "psk",
    "secret",
    "token",
    "credentials",
];

/// `value` of the thing called `name`, without what looks like a secret: text under a name that says
/// so, at any depth, and the password in an address. References and templates stay.
pub fn value(name: &str, value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("{{") => Value::String(text),
        Value::String(text) if !text.is_empty() && is_secret(name) => Value::from(SENSITIVE),
        Value::String(text) => Value::String(without_password(&text)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| self::value(name, item))
            .collect(),
        Value::Object(entries) if is_reference(&entries) => Value::Object(entries),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, inner)| {
                let masked = self::value(&key, inner);
                (key, masked)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// `{ secret: NAME }` and the like: which names, not what they stand for.
fn is_reference(entries: &serde_json::Map<String, Value>) -> bool {
    entries.len() == 1
        && ["secret", "env", "sops", "command"]
            .iter()
            .any(|key| entries.contains_key(*key))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    // Of k3s: --etcd-s3-secret-key, --etcd-s3-access-key.
    if name.ends_with("secret-key") || name.ends_with("access-key") || name.ends_with("private-key")
    {
        return true;
    }
    let last = name.rsplit(['-', '.']).next().unwrap_or(&name);
    WORDS.contains(&last)
}

/// `postgres://k3s:(sensitive)@db.lan` of the same with a password.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // A password may hold what should have been escaped; the last `@` divides.
    let Some(at) = rest.rfind('@') else {
        return text.to_owned();
    };
    let Some(colon) = rest[..at].find(':') else {
        return text.to_owned();
    };
    format!("{scheme}://{}:{SENSITIVE}{}", &rest[..colon], &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_written_down_is_not_shown_and_references_are() {
        for (name, written, shown) in [
            ("users.password", json!("hunter2"), json!(SENSITIVE)),
            ("db_password", json!("hunter2"), json!(SENSITIVE)),
            ("etcd-s3-secret-key", json!("abc"), json!(SENSITIVE)),
            (
                "token",
                json!({ "secret": "k3s" }),
                json!({ "secret": "k3s" }),
            ),
            ("password", json!("{{ vars.p }}"), json!("{{ vars.p }}")),
            ("password_login", json!(true), json!(true)),
            ("token-file", json!("/etc/t"), json!("/etc/t")),
            (
                "auth",
                json!([{ "user": "a", "password": "hunter2" }]),
                json!([{ "user": "a", "password": SENSITIVE }]),
            ),
            (
                "datastore-endpoint",
                json!("postgres://k3s:hun/t@er2@db.lan:5432/k3s?sslmode=disable"),
                json!(format!(
                    "postgres://k3s:{SENSITIVE}@db.lan:5432/k3s?sslmode=disable"
                )),
            ),
            (
                "server_url",
                json!("https://k8s.lan:6443"),
                json!("https://k8s.lan:6443"),
            ),
        ] {
            assert_eq!(value(name, written), shown, "{name}");
        }
    }
}
