//! The kinds that k3s adds to Kubernetes (pkg/crd/crds.go).

use serde_json::{Value, json};

/// group, plural, kind.
const DEFINED: &[(&str, &str, &str)] = &[
    ("k3s.cattle.io", "addons", "Addon"),
    ("helm.cattle.io", "helmcharts", "HelmChart"),
    ("helm.cattle.io", "helmchartconfigs", "HelmChartConfig"),
];

/// Their definitions. What is in their objects is not looked at.
pub(super) fn all() -> Vec<Value> {
    DEFINED
        .iter()
        .map(|(group, plural, kind)| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}")},
                "spec": {"group": group, "scope": "Namespaced",
                    "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
                    "versions": [{"name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
        })
        .collect()
}
