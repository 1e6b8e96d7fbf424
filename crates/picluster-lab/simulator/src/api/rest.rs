//! Requests to the API: who may ask what, and the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::status::{Refusal, qualified};
use super::store::{Happened, Key, Store};
use super::{discovery, disruption, patch, select, tables};
use crate::http::{Reply, Request};
use crate::labels::{is_kubelet_label, is_kubernetes_label};
use crate::release::Release;
use crate::{log, text};

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
}

impl Caller {
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The name of the node whose kubelet this is.
    pub(crate) fn node(&self) -> Option<&str> {
        self.user
            .strip_prefix("system:node:")
            .filter(|_| self.is_in("system:nodes"))
    }
}

struct Target {
    kind: Kind,
    namespace: String,
    name: String,
    sub: String,
}

/// Answers a request for the API.
pub(crate) fn answer(store: &Arc<Store>, caller: &Caller, request: &Request) -> Reply {
    match route(store, caller, request) {
        Ok(reply) => reply,
        Err(refusal) => Reply::json(refusal.code, &refusal.status()),
    }
}

fn route(store: &Arc<Store>, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
    match request.path.trim_end_matches('/') {
        "/readyz" | "/livez" | "/healthz" | "/readyz/etcd" => {
            // etcd's check has two seconds (apiserver/pkg/storage/storagebackend/factory/etcd3.go).
            if let Err(why) = store.sound(Duration::from_secs(2)) {
                log::error(format!("etcd check failed: {}", why.message));
                let name = request.path.trim_matches('/');
                let body = format!(
                    "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]informer-sync ok\n{name} check failed\n"
                );
                return Ok(Reply::text(500, body));
            }
            let body = if request.asked("verbose").is_some() {
                let name = request.path.trim_matches('/');
                format!(
                    "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]informer-sync ok\n{name} check passed\n"
                )
            } else {
                "ok".to_owned()
            };
            return Ok(Reply::text(200, body));
        }
        "/version" => return Ok(Reply::json(200, &version())),
        path if path.starts_with("/openapi") => return Err(Refusal::no_such_path()),
        _ => {}
    }
    let kinds = store.kinds();
    if request.method == "GET"
        && let Some(found) = discovery::answer(&request.path, &kinds)
    {
        return Ok(Reply::json(200, &found));
    }
    let target = target(&kinds, &request.path).ok_or_else(Refusal::no_such_path)?;
    let watching = matches!(request.asked("watch"), Some("true" | "1"));
    let verb = match (request.method.as_str(), target.name.is_empty()) {
        ("GET", true) if watching => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        _ => return Err(Refusal::method_not_allowed()),
    };
    let body = match request.method.as_str() {
        "POST" | "PUT" | "PATCH" => parsed(request)?,
        _ => Value::Null,
    };
    // What a server remembers may be old when it has lost the others.
    store.sound(crate::etcd::PATIENCE)?;
    authorize(store, caller, verb, &target, &body)?;
    let key = Key::of(&target.kind, &target.namespace, &target.name);
    match verb {
        "get" => {
            let object = store.get(&key).ok_or_else(|| {
                Refusal::not_found(&target.kind.group, &target.kind.plural, &target.name)
            })?;
            Ok(shown(store, request, &target, vec![object], false))
        }
        "list" => {
            let objects = chosen(store, request, &target)?;
            Ok(shown(store, request, &target, objects, true))
        }
        "watch" => Ok(watch(store.clone(), request, target)),
        "create" => create(store, caller, &target, body),
        "update" => Ok(Reply::json(
            200,
            &update(store, caller, &target, &key, body)?,
        )),
        "patch" => patched(store, caller, request, &target, &key, &body),
        "delete" => {
            let missing =
                || Refusal::not_found(&target.kind.group, &target.kind.plural, &target.name);
            let there = store.get(&key).ok_or_else(missing)?;
            // Its finalizer is somebody's who still has to see to something.
            if target.kind.kind == "Node" && crate::etcd::kept(&there) {
                let marked = store.update(&target.kind, &key, |node| {
                    let meta = &mut node["metadata"];
                    if meta["deletionTimestamp"].is_null() {
                        meta["deletionTimestamp"] = crate::clock::stamp().into();
                        meta["deletionGracePeriodSeconds"] = 0.into();
                    }
                    Ok(())
                })?;
                return Ok(Reply::json(200, &marked));
            }
            let gone = store.delete(&key)?.ok_or_else(missing)?;
            Ok(Reply::json(
                200,
                &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "details": {"name": target.name, "kind": target.kind.plural, "uid": gone["metadata"]["uid"]}}),
            ))
        }
        _ => {
            for object in chosen(store, request, &target)? {
                let meta = |f: &str| {
                    object["metadata"][f]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                store.delete(&Key::of(&target.kind, &meta("namespace"), &meta("name")))?;
            }
            Ok(Reply::json(
                200,
                &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
            ))
        }
    }
}

