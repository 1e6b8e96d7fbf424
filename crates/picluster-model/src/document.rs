//! The documents as they are written: the types behind the JSON Schemas.
//!
//! A type made with `document!` is at once what a schema is generated from and what is read
//! from the tree, so the two cannot differ. Reading is lenient: what does not fit becomes
//! nothing, because the schema walker has already said so, and the rest can still be checked.

pub mod inventory;
pub mod role;
pub mod text;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;

use crate::span::Span;
use crate::yaml::{Yaml, YamlKind};

/// Reads itself from a tree; `None` when it does not fit.
pub trait FromYaml: Sized {
    /// The value in `yaml`.
    fn from_yaml(yaml: &Yaml) -> Option<Self>;

    /// The value when its field is not there.
    fn absent() -> Option<Self> {
        None
    }
}

/// Declares a mapping: a struct, its JSON Schema (no unknown fields) and its [`FromYaml`].
macro_rules! document {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::document::FromYaml for $name {
            fn from_yaml(yaml: &$crate::yaml::Yaml) -> Option<Self> {
                if !matches!(yaml.kind, $crate::yaml::YamlKind::Map(_)) {
                    return None;
                }
                Some(Self {
                    $($field: match yaml.get(stringify!($field).trim_start_matches("r#")) {
                        Some(value) => $crate::document::FromYaml::from_yaml(value)?,
                        None => $crate::document::FromYaml::absent()?,
                    },)*
                })
            }
        }
    };
}
pub(crate) use document;

impl<T: FromYaml> FromYaml for Option<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        Some(if yaml.is_null() {
            None
        } else {
            T::from_yaml(yaml)
        })
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromYaml> FromYaml for Vec<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Seq(items) => Some(items.iter().filter_map(T::from_yaml).collect()),
            _ => None,
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T: FromYaml> FromYaml for Spanned<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        Some(Self {
            value: T::from_yaml(yaml)?,
            span: yaml.span.clone(),
        })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping with free keys.
#[derive(Debug, Clone)]
pub struct Entries<T>(pub Vec<(String, Span, T)>);

impl<T: FromYaml> FromYaml for Entries<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Map(entries) => Some(Self(
                entries
                    .iter()
                    .filter_map(|(key, span, value)| {
                        Some((key.clone(), span.clone(), T::from_yaml(value)?))
                    })
                    .collect(),
            )),
            _ => None,
        }
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        IndexMap::<String, T>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        IndexMap::<String, T>::json_schema(generator)
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: FromYaml> FromYaml for OneOrMany<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Seq(_) => Vec::from_yaml(yaml).map(Self),
            _ => T::from_yaml(yaml).map(|one| Self(vec![one])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl FromYaml for Yaml {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        Some(yaml.clone())
    }
}

impl JsonSchema for Yaml {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::from(true)
    }
}

/// Types read with serde.
macro_rules! by_serde {
    ($($type:ty),* $(,)?) => {
        $(impl FromYaml for $type {
            fn from_yaml(yaml: &Yaml) -> Option<Self> {
                decode(yaml)
            }
        })*
    };
}

fn decode<T: DeserializeOwned>(yaml: &Yaml) -> Option<T> {
    yaml.decode().ok()
}

by_serde!(
    String,
    bool,
    u16,
    u32,
    crate::inventory::Expected,
    crate::kubernetes::Distribution,
    crate::kubernetes::KubernetesRole,
    crate::role::ParamType,
    crate::secret::SecretRef,
);
