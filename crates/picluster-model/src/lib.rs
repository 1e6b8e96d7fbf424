//! The documents of picluster: `inventory.yaml` and `role.yaml`.
//!
//! Text goes in, validated values with their source positions come out, or a list of every
//! [`Diagnostic`] at once. This crate knows no network, no terminal, no clock and no node.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod diagnostic;
pub mod document;
pub mod inventory;
pub mod kinds;
pub mod kubernetes;
mod label;
pub mod library;
pub mod load;
pub mod name;
pub mod range;
pub mod render;
pub mod role;
pub mod schema;
pub mod secret;
pub mod span;
pub mod ssh;
pub mod suggest;
pub mod taint;
mod template;
pub mod vars;
pub mod yaml;

pub use diagnostic::{Color, Diagnostic, render};
pub use inventory::{Expected, Inventory, Node, Project, RoleUse};
pub use kinds::Kinds;
pub use kubernetes::{
    Arch, ByArch, Cidr, Distribution, Kubeconfig, Kubernetes, KubernetesRole, KubernetesVersion,
    Manifest, Repository, Source,
};
pub use library::RoleLibrary;
pub use load::{Everything, Local, load};
pub use name::{ClusterName, GroupName, NodeName, RoleName, VarName};
pub use render::{ClusterContext, RenderContext, RenderedEntry, render_role};
pub use role::{Entry, Field, ParamType, Parameter, Role, Shape, Unique};
pub use schema::{Templated, inventory_schema, role_schema};
pub use secret::{Secret, SecretRef, SecretText};
pub use span::{SourceFile, Span};
pub use ssh::{Jump, SshConfigUse, SshSettings, SudoPassword};
pub use taint::{Taint, TaintEffect};
pub use vars::{Level, Origin, Var};
pub use yaml::{Yaml, YamlKind};
