//! The cluster that runs on the nodes, as the inventory says it.

use std::fmt;
use std::path::PathBuf;

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
    /// Where the packages of kubeadm, kubelet and kubectl come from; kubeadm only.
    pub repository: Option<Repository>,
    /// Pod networks (one, or one of each family).
    pub cluster_cidr: Vec<Cidr>,
    /// Service networks (one, or one of each family).
    pub service_cidr: Vec<Cidr>,
    /// The first server is reached at an address of IPv6.
    pub by_ipv6: bool,
    /// The token of servers; made on the first server when absent.
    pub token: Option<SecretRef>,
    /// The stable token of agents; made on the first server when absent.
    pub agent_token: Option<SecretRef>,
    /// The binary to install; the release's own when absent.
    pub artifact: Option<ByArch<Source>>,
    /// The SHA-256 checksum of the binary, 64 hexadecimal digits; the release's own when absent.
    pub checksum: Option<ByArch<String>>,
    /// Images that nodes have before they start; they pull them when absent.
    pub images: Option<ByArch<Images>>,
    /// Any other configuration keys of servers, passed through. They may hold templates and
    /// references to secrets.
    pub config: IndexMap<String, Yaml>,
    /// The same for agents.
    pub agent_config: IndexMap<String, Yaml>,
    /// What `registries.yaml` says on every node (`mirrors`, `configs`), with references to
    /// secrets in it.
    pub registries: Option<Yaml>,
    /// The administrator's credentials.
    pub kubeconfig: Kubeconfig,
    /// Manifests the cluster deploys by itself, in the order written.
    pub manifests: Vec<Manifest>,
    /// The section as written.
    pub written: Yaml,
    /// The place of the section.
    pub span: Span,
}

/// An apt repository of one minor release, and the key its lists are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its address; a flat repository.
    pub url: String,
    /// The key, a file of the controller. `~/` is not expanded here; other relative paths are already joined to the folder
    /// of the inventory.
    pub key: PathBuf,
}

impl Repository {
    /// Where Kubernetes publishes the packages of a minor release
    /// (<https://kubernetes.io/blog/2023/08/15/pkgs-k8s-io-introduction/>).
    #[must_use]
    pub fn published(version: &KubernetesVersion) -> String {
        format!(
            "https://pkgs.k8s.io/core:/stable:/v{}.{}/deb/",
            version.major, version.minor
        )
    }
}

/// One value for every architecture, or one for each.
#[derive(Debug, Clone, PartialEq)]
pub enum ByArch<T> {
    /// For all.
    All(T),
    /// For those named, and no other.
    Each(IndexMap<Arch, T>),
}

impl<T> ByArch<T> {
    /// The value for an architecture; `None` when others are named and it is not.
    #[must_use]
    pub fn get(&self, arch: Arch) -> Option<&T> {
        match self {
            Self::All(value) => Some(value),
            Self::Each(values) => values.get(&arch),
        }
    }
}

/// An architecture of the userland, as `dpkg --print-architecture` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM with hardware floating point.
    Armhf,
}

impl Arch {
    /// All that distributions are built for.
    pub const ALL: [Self; 3] = [Self::Amd64, Self::Arm64, Self::Armhf];

    /// The architecture of this name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.as_str() == text)
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        }
    }
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of the controller. `~/` is not expanded here; other relative paths are already
    /// joined to the folder of the inventory.
    Path(PathBuf),
    /// An address to download it from, once, by the controller.
    Url(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => f.pad(url),
        }
    }
}

/// Where a bundle of images comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// The release of k3s has one.
    Release,
    /// A file of the controller, as [`Source::Path`].
    Path(PathBuf),
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release => f.pad("release"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The administrator's credentials: on servers, and on the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The mode of the file on servers, octal with a leading zero.
    pub mode: String,
    /// Whether they are merged into the kubeconfig of whoever runs picluster.
    pub merge: bool,
    /// The name of the context there.
    pub context: String,
    /// The file to merge them into; `None` is the user's own. `~/` is not expanded here; other
    /// relative paths are already joined to the folder of the inventory.
    pub path: Option<PathBuf>,
}

