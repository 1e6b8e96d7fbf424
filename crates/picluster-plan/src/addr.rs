//! Step addresses: `node/role/kind[key]`.

use std::fmt;
use std::str::FromStr;

use picluster_model::{NodeName, RoleName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address of one resource on one node, `pi-2/k3s/file[/etc/rancher/k3s/config.yaml]`.
///
/// Parses back from what it prints; [`AddrPattern`] matches it with globs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct StepAddr {
    /// The node.
    pub node: NodeName,
    /// The role that declares it; `picluster` for what the planner adds by itself.
    pub role: RoleName,
    /// The resource kind, or `reboot`.
    pub kind: String,
    /// What tells it apart within its kind.
    pub key: String,
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a step address; one looks like pi-2/base/file[/etc/hosts]")]
pub struct AddrError(String);

impl fmt::Display for StepAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}[{}]", self.node, self.role, self.kind, self.key)
    }
}

impl fmt::Debug for StepAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StepAddr {
    type Err = AddrError;
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let bad = || AddrError(text.to_owned());
        let mut parts = text.splitn(3, '/');
        let node = parts.next().ok_or_else(bad)?;
        let role = parts.next().ok_or_else(bad)?;
        let rest = parts.next().ok_or_else(bad)?;
        let (kind, key) = rest.split_once('[').ok_or_else(bad)?;
        let key = key.strip_suffix(']').ok_or_else(bad)?;
        if kind.is_empty() || kind.contains(['/', ']']) {
            return Err(bad());
        }
        Ok(Self {
            node: NodeName::new(node).map_err(|_| bad())?,
            role: RoleName::new(role).map_err(|_| bad())?,
            kind: kind.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl TryFrom<String> for StepAddr {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl From<StepAddr> for String {
    fn from(addr: StepAddr) -> String {
        addr.to_string()
    }
}

impl StepAddr {
    /// The part after the node: the same for every node that shares the step.
    #[must_use]
    pub fn local(&self) -> String {
        format!("{}/{}[{}]", self.role, self.kind, self.key)
    }
}

/// A glob over addresses: `*` matches any text (slashes too), `?` one character. A pattern
/// without `/` matches node names; with one `/` node and role; else the whole address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddrPattern(String);

impl AddrPattern {
    /// Takes a pattern as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, addr: &StepAddr) -> bool {
        // Slashes inside the key do not count.
        let outside = self.0.split('[').next().unwrap_or("");
        match outside.matches('/').count() {
            0 if !self.0.contains('[') => glob(&self.0, addr.node.as_str()),
            1 if !self.0.contains('[') => glob(&self.0, &format!("{}/{}", addr.node, addr.role)),
            _ => glob(&self.0, &addr.to_string()),
        }
    }
}

/// Shell-like matching with `*` and `?` only; everything else is literal.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < t.len() {
        if i < p.len() && (p[i] == '?' || p[i] == t[j]) && p[i] != '*' {
            i += 1;
            j += 1;
        } else if i < p.len() && p[i] == '*' {
            star = Some((i, j));
            i += 1;
        } else if let Some((si, sj)) = star {
            i = si + 1;
            j = sj + 1;
            star = Some((si, sj + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_back() {
        for text in [
            "pi-2/k3s/file[/etc/rancher/k3s/config.yaml]",
            "a/b/line[/etc/fstab: [x]]",
            "rpi01/picluster/reboot[rpi01]",
        ] {
            let addr: StepAddr = text.parse().expect("valid");
            assert_eq!(addr.to_string(), text);
        }
        for text in [
            "",
            "pi",
            "pi/role",
            "pi/role/kind",
            "PI/role/kind[x]",
            "pi/role/[x]",
        ] {
            assert!(text.parse::<StepAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_by_their_depth() {
        let addr: StepAddr = "pi-2/base/file[/etc/hosts]".parse().expect("valid");
        for (pattern, expected) in [
            ("pi-2", true),
            ("pi-*", true),
            ("pi-?", true),
            ("*", true),
            ("pi-3", false),
            ("pi-2/base", true),
            ("*/base", true),
            ("*/users", false),
            ("*/base/file[*]", true),
            ("*/base/file[/etc/*]", true),
            ("*/file[/etc/hosts]", true),
            ("*/unit[*]", false),
        ] {
            assert_eq!(
                AddrPattern::new(pattern).matches(&addr),
                expected,
                "{pattern}"
            );
        }
    }
}
