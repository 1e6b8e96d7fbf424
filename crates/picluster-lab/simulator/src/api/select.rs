//! Label and field selectors.

use serde_json::Value;

/// Whether labels fit `a=b,c!=d,e,!f,g in (h,i),j notin (k)`.
pub(crate) fn labels(selector: &str, labels: &Value) -> Result<bool, String> {
    for term in terms(selector) {
        let term = term.trim();
        if term.is_empty() {
            continue;
        }
        let value = |key: &str| labels[key].as_str();
        let set = |text: &str| -> Option<Vec<String>> {
            let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(inner.split(',').map(|s| s.trim().to_owned()).collect())
        };
        let fits = if let Some((key, rest)) = term.split_once(" notin ") {
            let wanted = set(rest).ok_or_else(|| format!("unable to parse requirement: {term}"))?;
            value(key.trim()).is_none_or(|v| !wanted.iter().any(|w| w == v))
        } else if let Some((key, rest)) = term.split_once(" in ") {
            let wanted = set(rest).ok_or_else(|| format!("unable to parse requirement: {term}"))?;
            value(key.trim()).is_some_and(|v| wanted.iter().any(|w| w == v))
        } else if let Some((key, wanted)) = term.split_once("!=") {
            value(key.trim()) != Some(wanted.trim())
        } else if let Some((key, wanted)) = term.split_once("==").or_else(|| term.split_once('=')) {
            value(key.trim()) == Some(wanted.trim())
        } else if let Some(key) = term.strip_prefix('!') {
            value(key.trim()).is_none()
        } else {
            value(term).is_some()
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

fn terms(selector: &str) -> Vec<String> {
    let (mut out, mut depth) = (vec![String::new()], 0);
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out
}

/// Whether an object fits `metadata.name=a,spec.nodeName!=b`.
pub(crate) fn fields(selector: &str, object: &Value) -> Result<bool, String> {
    for term in selector.split(',').filter(|t| !t.is_empty()) {
        let (path, wanted, equal) = match term.split_once("!=") {
            Some((p, w)) => (p, w, false),
            None => match term.split_once("==").or_else(|| term.split_once('=')) {
                Some((p, w)) => (p, w, true),
                None => return Err(format!("invalid field selector: {term}")),
            },
        };
        let mut at = object;
        for step in path.split('.') {
            at = &at[step];
        }
        let is = match at {
            Value::String(s) => s.clone(),
            Value::Null => {
                if path == "spec.unschedulable" {
                    "false".into()
                } else {
                    String::new()
                }
            }
            other => other.to_string(),
        };
        if (is == wanted) != equal {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_as_kubernetes_does() {
        let l = json!({"a": "1", "b": ""});
        for (selector, fits) in [
            ("a=1", true),
            ("a==2", false),
            ("b", true),
            ("!b", false),
            ("c!=x", true),
            ("a in (0, 1),b=", true),
            ("a notin (1)", false),
            ("", true),
        ] {
            assert_eq!(labels(selector, &l), Ok(fits), "{selector}");
        }
        let o = json!({"metadata": {"name": "n1"}, "spec": {}});
        assert_eq!(
            fields("metadata.name=n1,spec.unschedulable=false", &o),
            Ok(true)
        );
        assert_eq!(fields("metadata.name!=n1", &o), Ok(false));
        assert!(fields("nonsense", &o).is_err());
    }
}
