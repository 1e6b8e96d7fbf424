//! What clients ask to learn which kinds there are.

use serde_json::{Value, json};

use super::kinds::Kind;

/// Answers `/api`, `/apis`, `/api/v1` and `/apis/<group>[/<version>]`.
pub(super) fn answer(path: &str, kinds: &[Kind]) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    match parts.as_slice() {
        ["api"] => Some(
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        ["apis"] => {
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups(kinds)}))
        }
        ["api", "v1"] => Some(resources("", "v1", kinds)),
        ["apis", group] => {
            let mut found = groups(kinds).into_iter().find(|g| g["name"] == *group)?;
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Some(found)
        }
        ["apis", group, version]
            if kinds
                .iter()
                .any(|k| k.group == *group && k.version == *version) =>
        {
            Some(resources(group, version, kinds))
        }
        _ => None,
    }
}

fn groups(kinds: &[Kind]) -> Vec<Value> {
    let mut out: Vec<Value> = vec![];
    for kind in kinds.iter().filter(|k| !k.group.is_empty()) {
        let version = json!({"groupVersion": kind.api_version(), "version": kind.version});
        match out.iter_mut().find(|g| g["name"] == kind.group.as_str()) {
            Some(group) => {
                if let Some(versions) = group["versions"].as_array_mut()
                    && !versions.contains(&version)
                {
                    versions.push(version);
                }
            }
            None => out.push(
                json!({"name": kind.group, "versions": [version], "preferredVersion": version}),
            ),
        }
    }
    out
}

fn resources(group: &str, version: &str, kinds: &[Kind]) -> Value {
    let mut list = vec![];
    for kind in kinds
        .iter()
        .filter(|k| k.group == group && k.version == version)
    {
        let mut entry = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]});
        if !kind.short.is_empty() {
            entry["shortNames"] = json!(kind.short);
        }
        list.push(entry);
        if matches!(kind.kind.as_str(), "Node" | "Pod") {
            list.push(json!({"name": format!("{}/status", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": kind.kind, "verbs": ["get", "patch", "update"]}));
        }
        if kind.kind == "Pod" {
            list.push(json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
                "kind": "Eviction", "verbs": ["create"]}));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
}
