//! Kubernetes' JSONPath templates, as far as one writes them by hand
//! (kubernetes/staging/src/k8s.io/client-go/util/jsonpath).

use serde_json::Value;

/// Fills a template such as `{range .items[*]}{.metadata.name}{"\n"}{end}`.
pub(crate) fn fill(template: &str, root: &Value) -> Result<String, String> {
    let parts = split(template)?;
    let mut out = String::new();
    run(&parts, root, root, &mut out)?;
    Ok(out)
}

#[derive(Debug)]
enum Part {
    Text(String),
    Path(String),
    Range(String, Vec<Part>),
}

fn split(template: &str) -> Result<Vec<Part>, String> {
    let mut stack: Vec<(String, Vec<Part>)> = vec![(String::new(), vec![])];
    let mut rest = template;
    while !rest.is_empty() {
        let Some(open) = rest.find('{') else {
            push(&mut stack, Part::Text(rest.to_owned()));
            break;
        };
        if open > 0 {
            push(&mut stack, Part::Text(rest[..open].to_owned()));
        }
        let close = end(&rest[open..]).ok_or("unclosed action")? + open;
        let action = rest[open + 1..close].trim();
        rest = &rest[close + 1..];
        if let Some(path) = action.strip_prefix("range ") {
            stack.push((path.trim().to_owned(), vec![]));
        } else if action == "end" {
            let (path, parts) = stack
                .pop()
                .filter(|_| !stack.is_empty())
                .ok_or("not in range, nothing to end")?;
            push(&mut stack, Part::Range(path, parts));
        } else if let Some(quoted) = action.strip_prefix(['"', '\'']) {
            let text = &quoted[..quoted.len().saturating_sub(1)];
            push(
                &mut stack,
                Part::Text(
                    text.replace("\\n", "\n")
                        .replace("\\t", "\t")
                        .replace("\\\"", "\""),
                ),
            );
        } else {
            push(&mut stack, Part::Path(action.to_owned()));
        }
    }
    match stack.pop() {
        Some((_, parts)) if stack.is_empty() => Ok(parts),
        _ => Err("unclosed range".into()),
    }
}

fn push(stack: &mut [(String, Vec<Part>)], part: Part) {
    if let Some((_, parts)) = stack.last_mut() {
        parts.push(part);
    }
}

/// Where the action ends that starts here; braces inside of quotation marks do not count.
fn end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '}') => return Some(i),
            _ => {}
        }
    }
    None
}

fn run(parts: &[Part], root: &Value, here: &Value, out: &mut String) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(path) => {
                let found: Vec<String> = find(path, root, here)?.into_iter().map(shown).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(path, inner) => {
                for item in find(path, root, here)? {
                    run(inner, root, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn find<'a>(path: &str, root: &'a Value, here: &'a Value) -> Result<Vec<&'a Value>, String> {
    let mut rest = path.trim();
    let mut at: Vec<&Value> = if let Some(after) = rest.strip_prefix('$') {
        rest = after;
        vec![root]
    } else {
        rest = rest.strip_prefix('@').unwrap_or(rest);
        vec![here]
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            let (name, after) = word(after);
            let mut all = vec![];
            for value in at {
                descend(value, &name, &mut all);
            }
            at = all;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = word(after);
            rest = after;
            if name.is_empty() {
                continue;
            }
            at = at.into_iter().flat_map(|v| child(v, &name)).collect();
        } else if rest.starts_with('[') {
            let close = bracket(rest).ok_or("unterminated array")?;
            let inner = rest[1..close].trim();
            rest = &rest[close + 1..];
            at = index(inner, root, at)?;
        } else {
            return Err(format!("unrecognized character in action: {rest}"));
        }
    }
    Ok(at)
}

/// A name up to the next `.` or `[`; `\.` is a dot inside of it.
fn word(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                if let Some((_, c)) = chars.next() {
                    name.push(c);
                }
            }
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

fn bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            (None, '[' | '(') => depth += 1,
            (None, ']' | ')') => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn child<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(map) if name == "*" => map.values().collect(),
        Value::Array(items) if name == "*" => items.iter().collect(),
        Value::Object(map) => map.get(name).into_iter().collect(),
        _ => vec![],
    }
}

fn descend<'a>(value: &'a Value, name: &str, out: &mut Vec<&'a Value>) {
    if let Value::Object(map) = value {
        if let Some(found) = map.get(name) {
            out.push(found);
        }
        for inner in map.values() {
            descend(inner, name, out);
        }
    } else if let Value::Array(items) = value {
        for inner in items {
            descend(inner, name, out);
        }
    }
}

fn index<'a>(inner: &str, root: &'a Value, at: Vec<&'a Value>) -> Result<Vec<&'a Value>, String> {
    let unquoted = inner
        .strip_prefix(['\'', '"'])
        .and_then(|t| t.strip_suffix(['\'', '"']));
    let mut out = vec![];
    for value in at {
        if inner == "*" {
            out.extend(child(value, "*"));
        } else if let Some(name) = unquoted {
            out.extend(child(value, name));
        } else if let Some(condition) = inner.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
            for item in value.as_array().into_iter().flatten() {
                if holds(condition, root, item)? {
                    out.push(item);
                }
            }
        } else {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let n: i64 = inner
                .parse()
                .map_err(|_| format!("invalid array index {inner}"))?;
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let n = if n < 0 { length + n } else { n };
            match usize::try_from(n).ok().and_then(|n| items.get(n)) {
                Some(item) => out.push(item),
                None => {
                    return Err(format!(
                        "array index out of bounds: index {n}, length {length}"
                    ));
                }
            }
        }
    }
    Ok(out)
}

fn holds(condition: &str, root: &Value, item: &Value) -> Result<bool, String> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((left, right)) = condition.split_once(operator) else {
            continue;
        };
        let left = find(left.trim(), root, item)?.first().map(|v| shown(v));
        let right = right.trim();
        let right = right
            .strip_prefix(['\'', '"'])
            .and_then(|t| t.strip_suffix(['\'', '"']))
            .unwrap_or(right);
        let Some(left) = left else { return Ok(false) };
        let ordered = match (left.parse::<f64>(), right.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.partial_cmp(&b),
            _ => Some(left.as_str().cmp(right)),
        };
        return Ok(match operator {
            "==" => left == right,
            "!=" => left != right,
            "<=" => ordered.is_some_and(|o| o.is_le()),
            ">=" => ordered.is_some_and(|o| o.is_ge()),
            "<" => ordered.is_some_and(|o| o.is_lt()),
            _ => ordered.is_some_and(|o| o.is_gt()),
        });
    }
    Ok(!find(condition.trim(), root, item)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_find_what_they_name() {
        let list = json!({"items": [
            {"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}]});
        for (template, text) in [
            ("{.items[*].metadata.name}", "n1 n2"),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}",
                "n1\tTrue\nn2\tFalse\n",
            ),
            ("{.items[0].metadata.labels.kubernetes\\.io/os}", "linux"),
            ("{.items[-1:].x}", ""),
            ("{.items[1].none}", ""),
            ("{.items[?(@.metadata.name=='n2')].metadata.name}", "n2"),
        ] {
            if template.contains("-1:") {
                assert!(fill(template, &list).is_err());
            } else {
                assert_eq!(fill(template, &list).as_deref(), Ok(text), "{template}");
            }
        }
    }
}
