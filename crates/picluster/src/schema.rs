//! JSON Schemas of what this program prints for other programs, made from the very types it prints.

use picluster_engine::Event;
use picluster_plan::Plan;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::explain::Explanation;
use crate::status::Status;
use crate::verbs::facts::FactsReport;

/// Every schema by its name: the plan (`plan --json` and plan files are the same document), an event
/// (a line of `apply --json` and of the journal), `facts --json`, `explain --json` and `status --json`.
#[must_use]
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("plan", of::<Plan>("picluster plan")),
        ("event", of::<Event>("picluster event")),
        ("facts", of::<FactsReport>("picluster facts")),
        ("explain", of::<Explanation>("picluster explain")),
        ("status", of::<Status>("picluster status")),
    ]
}

fn of<T: JsonSchema>(title: &str) -> Value {
    // What is written, not what would be read: a field that is always there is required.
    let mut schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), Value::String(title.into()));
    }
    open(&mut schema);
    schema
}

/// Fields may be added within a version (docs/json.md), so no object refuses those it does not know.
fn open(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let one_variant = object
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|r| r.len() == 1)
                && object
                    .get("properties")
                    .and_then(Value::as_object)
                    .is_some_and(|p| p.len() == 1);
            // `{"changed": …}`: the one key says which variant it is.
            if !one_variant && object.get("additionalProperties") == Some(&Value::Bool(false)) {
                object.remove("additionalProperties");
            }
            object.values_mut().for_each(open);
        }
        Value::Array(items) => items.iter_mut().for_each(open),
        _ => {}
    }
}
