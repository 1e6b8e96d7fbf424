//! Disruption budgets, and what an eviction is told by them (kubernetes/pkg/controller/disruption/disruption.go,
//! kubernetes/pkg/registry/core/pod/storage/eviction.go).

use serde_json::{Value, json};

use super::select;
use super::status::Refusal;
use super::store::Store;

/// A label selector as text.
fn selector(value: &Value) -> Option<String> {
    if !value.is_object() {
        return None;
    }
    let mut terms: Vec<String> = value["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, v)| format!("{key}={}", v.as_str().unwrap_or_default()))
        .collect();
    for term in value["matchExpressions"].as_array().into_iter().flatten() {
        let key = term["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = term["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        terms.push(match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    Some(terms.join(","))
}

fn covers(budget: &Value, pod: &Value) -> bool {
    budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && selector(&budget["spec"]["selector"])
            .is_some_and(|s| select::labels(&s, &pod["metadata"]["labels"]).unwrap_or(false))
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// A number, or a part of so many, rounded up.
fn scaled(value: &Value, of: i64) -> i64 {
    match value.as_str().and_then(|t| t.strip_suffix('%')) {
        Some(percent) => (percent.parse::<i64>().unwrap_or(0) * of + 99) / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

/// How many pods the owners of these are to have, all together.
fn expected(store: &Store, pods: &[Value]) -> i64 {
    let mut owners: Vec<&str> = pods
        .iter()
        .filter_map(|p| p["metadata"]["ownerReferences"][0]["uid"].as_str())
        .collect();
    owners.sort_unstable();
    owners.dedup();
    let mut sum = 0;
    for plural in ["deployments", "statefulsets", "replicasets"] {
        for (_, owner) in store.list("apps", plural, "") {
            let uid = owner["metadata"]["uid"].as_str().unwrap_or_default();
            if owners.contains(&uid) {
                sum += owner["spec"]["replicas"].as_i64().unwrap_or(1);
            }
        }
    }
    sum
}

/// The status of a budget, now.
pub(crate) fn status(store: &Store, budget: &Value) -> Value {
    let pods: Vec<Value> = store
        .list(
            "",
            "pods",
            budget["metadata"]["namespace"].as_str().unwrap_or_default(),
        )
        .into_iter()
        .map(|(_, pod)| pod)
        .filter(|pod| covers(budget, pod))
        .collect();
    let healthy = i64::try_from(pods.iter().filter(|p| is_ready(p)).count()).unwrap_or(0);
    let spec = &budget["spec"];
    let (expected, desired) = if !spec["maxUnavailable"].is_null() {
        let all = expected(store, &pods);
        (all, (all - scaled(&spec["maxUnavailable"], all)).max(0))
    } else if spec["minAvailable"].is_string() {
        let all = expected(store, &pods);
        (all, scaled(&spec["minAvailable"], all))
    } else {
        let all = i64::try_from(pods.len()).unwrap_or(0);
        (all, spec["minAvailable"].as_i64().unwrap_or(0))
    };
    let allowed = if expected <= 0 {
        0
    } else {
        (healthy - desired).max(0)
    };
    json!({"observedGeneration": budget["metadata"]["generation"], "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": desired, "expectedPods": expected})
}

/// Whether a pod may be evicted.
pub(super) fn may_evict(store: &Store, pod: &Value) -> Result<(), Refusal> {
    if matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "Pending")
    ) {
        return Ok(());
    }
    let budgets: Vec<Value> = store
        .list("policy", "poddisruptionbudgets", "")
        .into_iter()
        .map(|(_, budget)| budget)
        .filter(|budget| covers(budget, pod))
        .collect();
    if budgets.len() > 1 {
        return Err(Refusal::internal_as_is(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let Some(budget) = budgets.first() else {
        return Ok(());
    };
    let now = status(store, budget);
    let (healthy, desired) = (
        now["currentHealthy"].as_i64().unwrap_or(0),
        now["desiredHealthy"].as_i64().unwrap_or(0),
    );
    // A pod that is not ready is no loss while enough others are.
    let loss = is_ready(pod) || healthy < desired || desired == 0;
    if loss && now["disruptionsAllowed"].as_i64().unwrap_or(0) <= 0 {
        let name = budget["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Refusal::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            "DisruptionBudget",
            format!(
                "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
            ),
        ));
    }
    Ok(())
}
