//! Variables and parameters, and where each value came from.

use std::fmt;

use crate::span::Span;
use crate::yaml::Yaml;

/// A variable or parameter of one node, with its provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Var {
    /// The value that holds, as written: templates in it are not rendered yet, ranges are.
    pub value: Yaml,
    /// Every place that gave a value, the winner first.
    pub origin: Vec<Origin>,
}

/// One place that gave a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// How near to the node it is; the nearest wins.
    pub level: Level,
    /// The key's place in its document.
    pub span: Span,
    /// The value written there.
    pub value: Yaml,
}

/// The four levels of precedence, weakest first.
///
/// One rule for variables and for parameters of roles: *the nearest to the node wins*.
/// Variables (`vars.NAME`) have no [`Level::Default`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The `default` of a parameter in `role.yaml`.
    Default,
    /// `vars` or `roles` at the top of the inventory.
    Cluster,
    /// `vars` or `roles` of a group of the node. Two groups that disagree are an error unless
    /// the node decides.
    Group(crate::name::GroupName),
    /// `vars` or `roles` of the node itself.
    Node,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("role default"),
            Self::Cluster => f.write_str("cluster"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Node => f.write_str("node"),
        }
    }
}
