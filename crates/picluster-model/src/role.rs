//! A role: parameters and a list of resources, as data.

pub(crate) mod needs;
pub(crate) mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{RoleName, VarName};
use crate::span::{SourceFile, Span};
use crate::yaml::Yaml;

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
    /// The type of its values.
    pub kind: ParamType,
    /// Its value when nobody gives one.
    pub default: Option<Yaml>,
    /// What it means.
    pub doc: Option<String>,
    /// Whether a use of the role must give it.
    pub required: bool,
    /// The only values it may have; empty when all of its type are good.
    pub values: Vec<Yaml>,
    /// The place of its key.
    pub span: Span,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParamType {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number, whole or decimal.
    Number,
    /// A list of anything.
    List,
    /// A mapping with any keys.
    Map,
    /// A reference to a secret.
    Secret,
    /// Anything.
    Any,
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
    /// Why it is there.
    pub doc: Option<String>,
    /// The place of the whole entry.
    pub span: Span,
}
