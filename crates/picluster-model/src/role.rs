//! A role: parameters and a list of resources, as data.

pub(crate) mod needs;
pub(crate) mod read;
mod shape;
mod types;

pub use shape::{Field, Shape, Unique};
pub use types::ParamType;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::{RoleName, VarName};
use crate::span::{SourceFile, Span};
use crate::yaml::Yaml;
use indexmap::IndexMap;

/// A role as its folder says it.
#[derive(Debug, Clone)]
pub struct Role {
    /// The name of its folder.
    pub name: RoleName,
    /// What it is for, in a sentence.
    pub doc: Option<String>,
    /// Its parameters in the order of the file.
    pub parameters: IndexMap<VarName, Parameter>,
    /// Its resources in the order of the file.
    pub entries: Vec<Entry>,
    /// The files under `templates/`, by their path below it.
    pub templates: BTreeMap<String, Arc<SourceFile>>,
    /// `role.yaml` itself.
    pub file: Arc<SourceFile>,
    /// Whether it came with the binary.
    pub builtin: bool,
    /// The template engine that knows its files.
    pub(crate) engine: crate::template::Engine,
}

/// A parameter of a role.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// What its values look like.
    pub shape: Shape,
    /// Its value when nobody gives one.
    pub default: Option<Yaml>,
    /// What it means.
    pub doc: Option<String>,
    /// Whether a use of the role must give it.
    pub required: bool,
    /// The place of its key.
    pub span: Span,
    /// The JSON Schema of its values.
    pub(crate) schema: serde_json::Value,
}

impl Parameter {
    /// The JSON Schema of its values: those of `shape`, and nothing where it may be left out.
    #[must_use]
    pub fn schema(&self) -> &serde_json::Value {
        &self.schema
    }
}

/// One entry of a role's `resources`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The kind of resource, for instance `file`.
    pub kind: String,
    /// The place of the kind's key.
    pub kind_span: Span,
    /// The body as written.
    pub body: Yaml,
    /// A name other entries can need.
    pub id: Option<Yaml>,
    /// The condition; `None` means always.
    pub when: Option<Yaml>,
    /// The list it is repeated over.
    pub each: Option<Yaml>,
    /// Ids, or `kind[name]`, of what must be done before.
    pub needs: Vec<Yaml>,
    /// Whether everything behind it waits for everything before it.
    pub barrier: bool,
    /// Whether the node takes its change back unless it is confirmed.
    pub guarded: bool,
    /// Why it is there.
    pub doc: Option<String>,
    /// The place of the whole entry.
    pub span: Span,
}
