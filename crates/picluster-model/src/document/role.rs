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
        /// Why the entry is there.
        doc: Option<NonEmpty>,
    }
}

/// The keys of an entry that are not its kind.
pub const META_KEYS: [&str; 6] = ["id", "when", "each", "needs", "barrier", "doc"];

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
