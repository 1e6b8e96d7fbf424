//! Output: JSON as kubectl writes it, and tables.

use serde_json::Value;

/// Keys in order, as client-go's maps come out.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Object(
                keys.into_iter()
                    .map(|k| (k.clone(), sorted(&map[k])))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// Indented, with a newline at the end.
pub(crate) fn json(value: &Value, indent: usize) -> String {
    let mut out = String::new();
    write(&sorted(value), indent, 0, &mut out);
    out.push('\n');
    out
}

fn write(value: &Value, indent: usize, depth: usize, out: &mut String) {
    let pad = |depth: usize| " ".repeat(indent * depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push_str("{\n");
            for (i, (key, item)) in map.iter().enumerate() {
                out.push_str(&format!(
                    "{}{}: ",
                    pad(depth + 1),
                    Value::String(key.clone())
                ));
                write(item, indent, depth + 1, out);
                out.push_str(if i + 1 < map.len() { ",\n" } else { "\n" });
            }
            out.push_str(&format!("{}}}", pad(depth)));
        }
        Value::Array(items) if !items.is_empty() => {
            out.push_str("[\n");
            for (i, item) in items.iter().enumerate() {
                out.push_str(&pad(depth + 1));
                write(item, indent, depth + 1, out);
                out.push_str(if i + 1 < items.len() { ",\n" } else { "\n" });
            }
            out.push_str(&format!("{}]", pad(depth)));
        }
        other => out.push_str(&other.to_string()),
    }
}
