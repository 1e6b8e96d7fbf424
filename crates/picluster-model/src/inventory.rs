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
    /// Packages that nodes install from; `None`: from their repositories.
    pub packages: Option<Packages>,
    /// The nodes in the order of the file, ranges expanded.
    pub nodes: IndexMap<NodeName, Node>,
    /// Nodes that are no longer in the file and still in the cluster, once they are to be met: they have no roles and are in
    /// no template.
    pub leaving: IndexMap<NodeName, Node>,
    /// The groups in the order of the file, each with its nodes.
    pub groups: IndexMap<GroupName, Vec<NodeName>>,
}

/// Packages that nodes may install from a folder of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The files, by name.
    pub files: Vec<Deb>,
    /// Whether apt looks nowhere else.
    pub only: bool,
    /// The place of the folder's name.
    pub span: Span,
}

/// A package's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// Its name.
    pub name: String,
    /// The file on the controller, joined to the folder of the inventory.
    pub path: PathBuf,
    /// What its name says it is for: an architecture of dpkg, or `all`.
    pub arch: String,
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
    /// Every node that can be met: those of the file and those that leave.
    pub fn met(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().chain(self.leaving.values())
    }

    /// One of them, by its name.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name).or_else(|| self.leaving.get(name))
    }

    /// Lets a node that left the file be met at the place where it was logged in to, `[USER@]HOST[:PORT]`. Everything else
    /// about the way to it is as for `like`. Returns whether the place could be read.
    pub fn remember(&mut self, name: &NodeName, login: &str, like: &NodeName) -> bool {
        let (Some(like), Some((user, address, port))) = (self.nodes.get(like), parse_login(login))
        else {
            return false;
        };
        let mut node = like.clone();
        node.name = name.clone();
        node.address = address;
        node.ssh.user = user.or(node.ssh.user);
        node.ssh.port = port;
        node.ssh.host_key = None;
        node.kubernetes = None;
        node.expected = Expected::Present;
        (node.groups, node.labels, node.taints) = Default::default();
        (node.vars, node.given, node.roles) = Default::default();
        self.leaving.insert(name.clone(), node);
        true
    }

    /// The declared servers: members of the control plane, whether they are there or not.
    pub fn servers(&self) -> impl Iterator<Item = NodeName> {
        self.nodes
            .values()
            .filter(|node| node.kubernetes == Some(KubernetesRole::Server))
            .map(|node| node.name.clone())
    }

    /// The declared agents, whether they are there or not.
    pub fn agents(&self) -> impl Iterator<Item = NodeName> {
        self.nodes
            .values()
            .filter(|node| node.kubernetes == Some(KubernetesRole::Agent))
            .map(|node| node.name.clone())
    }
}

impl Node {
    /// Where it is logged in to: `[USER@]HOST[:PORT]`, an IPv6 address with a port in brackets.
    #[must_use]
    pub fn login(&self) -> String {
        let user = self
            .ssh
            .user
            .as_ref()
            .map_or(String::new(), |u| format!("{u}@"));
        match self.ssh.port {
            Some(port) if self.address.contains(':') => format!("{user}[{}]:{port}", self.address),
            Some(port) => format!("{user}{}:{port}", self.address),
            None => format!("{user}{}", self.address),
        }
    }
}

/// The parts of `[USER@]HOST[:PORT]`.
fn parse_login(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, text),
    };
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        (host, Some(port.parse().ok()?))
    } else if place.matches(':').count() == 1 {
        let (host, port) = place.split_once(':')?;
        (host, Some(port.parse().ok()?))
    } else {
        (place, None)
    };
    (!host.is_empty() && user.as_deref() != Some("")).then(|| (user, host.to_owned(), port))
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

#[cfg(test)]
mod tests {
    use super::parse_login;

    #[test]
    fn a_login_is_read_in_its_parts() {
        for (text, user, host, port) in [
            ("192.168.2.4", None, "192.168.2.4", None),
            ("pi@192.168.2.4", Some("pi"), "192.168.2.4", None),
            ("pi@rpi04.lan:2222", Some("pi"), "rpi04.lan", Some(2222)),
            ("fe80::1%eth0", None, "fe80::1%eth0", None),
            ("pi@[fd00::4]:22", Some("pi"), "fd00::4", Some(22)),
        ] {
            let wanted = Some((user.map(str::to_owned), host.to_owned(), port));
            assert_eq!(parse_login(text), wanted, "{text}");
        }
        for text in ["", "pi@", "@host", "host:port", "[fd00::4]", "host:99999"] {
            assert_eq!(parse_login(text), None, "{text}");
        }
    }
}
