//! What the controllers of Kubernetes and k3s make of an object, at once instead of a moment later.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::store::Key;
use crate::clock;

/// Completes an object that is about to be kept.
pub(super) fn settle(kind: &Kind, object: &mut Value) {
    match kind.kind.as_str() {
        "Node" => node(object),
        "Namespace" => {
            if object["status"]["phase"].is_null() {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
                object["status"] = json!({"phase": "Active"});
            }
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "Secret" => {
            if object["type"].is_null() {
                object["type"] = "Opaque".into();
            }
            string_data(object);
        }
        _ => {}
    }
}

/// `stringData` is written into `data`.
fn string_data(secret: &mut Value) {
    use base64::Engine as _;
    let Some(texts) = secret
        .as_object_mut()
        .and_then(|o| o.shift_remove("stringData"))
    else {
        return;
    };
    for (name, value) in texts.as_object().into_iter().flatten() {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        secret["data"][name] = encoded.into();
    }
}

/// Taints that follow from conditions and from `spec.unschedulable`
/// (kubernetes/pkg/controller/nodelifecycle/node_lifecycle_controller.go).
fn node(node: &mut Value) {
    let ready = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready")
        .map(|c| c["status"].as_str().unwrap_or("Unknown").to_owned());
    let (not_ready, unreachable) = match ready.as_deref() {
        Some("True") => (false, false),
        Some("Unknown") => (false, true),
        _ => (true, false),
    };
    let cordoned = node["spec"]["unschedulable"] == true;
    for (key, effect, wanted) in [
        ("node.kubernetes.io/unschedulable", "NoSchedule", cordoned),
        ("node.kubernetes.io/not-ready", "NoSchedule", not_ready),
        ("node.kubernetes.io/not-ready", "NoExecute", not_ready),
        ("node.kubernetes.io/unreachable", "NoSchedule", unreachable),
        ("node.kubernetes.io/unreachable", "NoExecute", unreachable),
    ] {
        let mut taints = node["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let at = taints
            .iter()
            .position(|t| t["key"] == key && t["effect"] == effect);
        match (at, wanted) {
            (None, true) => {
                let mut taint = json!({"key": key, "effect": effect});
                if effect == "NoExecute" || key.ends_with("unschedulable") {
                    taint["timeAdded"] = clock::stamp().into();
                }
                taints.push(taint);
            }
            (Some(at), false) => {
                taints.remove(at);
            }
            _ => continue,
        }
        node["spec"]["taints"] = Value::Array(taints);
    }
    if let Some(spec) = node["spec"].as_object_mut() {
        if spec
            .get("taints")
            .is_some_and(|t| t.is_null() || t == &json!([]))
        {
            spec.shift_remove("taints");
        }
        if spec.get("unschedulable").is_some_and(|u| u != true) {
            spec.shift_remove("unschedulable");
        }
    }
}

/// Whether an object goes when another one has gone: a node's password (k3s pkg/nodepassword/controller.go), lease and
/// pods, a namespace's contents, and what an owner owns.
pub(super) fn goes_with(gone: &Key, gone_object: &Value, key: &Key, object: &Value) -> bool {
    let owned = object["metadata"]["ownerReferences"]
        .as_array()
        .is_some_and(|o| o.iter().any(|o| o["uid"] == gone_object["metadata"]["uid"]));
    owned
        || match gone.plural.as_str() {
            "nodes" if gone.group.is_empty() => {
                (key.plural == "secrets"
                    && key.namespace == "kube-system"
                    && key.name == format!("{}.node-password.k3s", gone.name))
                    || (key.plural == "leases"
                        && key.namespace == "kube-node-lease"
                        && key.name == gone.name)
                    || (key.plural == "pods" && object["spec"]["nodeName"] == gone.name.as_str())
            }
            "namespaces" if gone.group.is_empty() => key.namespace == gone.name,
            _ => false,
        }
}
