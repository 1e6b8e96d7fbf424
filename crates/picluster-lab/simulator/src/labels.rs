//! Which labels belong to Kubernetes, and which of those a kubelet may set.

/// Labels of the `kubernetes.io` and `k8s.io` namespaces that a kubelet may set
/// (kubernetes/staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go).
pub(crate) fn is_kubelet_label(key: &str) -> bool {
    const SET: &[&str] = &KUBELET_LABELS;
    let namespace = key.split_once('/').map_or("", |(n, _)| n);
    let within = |root: &str| namespace == root || namespace.ends_with(&format!(".{root}"));
    SET.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// The set that the kubelet's refusal lists.
pub(crate) const KUBELET_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Whether a label is in a namespace that belongs to Kubernetes.
pub(crate) fn is_kubernetes_label(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(n, _)| n);
    ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|root| namespace == *root || namespace.ends_with(&format!(".{root}")))
}
