//! Which kinds of objects there are.

/// A kind, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) short: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Kind {
    /// `v1`, or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where its objects are: `/api/v1` or `/apis/apps/v1`.
    pub(crate) fn root(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// The collection, or one object of it.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = self.root();
        if self.namespaced && !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{}", self.plural));
        if !name.is_empty() {
            path.push_str(&format!("/{name}"));
        }
        path
    }
}

/// group, version, plural, kind, short names, namespaced.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
);

const BUILT_IN: &[Row] = &[
    ("", "v1", "nodes", "Node", "no", false),
    ("", "v1", "namespaces", "Namespace", "ns", false),
    ("", "v1", "pods", "Pod", "po", true),
    ("", "v1", "secrets", "Secret", "", true),
    ("", "v1", "configmaps", "ConfigMap", "cm", true),
    ("", "v1", "services", "Service", "svc", true),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", true),
    ("", "v1", "endpoints", "Endpoints", "ep", true),
    ("", "v1", "events", "Event", "ev", true),
    (
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        "pv",
        false,
    ),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        "pvc",
        true,
    ),
    ("", "v1", "limitranges", "LimitRange", "limits", true),
    ("", "v1", "resourcequotas", "ResourceQuota", "quota", true),
    ("apps", "v1", "deployments", "Deployment", "deploy", true),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", true),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", true),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", true),
    ("batch", "v1", "jobs", "Job", "", true),
    ("batch", "v1", "cronjobs", "CronJob", "cj", true),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", true),
    (
        "networking.k8s.io",
        "v1",
        "ingresses",
        "Ingress",
        "ing",
        true,
    ),
    (
        "networking.k8s.io",
        "v1",
        "ingressclasses",
        "IngressClass",
        "",
        false,
    ),
    (
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        "netpol",
        true,
    ),
    (
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "pdb",
        true,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        "ClusterRole",
        "",
        false,
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "",
        false,
    ),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "", true),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        "RoleBinding",
        "",
        true,
    ),
    (
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        "pc",
        false,
    ),
    (
        "storage.k8s.io",
        "v1",
        "storageclasses",
        "StorageClass",
        "sc",
        false,
    ),
    (
        "node.k8s.io",
        "v1",
        "runtimeclasses",
        "RuntimeClass",
        "",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        "",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        "",
        false,
    ),
    (
        "apiregistration.k8s.io",
        "v1",
        "apiservices",
        "APIService",
        "",
        false,
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "crd,crds",
        false,
    ),
    ("helm.cattle.io", "v1", "helmcharts", "HelmChart", "", true),
    (
        "helm.cattle.io",
        "v1",
        "helmchartconfigs",
        "HelmChartConfig",
        "",
        true,
    ),
    ("k3s.cattle.io", "v1", "addons", "Addon", "", true),
    (
        "k3s.cattle.io",
        "v1",
        "etcdsnapshotfiles",
        "ETCDSnapshotFile",
        "",
        false,
    ),
];

/// What every server knows before any definition is applied.
pub(crate) fn built_in() -> Vec<Kind> {
    BUILT_IN
        .iter()
        .map(|(group, version, plural, kind, short, namespaced)| Kind {
            group: (*group).into(),
            version: (*version).into(),
            plural: (*plural).into(),
            singular: kind.to_lowercase(),
            kind: (*kind).into(),
            short: short
                .split(',')
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect(),
            namespaced: *namespaced,
        })
        .collect()
}

/// The kinds that a `CustomResourceDefinition` declares.
pub(crate) fn defined(definition: &serde_json::Value) -> Vec<Kind> {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    spec["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|v| v["served"] == true)
        .map(|v| Kind {
            group: text(&spec["group"]),
            version: text(&v["name"]),
            plural: text(&names["plural"]),
            singular: names["singular"]
                .as_str()
                .map_or_else(|| text(&names["kind"]).to_lowercase(), str::to_owned),
            kind: text(&names["kind"]),
            short: names["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|s| s.as_str().map(str::to_owned))
                .collect(),
            namespaced: spec["scope"] == "Namespaced",
        })
        .collect()
}
