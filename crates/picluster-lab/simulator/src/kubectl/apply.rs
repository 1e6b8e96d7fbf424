//! `kubectl apply -f` and `kubectl create`.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::session::{Named, Session};
use super::{Done, Failure};
use crate::api::kinds::Kind;
use crate::files;

const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Objects of all files that `-f` names, each with where it came from.
pub(super) fn read(arguments: &Arguments) -> Done<Vec<(Value, String)>> {
    let mut out = vec![];
    for file in arguments.all("filename").iter().flat_map(|f| f.split(',')) {
        let mut sources = vec![];
        if file == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Failure::Plain(e.to_string()))?;
            sources.push(("STDIN".to_owned(), text));
        } else if Path::new(file).is_dir() {
            let entries = std::fs::read_dir(file).map_err(|e| Failure::Plain(e.to_string()))?;
            let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
            paths.sort();
            for path in paths.iter().filter(|p| {
                p.extension()
                    .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
            }) {
                sources.push((path.display().to_string(), files::read(path)?));
            }
        } else {
            if !Path::new(file).exists() {
                return Err(Failure::Plain(format!("the path {file:?} does not exist")));
            }
            sources.push((file.to_owned(), files::read(file.as_ref())?));
        }
        for (source, text) in sources {
            let documents: Vec<Value> = serde_yaml::from_multiple(&text).map_err(|e| {
                Failure::Plain(format!(
                    "error parsing {source}: error converting YAML to JSON: yaml: {e}"
                ))
            })?;
            for document in documents.into_iter().filter(|d| !d.is_null()) {
                match document["items"].as_array() {
                    Some(items) if document["kind"] == "List" => {
                        out.extend(items.iter().map(|i| (i.clone(), source.clone())))
                    }
                    _ => out.push((document, source.clone())),
                }
            }
        }
    }
    for (object, source) in &out {
        for field in ["apiVersion", "kind"] {
            if !object[field].is_string() {
                return Err(Failure::Plain(format!(
                    "error validating {source:?}: error validating data: {field} not set; if you choose to ignore these errors, turn validation off with --validate=false"
                )));
            }
        }
    }
    if out.is_empty() {
        return Err(Failure::Plain(if arguments.flag("filename").is_some() {
            "no objects passed to apply".into()
        } else {
            "must specify one of -f and -k".into()
        }));
    }
    Ok(out)
}

/// Where an object of a manifest goes.
pub(super) fn named(session: &Session, kind: Kind, object: &Value) -> Named {
    let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let namespace = match (kind.namespaced, own.is_empty()) {
        (false, _) => String::new(),
        (true, true) => session.namespace.clone(),
        (true, false) => own.to_owned(),
    };
    Named {
        kind,
        namespace,
        name: object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// Creates an object; `source` is the file that it comes from (kubectl/pkg/cmd/util, `AddSourceToErr`).
fn post(session: &Session, named: &Named, object: &Value, source: Option<&str>) -> Done {
    let path = named.kind.path(&named.namespace, "");
    let body = object.to_string();
    match (
        session.send("POST", &path, "application/json", body.as_bytes()),
        source,
    ) {
        (Ok(_), _) => Ok(()),
        (Err(Failure::Server { reason, message }), Some(source)) => Err(Failure::Server {
            reason,
            message: format!("error when creating {source:?}: {message}"),
        }),
        (Err(failure), _) => Err(failure),
    }
}

/// What a merge patch has to say so that `old`'s fields that `new` no longer has go away.
fn three_way(last: &Value, new: &Value) -> Value {
    match (last, new) {
        (Value::Object(last), Value::Object(new)) => {
            let mut out = serde_json::Map::new();
            for (name, value) in new {
                out.insert(
                    name.clone(),
                    last.get(name)
                        .map_or_else(|| value.clone(), |l| three_way(l, value)),
                );
            }
            for name in last.keys().filter(|n| !new.contains_key(*n)) {
                out.insert(name.clone(), Value::Null);
            }
            Value::Object(out)
        }
        _ => new.clone(),
    }
}

/// `kubectl apply`.
pub(super) fn apply(session: &Session, arguments: &Arguments) -> Done {
    let mut failures = vec![];
    for (object, source) in read(arguments)? {
        let kind = session.kind_of(&object, &source)?;
        let named = named(session, kind, &object);
        let done = one(session, arguments, &named, object, &source);
        match done {
            Ok(word) => println!("{} {word}", named.shown()),
            Err(failure) => failures.push(failure),
        }
    }
    super::get::fail(failures)
}

fn one(
    session: &Session,
    arguments: &Arguments,
    named: &Named,
    mut object: Value,
    source: &str,
) -> Done<&'static str> {
    if named.kind.namespaced {
        object["metadata"]["namespace"] = named.namespace.clone().into();
    }
    let server_side = arguments.is_on("server-side");
    let mut marked = object.clone();
    if !server_side {
        marked["metadata"]["annotations"][LAST] =
            format!("{}\n", super::print::sorted(&object)).into();
    }
    let old = match session.get(&named.path()) {
        Ok(old) => old,
        Err(Failure::Server { reason, .. }) if reason == "NotFound" => {
            post(session, named, &marked, Some(source))?;
            return Ok(if server_side {
                "serverside-applied"
            } else {
                "created"
            });
        }
        Err(failure) => return Err(failure),
    };
    let last: Value = old["metadata"]["annotations"][LAST]
        .as_str()
        .and_then(|t| serde_json::from_str(t).ok())
        .unwrap_or_default();
    let patch = three_way(&last, &marked);
    let new = session.patch(named, &patch)?;
    Ok(if server_side {
        "serverside-applied"
    } else if new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"] {
        "unchanged"
    } else {
        "configured"
    })
}

/// `kubectl create -f`, `create namespace NAME`, `create configmap NAME --from-literal=k=v`, `create secret generic …`.
pub(super) fn create(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    if arguments.flag("filename").is_some() {
        let mut failures = vec![];
        for (object, source) in read(arguments)? {
            let kind = session.kind_of(&object, &source)?;
            let named = named(session, kind, &object);
            match post(session, &named, &object, Some(&source)) {
                Ok(()) => println!("{} created", named.shown()),
                Err(failure) => failures.push(failure),
            }
        }
        return super::get::fail(failures);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let literals = || {
        let mut data = serde_json::Map::new();
        for (key, value) in arguments
            .all("from-literal")
            .iter()
            .filter_map(|l| l.split_once('='))
        {
            data.insert(key.into(), value.into());
        }
        Value::Object(data)
    };
    let (kind, name, object) = match words.as_slice() {
        ["namespace" | "ns", name] => ("namespaces", name, json!({})),
        ["configmap" | "cm", name] => ("configmaps", name, json!({"data": literals()})),
        ["secret", "generic", name] => {
            let kind = arguments.flag("type").unwrap_or("Opaque");
            (
                "secrets",
                name,
                json!({"type": kind, "stringData": literals()}),
            )
        }
        ["serviceaccount" | "sa", name] => ("serviceaccounts", name, json!({})),
        _ => return Err(Failure::Plain("must specify one of -f and -k".into())),
    };
    let kind = session.kind(kind)?;
    let mut object = object;
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.clone().into();
    object["metadata"] = json!({"name": name});
    let named = session.named(&kind, name);
    post(session, &named, &object, None)?;
    println!("{} created", named.shown());
    Ok(())
}
