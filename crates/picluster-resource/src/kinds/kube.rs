//! What the kinds that speak with a cluster's API have in common: how a node asks, and what it is told.

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::{quote, words};

/// Where kubectl keeps what it finds out about the API: not on the disk.
pub(crate) const CACHE: &str = "/run/picluster/kubectl";

/// How long what a cluster does is waited for where nothing else is said, in seconds.
pub(crate) fn five_minutes() -> u32 {
    300
}

/// The cluster's side of a node, in the words of the Kubernetes API (core/v1 Node).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KubeNode {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub taints: Vec<KubeTaint>,
    /// It is cordoned.
    pub unschedulable: bool,
    /// `status` of the condition `Ready`: `True`, `False`, `Unknown`; empty before the first report.
    pub ready: String,
    /// `status` of the condition `EtcdIsVoter`, which k3s sets on servers of embedded etcd; empty without one.
    pub voter: String,
    pub version: String,
    pub machine_id: String,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct KubeTaint {
    pub key: String,
    #[serde(default)]
    pub value: String,
    pub effect: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// There are no credentials on the node yet.
    NoCredentials,
    /// There is no kubectl on the node yet.
    NoKubectl,
    /// Nobody answered, or not with what was asked for.
    NoAnswer,
    /// The node that was asked for does not exist.
    NotFound,
    /// The nodes.
    Nodes(Vec<KubeNode>),
}

pub(crate) const NO_CREDENTIALS: u32 = 90;
pub(crate) const NO_KUBECTL: u32 = 91;
pub(crate) const FAILED: u32 = 92;
const NOT_FOUND: u32 = 93;

/// What is wrong with a list of programs that has none.
pub(crate) fn no_program(kubectl: &[NodePath]) -> Option<String> {
    kubectl
        .is_empty()
        .then(|| "kubectl names no program".to_owned())
}

/// The shell function `kc`: kubectl with these credentials, writing nothing but to /run. The first of
/// the programs that is there is taken.
pub(crate) fn function(kubeconfig: &NodePath, kubectl: &[NodePath]) -> String {
    format!(
        "cfg={}\nfor k in {}; do [ -x \"$k\" ] && break; done\nkc() {{ mkdir -p /run/picluster; timeout 20 \"$k\" --kubeconfig \"$cfg\" --cache-dir {CACHE} --request-timeout 10s \"$@\" 2>/run/picluster/kubectl.err; }}\n",
        quote(kubeconfig.as_str()),
        words(kubectl.iter().map(NodePath::as_str)),
    )
}

/// The namespace that no cluster is without, and that cannot be deleted (`NamespaceLifecycle`, plugin/pkg/admission in
/// kubernetes): what is kept of the cluster as a whole stands in its annotations.
pub(crate) const HOME: &str = "kube-system";

/// The question for some nodes, or for all; with the latter come the namespaces.
pub(crate) fn question(
    kubeconfig: &NodePath,
    kubectl: &[NodePath],
    nodes: Option<&[&str]>,
) -> String {
    let (title, what) = match nodes {
        Some([node]) => (
            format!("node {node} of the cluster"),
            format!("get node {}", quote(node)),
        ),
        // kubectl asks for each name by itself, at most five a second (client-go, rest.DefaultQPS): the whole list is one request.
        Some(nodes) if nodes.len() > 4 => (
            format!("{} nodes of the cluster", nodes.len()),
            "get nodes".to_owned(),
        ),
        Some(nodes) => (
            format!("{} nodes of the cluster", nodes.len()),
            format!("get node {}", words(nodes)),
        ),
        // What is kept of the cluster as a whole stands on a namespace: it comes with the same answer.
        None => (
            "nodes of the cluster".to_owned(),
            "get nodes,namespaces".to_owned(),
        ),
    };
    format!(
        "# {title}\n{}[ -s \"$cfg\" ] || exit {NO_CREDENTIALS}\n[ -x \"$k\" ] || exit {NO_KUBECTL}\nkc {what} -o json && exit 0\n! grep -q '(NotFound)' /run/picluster/kubectl.err || exit {NOT_FOUND}\n{LEADER}\nexit {FAILED}",
        function(kubeconfig, kubectl),
    )
}

/// What etcd as kubeadm runs it says of itself to whoever asks on its machine, when the API does not answer
/// (cmd/kubeadm/app/phases/etcd/local.go: listen-metrics-urls; etcd, server/etcdserver/metrics.go).
const LEADER: &str = "[ ! -e /etc/kubernetes/manifests/etcd.yaml ] || timeout 10 \"$k\" --kubeconfig /dev/null --cache-dir /run/picluster/kubectl --server http://127.0.0.1:2381 --token none --request-timeout 8s get --raw /metrics 2>/dev/null </dev/null | grep '^etcd_server_has_leader ' || :";

