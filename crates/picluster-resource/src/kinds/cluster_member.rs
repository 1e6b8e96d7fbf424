//! `cluster_member`: whether a machine may be, or become, a member of the cluster. Changes nothing.

use picluster_model::NodeName;
use picluster_model::kubernetes::{Distribution, KubernetesRole};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kubeadm::release_of;
use crate::operation::Operation;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// What a machine remembers of a cluster, and whether it can be a node of one. It changes nothing: entries
/// that need it are left out where it finds a reason, on this node or, for the founding of a cluster,
/// on any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterMember {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// What it does in the cluster.
    pub role: KubernetesRole,
    /// The fixed registration address of the cluster, `HOST:PORT`. A server that has no datastore asks there before it
    /// founds a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
    /// The servers' datastore is outside of the cluster: of a server that has run, certificates alone remain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external_datastore: bool,
    /// Several servers share a datastore outside of the cluster and have no token in common: it is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_common_token: bool,
    /// `k3s` or `kubeadm`: where what is remembered stands.
    #[serde(default = "k3s", skip_serializing_if = "is_k3s")]
    pub distribution: Distribution,
    /// With `kubeadm`: the release that members are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

fn k3s() -> Distribution {
    Distribution::K3s
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_k3s(distribution: &Distribution) -> bool {
    *distribution == Distribution::K3s
}

/// What a node remembers of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// SHA-256 of the cluster's CA as a server keeps it.
    pub server_ca: Option<String>,
    /// There is a datastore of a server.
    pub datastore: bool,
    /// That datastore is SQLite, which no other server can share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sqlite: bool,
    /// Its etcd has been removed from its cluster, by that cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// SHA-256 of the cluster's CA as an agent keeps it.
    pub agent_ca: Option<String>,
    /// SHA-256 of the CA of a cluster that it had begun to join, as an agent or as a server, when that broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_ca: Option<String>,
    /// The server's unit is running, or about to.
    pub serving: bool,
    /// The server's unit has said that it is up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub up: bool,
    /// The name it joined under, by its kubelet's certificate.
    pub joined_as: Option<String>,
    /// The release of the program of a server that does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What answers at the registration address; asked only by a server without a datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
}

/// What a registration address said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Nobody is there, or nobody who serves a cluster.
    Silent,
    /// A cluster, by the SHA-256 of its CA.
    Cluster(String),
    /// Somebody takes connections, and the node has no program to ask who.
    Open,
}

/// Asks for files of k3s, below its data directory (pkg/daemons/control/deps, pkg/agent/config).
const PROBE: &str = include_str!("cluster_member/probe.sh");

/// Asks for files of kubeadm (cmd/kubeadm/app/constants).
const KUBEADM_PROBE: &str = include_str!("cluster_member/kubeadm.sh");

/// Least memory in MiB: with less a server is killed while it starts, by upstream's measurements on a
/// Pi 4 (<https://docs.k3s.io/reference/resource-profiling>); a Pi 3B+ has about 900.
const SERVER_MIB: u64 = 700;
const AGENT_MIB: u64 = 380;

/// kubeadm refuses less in its preflight (cmd/kubeadm/app/constants: `ControlPlaneMem`).
const CONTROL_PLANE_MIB: u64 = 1700;

/// The node's name in a kubelet's certificate: the common name `system:node:NAME`, in DER a text with its
/// length before it.
fn common_name(base64: &str) -> Option<String> {
    let der = decode(base64)?;
    let mark = b"system:node:";
    let at = der.windows(mark.len()).position(|w| w == mark)?;
    let length = usize::from(*der.get(at.checked_sub(1)?)?);
    let name = der.get(at + mark.len()..at + length)?;
    String::from_utf8(name.to_vec()).ok()
}

/// Base64 (RFC 4648) without line ends.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|b| *b != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).unwrap_or_default());
        }
    }
    Some(out)
}

