//! From the tree to typed values, with errors that know their place.

use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::yaml::{Yaml, YamlKind};

/// Why a value is not of the wanted type, and where.
#[derive(Debug, Clone)]
pub struct DecodeError {
    message: String,
    span: Option<Span>,
}

impl DecodeError {
    /// Errors rise from the innermost value outwards: the first place that is known is the best.
    fn or_at(mut self, span: &Span) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            span: None,
        }
    }
}

impl Yaml {
    /// Reads a typed value.
    ///
    /// Internally tagged, untagged and flattened types work, but their errors point at the
    /// whole value: serde buffers them without places.
    ///
    /// # Errors
    /// The first thing that does not fit, at its place. Check against a schema first to get all.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        T::deserialize(self).map_err(|error| {
            let error = error.or_at(&self.span);
            match error.span {
                Some(span) => Diagnostic::new(error.message, &span),
                None => Diagnostic::new(error.message, &self.span),
            }
        })
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match &self.kind {
            YamlKind::Null => Unexpected::Unit,
            YamlKind::Bool(b) => Unexpected::Bool(*b),
            YamlKind::Int(i) => Unexpected::Signed(*i),
            YamlKind::Float(f) => Unexpected::Float(*f),
            YamlKind::String(s) => Unexpected::Str(s),
            YamlKind::Seq(_) => Unexpected::Seq,
            YamlKind::Map(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &'de Yaml {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.kind {
            YamlKind::Null => visitor.visit_unit(),
            YamlKind::Bool(b) => visitor.visit_bool(*b),
            YamlKind::Int(i) => visitor.visit_i64(*i),
            YamlKind::Float(f) => visitor.visit_f64(*f),
            YamlKind::String(s) => visitor.visit_borrowed_str(s),
            YamlKind::Seq(items) => visitor.visit_seq(Items { rest: items.iter() }),
            YamlKind::Map(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
            }),
        }
        .map_err(|error| error.or_at(&self.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind {
            YamlKind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| error.or_at(&self.span))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| error.or_at(&self.span))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let access = match &self.kind {
            YamlKind::String(name) => Variant {
                name,
                name_span: &self.span,
                value: None,
            },
            YamlKind::Map(entries) => match entries.as_slice() {
                [(name, name_span, value)] => Variant {
                    name,
                    name_span,
                    value: Some(value),
                },
                _ => {
                    return Err(DecodeError::custom(format!(
                        "exactly one key is wanted here, {} are given",
                        entries.len()
                    ))
                    .or_at(&self.span));
                }
            },
            _ => {
                return Err(DecodeError::invalid_type(
                    self.unexpected(),
                    &"a name or a mapping with one key",
                )
                .or_at(&self.span));
            }
        };
        visitor
            .visit_enum(access)
            .map_err(|error| error.or_at(&self.span))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, DecodeError> for &'de Yaml {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de> {
    rest: std::slice::Iter<'de, Yaml>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.rest
            .next()
            .map(|item| seed.deserialize(item).map_err(|e| e.or_at(&item.span)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (String, Span, Yaml)>,
    value: Option<&'de Yaml>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, span, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|e| e.or_at(span))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        match self.value.take() {
            Some(value) => seed
                .deserialize(value)
                .map_err(|error| error.or_at(&value.span)),
            None => Err(DecodeError::custom("a value was asked for before its key")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Variant<'de> {
    name: &'de str,
    name_span: &'de Span,
    value: Option<&'de Yaml>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let name: StringDeserializer<DecodeError> = self.name.to_owned().into_deserializer();
        seed.deserialize(name)
            .map(|value| (value, self.reborrow()))
            .map_err(|error| error.or_at(self.name_span))
    }
}

impl<'de> Variant<'de> {
    fn reborrow(&self) -> Self {
        Self {
            name: self.name,
            name_span: self.name_span,
            value: self.value,
        }
    }

    fn body(&self) -> Result<&'de Yaml, DecodeError> {
        self.value.ok_or_else(|| {
            DecodeError::custom(format!("`{}` needs a value: `{}: …`", self.name, self.name))
                .or_at(self.name_span)
        })
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.value {
            None => Ok(()),
            Some(value) if value.is_null() => Ok(()),
            Some(value) => Err(
                DecodeError::custom(format!("`{}` takes no value", self.name)).or_at(&value.span),
            ),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let body = self.body()?;
        seed.deserialize(body).map_err(|e| e.or_at(&body.span))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.body()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.body()?.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::Deserialize;

    use super::*;
    use crate::span::SourceFile;
    use crate::yaml::parse;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        path: String,
        #[serde(default)]
        mode: Option<u32>,
        #[serde(default)]
        state: State,
        #[serde(default)]
        names: BTreeMap<String, Vec<bool>>,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(rename_all = "snake_case")]
    enum State {
        #[default]
        Present,
        Linked(String),
        Moved {
            to: String,
        },
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let file = Arc::new(SourceFile {
            name: String::from("t"),
            text: text.to_owned(),
        });
        parse::parse(&file)
            .map_err(|findings| findings[0].message.clone())?
            .decode()
            .map_err(|finding| {
                let span = finding.span.map(|s| s.to_string()).unwrap_or_default();
                format!("{span} {}", finding.message)
            })
    }

    #[test]
    fn values_become_types() {
        let body: Body =
            read("path: /x\nmode: 0o644\nstate: { linked: /y }\nnames: { a: [true, false] }")
                .unwrap();
        assert_eq!(body.mode, Some(420));
        assert_eq!(body.state, State::Linked("/y".into()));
        assert_eq!(body.names["a"], [true, false]);
        let body: Body = read("path: /x\nmode:\nstate: { moved: { to: /z } }").unwrap();
        assert_eq!(
            (body.mode, body.state),
            (None, State::Moved { to: "/z".into() })
        );
        assert_eq!(
            read("[present, {linked: x}]"),
            Ok(vec![State::Present, State::Linked("x".into())])
        );
        assert_eq!(
            read::<(String, i8, f64)>("[a, -1, 2]"),
            Ok(("a".into(), -1, 2.0))
        );
    }

    #[test]
    fn errors_know_their_place() {
        let error = |text: &str| read::<Body>(text).unwrap_err();
        assert!(error("path: /x\nmod: 1").starts_with("t:2:1 unknown field `mod`"));
        assert!(error("mode: 1").starts_with("t:1:1 missing field `path`"));
        assert!(error("path: /x\nmode: many").starts_with("t:2:7 invalid type: string \"many\""));
        assert!(error("path: /x\nmode: -1").starts_with("t:2:7 invalid value: integer `-1`"));
        assert!(error("path: /x\nstate: gone").starts_with("t:2:8 unknown variant `gone`"));
        assert!(error("path: /x\nstate: linked").starts_with("t:2:8 `linked` needs a value"));
        assert!(
            error("path: /x\nstate: { present: 1 }").starts_with("t:2:19 `present` takes no value")
        );
        assert!(error("path: /x\nstate: {}").starts_with("t:2:8 exactly one key is wanted"));
        assert!(error("path: /x\nnames: { a: [true, 1] }").starts_with("t:2:20 invalid type"));
    }
}
