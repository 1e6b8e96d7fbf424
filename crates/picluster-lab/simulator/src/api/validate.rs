//! What Kubernetes accepts as names, labels, annotations and taints (apimachinery/pkg/util/validation, pkg/apis/core/validation).

use serde_json::Value;

use super::kinds::Kind;
use super::status::Refusal;

const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| inner(*b))
}

fn subdomain(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        })
}

/// What is wrong with the key of a label, annotation or taint.
pub(crate) fn qualified_name_problem(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".into());
            }
            if !subdomain(prefix) {
                return Some(format!("prefix part {SUBDOMAIN}"));
            }
            name
        }
        _ => {
            return Some(format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                NAME.trim_start_matches("name part ")
            ));
        }
    };
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".into());
    }
    (!word(name)).then(|| NAME.to_owned())
}

/// What is wrong with the value of a label.
pub(crate) fn label_value_problem(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 characters".into());
    }
    (!value.is_empty() && !word(value)).then(|| VALUE.to_owned())
}

/// Checks an object before it is kept.
pub(crate) fn object(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let mut causes = vec![];
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push("metadata.name: Required value: name or generateName is required".to_owned());
    } else if !subdomain(name) && !kind.group.starts_with("rbac") {
        causes.push(format!(
            "metadata.name: Invalid value: {name:?}: {SUBDOMAIN}"
        ));
    }
    if let Some(labels) = object["metadata"]["labels"].as_object() {
        for (key, value) in labels {
            if let Some(why) = qualified_name_problem(key) {
                causes.push(format!("metadata.labels: Invalid value: {key:?}: {why}"));
            }
            match value.as_str() {
                Some(value) => {
                    if let Some(why) = label_value_problem(value) {
                        causes.push(format!("metadata.labels: Invalid value: {value:?}: {why}"));
                    }
                }
                None => {
                    return Err(Refusal::bad_request(format!(
                        "{} in version \"{}\" cannot be handled as a {}: json: cannot unmarshal {} into Go struct field ObjectMeta.metadata.labels of type string",
                        kind.kind,
                        kind.version,
                        kind.kind,
                        json_type(value)
                    )));
                }
            }
        }
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object() {
        for key in annotations.keys() {
            if let Some(why) = qualified_name_problem(&key.to_lowercase()) {
                causes.push(format!(
                    "metadata.annotations: Invalid value: {key:?}: {why}"
                ));
            }
        }
    }
    if kind.kind == "Node" {
        taints(object, &mut causes);
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(&kind.group, &kind.kind, name, &causes))
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        _ => "object",
    }
}

fn taints(node: &Value, causes: &mut Vec<String>) {
    let mut seen: Vec<(&str, &str)> = vec![];
    for (i, taint) in node["spec"]["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = format!("metadata.taints[{i}]");
        let key = taint["key"].as_str().unwrap_or_default();
        let value = taint["value"].as_str().unwrap_or_default();
        let effect = taint["effect"].as_str().unwrap_or_default();
        if let Some(why) = qualified_name_problem(key) {
            causes.push(format!("{at}.key: Invalid value: {key:?}: {why}"));
        }
        if let Some(why) = label_value_problem(value) {
            causes.push(format!("{at}.value: Invalid value: {value:?}: {why}"));
        }
        match effect {
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            "" => causes.push(format!("{at}.effect: Required value")),
            other => causes.push(format!(
                "{at}.effect: Unsupported value: {other:?}: supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            )),
        }
        if seen.contains(&(key, effect)) {
            causes.push(format!("{at}: Duplicate value: {{\"key\":{key:?},\"effect\":{effect:?}}}: taints must be unique by key and effect pair"));
        }
        seen.push((key, effect));
    }
}
