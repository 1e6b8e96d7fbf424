//! JSON Schemas of the documents.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::document::inventory::InventoryDocument;
use crate::document::role::{META_KEYS, RoleDocument};
use crate::kinds::Kinds;

static INVENTORY: LazyLock<Value> =
    LazyLock::new(|| document::<InventoryDocument>("picluster inventory"));
static ROLE: LazyLock<Value> = LazyLock::new(|| document::<RoleDocument>("picluster role"));

/// The JSON Schema of `inventory.yaml`.
#[must_use]
pub fn inventory_schema() -> Value {
    INVENTORY.clone()
}

/// The same, made once.
pub(crate) fn inventory_schema_ref() -> &'static Value {
    &INVENTORY
}

/// The JSON Schema of `role.yaml` with the kinds left open.
pub(crate) fn role_document_schema_ref() -> &'static Value {
    &ROLE
}

/// The JSON Schema of `role.yaml`, with the bodies of all kinds.
///
/// Text in bodies may be a template wherever the schema wants another type, so for every place
/// of a body the schema also allows a string with `{{` or `{%`.
#[must_use]
pub fn role_schema(kinds: &dyn Kinds) -> Value {
    let mut schema = ROLE.clone();
    let mut bodies = Map::new();
    let mut shared = Map::new();
    let mut one_kind = Vec::new();
    let mut names = kinds.names();
    names.sort_unstable();
    for kind in names {
        let Some(mut body) = kinds.schema(kind) else {
            continue;
        };
        for place in ["$defs", "definitions"] {
            if let Some(Value::Object(defs)) = body.as_object_mut().and_then(|b| b.remove(place)) {
                for (name, mut definition) in defs {
                    rewrite(&mut definition, kind);
                    shared.insert(format!("{kind}.{name}"), definition);
                }
            }
        }
        rewrite(&mut body, kind);
        if let Some(object) = body.as_object_mut() {
            object.remove("$schema");
            object.remove("title");
            allow_template_file(object);
        }
        bodies.insert(kind.to_owned(), body);
        one_kind.push(json!({ "required": [kind] }));
    }
    for body in bodies.values_mut() {
        templated(body, true);
    }
    for definition in shared.values_mut() {
        templated(definition, false);
    }
    if let Some(entry) = schema
        .pointer_mut("/definitions/Entry")
        .and_then(Value::as_object_mut)
    {
        if let Some(properties) = entry.get_mut("properties").and_then(Value::as_object_mut) {
            properties.extend(bodies);
        }
        entry.insert("additionalProperties".into(), Value::Bool(false));
        entry.insert("oneOf".into(), Value::Array(one_kind));
    }
    if let Some(definitions) = schema.get_mut("definitions").and_then(Value::as_object_mut) {
        definitions.extend(shared);
    }
    schema
}

/// A kind with `content` also takes `template`, the name of a file under `templates/`.
///
/// Returns whether it does.
pub(crate) fn allow_template_file(body: &mut Map<String, Value>) -> bool {
    let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) else {
        return false;
    };
    if !properties.contains_key("content") || properties.contains_key("template") {
        return false;
    }
    properties.insert(
        "template".into(),
        json!({
            "type": "string",
            "minLength": 1,
            "description": "A file under templates/ of this role; its rendered text becomes `content`.",
        }),
    );
    if let Some(required) = body.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != "content");
    }
    true
}

fn document<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    // The keys of an entry that the generator met only through `EntryMeta`.
    debug_assert!(META_KEYS.len() == 7);
    schema.to_value()
}

/// Points references of a kind's own schema at their new place.
fn rewrite(schema: &mut Value, kind: &str) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref") {
                for place in ["#/$defs/", "#/definitions/"] {
                    if let Some(name) = reference.strip_prefix(place) {
                        *reference = format!("#/definitions/{kind}.{name}");
                        break;
                    }
                }
            }
            for value in object.values_mut() {
                rewrite(value, kind);
            }
        }
        Value::Array(items) => {
            for item in items {
                rewrite(item, kind);
            }
        }
        _ => {}
    }
}

/// Lets a template, or a reference to a secret, stand wherever a value may.
fn templated(schema: &mut Value, is_body: bool) {
    let Value::Object(object) = schema else {
        return;
    };
    for keyword in ["properties", "patternProperties"] {
        if let Some(Value::Object(inner)) = object.get_mut(keyword) {
            for value in inner.values_mut() {
                templated(value, false);
            }
        }
    }
    for keyword in ["items", "additionalProperties", "additionalItems"] {
        if let Some(inner) = object.get_mut(keyword) {
            match inner {
                Value::Array(items) => items.iter_mut().for_each(|i| templated(i, false)),
                Value::Object(_) => templated(inner, false),
                _ => {}
            }
        }
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(branches)) = object.get_mut(keyword) {
            for branch in branches {
                // A branch is the same place again: only what is inside of it is new.
                templated(branch, true);
            }
        }
    }
    if is_body || object.contains_key("$ref") {
        return;
    }
    let description = object.get("description").cloned();
    let inner = Value::Object(std::mem::take(object));
    object.insert(
        "anyOf".into(),
        json!([inner, { "type": "string", "pattern": "\\{[{%]" }, SECRET_FORM.clone()]),
    );
    if let Some(description) = description {
        object.insert("description".into(), description);
    }
}

static SECRET_FORM: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": {
            "secret": { "type": "string" },
            "env": { "type": "string" },
            "sops": { "type": "string" },
            "command": { "type": "array", "items": { "type": "string" } },
        },
    })
});