/// A manifest the cluster deploys by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name; the file on servers is `NAME.yaml`.
    pub name: String,
    /// Where its text comes from.
    pub source: ManifestSource,
    /// The SHA-256 checksum of the text, 64 hexadecimal digits; always there for a download.
    pub checksum: Option<String>,
    /// Whether an apply waits until its workloads are ready.
    pub wait: bool,
    /// The place of its name.
    pub span: Span,
}

/// Where the text of a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSource {
    /// A file of the controller, or an address.
    From(Source),
    /// It stands in the inventory.
    Text(String),
}

impl Kubernetes {
    /// The networks of pods: those written, or what the distribution takes by itself.
    #[must_use]
    pub fn pod_networks(&self) -> Vec<Cidr> {
        self.networks(&self.cluster_cidr, "10.42.0.0/16", "")
    }

    /// The networks of services: those written, or what the distribution takes by itself.
    #[must_use]
    pub fn service_networks(&self) -> Vec<Cidr> {
        let kubeadm = if self.by_ipv6 {
            "fd00:10:96::/112"
        } else {
            "10.96.0.0/12"
        };
        self.networks(&self.service_cidr, "10.43.0.0/16", kubeadm)
    }

    /// Defaults of k3s: <https://docs.k3s.io/cli/server#networking>; of kubeadm:
    /// <https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/>, which leaves pods to who brings their network, and
    /// has none for IPv6, so that one is chosen here.
    fn networks(&self, written: &[Cidr], k3s: &str, kubeadm: &str) -> Vec<Cidr> {
        if !written.is_empty() {
            return written.to_vec();
        }
        let by_itself = match self.distribution {
            Distribution::K3s => k3s,
            Distribution::Kubeadm => kubeadm,
        };
        Cidr::parse(by_itself).into_iter().collect()
    }
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

/// What it means for a control plane to go from one release to another
/// (<https://kubernetes.io/releases/version-skew-policy/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It is that release.
    None,
    /// A newer one of the same minor, or of the next.
    Allowed,
    /// A newer one, with minors between that must not be skipped; the first of them.
    Skips {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// An older one: what a newer release has written to the datastore an older one may not understand.
    Downgrade,
}

impl KubernetesVersion {
    /// Reads the tag of a release of any distribution.
    #[must_use]
    pub fn of_any(text: &str) -> Option<Self> {
        [Distribution::K3s, Distribution::Kubeadm]
            .into_iter()
            .find_map(|distribution| Self::parse(text, distribution).ok())
    }

    /// What it means to go from this release to another.
    #[must_use]
    pub fn upgrade_to(&self, other: &Self) -> Upgrade {
        match self.cmp(other) {
            std::cmp::Ordering::Equal => Upgrade::None,
            std::cmp::Ordering::Greater => Upgrade::Downgrade,
            std::cmp::Ordering::Less
                if other.major == self.major && other.minor <= self.minor.saturating_add(1) =>
            {
                Upgrade::Allowed
            }
            std::cmp::Ordering::Less => Upgrade::Skips {
                major: self.major,
                minor: self.minor.saturating_add(1),
            },
        }
    }

