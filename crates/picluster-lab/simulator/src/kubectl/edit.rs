//! `kubectl label`, `annotate`, `taint` and `patch` (kubernetes/staging/src/k8s.io/kubectl/pkg/cmd).

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::session::{Named, Session};
use super::{Done, Failure};
use crate::api::{label_value_problem, qualified_name_problem};
use crate::release::Release;

/// Words that name objects, and words that change them: `key=value` or `key-`.
fn divided(words: &[String]) -> (Vec<String>, Vec<String>) {
    let at = words
        .iter()
        .position(|w| (w.contains('=') && !w.starts_with('=')) || w.ends_with('-'))
        .unwrap_or(words.len());
    (words[..at].to_vec(), words[at..].to_vec())
}

/// What to set and what to take away.
type Changes = (Vec<(String, String)>, Vec<String>);

fn changes(words: &[String], what: &str) -> Done<Changes> {
    let (mut set, mut gone) = (vec![], vec![]);
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            if what == "label"
                && let Some(why) = label_value_problem(value)
            {
                return Err(Failure::Plain(format!(
                    "invalid label value: {word:?}: {why}"
                )));
            }
            set.push((key.to_owned(), value.to_owned()));
        } else if let Some(key) = word.strip_suffix('-') {
            gone.push(key.to_owned());
        } else {
            return Err(Failure::Plain(format!("unknown {what} spec: {word}")));
        }
    }
    for key in &gone {
        if set.iter().any(|(k, _)| k == key) {
            return Err(Failure::Plain(format!(
                "can not both modify and remove {} {what} in the same command",
                if what == "label" { "a" } else { "an" }
            )));
        }
    }
    Ok((set, gone))
}

fn each(
    session: &Session,
    arguments: &Arguments,
    words: &[String],
    mut work: impl FnMut(&Named, Value) -> Done,
) -> Done {
    let mut failures = vec![];
    for named in session.targets(words, arguments)? {
        let done = session
            .get(&named.path())
            .and_then(|object| work(&named, object));
        if let Err(failure) = done {
            failures.push(failure);
        }
    }
    super::get::fail(failures)
}

/// `kubectl label`.
pub(super) fn label(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let (names, rest) = divided(words);
    if arguments.is_on("list") {
        return each(session, arguments, &names, |_, object| {
            for (key, value) in object["metadata"]["labels"]
                .as_object()
                .into_iter()
                .flatten()
            {
                println!("{key}={}", value.as_str().unwrap_or_default());
            }
            Ok(())
        });
    }
    let (set, gone) = changes(&rest, "label")?;
    if set.is_empty() && gone.is_empty() {
        return Err(Failure::Plain(
            "at least one label update is required".into(),
        ));
    }
    let overwrite = arguments.is_on("overwrite");
    // The same value is no contradiction since 1.24 (kubernetes/kubernetes#105936), and to take labels away has a word of
    // its own since 1.23 (kubernetes/kubernetes#104372).
    let minor = Release::ours().minor();
    each(session, arguments, &names, |named, object| {
        let old = &object["metadata"]["labels"];
        if !overwrite {
            for (key, value) in &set {
                if let Some(have) = old[key].as_str().filter(|h| minor < 24 || h != value) {
                    return Err(Failure::Plain(format!(
                        "'{key}' already has a value ({have}), and --overwrite is false"
                    )));
                }
            }
        }
        let mut patch = json!({"metadata": {"labels": {}}});
        let mut fresh = false;
        for (key, value) in &set {
            fresh |= old[key] != value.as_str();
            patch["metadata"]["labels"][key] = value.clone().into();
        }
        let mut less = false;
        for key in &gone {
            if old[key].is_null() {
                println!("label {key:?} not found.");
            } else {
                less = true;
                patch["metadata"]["labels"][key] = Value::Null;
            }
        }
        if !fresh && !less {
            println!("{} not labeled", named.shown());
            return Ok(());
        }
        session.patch(named, &patch)?;
        let only_less = less && !fresh && !overwrite && minor >= 23;
        println!(
            "{} {}",
            named.shown(),
            if only_less { "unlabeled" } else { "labeled" }
        );
        Ok(())
    })
}

/// `kubectl annotate`.
pub(super) fn annotate(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let (names, rest) = divided(words);
    let (set, gone) = changes(&rest, "annotation")?;
    if set.is_empty() && gone.is_empty() {
        return Err(Failure::Plain(
            "at least one annotation update is required".into(),
        ));
    }
    // The same value is no contradiction since 1.25 (kubernetes/kubernetes#109505).
    let minor = Release::ours().minor();
    each(session, arguments, &names, |named, object| {
        let old = &object["metadata"]["annotations"];
        if !arguments.is_on("overwrite") {
            let clash: Vec<String> = set
                .iter()
                .filter_map(|(k, v)| {
                    old[k]
                        .as_str()
                        .filter(|h| minor < 25 || h != v)
                        .map(|h| format!("'{k}' already has a value ({h})"))
                })
                .collect();
            if !clash.is_empty() {
                return Err(Failure::Plain(format!(
                    "--overwrite is false but found the following declared annotation(s): {}",
                    clash.join("; ")
                )));
            }
        }
        let mut patch = json!({"metadata": {"annotations": {}}});
        for (key, value) in &set {
            patch["metadata"]["annotations"][key] = value.clone().into();
        }
        for key in &gone {
            patch["metadata"]["annotations"][key] = Value::Null;
        }
        session.patch(named, &patch)?;
        println!("{} annotated", named.shown());
        Ok(())
    })
}

