//! What a value of a parameter looks like, at any depth.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::role::ParamType;
use crate::span::Span;
use crate::yaml::{Yaml, YamlKind};

/// What a value looks like: its type, and what is inside of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The type.
    pub kind: ParamType,
    /// The only values it may have; empty when all of its type are good.
    pub values: Vec<Yaml>,
    /// A regular expression that text must match.
    pub pattern: Option<String>,
    /// The least number, the least length of text, or the least count of items or keys.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// Whether, and by what, the items of a list differ from each other.
    pub unique: Unique,
    /// What the items of a list, or the values of a mapping with any keys, look like.
    pub items: Option<Box<Shape>>,
    /// The keys of a mapping; without any, all keys are good.
    pub fields: IndexMap<String, Field>,
}

/// Whether items of a list may be the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Unique {
    /// They may.
    #[default]
    No,
    /// No two are the same.
    Items,
    /// No two have the same value under this key.
    Key(String),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What its value looks like.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// Its value when it is not given; without one it is `none`.
    pub default: Option<Yaml>,
    /// What it means.
    pub doc: Option<String>,
    /// The place of its key.
    pub span: Span,
}

impl Shape {
    /// Any value of a type.
    #[must_use]
    pub fn of(kind: ParamType) -> Self {
        Self {
            kind,
            values: Vec::new(),
            pattern: None,
            min: None,
            max: None,
            unique: Unique::No,
            items: None,
            fields: IndexMap::new(),
        }
    }

    /// The JSON Schema of its values; `nullable` ones may also be nothing.
    #[must_use]
    pub fn schema(&self, nullable: bool) -> Value {
        let mut schema = Map::new();
        let name = match self.kind {
            ParamType::Any => return Value::Bool(true),
            ParamType::Secret => return crate::secret::reference_schema(nullable),
            ParamType::Bool => "boolean",
            ParamType::Int | ParamType::Port => "integer",
            ParamType::Number => "number",
            ParamType::List => "array",
            ParamType::Map => "object",
            _ => "string",
        };
        schema.insert(
            "type".into(),
            if nullable {
                json!([name, "null"])
            } else {
                json!(name)
            },
        );
        if let Some(form) = self.kind.form() {
            schema.insert("pattern".into(), json!(form.pattern));
            schema.insert("patternErrorMessage".into(), json!(form.rule));
            schema.insert("format".into(), json!(self.kind.name()));
        }
        if let Some(pattern) = &self.pattern {
            schema.insert("pattern".into(), json!(pattern));
        }
        if !self.values.is_empty() {
            let mut values: Vec<Value> = self.values.iter().map(Yaml::to_json).collect();
            if nullable {
                values.push(Value::Null);
            }
            schema.insert("enum".into(), values.into());
        }
        let (least, most) = match name {
            "integer" | "number" => ("minimum", "maximum"),
            "array" => ("minItems", "maxItems"),
            "object" => ("minProperties", "maxProperties"),
            _ => ("minLength", "maxLength"),
        };
        let port = (self.kind == ParamType::Port).then_some((1.0, 65535.0));
        for (key, bound) in [
            (least, self.min.or(port.map(|p| p.0))),
            (most, self.max.or(port.map(|p| p.1))),
        ] {
            if let Some(bound) = bound {
                schema.insert(key.into(), number(bound));
            }
        }
        match &self.unique {
            Unique::No => {}
            Unique::Items => {
                schema.insert("uniqueItems".into(), json!(true));
            }
            Unique::Key(key) => {
                schema.insert("uniqueBy".into(), json!(key));
            }
        }
        if let Some(items) = &self.items {
            let key = if name == "array" {
                "items"
            } else {
                "additionalProperties"
            };
            schema.insert(key.into(), items.schema(false));
        }
        if !self.fields.is_empty() {
            let properties: Map<String, Value> = self
                .fields
                .iter()
                .map(|(key, field)| (key.clone(), field.schema()))
                .collect();
            let required: Vec<&String> = self
                .fields
                .iter()
                .filter(|(_, field)| field.required)
                .map(|(key, _)| key)
                .collect();
            schema.insert("properties".into(), properties.into());
            if !required.is_empty() {
                schema.insert("required".into(), json!(required));
            }
            schema.insert("additionalProperties".into(), json!(false));
        }
        schema.into()
    }

    /// The value with everything that its fields say by default; a field without a default that
    /// is not given is nothing, so that templates can ask for it.
    #[must_use]
    pub fn complete(&self, value: &Yaml) -> Yaml {
        let kind = match (&value.kind, &self.items) {
            (YamlKind::Seq(items), Some(shape)) => {
                YamlKind::Seq(items.iter().map(|item| shape.complete(item)).collect())
            }
            (YamlKind::Map(entries), Some(shape)) => YamlKind::Map(
                entries
                    .iter()
                    .map(|(key, span, item)| (key.clone(), span.clone(), shape.complete(item)))
                    .collect(),
            ),
            (YamlKind::Map(entries), None) if !self.fields.is_empty() => {
                let mut whole: Vec<(String, Span, Yaml)> = Vec::new();
                for (key, field) in &self.fields {
                    let given = entries
                        .iter()
                        .find(|(name, _, value)| name == key && !value.is_null());
                    whole.push(match given {
                        Some((key, span, item)) => {
                            (key.clone(), span.clone(), field.shape.complete(item))
                        }
                        None => {
                            let unsaid = field.default.clone();
                            let unsaid = unsaid.map(|default| field.shape.complete(&default));
                            let nothing = || Yaml::new(YamlKind::Null, &value.span);
                            (
                                key.clone(),
                                value.span.clone(),
                                unsaid.unwrap_or_else(nothing),
                            )
                        }
                    });
                }
                YamlKind::Map(whole)
            }
            _ => return value.clone(),
        };
        Yaml::new(kind, &value.span)
    }
}

impl Field {
    fn schema(&self) -> Value {
        let mut schema = self.shape.schema(!self.required);
        if let (Some(doc), Some(object)) = (&self.doc, schema.as_object_mut()) {
            object.insert("description".into(), json!(doc));
        }
        if let (Some(default), Some(object)) = (&self.default, schema.as_object_mut()) {
            object.insert("default".into(), default.to_json());
        }
        schema
    }
}

/// Whole numbers as such: a length of 3.0 is nothing an editor understands.
fn number(bound: f64) -> Value {
    if bound.fract() == 0.0 && bound.abs() < 9e15 {
        json!(bound as i64)
    } else {
        json!(bound)
    }
}
