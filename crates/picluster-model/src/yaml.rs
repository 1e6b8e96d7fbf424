//! YAML with source positions. The only module that knows the YAML crate.

use crate::span::Span;

/// A YAML value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Yaml {
    /// The value.
    pub kind: YamlKind,
    /// Its place.
    pub span: Span,
}

/// A YAML value. Mappings keep their order; keys are strings and unique.
#[derive(Debug, Clone, PartialEq)]
pub enum YamlKind {
    /// `null` or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A decimal number.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Seq(Vec<Yaml>),
    /// A mapping: key, place of the key, value.
    Map(Vec<(String, Span, Yaml)>),
}