/// Taints to set, and keys with effects to take away.
type Taints = (Vec<Value>, Vec<(String, String)>);

/// `key[=value]:effect`, `key:effect-`, `key-`.
fn taint_words(words: &[String]) -> Done<Taints> {
    let (mut add, mut gone) = (vec![], vec![]);
    let known = |effect: &str| matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
    for word in words {
        if let Some(spec) = word.strip_suffix('-') {
            let (rest, effect) = spec.split_once(':').unwrap_or((spec, ""));
            if !effect.is_empty() && !known(effect) {
                return Err(Failure::Plain(format!(
                    "invalid taint effect: {effect}, unsupported taint effect\nSee 'kubectl taint -h' for help and examples"
                )));
            }
            let key = rest.split('=').next().unwrap_or(rest);
            gone.push((key.to_owned(), effect.to_owned()));
            continue;
        }
        let parts: Vec<&str> = word.split(':').collect();
        let [rest, effect] = parts.as_slice() else {
            return Err(Failure::Plain(format!("invalid taint spec: {word}")));
        };
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        if !known(effect) {
            return Err(Failure::Plain(format!(
                "invalid taint effect: {effect}, unsupported taint effect\nSee 'kubectl taint -h' for help and examples"
            )));
        }
        if let Some(why) = qualified_name_problem(key) {
            return Err(Failure::Plain(format!("invalid taint spec: {word}, {why}")));
        }
        if let Some(why) = label_value_problem(value) {
            return Err(Failure::Plain(format!("invalid taint spec: {word}, {why}")));
        }
        let mut taint = json!({"key": key, "effect": effect});
        if !value.is_empty() {
            taint["value"] = value.into();
        }
        add.push(taint);
    }
    Ok((add, gone))
}

/// `kubectl taint`.
pub(super) fn taint(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let at = words
        .iter()
        .position(|w| w.contains(':') || w.contains('=') || w.ends_with('-'))
        .unwrap_or(words.len());
    let (names, rest) = (&words[..at], &words[at..]);
    if rest.is_empty() {
        return Err(Failure::Plain(
            "at least one taint update is required".into(),
        ));
    }
    let (add, gone) = taint_words(rest)?;
    let overwrite = arguments.is_on("overwrite");
    each(session, arguments, names, |named, object| {
        let old: Vec<Value> = object["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
        if !overwrite {
            let mut clash: Vec<&str> = add
                .iter()
                .filter(|t| old.iter().any(|o| same(o, t)))
                .filter_map(|t| t["key"].as_str())
                .collect();
            clash.sort_unstable();
            if !clash.is_empty() {
                return Err(Failure::Plain(format!(
                    "node {} already has {} taint(s) with same effect(s) and --overwrite is false",
                    named.name,
                    clash.join(",")
                )));
            }
        }
        let mut new = add.clone();
        new.extend(
            old.iter()
                .filter(|o| !add.iter().any(|a| same(a, o)))
                .cloned(),
        );
        let added = new.len() != old.len();
        let before = new.len();
        for (key, effect) in &gone {
            let had = new.len();
            new.retain(|t| {
                !(t["key"] == key.as_str() && (effect.is_empty() || t["effect"] == effect.as_str()))
            });
            if new.len() == had {
                let shown = if effect.is_empty() {
                    key.clone()
                } else {
                    format!("{key}:{effect}")
                };
                return Err(Failure::Plain(format!("taint {shown:?} not found")));
            }
        }
        let deleted = new.len() != before;
        // What differs and nothing else: a kubelet's report in between is no conflict (pkg/cmd/taint/taint.go).
        let patch = json!({"spec": {"taints": new}});
        session.patch(named, &patch)?;
        let verb = if (added && deleted) || overwrite {
            "modified"
        } else if added {
            "tainted"
        } else {
            "untainted"
        };
        println!("{} {verb}", named.shown());
        Ok(())
    })
}

/// `kubectl patch`.
pub(super) fn patch(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let text = match (arguments.flag("patch"), arguments.flag("patch-file")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => crate::files::read(file.as_ref())?,
        (None, None) => {
            return Err(Failure::Plain(
                "must specify --patch or --patch-file containing the contents of the patch".into(),
            ));
        }
    };
    let kind = match arguments.flag("type").unwrap_or("strategic") {
        "json" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        other => {
            return Err(Failure::Plain(format!(
                "--type must be one of [json merge strategic], not {other:?}"
            )));
        }
    };
    let body: Value = serde_yaml::from_str(&text)
        .map_err(|e| Failure::Plain(format!("unable to parse {text:?}: {e}")))?;
    each(session, arguments, words, |named, object| {
        let mut path = named.path();
        if let Some(sub) = arguments.flag("subresource") {
            path.push_str(&format!("/{sub}"));
        }
        let bytes = session.send("PATCH", &path, kind, body.to_string().as_bytes())?;
        let new: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let same = new["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"];
        println!(
            "{} patched{}",
            named.shown(),
            if same { " (no change)" } else { "" }
        );
        Ok(())
    })
}
