//! YAML as kubectl writes it: block style, keys in order.

use serde_json::Value;

use super::print::sorted;

/// A document.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&sorted(value), 0, &mut out);
    out
}

fn scalar(text: &str) -> String {
    let special = text.is_empty()
        || text.trim() != text
        || matches!(
            text.to_lowercase().as_str(),
            "true" | "false" | "null" | "~" | "yes" | "no" | "on" | "off" | "y" | "n"
        )
        || text.parse::<f64>().is_ok()
        || text.starts_with(|c: char| "!&*-?:,[]{}#|>@`\"'%=".contains(c))
        || text.contains(": ")
        || text.contains(" #")
        || text.ends_with(':')
        || text.chars().any(char::is_control)
        || crate::clock::parse(text).is_some();
    if !special {
        return text.to_owned();
    }
    // As sigs.k8s.io/yaml: apostrophes where quotation marks would have to be escaped.
    if text.contains('"') && !text.chars().any(char::is_control) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    Value::String(text.to_owned()).to_string()
}

fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) if map.is_empty() => Some("{}".into()),
        Value::Array(items) if items.is_empty() => Some("[]".into()),
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some(scalar(text)),
        other => Some(other.to_string()),
    }
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, item) in map {
                let key = scalar(key);
                match inline(item) {
                    Some(text) => out.push_str(&format!("{pad}{key}: {text}\n")),
                    None => {
                        out.push_str(&format!("{pad}{key}:\n"));
                        block(item, if item.is_array() { depth } else { depth + 1 }, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                match inline(item) {
                    Some(text) => out.push_str(&format!("{pad}- {text}\n")),
                    None => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        out.push_str(&format!("{pad}- {}", &inner[2 * (depth + 1)..]));
                    }
                }
            }
        }
        other => out.push_str(&format!("{pad}{}\n", inline(other).unwrap_or_default())),
    }
}
