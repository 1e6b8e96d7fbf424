//! The cluster that runs on the nodes, as the inventory says it.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::span::Span;
use crate::yaml::Yaml;

/// The `kubernetes` section of the inventory.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubernetes {
    /// Which distribution is installed.
    pub distribution: Distribution,
    /// Its version, as its release is tagged.
    pub version: KubernetesVersion,
    /// The fixed registration address (name or IP, without scheme, perhaps with a port).
    pub endpoint: Option<String>,
    /// Packaged components that are switched off (k3s: `traefik`, `servicelb`, …).
    pub disable: Vec<String>,
    /// Further names and addresses in the API server's certificate.
    pub tls_san: Vec<String>,
    /// Pod networks (one, or one of each family).
    pub cluster_cidr: Vec<Cidr>,
    /// Service networks (one, or one of each family).
    pub service_cidr: Vec<Cidr>,
    /// The token of servers; made on the first server when absent.
    pub token: Option<SecretRef>,
    /// The stable token of agents; made on the first server when absent.
    pub agent_token: Option<SecretRef>,
    /// Any other configuration keys of the distribution, passed through.
    pub config: IndexMap<String, Yaml>,
    /// The place of the section.
    pub span: Span,
}

/// A Kubernetes distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// k3s, <https://docs.k3s.io/>.
    K3s,
    /// Upstream Kubernetes by kubeadm, <https://kubernetes.io/docs/reference/setup-tools/kubeadm/>.
    Kubeadm,
}

impl Distribution {
    /// The name as written in the inventory.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Kubeadm => "kubeadm",
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node does in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesRole {
    /// Runs the control plane (k3s server, kubeadm control-plane node).
    Server,
    /// Runs workloads only (k3s agent, kubeadm worker).
    Agent,
}

impl KubernetesRole {
    /// The name as written in the inventory.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for KubernetesRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A release, for instance `v1.36.3+k3s1`. Ordered by its numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubernetesVersion {
    /// 1 in all releases so far.
    pub major: u32,
    /// The minor release, which upgrades must not skip.
    pub minor: u32,
    /// The patch release.
    pub patch: u32,
    /// `rc1` and the like; a release candidate stands before its release.
    pub pre: Pre,
    /// The packaging number: 1 in `+k3s1`; `None` for upstream releases.
    pub k3s: Option<u32>,
}

/// Release candidates stand before the release itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pre {
    /// `-rc1`.
    Candidate(u32),
    /// No suffix.
    Release,
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)?;
        match (&self.pre, self.k3s) {
            (Pre::Candidate(n), Some(_)) => write!(f, "-rc{n}")?,
            (Pre::Candidate(n), None) => write!(f, "-rc.{n}")?,
            (Pre::Release, _) => {}
        }
        match self.k3s {
            Some(n) => write!(f, "+k3s{n}"),
            None => Ok(()),
        }
    }
}

/// A network: address and prefix length, with all host bits zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    /// The network address.
    pub address: std::net::IpAddr,
    /// The prefix length in bits.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
