//! The three kinds of patch.

use serde_json::{Map, Value};

use super::status::Refusal;

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (name, value) in patch {
            if value.is_null() {
                target.shift_remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// The key by which a list of this name is merged (`patchMergeKey` of core/v1's types); other lists are replaced whole.
fn merge_key(list: &str) -> Option<&'static str> {
    Some(match list {
        "conditions" | "addresses" => "type",
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" | "secrets" => {
            "name"
        }
        "volumeMounts" => "mountPath",
        "ports" => "containerPort",
        "ownerReferences" => "uid",
        "hostAliases" => "ip",
        _ => return None,
    })
}

/// Kubernetes' strategic merge patch, with `$patch` and `$deleteFromPrimitiveList`.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if changes.get("$patch").is_some_and(|p| p == "replace") {
        let mut whole = changes.clone();
        whole.shift_remove("$patch");
        *target = Value::Object(whole);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(have)), Some(gone)) = (target.get_mut(list), value.as_array())
            {
                have.retain(|v| !gone.contains(v));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        match value {
            Value::Null => {
                target.shift_remove(name);
            }
            Value::Object(o) if o.get("$patch").is_some_and(|p| p == "delete") => {
                target.shift_remove(name);
            }
            Value::Object(_) => strategic(target.entry(name.clone()).or_insert(Value::Null), value),
            Value::Array(items) => {
                let list = target
                    .entry(name.clone())
                    .or_insert_with(|| Value::Array(vec![]));
                merge_list(name, list, items);
            }
            plain => {
                target.insert(name.clone(), plain.clone());
            }
        }
    }
}

fn merge_list(name: &str, list: &mut Value, items: &[Value]) {
    if name == "finalizers" {
        if let Value::Array(have) = list {
            for item in items {
                if !have.contains(item) {
                    have.push(item.clone());
                }
            }
        }
        return;
    }
    let replace = items.iter().any(|i| i["$patch"] == "replace");
    let Some(key) = merge_key(name).filter(|_| !replace) else {
        let kept = items
            .iter()
            .filter(|i| i["$patch"].is_null())
            .cloned()
            .collect();
        *list = Value::Array(kept);
        return;
    };
    if !list.is_array() {
        *list = Value::Array(vec![]);
    }
    let Value::Array(have) = list else { return };
    for item in items {
        let at = have.iter().position(|h| h[key] == item[key]);
        if item["$patch"] == "delete" {
            if let Some(at) = at {
                have.remove(at);
            }
            continue;
        }
        match at {
            Some(at) => strategic(&mut have[at], item),
            None => {
                let mut new = Value::Null;
                strategic(&mut new, item);
                have.push(new);
            }
        }
    }
}

/// RFC 6902.
pub(crate) fn json(target: &mut Value, operations: &Value) -> Result<(), Refusal> {
    let wrong = |why: &str| {
        Refusal::invalid(
            "",
            "",
            "",
            &[format!(
                "the server rejected our request due to an error in our request: {why}"
            )],
        )
    };
    for operation in operations
        .as_array()
        .ok_or_else(|| Refusal::bad_request("json patch is no list"))?
    {
        let path = operation["path"]
            .as_str()
            .ok_or_else(|| wrong("missing path"))?;
        let steps: Vec<String> = path
            .split('/')
            .skip(1)
            .map(|s| s.replace("~1", "/").replace("~0", "~"))
            .collect();
        let Some((last, parents)) = steps.split_last() else {
            return Err(wrong("the whole document"));
        };
        let verb = operation["op"].as_str().unwrap_or_default();
        let value = operation["value"].clone();
        let mut at = &mut *target;
        for step in parents {
            at = child(at, step).ok_or_else(|| wrong(&format!("missing path: {path}")))?;
        }
        let present = child(at, last).map(|v| v.clone());
        match (verb, at) {
            ("test", _) if present.as_ref() == Some(&value) => {}
            ("test", _) => return Err(wrong(&format!("testing path {path} failed"))),
            ("add", Value::Object(o)) => {
                o.insert(last.clone(), value);
            }
            ("add", Value::Array(a)) if last == "-" => a.push(value),
            ("add", Value::Array(a)) => match last.parse::<usize>() {
                Ok(i) if i <= a.len() => a.insert(i, value),
                _ => return Err(wrong(&format!("no such index: {path}"))),
            },
            ("replace" | "remove", _) if present.is_none() => {
                return Err(wrong(&format!(
                    "{verb} operation does not apply: doc is missing key: {path}"
                )));
            }
            ("replace", Value::Object(o)) => {
                o.insert(last.clone(), value);
            }
            ("replace", Value::Array(a)) => {
                if let Some(slot) = last.parse::<usize>().ok().and_then(|i| a.get_mut(i)) {
                    *slot = value;
                }
            }
            ("remove", Value::Object(o)) => {
                o.shift_remove(last);
            }
            ("remove", Value::Array(a)) => {
                if let Ok(i) = last.parse::<usize>() {
                    a.remove(i);
                }
            }
            (other, _) => return Err(wrong(&format!("unexpected kind: {other}"))),
        }
    }
    Ok(())
}

fn child<'a>(at: &'a mut Value, step: &str) -> Option<&'a mut Value> {
    match at {
        Value::Object(o) => o.get_mut(step),
        Value::Array(a) => a.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_with_a_key_are_merged_and_others_replaced() {
        let mut node = json!({"spec": {"taints": [{"key": "a"}]}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "x"}, {"type": "DiskPressure", "status": "False"}]}});
        strategic(
            &mut node,
            &json!({"spec": {"taints": [{"key": "b"}]}, "status": {
                "$setElementOrder/conditions": [{"type": "Ready"}],
                "conditions": [{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "$patch": "delete"}]}}),
        );
        assert_eq!(
            node,
            json!({"spec": {"taints": [{"key": "b"}]}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "reason": "x"}]}})
        );
    }

    #[test]
    fn a_null_takes_away() {
        let mut object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        merge(
            &mut object,
            &json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        );
        assert_eq!(
            object,
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}})
        );
    }

    #[test]
    fn operations_of_a_json_patch_apply_in_order_or_not_at_all() {
        let mut object = json!({"metadata": {"labels": {"a/b": "1"}}, "list": [1]});
        json(
            &mut object,
            &json!([{"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
                {"op": "remove", "path": "/metadata/labels/a~1b"},
                {"op": "add", "path": "/list/-", "value": 2}]),
        )
        .unwrap();
        assert_eq!(object, json!({"metadata": {"labels": {}}, "list": [1, 2]}));
        assert!(json(&mut object, &json!([{"op": "remove", "path": "/none"}])).is_err());
    }
}