/// Whether the answer to [`question`] was that none comes because etcd runs there and has no leader.
pub(crate) fn is_leaderless(status: u32, stdout: &str) -> bool {
    status == FAILED && stdout.trim() == "etcd_server_has_leader 0"
}

/// The nodes of an answer to [`question`], each as its own JSON. kubectl prints those it has found also where others were not
/// there.
pub(crate) fn each(stdout: &str) -> BTreeMap<String, String> {
    let mut nodes = BTreeMap::new();
    let Ok(mut found) = serde_json::from_str::<serde_json::Value>(stdout) else {
        return nodes;
    };
    let items = match found.get_mut("items").map(serde_json::Value::take) {
        Some(serde_json::Value::Array(items)) => items,
        _ => vec![found],
    };
    for item in items {
        if item["kind"] == "Node"
            && let Some(name) = item["metadata"]["name"].as_str()
        {
            nodes.insert(name.to_owned(), item.to_string());
        }
    }
    nodes
}

/// The status of the answer about one of several nodes: `asked` is that of the question for them.
pub(crate) fn status_of(asked: Option<u32>, found: bool) -> u32 {
    match asked {
        Some(0 | NOT_FOUND) if found => 0,
        Some(0) => NOT_FOUND,
        Some(status) => status,
        None => FAILED,
    }
}

/// Whether a cluster was asked and did not answer. One with much to do, a hundred nodes that join it at once, is slow for minutes
/// and not gone.
#[must_use]
pub fn is_silent(queries: &[Query], answers: &Answers) -> bool {
    let failed = format!("\nexit {FAILED}");
    queries.iter().any(|query| match query {
        Query::Fragment(text) if text.ends_with(&failed) => {
            matches!(answers.fragment(text), Ok((FAILED, _)))
        }
        Query::ClusterNode { .. } => matches!(answers.cluster_node(query), Ok((FAILED, _))),
        _ => false,
    })
}

#[derive(Deserialize)]
struct ListOrNode {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<RawNode>,
    #[serde(flatten)]
    node: RawNode,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNode {
    #[serde(rename = "kind")]
    item: String,
    metadata: RawMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMeta {
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    taints: Vec<KubeTaint>,
    unschedulable: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    conditions: Vec<RawCondition>,
    node_info: RawInfo,
}

#[derive(Deserialize)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawInfo {
    #[serde(rename = "machineID")]
    machine_id: String,
    kubelet_version: String,
}

impl From<RawNode> for KubeNode {
    fn from(raw: RawNode) -> Self {
        let condition = |kind: &str| {
            let found = raw.status.conditions.iter().find(|c| c.kind == kind);
            found.map(|c| c.status.clone()).unwrap_or_default()
        };
        Self {
            ready: condition("Ready"),
            voter: condition("EtcdIsVoter"),
            name: raw.metadata.name,
            labels: raw.metadata.labels,
            annotations: raw.metadata.annotations,
            taints: raw.spec.taints,
            unschedulable: raw.spec.unschedulable,
            version: raw.status.node_info.kubelet_version,
            machine_id: raw.status.node_info.machine_id,
        }
    }
}

/// Reads the answer to [`question`].
pub(crate) fn answer(status: u32, stdout: &str) -> Asked {
    match status {
        NO_CREDENTIALS => return Asked::NoCredentials,
        NO_KUBECTL => return Asked::NoKubectl,
        NOT_FOUND => return Asked::NotFound,
        0 => {}
        _ => return Asked::NoAnswer,
    }
    match serde_json::from_str::<ListOrNode>(stdout) {
        Ok(found) if found.kind == "Node" => Asked::Nodes(vec![found.node.into()]),
        Ok(found) => {
            let nodes = found.items.into_iter().filter(|i| i.item != NAMESPACE);
            Asked::Nodes(nodes.map(Into::into).collect())
        }
        Err(_) => Asked::NoAnswer,
    }
}

const NAMESPACE: &str = "Namespace";

/// The annotations of the cluster's namespace, out of the answer to [`question`] for all nodes.
pub(crate) fn notes(stdout: &str) -> BTreeMap<String, String> {
    let found: Option<ListOrNode> = serde_json::from_str(stdout).ok();
    let items = found.into_iter().flat_map(|found| found.items);
    let home = |i: &RawNode| i.item == NAMESPACE && i.metadata.name == HOME;
    let mut homes = items.filter(home);
    homes
        .next()
        .map(|i| i.metadata.annotations)
        .unwrap_or_default()
}