/// `/version`.
pub(crate) fn version() -> Value {
    let release = Release::ours();
    json!({"major": "1", "minor": release.minor().to_string(), "gitVersion": release.as_str(), "gitCommit": "simulator",
        "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": release.go(), "compiler": "gc",
        "platform": format!("linux/{}", crate::machine::architecture())})
}

fn target(kinds: &[Kind], path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let find = |plural: &str| {
        kinds
            .iter()
            .find(|k| k.group == group && k.version == version && k.plural == plural)
            .cloned()
    };
    let made = |kind: Option<Kind>, namespace: &str, name: &str, sub: &str| {
        Some(Target {
            kind: kind?,
            namespace: namespace.into(),
            name: name.into(),
            sub: sub.into(),
        })
    };
    match rest {
        ["namespaces", namespace, plural] if find(plural).is_some_and(|k| k.namespaced) => {
            made(find(plural), namespace, "", "")
        }
        ["namespaces", namespace, plural, name] if find(plural).is_some_and(|k| k.namespaced) => {
            made(find(plural), namespace, name, "")
        }
        ["namespaces", namespace, plural, name, sub] => made(find(plural), namespace, name, sub),
        [plural] => made(find(plural), "", "", ""),
        [plural, name] => made(find(plural), "", name, ""),
        [plural, name, sub] => made(find(plural), "", name, sub),
        _ => None,
    }
}

fn parsed(request: &Request) -> Result<Value, Refusal> {
    let text = String::from_utf8_lossy(&request.body);
    let kind = request.header("content-type").unwrap_or("application/json");
    if kind.contains("protobuf") {
        return Err(Refusal::unsupported_media(kind));
    }
    if kind.contains("yaml") {
        return serde_yaml::from_str(&text).map_err(|e| Refusal::bad_request(e.to_string()));
    }
    serde_json::from_str(&text).map_err(|e| {
        Refusal::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
    })
}

fn denied(caller: &Caller, verb: &str, target: &Target) -> Refusal {
    let full = qualified(&target.kind.group, &target.kind.plural);
    let what = if target.name.is_empty() {
        full
    } else {
        format!("{full} \"{}\"", target.name)
    };
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    Refusal::forbidden(format!(
        "{what} is forbidden: User \"{}\" cannot {verb} resource \"{}\" in API group \"{}\" {place}",
        caller.user, target.kind.plural, target.kind.group
    ))
}

/// Administrators may do everything; kubelets what the node authoriser and NodeRestriction leave them
/// (kubernetes/plugin/pkg/admission/noderestriction/admission.go).
fn authorize(
    store: &Store,
    caller: &Caller,
    verb: &str,
    target: &Target,
    body: &Value,
) -> Result<(), Refusal> {
    if caller.is_in("system:masters") {
        return Ok(());
    }
    let reading = matches!(verb, "get" | "list" | "watch");
    let Some(node) = caller.node() else {
        let fine = reading
            && matches!(
                target.kind.plural.as_str(),
                "nodes" | "services" | "endpoints" | "pods" | "namespaces"
            );
        return if fine && caller.user.starts_with("system:") {
            Ok(())
        } else {
            Err(denied(caller, verb, target))
        };
    };
    let plural = target.kind.plural.as_str();
    let own = target.name == node || (verb == "create" && body["metadata"]["name"] == node);
    match plural {
        "nodes" if reading => Ok(()),
        "nodes" if verb == "delete" || verb == "deletecollection" => {
            Err(denied(caller, verb, target))
        }
        "nodes" if !own => Err(Refusal::forbidden(format!(
            "nodes \"{}\" is forbidden: node \"{node}\" is not allowed to modify node \"{}\"",
            target.name, target.name
        ))),
        "nodes" => restricted_labels(store, node, verb, body),
        "leases" if target.namespace == "kube-node-lease" && (own || reading) => Ok(()),
        "events" if verb == "create" || verb == "patch" => Ok(()),
        "pods" | "services" | "configmaps" | "runtimeclasses"
            if reading && !(plural == "configmaps" && verb == "list") =>
        {
            Ok(())
        }
        _ => Err(denied(caller, verb, target)),
    }
}

