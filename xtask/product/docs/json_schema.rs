//! A JSON Schema as a table for people.

use serde_json::{Map, Value};

use super::{cell, table};

/// A schema, and the document its references point into.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    pub(super) document: &'a Value,
    pub(super) here: &'a Value,
}

impl<'a> Schema<'a> {
    /// A whole document.
    pub(super) fn new(document: &'a Value) -> Self {
        Self {
            document,
            here: document,
        }
    }

    /// Another place of the same document.
    fn at(self, here: &'a Value) -> Self {
        Self { here, ..self }
    }

    /// What a reference points at.
    fn resolved(self) -> Self {
        let target = self
            .here
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| self.document.pointer(r.strip_prefix('#')?));
        target.map_or(self, |here| self.at(here))
    }

    /// What it says about itself; a reference may say it better than what it points at.
    pub(super) fn description(self) -> &'a str {
        let own = self.here.get("description").and_then(Value::as_str);
        let target = self
            .resolved()
            .here
            .get("description")
            .and_then(Value::as_str);
        own.or(target).unwrap_or_default()
    }

    /// Its fields.
    pub(super) fn properties(self) -> Option<&'a Map<String, Value>> {
        self.resolved()
            .here
            .get("properties")
            .and_then(Value::as_object)
    }

    fn is_required(self, name: &str) -> bool {
        let required = self
            .resolved()
            .here
            .get("required")
            .and_then(Value::as_array);
        required.is_some_and(|list| list.iter().any(|r| r == name))
    }

    /// A table of its fields that `wanted` picks, those of inner objects as `outer.inner`.
    pub(super) fn fields(self, wanted: impl Fn(&str) -> bool) -> String {
        let mut rows = Vec::new();
        self.rows("", &wanted, &mut rows);
        table(&["field", "type", "default", "meaning"], &rows)
    }

    /// A table of values that are read, not written: none has a default.
    pub(super) fn readings(self) -> String {
        let mut rows = Vec::new();
        self.rows("", &|_| true, &mut rows);
        for row in &mut rows {
            row.remove(2);
        }
        table(&["value", "type", "meaning"], &rows)
    }

    fn rows(self, prefix: &str, wanted: &dyn Fn(&str) -> bool, rows: &mut Vec<Vec<String>>) {
        for (name, value) in self.properties().into_iter().flatten() {
            if !wanted(name) {
                continue;
            }
            let field = self.at(value);
            let default = match value.get("default") {
                Some(Value::Null) | None if self.is_required(name) => "**required**".to_owned(),
                Some(Value::Null) | None => String::new(),
                Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
                Some(Value::Array(list)) if list.is_empty() => "none".to_owned(),
                Some(Value::String(text)) => format!("`{}`", cell(text)),
                Some(other) => format!("`{}`", cell(&other.to_string())),
            };
            rows.push(vec![
                format!("`{prefix}{name}`"),
                field.kind(),
                default,
                cell(field.description()),
            ]);
            // Objects of their own that stand right here; those with a name have a table elsewhere.
            if self.inlined(field) {
                field.rows(&format!("{prefix}{name}."), &|_| true, rows);
            }
        }
    }

    /// Objects are shown in place when their document has no page part for them.
    fn inlined(self, field: Self) -> bool {
        self.document.get("$defs").is_some() && field.properties().is_some()
    }

    /// Its type in words.
    pub(super) fn kind(self) -> String {
        self.kinds().join(" or ")
    }

    fn kinds(self) -> Vec<String> {
        if let Some(reference) = self.here.get("$ref").and_then(Value::as_str) {
            // Documents of several objects link from one to the other.
            if self.properties().is_some() && self.document.get("definitions").is_some() {
                let name = reference.rsplit('/').next().unwrap_or_default();
                return vec![link(name)];
            }
            return self.resolved().kinds();
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(list) = self.here.get(choice).and_then(Value::as_array) {
                let mut kinds: Vec<String> = list.iter().flat_map(|s| self.at(s).kinds()).collect();
                kinds.dedup();
                return kinds;
            }
        }
        if let Some(value) = self.here.get("const") {
            return vec![format!(
                "`{}`",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            )];
        }
        if let Some(list) = self.here.get("enum").and_then(Value::as_array) {
            return list
                .iter()
                .filter_map(Value::as_str)
                .map(|v| format!("`{v}`"))
                .collect();
        }
        let types: Vec<&str> = match self.here.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => return vec!["anything".into()],
        };
        types
            .into_iter()
            .filter(|t| *t != "null")
            .map(|t| self.word(t))
            .collect()
    }

    fn word(self, kind: &str) -> String {
        let inner = |key: &str| {
            let inner = self.here.get(key).filter(|i| i.is_object());
            inner.map(|i| self.at(i).kind()).filter(|k| k != "anything")
        };
        match kind {
            "string" => "text".into(),
            "boolean" => "`true` or `false`".into(),
            "integer" => "whole number".into(),
            "array" => inner("items").map_or_else(|| "list".into(), |k| format!("list of {k}")),
            "object" => inner("additionalProperties")
                .map_or_else(|| "mapping".into(), |k| format!("mapping to {k}")),
            other => other.into(),
        }
    }
}

/// The heading under which an object of a document is described.
pub(super) fn title(name: &str) -> String {
    name.trim_end_matches("Document").to_lowercase()
}

fn link(name: &str) -> String {
    let title = title(name);
    format!("[{title}](#{title})")
}
