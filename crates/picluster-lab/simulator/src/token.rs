//! Join tokens (pkg/clientaccess/token.go).

use crate::fault::{Fault, Outcome};

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// `user:password`.
    Basic { user: String, password: String },
    /// `id.secret`, a bootstrap token.
    Bootstrap(String),
}

/// A token, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Hash of the cluster's authority; empty when the token does not pin it.
    pub(crate) ca_hash: String,
    pub(crate) credentials: Credentials,
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`.
pub(crate) fn is_bootstrap(text: &str) -> bool {
    let part = |s: &str, n: usize| {
        s.len() == n
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.split_once('.')
        .is_some_and(|(id, secret)| part(id, 6) && part(secret, 16))
}

impl Token {
    /// Reads `K10<hash>::<user>:<password>`, `K10<hash>::<id>.<secret>`, `<id>.<secret>` or a bare password.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        if text.is_empty() {
            return Err(Fault::new("token must not be empty"));
        }
        let full = match text.strip_prefix("K10") {
            Some(rest) => rest.to_owned(),
            None if is_bootstrap(text) => format!("::{text}"),
            None => format!(":::{text}"),
        };
        let (ca_hash, rest) = full.split_once("::").unwrap_or(("", &full));
        if !ca_hash.is_empty() && ca_hash.len() != 64 {
            return Err(Fault::new("invalid token CA hash length"));
        }
        let credentials = if is_bootstrap(rest) {
            Credentials::Bootstrap(rest.to_owned())
        } else {
            match rest.split_once(':') {
                Some((user, password)) if !password.is_empty() => Credentials::Basic {
                    user: user.to_owned(),
                    password: password.to_owned(),
                },
                _ => return Err(Fault::new("invalid token format")),
            }
        };
        Ok(Self {
            ca_hash: ca_hash.to_owned(),
            credentials,
        })
    }

    /// The `Authorization` header of a request; the user that the caller wants, when the token names none of its own.
    pub(crate) fn authorization(&self, user: &str) -> String {
        use base64::Engine as _;
        match &self.credentials {
            Credentials::Bootstrap(token) => format!("Bearer {token}"),
            Credentials::Basic { password, .. } => {
                let both = format!("{user}:{password}");
                format!(
                    "Basic {}",
                    base64::engine::general_purpose::STANDARD.encode(both)
                )
            }
        }
    }
}

/// The password inside of a server's own token.
pub(crate) fn normalise(text: &str) -> Outcome<String> {
    match Token::parse(text)?.credentials {
        Credentials::Basic { password, .. } => Ok(password),
        Credentials::Bootstrap(_) => Err(Fault::new(
            "failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_taken_apart_as_upstream_does() {
        let hash = "a".repeat(64);
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.into(),
            password: password.into(),
        };
        for (text, ca_hash, credentials) in [
            ("secret".to_owned(), "", basic("", "secret")),
            (
                format!("K10{hash}::server:pass:word"),
                hash.as_str(),
                basic("server", "pass:word"),
            ),
            ("K10::node:x".to_owned(), "", basic("node", "x")),
            (
                "abcdef.0123456789abcdef".to_owned(),
                "",
                Credentials::Bootstrap("abcdef.0123456789abcdef".into()),
            ),
        ] {
            let token = Token::parse(&text).unwrap();
            assert_eq!(
                (token.ca_hash.as_str(), &token.credentials),
                (ca_hash, &credentials),
                "{text}"
            );
        }
        for (text, why) in [
            ("", "token must not be empty"),
            ("K10abc::server:x", "invalid token CA hash length"),
            ("K10server", "invalid token format"),
        ] {
            assert_eq!(Token::parse(text).unwrap_err().0, why);
        }
    }
}