impl ClusterMember {
    /// The question to the registration address, for a server that has one. The CA is what k3s gives to anybody
    /// (`/cacerts`, pkg/server/handlers).
    fn call(&self) -> Option<String> {
        let address = self.registration.as_ref()?;
        if self.role != KubernetesRole::Server {
            return None;
        }
        let (host, port) = address.rsplit_once(':')?;
        Some(format!(
            "# whether a cluster answers at {address}\nh={} p={}\n{}",
            quote(host),
            quote(port),
            match self.distribution {
                Distribution::K3s => include_str!("cluster_member/call.sh"),
                Distribution::Kubeadm => include_str!("cluster_member/call_kubeadm.sh"),
            }
        ))
    }

    fn heard(&self, answers: &Answers) -> Result<Option<Registration>, Diagnosis> {
        let Some(call) = self.call() else {
            return Ok(None);
        };
        let (_, text) = answers.fragment(&call)?;
        Ok(match text.trim().split_once(' ') {
            Some(("ca", digest)) => Some(Registration::Cluster(digest.to_owned())),
            _ => match text.trim() {
                "open" => Some(Registration::Open),
                "silent" => Some(Registration::Silent),
                _ => None,
            },
        })
    }

    /// A server whose datastore is elsewhere has run before when it has the cluster's CA.
    fn is_external(&self, has_ca: bool) -> bool {
        self.external_datastore && has_ca
    }

    fn probe(&self) -> &'static str {
        match self.distribution {
            Distribution::K3s => PROBE,
            Distribution::Kubeadm => KUBEADM_PROBE,
        }
    }

    /// The unit that makes a server serve.
    fn unit(&self) -> &'static str {
        match self.distribution {
            Distribution::K3s => "k3s.service",
            Distribution::Kubeadm => "kubelet.service",
        }
    }

    fn kubelet() -> Query {
        Query::Package {
            name: "kubelet".into(),
            version: None,
            candidates: false,
        }
    }

    /// The release of a member's kubelet by its package, which stands for it where its cluster does not say.
    fn packaged(&self, answers: &Answers) -> Result<Option<String>, Diagnosis> {
        if self.version.is_none() {
            return Ok(None);
        }
        let kubelet = answers.package(&Self::kubelet())?;
        Ok(kubelet.version.as_deref().map(release_of))
    }

    /// Why this machine can never be a node of a cluster of kubeadm.
    fn unfit_for_kubeadm(&self, ctx: Ctx<'_>) -> Option<Diagnosis> {
        let arch = &ctx.facts.arch;
        if arch.userland == "armhf" || arch.userland == "armel" {
            return Some(
                Diagnosis::new(
                    "its system is a 32-bit one, for which Kubernetes publishes no packages",
                )
                .cure("flash a 64-bit image, or take `kubernetes:` away from this node"),
            );
        }
        let have = ctx.facts.memory_mib;
        (self.role == KubernetesRole::Server && have > 0 && have < CONTROL_PLANE_MIB).then(|| {
            Diagnosis::new(format!(
                "it has {have} MiB of memory, and kubeadm refuses a control plane with less than {CONTROL_PLANE_MIB}"
            ))
            .cure("use a board with 2 GB or more for `kubernetes: server`; k3s is content with 1 GB")
        })
    }

    /// Why this machine can never be what is wanted, whatever it remembers.
    #[must_use]
    pub fn unfit(&self, ctx: Ctx<'_>) -> Option<Diagnosis> {
        if self.distribution == Distribution::Kubeadm {
            return self.unfit_for_kubeadm(ctx);
        }
        let arch = &ctx.facts.arch;
        if arch.kernel == "armv6l" {
            return Some(
                Diagnosis::new("k3s has no build for ARMv6 (Pi 1, Zero, Zero W)")
                    .cure("take `kubernetes:` away from this node, or use a Pi 2 or newer"),
            );
        }
        if arch.kernel == "aarch64" && arch.userland == "armhf" {
            return Some(
                Diagnosis::new("it has a 64-bit kernel and a 32-bit system, for which k3s has no build that fits both")
                    .cure("flash a 64-bit image, or set arm_64bit=0 in config.txt and reboot"),
            );
        }
        let (least, what) = match self.role {
            KubernetesRole::Server => (SERVER_MIB, "server"),
            KubernetesRole::Agent => (AGENT_MIB, "agent"),
        };
        let have = ctx.facts.memory_mib;
        (have > 0 && have < least).then(|| {
            Diagnosis::new(format!(
                "it has {have} MiB of memory, and a k3s {what} needs at least {least}"
            ))
            .cure("use a board with more memory, or take `kubernetes:` away from this node")
        })
    }
}

