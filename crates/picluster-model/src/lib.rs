//! The documents of picluster: `inventory.yaml` and `role.yaml`.
//!
//! Text goes in, validated values with their source positions come out, or a list of every
//! [`Diagnostic`] at once. This crate knows no network, no terminal, no clock and no node.

pub mod diagnostic;
pub mod name;
pub mod secret;
pub mod span;
pub mod yaml;

pub use diagnostic::Diagnostic;
pub use name::{ClusterName, GroupName, NodeName, RoleName, VarName};
pub use secret::{Secret, SecretRef, SecretText};
pub use span::{SourceFile, Span};
pub use yaml::{Yaml, YamlKind};
