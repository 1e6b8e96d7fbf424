//! `role.yaml` as it is written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::document::text::{IDENTIFIER, IDENTIFIER_RULE, NonEmpty};
use crate::document::{Entries, FromYaml, OneOrMany, document};
use crate::role::ParamType;
use crate::yaml::{Yaml, YamlKind};

document! {
    /// A role: parameters, and resources in the order they are put in place.
    RoleDocument {
        /// What the role is for.
        doc: Option<NonEmpty>,
        /// What a use of the role may set; templates read `{{ params.NAME }}`.
        #[schemars(extend("propertyNames" = {"pattern": IDENTIFIER, "patternErrorMessage": IDENTIFIER_RULE}))]
        parameters: Option<Entries<ParameterDocument>>,
        /// What is put in place on a node, in this order.
        #[schemars(required)]
        resources: Option<Vec<EntryDocument>>,
    }
}

document! {
    /// A parameter of a role.
    ParameterDocument {
        /// The type of its values.
        #[schemars(required)]
        r#type: Option<ParamType>,
        /// Its value when nobody gives one. Without it, a parameter that is not given is `none`.
        default: Option<Yaml>,
        /// What it means.
        #[schemars(required)]
        doc: Option<NonEmpty>,
        /// Whether every use of the role must give it.
        required: Option<bool>,
        /// The only values it may have.
        #[schemars(length(min = 1))]
        values: Option<Vec<Yaml>>,
        /// What the items of a list, or the values of a mapping with any keys, look like: a type, or more.
        items: Option<ShapeDocument>,
        /// The keys of a mapping: a type each, or more. No others are good then.
        fields: Option<Entries<ShapeDocument>>,
        /// The least number, the least length of text, or the least count of items or keys.
        min: Option<Bound>,
        /// The greatest number, the greatest length of text, or the greatest count of items or keys.
        max: Option<Bound>,
        /// Whether the items of a list must differ from each other, or the key by which they must.
        unique: Option<UniqueDocument>,
        /// A regular expression that text must match.
        pattern: Option<NonEmpty>,
    }
}

document! {
    /// What an item or a field looks like.
    ShapeBody {
        /// The type of its values.
        #[schemars(required)]
        r#type: Option<ParamType>,
        /// The value of a field that is not given. Without it, such a field is `none`. Not of items.
        default: Option<Yaml>,
        /// What it means.
        doc: Option<NonEmpty>,
        /// Whether a field must be given. Not of items.
        required: Option<bool>,
        /// The only values it may have.
        #[schemars(length(min = 1))]
        values: Option<Vec<Yaml>>,
        /// What the items of a list, or the values of a mapping with any keys, look like: a type, or more.
        items: Option<ShapeDocument>,
        /// The keys of a mapping: a type each, or more. No others are good then.
        fields: Option<Entries<ShapeDocument>>,
        /// The least number, the least length of text, or the least count of items or keys.
        min: Option<Bound>,
        /// The greatest number, the greatest length of text, or the greatest count of items or keys.
        max: Option<Bound>,
        /// Whether the items of a list must differ from each other, or the key by which they must.
        unique: Option<UniqueDocument>,
        /// A regular expression that text must match.
        pattern: Option<NonEmpty>,
    }
}

/// A type by its name, or more.
#[derive(Debug, Clone)]
pub struct ShapeDocument(pub Yaml);

impl FromYaml for ShapeDocument {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        Some(Self(yaml.clone()))
    }
}

impl JsonSchema for ShapeDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Shape".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<ParamType>();
        let body = generator.subschema_for::<ShapeBody>();
        json_schema!({ "anyOf": [name, body] })
    }
}

/// A bound of a number or a length.
#[derive(Debug, Clone)]
pub struct Bound(pub f64);

impl FromYaml for Bound {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match yaml.kind {
            YamlKind::Int(n) => Some(Self(n as f64)),
            YamlKind::Float(n) => Some(Self(n)),
            _ => None,
        }
    }
}

impl JsonSchema for Bound {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bound".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

/// `true`, or a key.
#[derive(Debug, Clone)]
pub enum UniqueDocument {
    /// Whether no two items are the same.
    Items(bool),
    /// No two have the same value under this key.
    Key(String),
}

impl FromYaml for UniqueDocument {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Bool(on) => Some(Self::Items(*on)),
            YamlKind::String(key) => Some(Self::Key(key.clone())),
            _ => None,
        }
    }
}

impl JsonSchema for UniqueDocument {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Unique".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "minLength": 1 })
    }
}

document! {
    /// What every entry may say beside its kind.
    EntryMeta {
        /// A name that `needs` of other entries can use.
        id: Option<NonEmpty>,
        /// A condition, for instance `facts.os.id == "raspbian"`. Only facts that no apply changes.
        when: Option<Condition>,
        /// An expression that gives a list (or a list): the entry is repeated, with `item` and `index`.
        each: Option<Repetition>,
        /// Ids, or `kind[name]`, of what must be in place before.
        needs: Option<OneOrMany<NonEmpty>>,
        /// Everything after this entry waits for everything before it.
        barrier: Option<bool>,
        /// The node takes its change back by itself unless picluster can still come in by a new
        /// connection. Changes to sshd, sudo, the network, the firewall and boot files always are.
        guarded: Option<bool>,
        /// Why the entry is there.
        doc: Option<NonEmpty>,
    }
}

/// The keys of an entry that are not its kind.
pub const META_KEYS: [&str; 7] = ["id", "when", "each", "needs", "barrier", "guarded", "doc"];

/// One entry of `resources`: one kind, and what [`EntryMeta`] allows.
#[derive(Debug, Clone)]
pub struct EntryDocument(pub Yaml);

impl FromYaml for EntryDocument {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        matches!(yaml.kind, YamlKind::Map(_)).then(|| Self(yaml.clone()))
    }
}

impl JsonSchema for EntryDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Entry".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // Kinds are open here: the caller knows them (see `role_schema`).
        let mut schema = EntryMeta::json_schema(generator);
        schema.remove("additionalProperties");
        schema.insert(
            "description".into(),
            "One resource: its kind with its body, and what is to be said about it.".into(),
        );
        schema
    }
}

/// An expression or a constant.
#[derive(Debug, Clone)]
pub struct Condition;

impl FromYaml for Condition {
    fn from_yaml(_: &Yaml) -> Option<Self> {
        Some(Self)
    }
}

impl JsonSchema for Condition {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "boolean"], "minLength": 1 })
    }
}

/// An expression or a list.
#[derive(Debug, Clone)]
pub struct Repetition;

impl FromYaml for Repetition {
    fn from_yaml(_: &Yaml) -> Option<Self> {
        Some(Self)
    }
}

impl JsonSchema for Repetition {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Repetition".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "minLength": 1 })
    }
}
