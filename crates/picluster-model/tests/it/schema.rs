//! The JSON Schemas: current, sound, and no different from what is accepted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use picluster_model::schema::check;
use picluster_model::yaml::{nowhere, parse};
use picluster_model::{Kinds as _, SourceFile, Templated, Yaml, inventory_schema, role_schema};
use serde_json::{Value, json};

use crate::kinds::Few;

fn yaml(text: &str) -> Yaml {
    let file = Arc::new(SourceFile {
        name: String::from("t.yaml"),
        text: text.to_owned(),
    });
    parse::parse(&file).unwrap()
}

fn messages(text: &str, schema: &Value, templated: Templated) -> Vec<String> {
    check(&yaml(text), schema, templated)
        .into_iter()
        .map(|finding| format!("{}: {}", finding.span.unwrap(), finding.message))
        .collect()
}

/// The file editors read is what this version accepts. `UPDATE_SCHEMA=1` writes it anew.
#[test]
fn the_inventory_schema_in_the_documentation_is_current() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/inventory.schema.json");
    let mut wanted = serde_json::to_string_pretty(&inventory_schema()).unwrap();
    wanted.push('\n');
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "run the tests once with UPDATE_SCHEMA=1 and commit {}",
        path.display()
    );
}

/// Every pattern compiles, every reference leads somewhere, every field is explained.
#[test]
fn schemas_are_sound() {
    for schema in [inventory_schema(), role_schema(&Few)] {
        let mut patterns = BTreeSet::new();
        visit(&schema, &mut |value| {
            if let Some(Value::String(pattern)) = value.get("pattern") {
                patterns.insert(pattern.clone());
            }
            if let Some(Value::String(reference)) = value.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(schema.pointer(pointer).is_some(), "{reference}");
            }
        });
        for pattern in patterns {
            regex_lite::Regex::new(&pattern).unwrap();
        }
        for (name, definition) in schema["definitions"].as_object().unwrap() {
            for (field, body) in definition["properties"].as_object().into_iter().flatten() {
                // Kinds are explained by whoever owns them.
                let kind = name == "Entry" && Few.names().contains(&field.as_str());
                let explained = body.get("description").is_some() || kind;
                assert!(
                    explained || name.contains('.'),
                    "{name}.{field} has no description"
                );
            }
        }
    }
}

fn visit(value: &Value, see: &mut dyn FnMut(&Value)) {
    see(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Object(map) => map.values().for_each(|item| visit(item, see)),
        _ => {}
    }
}

#[test]
fn the_role_schema_knows_the_bodies_of_all_kinds_and_templates_in_them() {
    let schema = role_schema(&Few);
    let good = r#"
parameters:
  a: { type: int, doc: A number, default: 1 }
resources:
  - file: { path: /x, content: text, mode: "0644" }
    id: x
  - file: { path: /x, template: x.j2 }
    when: params.a > 0
    each: [1, 2]
  - file: { path: /x, content: { secret: name }, mode: "{{ params.mode }}" }
    needs: [x, "file[/x]"]
  - command: { run: x, retries: "{{ params.a }}" }
    needs: x
    barrier: true
"#;
    assert_eq!(messages(good, &schema, Templated::No), Vec::<String>::new());
    let bad = "resources:\n  - file: { path: /x, content: 5, mod: x }\n  - fil: {}\n  - command: { run: x, retries: many }\n";
    let found = messages(bad, &schema, Templated::No);
    assert!(
        found.contains(&"t.yaml:2:35: unknown field `mod`".into()),
        "{found:?}"
    );
    assert!(
        found.contains(&"t.yaml:3:5: unknown field `fil`".into()),
        "{found:?}"
    );
    assert_eq!(
        found
            .iter()
            .filter(|f| f.starts_with("t.yaml:2:32: `content` must be"))
            .count(),
        1,
        "{found:?}"
    );
    assert_eq!(
        found
            .iter()
            .filter(|f| f.starts_with("t.yaml:4:33"))
            .count(),
        1,
        "{found:?}"
    );
}

