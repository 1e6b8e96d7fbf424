//! The inventory, checked: every name resolves, every value has its type and its place.

use std::collections::BTreeSet;
use std::path::PathBuf;

use indexmap::IndexMap;

use crate::kubernetes::{Kubernetes, KubernetesRole};
use crate::name::{ClusterName, GroupName, NodeName, RoleName, VarName};
use crate::role::Role;
use crate::secret::SecretRef;
use crate::span::Span;
use crate::ssh::{SshSettings, SudoPassword};
use crate::taint::Taint;
use crate::vars::Var;
use crate::yaml::Yaml;

/// Everything the documents say: the inventory and the roles it uses.
#[derive(Debug, Clone)]
pub struct Project {
    /// The inventory.
    pub inventory: Inventory,
    /// Every role some node uses, in the order of first use.
    pub roles: IndexMap<RoleName, Role>,
}

impl Project {
    /// Every secret the documents mention, used or not: what a run may have to resolve.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<SecretRef> {
        let mut found = BTreeSet::new();
        for node in self.inventory.nodes.values() {
            if let SudoPassword::Secret(reference) = &node.ssh.sudo {
                found.insert(reference.clone());
            }
            let params = node.roles.iter().flat_map(|role| role.params.values());
            for var in node.vars.values().chain(params) {
                collect(&var.value, &mut found);
            }
        }
        if let Some(kubernetes) = &self.inventory.kubernetes {
            found.extend(kubernetes.token.clone());
            found.extend(kubernetes.agent_token.clone());
            let configs = kubernetes
                .config
                .values()
                .chain(kubernetes.agent_config.values());
            for value in configs.chain(&kubernetes.registries) {
                collect(value, &mut found);
            }
        }
        for role in self.roles.values() {
            for entry in &role.entries {
                // The fields of a body are no references themselves.
                for (_, _, value) in entry.body.entries() {
                    collect(value, &mut found);
                }
                if let Some(each) = &entry.each {
                    collect(each, &mut found);
                }
            }
        }
        found
    }
}

fn collect(value: &Yaml, found: &mut BTreeSet<SecretRef>) {
    if let Some(reference) = crate::schema::secret_reference(value) {
        found.insert(reference);
        return;
    }
    for item in value.items() {
        collect(item, found);
    }
    for (_, _, item) in value.entries() {
        collect(item, found);
    }
}

/// A cluster of nodes.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The file it was read from.
    pub path: PathBuf,
    /// The name of the cluster.
    pub cluster: ClusterName,
    /// The Kubernetes that runs on it; `None` when the nodes are only prepared.
    pub kubernetes: Option<Kubernetes>,
    /// The nodes in the order of the file, ranges expanded.
    pub nodes: IndexMap<NodeName, Node>,
    /// The groups in the order of the file, each with its nodes.
    pub groups: IndexMap<GroupName, Vec<NodeName>>,
}

/// One machine, with everything that cluster, groups and ranges say about it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Inventory key, host name and Kubernetes node name in one.
    pub name: NodeName,
    /// Where to dial: an IP address or a DNS name.
    pub address: String,
    /// How to dial.
    pub ssh: SshSettings,
    /// Whether it is expected to be there.
    pub expected: Expected,
    /// What it does in the cluster; `None` when it is only prepared.
    pub kubernetes: Option<KubernetesRole>,
    /// Its groups in the order written on the node.
    pub groups: Vec<GroupName>,
    /// Labels of its groups and its own.
    pub labels: IndexMap<String, String>,
    /// Taints of its groups and its own.
    pub taints: Vec<Taint>,
    /// Its variables, each with its provenance.
    pub vars: IndexMap<VarName, Var>,
    /// Where everything else comes from that the inventory says of it, by name: `address`,
    /// `ssh.user`, `labels.KEY`, `taints.KEY:EFFECT`.
    pub given: IndexMap<String, Var>,
    /// Its roles: those of the cluster, then of its groups, then its own; each once.
    pub roles: Vec<RoleUse>,
    /// The place of its key.
    pub span: Span,
}

impl Inventory {
    /// The declared servers: members of the control plane, whether they are there or not.
    pub fn servers(&self) -> impl Iterator<Item = NodeName> {
        self.nodes
            .values()
            .filter(|node| node.kubernetes == Some(KubernetesRole::Server))
            .map(|node| node.name.clone())
    }
}

/// Whether a node is expected to be there.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It is switched on; when it cannot be reached the run says so.
    #[default]
    Present,
    /// It is known to be off: not dialled, and counted as unreachable where quorum matters.
    Absent,
}

/// A role on a node, with all its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleUse {
    /// The role.
    pub role: RoleName,
    /// Every parameter that has a value, defaults included, in the order of `role.yaml`.
    pub params: IndexMap<VarName, Var>,
    /// Where the role is named (the nearest to the node when several places name it).
    pub span: Span,
}