fn restricted_labels(store: &Store, node: &str, verb: &str, body: &Value) -> Result<(), Refusal> {
    let old = store.get(&Key::node(node)).unwrap_or_default();
    let mut foreign: Vec<&str> = body["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| old["metadata"]["labels"].get(k.as_str()) != Some(v))
        .map(|(k, _)| k.as_str())
        .filter(|k| is_kubernetes_label(k) && !is_kubelet_label(k))
        .collect();
    foreign.sort_unstable();
    if foreign.is_empty() {
        return Ok(());
    }
    let what = if verb == "create" {
        "set the following labels"
    } else {
        "modify labels"
    };
    Err(Refusal::forbidden(format!(
        "nodes \"{node}\" is forbidden: is not allowed to {what}: {}",
        foreign.join(", ")
    )))
}

fn chosen(store: &Store, request: &Request, target: &Target) -> Result<Vec<Value>, Refusal> {
    let mut out = vec![];
    for (_, object) in store.list(&target.kind.group, &target.kind.plural, &target.namespace) {
        if fits(
            request.asked("labelSelector"),
            request.asked("fieldSelector"),
            &object,
        )? {
            out.push(object);
        }
    }
    Ok(out)
}

fn fits(labels: Option<&str>, fields: Option<&str>, object: &Value) -> Result<bool, Refusal> {
    Ok(
        select::labels(labels.unwrap_or(""), &object["metadata"]["labels"])
            .map_err(Refusal::bad_request)?
            && select::fields(fields.unwrap_or(""), object).map_err(Refusal::bad_request)?,
    )
}

fn shown(
    store: &Store,
    request: &Request,
    target: &Target,
    objects: Vec<Value>,
    list: bool,
) -> Reply {
    if request
        .header("accept")
        .is_some_and(|a| a.contains("as=Table"))
    {
        return Reply::json(
            200,
            &tables::table(&target.kind.kind, &objects, store.version()),
        );
    }
    if !list {
        return Reply::json(200, objects.first().unwrap_or(&Value::Null));
    }
    // Items of a list carry no kind of their own.
    let items: Vec<Value> = objects
        .into_iter()
        .map(|mut o| {
            if let Some(fields) = o.as_object_mut()
                && target.kind.group.is_empty()
            {
                fields.shift_remove("kind");
                fields.shift_remove("apiVersion");
            }
            o
        })
        .collect();
    Reply::json(
        200,
        &json!({"kind": format!("{}List", target.kind.kind), "apiVersion": target.kind.api_version(),
            "metadata": {"resourceVersion": store.version().to_string()}, "items": items}),
    )
}

fn watch(store: Arc<Store>, request: &Request, target: Target) -> Reply {
    let seconds = request
        .asked("timeoutSeconds")
        .and_then(|s| s.parse().ok())
        .unwrap_or(300);
    let end = Instant::now() + Duration::from_secs(seconds);
    let labels = request.asked("labelSelector").map(str::to_owned);
    let fields = request.asked("fieldSelector").map(str::to_owned);
    let as_table = request
        .header("accept")
        .is_some_and(|a| a.contains("as=Table"));
    let from = request
        .asked("resourceVersion")
        .and_then(|v| v.parse::<u64>().ok())
        .filter(|v| *v > 0);
    let mut waiting: Vec<Happened> = vec![];
    let mut version = from.unwrap_or_else(|| {
        let now = store.version();
        waiting = store
            .list(&target.kind.group, &target.kind.plural, &target.namespace)
            .into_iter()
            .map(|(key, object)| Happened {
                version: now,
                verb: "ADDED",
                key,
                object,
            })
            .collect();
        now
    });
    let mut over = false;
    let mut pieces = move || -> Option<Vec<u8>> {
        if over {
            return None;
        }
        loop {
            let happened = if waiting.is_empty() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                match store.since(version, left.min(Duration::from_secs(30))) {
                    Ok(new) => new,
                    Err(refusal) => {
                        over = true;
                        return Some(
                            format!("{}\n", json!({"type": "ERROR", "object": refusal.status()}))
                                .into_bytes(),
                        );
                    }
                }
            } else {
                std::mem::take(&mut waiting)
            };
            let mut out = String::new();
            for h in &happened {
                version = version.max(h.version);
                let ours = h.key.group == target.kind.group
                    && h.key.plural == target.kind.plural
                    && (target.namespace.is_empty() || h.key.namespace == target.namespace);
                if ours && fits(labels.as_deref(), fields.as_deref(), &h.object).unwrap_or(false) {
                    let object = if as_table {
                        tables::table(
                            &target.kind.kind,
                            std::slice::from_ref(&h.object),
                            h.version,
                        )
                    } else {
                        h.object.clone()
                    };
                    out.push_str(&json!({"type": h.verb, "object": object}).to_string());
                    out.push('\n');
                }
            }
            if !out.is_empty() {
                return Some(out.into_bytes());
            }
        }
    };
    Reply {
        status: 200,
        kind: "application/json".into(),
        headers: vec![],
        body: vec![],
        stream: Some(Box::new(move || Ok(pieces()))),
    }
}