    /// Reads the tag of a release of `distribution`.
    ///
    /// # Errors
    /// What is wrong, and the form that is wanted.
    pub fn parse(text: &str, distribution: Distribution) -> Result<Self, String> {
        let form = match distribution {
            Distribution::K3s => "v1.36.3+k3s1 (https://github.com/k3s-io/k3s/releases)",
            Distribution::Kubeadm => "v1.36.3 (https://kubernetes.io/releases/)",
        };
        let wanted = || format!("write the full tag of a release, such as {form}");
        let Some(rest) = text.strip_prefix('v') else {
            return Err(if text.starts_with(|c: char| c.is_ascii_digit()) {
                format!("a release begins with `v`: v{text}")
            } else {
                wanted()
            });
        };
        let (version, k3s) = match rest.split_once('+') {
            Some((version, build)) => {
                let number = build
                    .strip_prefix("k3s")
                    .and_then(number)
                    .ok_or_else(wanted)?;
                (version, Some(number))
            }
            None => (rest, None),
        };
        let (numbers, pre) = match version.split_once('-') {
            Some((numbers, pre)) => {
                let candidate = pre
                    .strip_prefix("rc.")
                    .or_else(|| pre.strip_prefix("rc"))
                    .and_then(number)
                    .ok_or_else(wanted)?;
                (numbers, Pre::Candidate(candidate))
            }
            None => (version, Pre::Release),
        };
        let parts: Vec<u32> = numbers
            .split('.')
            .map(|part| number(part).ok_or_else(wanted))
            .collect::<Result<_, _>>()?;
        let [major, minor, patch] = parts[..] else {
            return Err(wanted());
        };
        match (distribution, k3s) {
            (Distribution::K3s, None) => {
                return Err(format!("a release of k3s has a suffix: {text}+k3s1"));
            }
            (Distribution::Kubeadm, Some(_)) => {
                return Err(format!(
                    "this is a release of k3s; for kubeadm {}",
                    wanted()
                ));
            }
            _ => {}
        }
        Ok(Self {
            major,
            minor,
            patch,
            pre,
            k3s,
        })
    }
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl Cidr {
    /// Reads `ADDRESS/PREFIX`.
    ///
    /// # Errors
    /// What is wrong: the address, the prefix length, or bits set behind it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((address, prefix)) = text.split_once('/') else {
            return Err(String::from("the prefix length is missing: 10.42.0.0/16"));
        };
        let address: std::net::IpAddr = address
            .parse()
            .map_err(|_| format!("`{address}` is not an IP address"))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = number(prefix)
            .and_then(|n| u8::try_from(n).ok())
            .filter(|n| *n <= bits)
            .ok_or_else(|| format!("`/{prefix}` is not a prefix length of 0 to {bits}"))?;
        let network = Self { address, prefix }.network();
        if network != address {
            return Err(format!(
                "{address} has bits behind /{prefix}; the network is {network}/{prefix}"
            ));
        }
        Ok(Self { address, prefix })
    }

    /// The address with everything behind the prefix set to zero.
    fn network(&self) -> std::net::IpAddr {
        match self.address {
            std::net::IpAddr::V4(v4) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.prefix))
                    .unwrap_or(0);
                std::net::IpAddr::from((u32::from(v4) & mask).to_be_bytes())
            }
            std::net::IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.prefix))
                    .unwrap_or(0);
                std::net::IpAddr::from((u128::from(v6) & mask).to_be_bytes())
            }
        }
    }

    /// Whether `address` lies in this network.
    #[must_use]
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self {
                address,
                prefix: self.prefix,
            }
            .network()
                == self.address
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_ordered() {
        let read = |text| KubernetesVersion::parse(text, Distribution::K3s).unwrap();
        assert_eq!(read("v1.36.3+k3s1").to_string(), "v1.36.3+k3s1");
        assert!(read("v1.36.3-rc1+k3s1") < read("v1.36.3+k3s1"));
        assert!(read("v1.9.0+k3s1") < read("v1.10.0+k3s1"));
        assert!(read("v1.36.3+k3s1") < read("v1.36.3+k3s2"));
        for text in [
            "1.36.3+k3s1",
            "v1.36+k3s1",
            "v1.36.3",
            "stable",
            "v1.36.3+rke2r1",
            "v1.x.3+k3s1",
        ] {
            assert!(
                KubernetesVersion::parse(text, Distribution::K3s).is_err(),
                "{text}"
            );
        }
        assert!(KubernetesVersion::parse("v1.36.3", Distribution::Kubeadm).is_ok());
        assert!(KubernetesVersion::parse("v1.36.3+k3s1", Distribution::Kubeadm).is_err());
    }

    #[test]
    fn networks_are_whole() {
        for text in ["10.42.0.0/16", "0.0.0.0/0", "2001:cafe::/56", "10.0.0.1/32"] {
            assert_eq!(Cidr::parse(text).map(|c| c.to_string()), Ok(text.into()));
        }
        for text in [
            "10.42.0.0",
            "10.42.0.1/16",
            "10.42.0.0/33",
            "10.42.0/16",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
        let net = |text| Cidr::parse(text).unwrap();
        assert!(net("10.42.0.0/16").overlaps(&net("10.42.7.0/24")));
        assert!(!net("10.42.0.0/16").overlaps(&net("10.43.0.0/16")));
    }
}