#[test]
fn templates_pass_only_where_they_may_stand() {
    let schema = json!({
        "type": "object",
        "properties": {
            "n": { "type": "integer" },
            "list": { "type": "array", "items": { "type": "string", "enum": ["a", "b"] } },
            "text": { "type": "string", "maxLength": 3 },
            "map": { "type": "object", "required": ["x"] },
        },
        "additionalProperties": false,
    });
    let text = r#"
n: "{{ params.n }}"
list: [a, "{% if true %}b{% endif %}"]
text: { secret: name }
map: "{{ vars.m }}"
"#;
    assert_eq!(
        messages(text, &schema, Templated::Yes),
        Vec::<String>::new()
    );
    assert_eq!(messages(text, &schema, Templated::No).len(), 4);
    // A reference to a secret is no mapping, and nothing else is excused.
    let bad = "map: { secret: name }\nn: 1.5\nlist: [c]\ntext: long\nother: 1\n";
    assert_eq!(messages(bad, &schema, Templated::Yes).len(), 5);
}

#[test]
fn every_keyword_is_obeyed() {
    let cases: &[(Value, &str, &str)] = &[
        (json!({ "type": "string", "minLength": 2 }), "ab", "a"),
        (json!({ "type": "string", "maxLength": 1 }), "a", "ab"),
        (json!({ "type": "string", "pattern": "^a+$" }), "aa", "b"),
        (
            json!({ "type": "number", "minimum": 1, "exclusiveMaximum": 2 }),
            "1.5",
            "2",
        ),
        (json!({ "type": "integer" }), "0x10", "1.0"),
        (json!({ "type": ["string", "null"] }), "null", "1"),
        (json!({ "const": "x" }), "x", "y"),
        (json!({ "enum": [1, "a", null] }), "1", "2"),
        (
            json!({ "type": "array", "minItems": 1, "maxItems": 2 }),
            "[1]",
            "[1, 2, 3]",
        ),
        (
            json!({ "type": "array", "uniqueItems": true }),
            "[1, 2]",
            "[1, 1]",
        ),
        (
            json!({ "prefixItems": [{ "type": "string" }], "items": { "type": "integer" } }),
            "[a, 1]",
            "[a, b]",
        ),
        (
            json!({ "type": "array", "items": [{ "type": "string" }], "additionalItems": false }),
            "[a]",
            "[a, b]",
        ),
        (json!({ "minProperties": 1 }), "{ a: 1 }", "{}"),
        (json!({ "maxProperties": 1 }), "{ a: 1 }", "{ a: 1, b: 2 }"),
        (
            json!({ "propertyNames": { "pattern": "^a" } }),
            "{ a: 1 }",
            "{ b: 1 }",
        ),
        (
            json!({ "patternProperties": { "^x-": { "type": "integer" } }, "additionalProperties": false }),
            "{ x-a: 1 }",
            "{ x-a: b }",
        ),
        (
            json!({ "additionalProperties": { "type": "integer" } }),
            "{ a: 1 }",
            "{ a: b }",
        ),
        (json!({ "required": ["a"] }), "{ a: 1 }", "{ b: 1 }"),
        (
            json!({ "allOf": [{ "type": "string" }, { "minLength": 2 }] }),
            "ab",
            "a",
        ),
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 3 }] }),
            "5",
            "2",
        ),
        (
            json!({ "oneOf": [{ "const": "a" }, { "const": "b" }] }),
            "b",
            "c",
        ),
        (
            json!({ "oneOf": [
            { "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] },
            { "type": "object", "properties": { "b": { "type": "string" } }, "required": ["b"] },
        ] }),
            "{ b: x }",
            "{ b: 1 }",
        ),
        (
            json!({ "$ref": "#/$defs/X", "$defs": { "X": { "$ref": "#/$defs/Y" }, "Y": { "type": "boolean" } } }),
            "true",
            "x",
        ),
        (
            json!({ "type": "object", "properties": { "a": false } }),
            "{ b: 1 }",
            "{ a: 1 }",
        ),
    ];
    for (schema, good, bad) in cases {
        assert!(
            check(&yaml(good), schema, Templated::No).is_empty(),
            "{schema} {good}"
        );
        assert_eq!(
            check(&yaml(bad), schema, Templated::No).len(),
            1,
            "{schema} {bad}"
        );
    }
}

/// What a program made has no place, and is checked all the same.
#[test]
fn a_value_without_a_document_is_checked_too() {
    let value = Yaml::from_json(&json!({ "a": 1 }), &nowhere());
    assert_eq!(
        check(
            &value,
            &json!({ "additionalProperties": false }),
            Templated::No
        )
        .len(),
        1
    );
}
