//! The names host keys are pinned under.

use std::fmt;

use picluster_model::NodeName;

/// What a host key is pinned under: a node's name, whatever address it has today, or the address
/// of a jump host that is no node of the cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinName(String);

/// Why a text cannot name a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a host-key pin: it is empty, starts with `#`, or holds blanks or control characters"
)]
pub struct PinNameError(String);

impl PinName {
    /// The pin of a node.
    #[must_use]
    pub fn node(node: &NodeName) -> Self {
        Self(node.as_str().to_owned())
    }

    /// The pin of a jump host that is no node: `jump:HOST:PORT`, IPv6 addresses in brackets.
    ///
    /// # Errors
    /// [`PinNameError`] when the host holds blanks or control characters.
    pub fn jump(host: &str, port: u16) -> Result<Self, PinNameError> {
        let host = host.to_ascii_lowercase();
        if host.contains(':') {
            Self::parse(format!("jump:[{host}]:{port}"))
        } else {
            Self::parse(format!("jump:{host}:{port}"))
        }
    }

    /// Any other name, for instance of a spare card.
    ///
    /// # Errors
    /// [`PinNameError`] when it could not stand as the first word of a line.
    pub fn parse(text: impl Into<String>) -> Result<Self, PinNameError> {
        let text = text.into();
        let fits = !text.is_empty()
            && !text.starts_with('#')
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if fits {
            Ok(Self(text))
        } else {
            Err(PinNameError(text))
        }
    }

    /// The name as written in the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl From<&NodeName> for PinName {
    fn from(node: &NodeName) -> Self {
        Self::node(node)
    }
}
