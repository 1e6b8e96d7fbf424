//! Absolute paths on a node.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An absolute, clean path on a node: starts with `/`, no `.` or `..` or empty component, no
/// newline, NUL or backslash (`sha256sum` escapes names holding the latter, which would make its
/// output ambiguous).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(String);

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an absolute, clean path (no '.', '..', '//', backslash or newline)")]
pub struct PathError(String);

impl NodePath {
    /// Checks a path.
    ///
    /// # Errors
    /// [`PathError`] when it is relative or not clean.
    pub fn new(text: impl Into<String>) -> Result<Self, PathError> {
        let text = text.into();
        let clean = text == "/"
            || (text.starts_with('/')
                && text[1..]
                    .split('/')
                    .all(|part| !part.is_empty() && part != "." && part != "..")
                && !text.contains(['\n', '\0', '\\']));
        if clean {
            Ok(Self(text))
        } else {
            Err(PathError(text))
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory it stands in; `None` for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<NodePath> {
        let cut = self.0.rfind('/')?;
        match (cut, self.0.len()) {
            (0, 1) => None,
            (0, _) => Some(Self("/".into())),
            _ => Some(Self(self.0[..cut].into())),
        }
    }

    /// The last component; empty for `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// `self` lies below (or is) `other`.
    #[must_use]
    pub fn is_under(&self, other: &NodePath) -> bool {
        self == other
            || other.0 == "/"
            || self
                .0
                .strip_prefix(&other.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl TryFrom<String> for NodePath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> String {
        path.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