fn create(
    store: &Store,
    caller: &Caller,
    target: &Target,
    mut body: Value,
) -> Result<Reply, Refusal> {
    if target.kind.kind == "Pod" && target.sub == "eviction" {
        let key = Key::of(&target.kind, &target.namespace, &target.name);
        let gone = || Refusal::not_found("", "pods", &target.name);
        disruption::may_evict(store, &store.get(&key).ok_or_else(gone)?)?;
        store.delete(&key)?.ok_or_else(gone)?;
        return Ok(Reply::json(
            201,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
        ));
    }
    if !target.name.is_empty() {
        return Err(Refusal::method_not_allowed());
    }
    if body["kind"].as_str().is_some_and(|k| k != target.kind.kind) {
        return Err(Refusal::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: no kind \"{}\" is registered for version \"{}\"",
            body["kind"].as_str().unwrap_or_default(),
            target.kind.version,
            target.kind.kind,
            body["kind"].as_str().unwrap_or_default(),
            target.kind.api_version()
        )));
    }
    if body["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .is_empty()
        && let Some(prefix) = body["metadata"]["generateName"].as_str()
    {
        body["metadata"]["name"] = format!("{prefix}{}", text::suffix(&text::uuid(), 5)).into();
    }
    let name = body["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let asked = body["metadata"]["namespace"].as_str().unwrap_or_default();
    if target.kind.namespaced && !asked.is_empty() && asked != target.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let _ = caller;
    let key = Key::of(&target.kind, &target.namespace, &name);
    Ok(Reply::json(201, &store.create(&target.kind, &key, body)?))
}

/// A whole object over an old one: outside of `/status` the status stays, and inside of it nothing else is taken.
fn overlay(target: &Target, old: &Value, new: Value) -> Value {
    let split = matches!(
        target.kind.kind.as_str(),
        "Node" | "Pod" | "Namespace" | "Deployment" | "DaemonSet" | "StatefulSet"
    );
    if target.sub == "status" {
        let mut out = old.clone();
        out["status"] = new["status"].clone();
        for field in ["resourceVersion", "labels", "annotations"] {
            if let Some(value) = new["metadata"].get(field) {
                out["metadata"][field] = value.clone();
            }
        }
        return out;
    }
    let mut out = new;
    if split {
        out["status"] = old["status"].clone();
    }
    out
}

fn update(
    store: &Store,
    _caller: &Caller,
    target: &Target,
    key: &Key,
    body: Value,
) -> Result<Value, Refusal> {
    if body["metadata"]["name"].as_str() != Some(&target.name) {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            body["metadata"]["name"].as_str().unwrap_or_default(),
            target.name
        )));
    }
    store.update(&target.kind, key, |object| {
        *object = overlay(target, object, body.clone());
        Ok(())
    })
}

fn patched(
    store: &Store,
    caller: &Caller,
    request: &Request,
    target: &Target,
    key: &Key,
    body: &Value,
) -> Result<Reply, Refusal> {
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    let change = |object: &mut Value| -> Result<(), Refusal> {
        let mut new = object.clone();
        if let Some(meta) = new["metadata"].as_object_mut() {
            meta.shift_remove("resourceVersion");
        }
        match kind {
            "application/json-patch+json" => patch::json(&mut new, body)?,
            "application/merge-patch+json" => patch::merge(&mut new, body),
            "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
                patch::strategic(&mut new, body)
            }
            other => return Err(Refusal::unsupported_media(other)),
        }
        if !new["metadata"].is_object() {
            new["metadata"] = Value::Object(Map::new());
        }
        *object = overlay(target, object, new);
        Ok(())
    };
    if kind == "application/apply-patch+yaml" && store.get(key).is_none() {
        return create(
            store,
            caller,
            &Target {
                name: String::new(),
                ..target_of(target)
            },
            body.clone(),
        );
    }
    Ok(Reply::json(200, &store.update(&target.kind, key, change)?))
}

fn target_of(target: &Target) -> Target {
    Target {
        kind: target.kind.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        sub: target.sub.clone(),
    }
}
