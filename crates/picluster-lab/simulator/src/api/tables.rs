//! Columns of `kubectl get` (kubernetes/pkg/printers/internalversion/printers.go).

use serde_json::{Value, json};

use crate::{clock, text};

/// A column's heading, and whether only `-o wide` shows it.
type Column = (&'static str, bool);

const NODES: &[Column] = &[
    ("Name", false),
    ("Status", false),
    ("Roles", false),
    ("Age", false),
    ("Version", false),
    ("Internal-IP", true),
    ("External-IP", true),
    ("OS-Image", true),
    ("Kernel-Version", true),
    ("Container-Runtime", true),
];
const PODS: &[Column] = &[
    ("Name", false),
    ("Ready", false),
    ("Status", false),
    ("Restarts", false),
    ("Age", false),
    ("IP", true),
    ("Node", true),
    ("Nominated Node", true),
    ("Readiness Gates", true),
];
const SECRETS: &[Column] = &[
    ("Name", false),
    ("Type", false),
    ("Data", false),
    ("Age", false),
];
const CONFIGMAPS: &[Column] = &[("Name", false), ("Data", false), ("Age", false)];
const NAMESPACES: &[Column] = &[("Name", false), ("Status", false), ("Age", false)];
const LEASES: &[Column] = &[("Name", false), ("Holder", false), ("Age", false)];
const DEPLOYMENTS: &[Column] = &[
    ("Name", false),
    ("Ready", false),
    ("Up-to-date", false),
    ("Available", false),
    ("Age", false),
];
const ADDONS: &[Column] = &[
    ("Name", false),
    ("Source", false),
    ("Checksum", false),
    ("Age", false),
];
const OTHERS: &[Column] = &[("Name", false), ("Age", false)];

/// Headings for a kind.
pub(crate) fn columns(kind: &str) -> &'static [Column] {
    match kind {
        "Node" => NODES,
        "Pod" => PODS,
        "Secret" => SECRETS,
        "ConfigMap" => CONFIGMAPS,
        "Namespace" => NAMESPACES,
        "Lease" => LEASES,
        "Deployment" => DEPLOYMENTS,
        "Addon" => ADDONS,
        _ => OTHERS,
    }
}

fn age(object: &Value) -> String {
    match object["metadata"]["creationTimestamp"]
        .as_str()
        .and_then(clock::parse)
    {
        Some(at) => text::age((clock::now() - at).whole_seconds()),
        None => "<unknown>".into(),
    }
}

fn or(value: &Value, none: &str) -> String {
    value
        .as_str()
        .filter(|s| !s.is_empty())
        .unwrap_or(none)
        .to_owned()
}

fn size(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

/// One object's cells.
pub(crate) fn row(kind: &str, object: &Value) -> Vec<String> {
    let name = or(&object["metadata"]["name"], "");
    let status = &object["status"];
    match kind {
        "Node" => node(object, name),
        "Pod" => {
            let containers = status["containerStatuses"].as_array();
            let ready = containers
                .into_iter()
                .flatten()
                .filter(|c| c["ready"] == true)
                .count();
            let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
            vec![
                name,
                format!("{ready}/{all}"),
                or(&status["phase"], "Unknown"),
                "0".into(),
                age(object),
                or(&status["podIP"], "<none>"),
                or(&object["spec"]["nodeName"], "<none>"),
                "<none>".into(),
                "<none>".into(),
            ]
        }
        "Secret" => vec![
            name,
            or(&object["type"], ""),
            size(&object["data"]).to_string(),
            age(object),
        ],
        "ConfigMap" => {
            let data = size(&object["data"]) + size(&object["binaryData"]);
            vec![name, data.to_string(), age(object)]
        }
        "Namespace" => vec![name, or(&status["phase"], "Active"), age(object)],
        "Lease" => vec![name, or(&object["spec"]["holderIdentity"], ""), age(object)],
        "Deployment" => {
            let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
            let count = |f: &str| status[f].as_u64().unwrap_or(0);
            vec![
                name,
                format!("{}/{wanted}", count("readyReplicas")),
                count("updatedReplicas").to_string(),
                count("availableReplicas").to_string(),
                age(object),
            ]
        }
        "Addon" => vec![
            name,
            or(&object["spec"]["source"], ""),
            or(&object["spec"]["checksum"], ""),
            age(object),
        ],
        _ => vec![name, age(object)],
    }
}

fn node(object: &Value, name: String) -> Vec<String> {
    let status = &object["status"];
    let ready = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready");
    let mut state = match ready {
        Some(c) if c["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/"))
        .filter(|r| !r.is_empty())
        .collect();
    roles.sort_unstable();
    let roles = if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    };
    let address = |kind: &str| {
        let found = status["addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|a| a["type"] == kind);
        found.map_or_else(|| "<none>".to_owned(), |a| or(&a["address"], "<none>"))
    };
    let info = &status["nodeInfo"];
    vec![
        name,
        state,
        roles,
        age(object),
        or(&info["kubeletVersion"], ""),
        address("InternalIP"),
        address("ExternalIP"),
        or(&info["osImage"], "<unknown>"),
        or(&info["kernelVersion"], "<unknown>"),
        or(&info["containerRuntimeVersion"], "<unknown>"),
    ]
}

/// `meta.k8s.io/v1` Table, for clients that let the server draw.
pub(super) fn table(kind: &str, objects: &[Value], version: u64) -> Value {
    let heads: Vec<Value> = columns(kind)
        .iter()
        .map(|(name, wide)| json!({"name": name, "type": "string", "format": if *name == "Name" { "name" } else { "" },
            "description": "", "priority": i32::from(*wide)}))
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|o| json!({"cells": row(kind, o), "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}}))
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()},
        "columnDefinitions": heads, "rows": rows})
}