impl Kind for ClusterMember {
    const NAME: &'static str = "cluster_member";
    type Observation = Memory;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let good = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        let mut wrong = Vec::new();
        if let Some(address) = self.registration.as_ref().filter(|a| !good(a)) {
            wrong.push(format!("registration {address:?} is not HOST:PORT"));
        }
        if self.no_common_token {
            wrong.push(
                "several servers on a datastore outside of the cluster need one token: write `token: { secret: NAME }` under `kubernetes`"
                    .into(),
            );
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![
            Query::Fragment(self.probe().to_owned()),
            Query::Unit(self.unit().into()),
        ];
        if self.version.is_some() {
            queries.push(Self::kubelet());
        }
        queries.extend(self.call().map(Query::Fragment));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<Memory>, Diagnosis> {
        if let Some(unfit) = self.unfit(ctx) {
            return Err(unfit);
        }
        let (_, text) = answers.fragment(self.probe())?;
        let find = |key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        if let Some(other) = find("other") {
            return Err(Diagnosis::new(format!(
                "it is a node of a cluster of {other}, and the inventory wants {}: nothing is taken over from the one to the other",
                self.distribution
            ))
            .cure(format!(
                "set kubernetes.distribution back to {other}; to start anew, after a backup of what the cluster holds: picluster reset with that inventory, then apply this one"
            )));
        }
        let unit = answers.unit(self.unit())?;
        let mut memory = Memory {
            server_ca: find("server-ca"),
            datastore: find("datastore").is_some() || self.is_external(find("server-ca").is_some()),
            sqlite: find("datastore").as_deref() == Some("sqlite")
                && !text.lines().any(|l| l == "datastore etcd"),
            removed: find("removed").is_some(),
            agent_ca: find("agent-ca"),
            begun_ca: find("begun-ca"),
            serving: matches!(unit.active.as_str(), "active" | "activating" | "reloading"),
            up: unit.active == "active",
            joined_as: find("kubelet").and_then(|c| common_name(&c)),
            version: find("version"),
            registration: self.heard(answers)?,
        };
        if memory.datastore {
            memory.version = memory.version.or(self.packaged(answers)?);
        }
        match &memory.joined_as {
            Some(other) if *other != self.name.as_str() => Err(Diagnosis::new(format!(
                "it is node {other} of the cluster; under the name {} it would be another one",
                self.name
            ))
            .cure(format!(
                "keep the name {other} in the inventory; to rename it, take it out of the cluster first: on a server kubectl delete node {other}, on it {}",
                match self.distribution {
                    Distribution::K3s => "stop k3s and delete /var/lib/rancher/k3s and /etc/rancher/node",
                    Distribution::Kubeadm => "kubeadm reset -f",
                }
            ))),
            _ => Ok(Seen::Now(memory)),
        }
    }

    fn diff(&self, _seen: &Memory, _ctx: Ctx<'_>) -> Diff {
        Diff::NoOp
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Run).field("member", Shown::Later, Shown::Later)
    }

    fn operation(
        &self,
        _seen: &Memory,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        Err(Diagnosis::new("there is nothing to do for it"))
    }

    fn requires(&self) -> Vec<Token> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_read_out_of_a_certificate() {
        // UTF8String (0x0c) of 17 bytes, and the key's SEQUENCE behind it.
        let der = b"\x06\x03\x55\x04\x03\x0c\x11system:node:rpi010Y0";
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in der.chunks(3) {
            let mut n = 0_u32;
            for i in 0..3 {
                n = (n << 8) | u32::from(chunk.get(i).copied().unwrap_or(0));
            }
            for i in (0..4).rev().take(chunk.len() + 1) {
                text.push(char::from(alphabet[(n >> (6 * i)) as usize & 63]));
            }
        }
        assert_eq!(common_name(&text).as_deref(), Some("rpi01"));
        assert_eq!(common_name("!"), None);
    }
}
