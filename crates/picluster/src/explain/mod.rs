//! Where the values of a node come from: every value by its name, with all places that gave one.
//!
//! Nothing is asked of a node. Values are as written, with ranges put in; their templates are rendered
//! for a plan only.

mod find;
mod kubernetes;
mod mask;
mod ssh;

use std::fmt;
use std::path::Path;

use picluster_model::vars::{Level, Origin, Var};
use picluster_model::{GroupName, Node, NodeName, Project, Span};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

pub use find::{find, unknown};

/// The version of what `explain --json` prints. Raised when a reader of the old form would misread the
/// new.
pub const FORMAT: u32 = 1;

/// What `explain --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Explanation {
    /// See [`FORMAT`].
    pub format: u32,
    /// The node.
    pub node: NodeName,
    /// Its values, or those that were asked for.
    pub values: Vec<Explained>,
}

/// One value of a node, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Explained {
    /// Its name: `address`, `ssh.user`, `labels.KEY`, `taints.KEY:EFFECT`, `vars.NAME`,
    /// `ROLE.PARAMETER`, `kubernetes.config.KEY`.
    pub name: String,
    /// The value that holds. Secrets are references, or `(sensitive)` where somebody wrote one down.
    pub value: Value,
    /// Every place that gives one, the winner first.
    pub sources: Vec<Given>,
}

/// A place that gives a value.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Given {
    /// How near to the node it is.
    pub source: Source,
    /// Where it is written; `null` for what picluster or k3s take by themselves.
    pub place: Option<Place>,
    /// The value there.
    pub value: Value,
}

/// Who gives a value, the nearest to the node first: no value has more than five.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The node itself.
    Node,
    /// A group of the node.
    Group(GroupName),
    /// The top of the inventory.
    Cluster,
    /// The OpenSSH client configuration.
    SshConfig,
    /// The `default` of a parameter in `role.yaml`.
    RoleDefault,
    /// What holds where nobody says anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Cluster => f.write_str("cluster"),
            Self::SshConfig => f.write_str("ssh config"),
            Self::RoleDefault => f.write_str("role default"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The file as the user gave it, `roles/NAME/role.yaml (built in)`, or below the user's home.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1, where it is known.
    pub column: Option<u32>,
}

impl Place {
    fn of(span: &Span) -> Self {
        Self {
            file: span.file.name.clone(),
            line: span.line,
            column: Some(span.column),
        }
    }

    fn line_of(file: &Path, line: usize) -> Self {
        let home = std::env::home_dir();
        let below = home.and_then(|home| file.strip_prefix(home).ok().map(Path::to_owned));
        Self {
            file: match below {
                Some(below) => format!("~/{}", below.display()),
                None => file.display().to_string(),
            },
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        match self.column {
            Some(column) => write!(f, ":{column}"),
            None => Ok(()),
        }
    }
}

impl Given {
    fn of(name: &str, origin: &Origin) -> Self {
        Self {
            source: match &origin.level {
                Level::Node => Source::Node,
                Level::Group(group) => Source::Group(group.clone()),
                Level::Cluster => Source::Cluster,
                Level::Default => Source::RoleDefault,
            },
            place: Some(Place::of(&origin.span)),
            value: if name.starts_with("labels.") || name.starts_with("taints.") {
                // Everybody who may read nodes can read them.
                origin.value.to_json()
            } else {
                mask::value(name, origin.value.to_json())
            },
        }
    }

    fn default(value: Value) -> Self {
        Self {
            source: Source::Default,
            place: None,
            value,
        }
    }
}

impl Explained {
    /// From its sources, the winner first; `None` when there is none.
    fn new(name: String, sources: Vec<Given>) -> Option<Self> {
        Some(Self {
            value: sources.first()?.value.clone(),
            name,
            sources,
        })
    }

    fn of_var(name: String, var: &Var) -> Option<Self> {
        let given = |origin| Given::of(&name, origin);
        let sources = var.origin.iter().map(given).collect();
        Self::new(name, sources)
    }
}

/// Every value of a node by its name: what it is and how it is reached, labels and taints, variables,
/// parameters of its roles in their order, and what the `kubernetes` section says to it.
///
/// A configuration of ssh that cannot be read is a finding beside the values.
#[must_use]
pub fn values(project: &Project, node: &Node) -> (Vec<Explained>, Option<String>) {
    let given = |prefix: &'static str| {
        node.given
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .filter_map(|(name, var)| Explained::of_var(name.clone(), var))
    };
    let plain = node
        .given
        .iter()
        .filter(|(name, _)| !name.contains('.'))
        .filter_map(|(name, var)| Explained::of_var(name.clone(), var));
    let (of_ssh, finding) = ssh::values(node);
    let vars = node.vars.iter();
    let params = node.roles.iter().flat_map(|role_use| {
        let params = role_use.params.iter();
        params.filter_map(|(name, var)| Explained::of_var(format!("{}.{name}", role_use.role), var))
    });
    let values = plain
        .chain(of_ssh)
        .chain(given("labels."))
        .chain(given("taints."))
        .chain(vars.filter_map(|(name, var)| Explained::of_var(format!("vars.{name}"), var)))
        .chain(params)
        .chain(kubernetes::values(project, node))
        .collect();
    (values, finding)
}
