//! YAML with source positions: the tree every document becomes before anything reads it.
//!
//! [`parse`] makes the tree, [`decode`] turns (parts of) it into typed values. The dialect is
//! YAML 1.2 (core schema) with everything left out that surprises people: no tags, no merge
//! keys, no repeated keys, no keys that are not text, one document a file. Two readings differ
//! on purpose: a number with leading zeros (`0644`) is text, because YAML 1.1 and 1.2 disagree
//! on its value, and `.inf`/`.nan` are text.

pub mod decode;
pub mod parse;

use std::sync::Arc;

use crate::span::{SourceFile, Span};

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

impl Yaml {
    /// A value at a place.
    #[must_use]
    pub fn new(kind: YamlKind, span: &Span) -> Self {
        Self {
            kind,
            span: span.clone(),
        }
    }

    /// Text at a place.
    #[must_use]
    pub fn string(text: impl Into<String>, span: &Span) -> Self {
        Self::new(YamlKind::String(text.into()), span)
    }

    /// A value made by a program, without a document: for tests and for values computed.
    #[must_use]
    pub fn from_json(value: &serde_json::Value, span: &Span) -> Self {
        use serde_json::Value;
        let kind = match value {
            Value::Null => YamlKind::Null,
            Value::Bool(b) => YamlKind::Bool(*b),
            Value::Number(n) => match n.as_i64() {
                Some(i) => YamlKind::Int(i),
                None => YamlKind::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => YamlKind::String(s.clone()),
            Value::Array(items) => {
                YamlKind::Seq(items.iter().map(|v| Self::from_json(v, span)).collect())
            }
            Value::Object(map) => YamlKind::Map(
                map.iter()
                    .map(|(k, v)| (k.clone(), span.clone(), Self::from_json(v, span)))
                    .collect(),
            ),
        };
        Self::new(kind, span)
    }

    /// This value with the places of another of the same structure, as far as it is the same: what
    /// a template made has the place of the template.
    #[must_use]
    pub fn with_places_of(&self, other: &Self) -> Self {
        let kind = match (&self.kind, &other.kind) {
            (YamlKind::Seq(own), YamlKind::Seq(others)) if own.len() == others.len() => {
                YamlKind::Seq(
                    own.iter()
                        .zip(others)
                        .map(|(item, other)| item.with_places_of(other))
                        .collect(),
                )
            }
            (YamlKind::Map(own), YamlKind::Map(_)) => YamlKind::Map(
                own.iter()
                    .map(|(key, span, value)| {
                        let place = other.key_span(key).unwrap_or(span).clone();
                        let value = other
                            .get(key)
                            .map_or_else(|| value.clone(), |other| value.with_places_of(other));
                        (key.clone(), place, value)
                    })
                    .collect(),
            ),
            (kind, _) => kind.clone(),
        };
        Self::new(kind, &other.span)
    }

    /// The value without its places. A float that JSON cannot hold becomes `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            YamlKind::Null => Value::Null,
            YamlKind::Bool(b) => Value::Bool(*b),
            YamlKind::Int(i) => Value::from(*i),
            YamlKind::Float(f) => Value::from(*f),
            YamlKind::String(s) => Value::String(s.clone()),
            YamlKind::Seq(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            YamlKind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(k, _, v)| (k.clone(), v.to_json()))
                    .collect(),
            ),
        }
    }

    /// Whether two values are the same wherever they stand.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }

    /// The value under `key`, when this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|(name, _, _)| name == key)
            .map(|(_, _, value)| value)
    }

    /// The place of `key`, when this is a mapping that has it.
    #[must_use]
    pub fn key_span(&self, key: &str) -> Option<&Span> {
        self.entries()
            .iter()
            .find(|(name, _, _)| name == key)
            .map(|(_, span, _)| span)
    }

    /// The entries of a mapping; nothing for any other value.
    #[must_use]
    pub fn entries(&self) -> &[(String, Span, Self)] {
        match &self.kind {
            YamlKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; nothing for any other value.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            YamlKind::Seq(items) => items,
            _ => &[],
        }
    }

    /// The text, when this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            YamlKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is `null` or nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.kind, YamlKind::Null)
    }

    /// What people call this: `text`, `a list`, `the number 5`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            YamlKind::Null => "nothing".into(),
            YamlKind::Bool(b) => format!("`{b}`"),
            YamlKind::Int(i) => format!("the number {i}"),
            YamlKind::Float(f) => format!("the number {f}"),
            YamlKind::String(s) if s.len() <= 40 && !s.contains('\n') => format!("the text {s:?}"),
            YamlKind::String(_) => "text".into(),
            YamlKind::Seq(_) => "a list".into(),
            YamlKind::Map(_) => "a mapping".into(),
        }
    }

    /// Changes every text in this value, at any depth; keys stay.
    #[must_use]
    pub fn map_strings(&self, change: &mut dyn FnMut(&str) -> String) -> Self {
        let kind = match &self.kind {
            YamlKind::String(text) => YamlKind::String(change(text)),
            YamlKind::Seq(items) => {
                YamlKind::Seq(items.iter().map(|i| i.map_strings(change)).collect())
            }
            YamlKind::Map(entries) => YamlKind::Map(
                entries
                    .iter()
                    .map(|(k, s, v)| (k.clone(), s.clone(), v.map_strings(change)))
                    .collect(),
            ),
            other => other.clone(),
        };
        Self::new(kind, &self.span)
    }
}

/// A place for values no document holds: an unnamed, empty one.
#[must_use]
pub fn nowhere() -> Span {
    Span::at(
        &Arc::new(SourceFile {
            name: String::from("(none)"),
            text: String::new(),
        }),
        0..0,
    )
}
