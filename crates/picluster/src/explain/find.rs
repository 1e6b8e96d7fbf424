//! Which values people mean.

use picluster_model::{Node, Project, suggest};
use picluster_plan::addr::glob;
use serde_json::Value;

use crate::error::Failure;
use crate::explain::{Explained, Given, kubernetes};

/// The values that `text` names: one by its name (a variable also without `vars.`), all beneath a
/// name (`ssh`, `kubernetes.config`, a role), all a pattern with `*` and `?` matches, or what stands
/// inside of one (`users.accounts.0.name`). Nothing when it names none.
#[must_use]
pub fn find(values: &[Explained], text: &str) -> Vec<Explained> {
    let all = |wanted: &dyn Fn(&str) -> bool| -> Vec<Explained> {
        let wanted = values.iter().filter(|value| wanted(&value.name));
        wanted.cloned().collect()
    };
    if text.contains(['*', '?']) {
        return all(&|name| glob(text, name));
    }
    let named = all(&|name| name == text || name.strip_prefix("vars.") == Some(text));
    if !named.is_empty() {
        return named;
    }
    let above = format!("{}.", text.trim_end_matches('.'));
    let beneath = all(&|name| name.starts_with(&above));
    if !beneath.is_empty() {
        return beneath;
    }
    values
        .iter()
        .filter_map(|value| inside(value, text))
        .collect()
}

/// The part of a value that the rest of the name leads to.
fn inside(value: &Explained, text: &str) -> Option<Explained> {
    let rest = |name: &str| text.strip_prefix(name)?.strip_prefix('.');
    let bare = value.name.strip_prefix("vars.");
    let path = rest(&value.name).or_else(|| rest(bare?))?;
    let mut sources = value.sources.iter().map(|given| {
        Some(Given {
            value: descend(&given.value, path)?.clone(),
            ..given.clone()
        })
    });
    // Whole values win over others, so what the winner does not have is not there.
    let winner = sources.next()??;
    let sources = std::iter::once(winner).chain(sources.flatten()).collect();
    let name = value.name.strip_suffix(path).unwrap_or(&value.name);
    Explained::new(format!("{name}.{path}"), sources)
}

/// Keys may have dots in them: the longest that is there.
fn descend<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Array(items) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            descend(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        Value::Object(entries) => entries
            .iter()
            .filter_map(|(key, inner)| {
                let rest = path.strip_prefix(key.as_str())?;
                let rest = if rest.is_empty() {
                    rest
                } else {
                    rest.strip_prefix('.')?
                };
                Some((key.len(), descend(inner, rest)?))
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, inner)| inner),
        _ => None,
    }
}

/// That a node has no such value, and what may have been meant.
#[must_use]
pub fn unknown(project: &Project, node: &Node, values: &[Explained], text: &str) -> Failure {
    let name = &node.name;
    let failure = Failure::usage(format!("{name} has no value {text:?}"));
    if let Some(rest) = text.strip_prefix("kubernetes.") {
        let key = rest.split('.').next().unwrap_or(rest);
        let written = project.inventory.kubernetes.as_ref();
        if written.is_some_and(|section| section.written.get(key).is_some())
            && let Some(whom) = kubernetes::not_for(node.kubernetes, key)
        {
            return failure.hint(format!(
                "`kubernetes.{key}` is for {whom}, and {name} is none"
            ));
        }
    }
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let same: Vec<&str> = values
        .iter()
        .filter(|value| last(&value.name).as_deref() == Some(text))
        .map(|value| value.name.as_str())
        .collect();
    let bare = values.iter().filter_map(|v| v.name.strip_prefix("vars."));
    let names = values.iter().map(|value| value.name.as_str()).chain(bare);
    let near = match same.as_slice() {
        [] => suggest::nearest(text, names).map(|near| format!("`{near}`")),
        same => Some(format!("`{}`", same.join("` or `"))),
    };
    match near {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure,
    }
    .hint(format!("all its values: picluster explain {name}"))
}
