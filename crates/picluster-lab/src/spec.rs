//! What a lab is made of: plain data, derived by the caller from an inventory.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::LabError;

/// A whole lab: its nodes, who may log in, and which further names resolve inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// Name of the lab. Two labs with different names live side by side.
    /// Letters, digits, `-`, `_` and `.`, at most 64 of them; becomes a directory name.
    pub name: String,
    /// One entry per node of the inventory, absent ones included.
    pub nodes: Vec<NodeSpec>,
    /// Public keys (one `authorized_keys` line each) that open every node's login user.
    pub authorized_keys: Vec<String>,
    /// Names beyond the nodes' own that resolve for programs run with [`crate::Lab::controller_command`]:
    /// DNS names used as addresses, an API endpoint. Their addresses are never given to the hub.
    #[serde(default)]
    pub dns: Vec<(String, IpAddr)>,
    /// Whether nodes (but for virtual machines) carry the programs of a real Kubernetes (see [`crate::kubernetes`]).
    #[serde(default)]
    pub kubernetes: bool,
    /// Whether nodes (but for virtual machines) carry Debian's `etcd`, beside where those programs would be: for a stand-in of
    /// k3s with several servers.
    #[serde(default)]
    pub etcd: bool,
}

#[cfg(target_os = "linux")]
impl LabSpec {
    /// The programs that are laid over every node's own.
    pub(crate) fn programs(&self) -> Option<crate::image::Tree> {
        use crate::image::Tree;
        if self.kubernetes {
            return Some(Tree::Kubernetes);
        }
        self.etcd.then_some(Tree::Etcd)
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name of the node in the inventory. It is not the hostname: a fresh card has the OS default.
    pub name: String,
    /// IPv4 address, any: the lab's network is isolated, so addresses in use around this machine are free.
    pub address: IpAddr,
    /// TCP port of sshd, usually 22.
    pub ssh_port: u16,
    /// Login user that owns the authorised keys. `root` is allowed.
    pub user: String,
    /// Debian release below the personality.
    pub image: ImageName,
    /// How the login user becomes root.
    pub sudo: SudoMode,
    /// What makes it look like a Raspberry Pi.
    pub pi: PiPersonality,
    /// `true`: the inventory expects no machine here. Nothing is started, the address stays unused.
    #[serde(default)]
    pub absent: bool,
    /// Size of the node's card in MiB. `None`: the host's disk is the limit, and [`crate::Lab::fill_disk`] refuses.
    /// `Some`: the card is a tmpfs of this size (host memory as far as it is written to; needs Linux 6.6).
    /// For a virtual machine: the size of its card, 4096 unless given; it takes what is written to it.
    #[serde(default)]
    pub disk_mib: Option<u32>,
    /// Of a virtual machine's card: how much at its end, in MiB, belongs to no partition, as on a card whose first boot
    /// was kept from growing the root file system.
    #[serde(default)]
    pub spare_mib: u32,
    /// Size of a second disk in MiB, blank at first (`/dev/disk/by-id/virtio-lab-data`): virtual machines only. A wipe,
    /// which is a new card, leaves it as it is.
    #[serde(default)]
    pub data_mib: Option<u32>,
    /// What it is made of.
    #[serde(default)]
    pub machine: Machine,
}

/// What a node is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// Namespaces: half a second and some megabytes, with this machine's kernel and architecture.
    #[default]
    Namespace,
    /// An emulated 64-bit ARM machine with Debian's kernel: half a minute, and real where namespaces pretend: swap,
    /// cgroup controllers, every sysctl, modules, the boot partition.
    Vm {
        /// Its memory.
        memory_mib: u32,
    },
}

/// Debian release of a node's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageName {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl ImageName {
    /// Both images.
    pub const ALL: [ImageName; 2] = [ImageName::Bookworm, ImageName::Trixie];

    /// The suite name as the Debian archive spells it.
    pub fn suite(self) -> &'static str {
        match self {
            ImageName::Bookworm => "bookworm",
            ImageName::Trixie => "trixie",
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suite())
    }
}

/// How the login user becomes root.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SudoMode {
    /// `NOPASSWD: ALL`, as Raspberry Pi OS shipped until 2026 and Ubuntu ships.
    NoPassword,
    /// sudo asks for this password. It reaches the lab through a pipe and is kept hashed only.
    Password(String),
}

impl fmt::Debug for SudoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SudoMode::NoPassword => "NoPassword",
            SudoMode::Password(_) => "Password(..)",
        })
    }
}

/// The operating system whose files a node carries on top of its Debian image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OsFlavour {
    /// Raspberry Pi OS 12 (64 bit says `ID=debian`): dphys-swapfile, stub files in `/boot`.
    RpiOsBookworm,
    /// Raspberry Pi OS 13: rpi-swap with zram, stub files in `/boot`.
    RpiOsTrixie,
    /// Ubuntu 24.04 for Raspberry Pi: its os-release and command line, cloud-init, no swap.
    Ubuntu2404,
    /// Plain Debian; swap, where asked for, is a line in `/etc/fstab`.
    Debian,
}

impl OsFlavour {
    /// The image this flavour is at home on.
    pub fn image(self) -> ImageName {
        match self {
            OsFlavour::RpiOsBookworm => ImageName::Bookworm,
            OsFlavour::RpiOsTrixie | OsFlavour::Ubuntu2404 | OsFlavour::Debian => ImageName::Trixie,
        }
    }

    /// Hostname of a card nobody has named yet.
    pub fn default_hostname(self) -> &'static str {
        match self {
            OsFlavour::RpiOsBookworm | OsFlavour::RpiOsTrixie => "raspberrypi",
            OsFlavour::Ubuntu2404 => "ubuntu",
            OsFlavour::Debian => "debian",
        }
    }

    /// Whether this is Raspberry Pi OS.
    pub fn is_rpi_os(self) -> bool {
        matches!(self, OsFlavour::RpiOsBookworm | OsFlavour::RpiOsTrixie)
    }
}

/// What a node shows where a Raspberry Pi shows its board, card and kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiPersonality {
    /// `/sys/firmware/devicetree/base/model`, e.g. `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: String,
    /// `/sys/firmware/devicetree/base/serial-number`: 16 hex digits.
    pub serial: String,
    /// `/sys/block/mmcblk0/device/cid`: 32 hex digits. [`crate::Lab::wipe`] keeps it (same card, flashed again).
    pub sd_cid: String,
    /// `MemTotal` of `/proc/meminfo` in KiB. `None`: the host's.
    pub memory_kib: Option<u64>,
    /// Whose files the card carries.
    pub os: OsFlavour,
    /// Whether cloud-init (a stand-in with its interface and files) is on the card.
    pub cloud_init: bool,
    /// Whether the swap this OS configures shows up in `/proc/swaps` at each boot, for as long as the node's
    /// own files configure it. `false`: header only.
    pub swaps: bool,
}

impl PiPersonality {
    /// A personality for `node`, the same at every call: serial and CID are derived from the name.
    pub fn for_node(os: OsFlavour, node: &str) -> Self {
        let digest = Sha256::digest(node.as_bytes());
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        PiPersonality {
            model: "Raspberry Pi 4 Model B Rev 1.4".to_owned(),
            serial: format!("10000000{}", hex.get(0..8).unwrap_or_default()),
            // MID 03, OID "SD", name "SL32G", revision 8.5; serial number from the name.
            sd_cid: format!(
                "035344534c33324785{}01530b",
                hex.get(8..16).unwrap_or_default()
            ),
            memory_kib: None,
            os,
            cloud_init: os == OsFlavour::Ubuntu2404,
            swaps: os.is_rpi_os(),
        }
    }
}

impl PiPersonality {
    /// Whether the kernel hands `reboot '0 tryboot'` on to the firmware, which Debian's own does not. As a virtual
    /// machine the node can then boot other files once.
    pub fn tryboot(&self) -> bool {
        self.os != OsFlavour::Debian
    }
}

impl NodeSpec {
    /// A node with port 22, user `pi` (`ubuntu` on Ubuntu), password-free sudo and the personality of its name.
    pub fn new(name: impl Into<String>, address: Ipv4Addr, os: OsFlavour) -> Self {
        let name = name.into();
        let pi = PiPersonality::for_node(os, &name);
        NodeSpec {
            name,
            address: IpAddr::V4(address),
            ssh_port: 22,
            user: if os == OsFlavour::Ubuntu2404 {
                "ubuntu"
            } else {
                "pi"
            }
            .to_owned(),
            image: os.image(),
            sudo: SudoMode::NoPassword,
            pi,
            absent: false,
            disk_mib: None,
            spare_mib: 0,
            data_mib: None,
            machine: Machine::Namespace,
        }
    }

    /// The same node as a virtual machine with 512 MiB of memory and without cloud-init.
    #[must_use]
    pub fn as_vm(mut self) -> Self {
        self.machine = Machine::Vm { memory_mib: 512 };
        self.pi.cloud_init = false;
        self
    }

    /// Whether this is a virtual machine.
    pub fn is_vm(&self) -> bool {
        matches!(self.machine, Machine::Vm { .. })
    }

    /// The node's address as IPv4.
    ///
    /// # Errors
    /// [`LabError::BadSpec`] when it is an IPv6 address.
    pub fn ipv4(&self) -> Result<Ipv4Addr, LabError> {
        match self.address {
            IpAddr::V4(a) => Ok(a),
            IpAddr::V6(a) => Err(LabError::bad_spec(
                &self.name,
                format!("its address {a} is IPv6, the lab speaks IPv4 only"),
            )),
        }
    }
}

impl NodeSpec {
    fn check_vm(&self, memory_mib: u32) -> Result<(), LabError> {
        let what = if self.image != self.pi.os.image() {
            format!(
                "a virtual machine has its OS's own image, {}, not {}",
                self.pi.os.image(),
                self.image
            )
        } else if self.pi.cloud_init {
            "the stand-in of cloud-init works on nodes made of namespaces only; switch it off for a virtual machine"
                .to_owned()
        } else if memory_mib < 256 {
            format!(
                "{memory_mib} MiB of memory are too few for a virtual machine; give it 256 or more"
            )
        } else if self.disk_mib.is_some_and(|m| m < 1024) {
            "a virtual machine's card needs a `disk_mib` of 1024 or more".to_owned()
        } else if self.disk_mib.unwrap_or(4096) < self.spare_mib.saturating_add(1024) {
            "a virtual machine's card needs 1024 MiB beside its `spare_mib`".to_owned()
        } else {
            return Ok(());
        };
        Err(LabError::bad_spec(&self.name, what))
    }
}

impl LabSpec {
    /// Checks everything that would make a start fail halfway.
    ///
    /// # Errors
    /// [`LabError::BadSpec`] naming the first node that cannot be.
    pub fn validate(&self) -> Result<(), LabError> {
        check_lab_name(&self.name)?;
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for node in &self.nodes {
            if !is_path_word(&node.name) {
                return Err(LabError::bad_spec(
                    &node.name,
                    "a node's name is 1 to 64 letters, digits, `-`, `_` or `.`, starting with a letter or digit",
                ));
            }
            if !names.insert(node.name.as_str()) {
                return Err(LabError::bad_spec(&node.name, "the name occurs twice"));
            }
            let address = node.ipv4()?;
            if address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast()
            {
                return Err(LabError::bad_spec(
                    &node.name,
                    format!("{address} is no address a node can have"),
                ));
            }
            if !addresses.insert(address) {
                return Err(LabError::bad_spec(
                    &node.name,
                    format!("the address {address} occurs twice"),
                ));
            }
            if node.ssh_port == 0 {
                return Err(LabError::bad_spec(&node.name, "port 0 is no port"));
            }
            let user_ok =
                node.user
                    .starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                    && node.user.len() <= 32
                    && node.user.chars().all(|c| {
                        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
                    });
            if !user_ok {
                return Err(LabError::bad_spec(
                    &node.name,
                    format!("`{}` is no user name Debian would create", node.user),
                ));
            }
            if node.pi.os.is_rpi_os() && node.image != node.pi.os.image() {
                return Err(LabError::bad_spec(
                    &node.name,
                    format!(
                        "its OS is at home on the image {}, not {}",
                        node.pi.os.image(),
                        node.image
                    ),
                ));
            }
            if let Machine::Vm { memory_mib } = node.machine {
                node.check_vm(memory_mib)?;
            }
            for (what, text) in [
                ("model", &node.pi.model),
                ("serial", &node.pi.serial),
                ("SD CID", &node.pi.sd_cid),
            ] {
                if text.contains(['\n', '\0']) {
                    return Err(LabError::bad_spec(
                        &node.name,
                        format!("its {what} holds a control character"),
                    ));
                }
            }
        }
        for key in &self.authorized_keys {
            if key.trim().contains('\n') {
                return Err(LabError::BadSpec {
                    node: None,
                    what: "an authorised key spans several lines".into(),
                });
            }
        }
        Ok(())
    }

    /// A copy with every password blanked, fit for a file.
    pub fn without_secrets(&self) -> LabSpec {
        let mut copy = self.clone();
        for node in &mut copy.nodes {
            if let SudoMode::Password(p) = &mut node.sudo {
                p.clear();
            }
        }
        copy
    }
}

/// Checks a lab's name before it becomes part of a path.
pub(crate) fn check_lab_name(name: &str) -> Result<(), LabError> {
    if is_path_word(name) {
        Ok(())
    } else {
        Err(LabError::BadSpec {
            node: None,
            what: format!(
                "`{name}` is no lab name: 1 to 64 letters, digits, `-`, `_` or `.`, starting with a letter or digit"
            ),
        })
    }
}

fn is_path_word(word: &str) -> bool {
    word.len() <= 64
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(nodes: Vec<NodeSpec>) -> LabSpec {
        LabSpec {
            name: "t".into(),
            nodes,
            authorized_keys: vec![],
            dns: vec![],
            kubernetes: false,
            etcd: false,
        }
    }

    #[test]
    fn duplicate_addresses_and_paths_in_names_are_refused() {
        let a = NodeSpec::new("a", Ipv4Addr::new(10, 0, 0, 2), OsFlavour::Debian);
        let mut b = NodeSpec::new("b", Ipv4Addr::new(10, 0, 0, 2), OsFlavour::Debian);
        assert!(spec(vec![a.clone(), b.clone()]).validate().is_err());
        b.address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
        assert!(spec(vec![a.clone(), b.clone()]).validate().is_ok());
        b.name = "../b".into();
        let error = spec(vec![a, b]).validate().unwrap_err();
        assert!(error.to_string().contains("../b"), "{error}");
    }

    #[test]
    fn passwords_are_neither_printed_nor_kept() {
        let mut a = NodeSpec::new("a", Ipv4Addr::new(10, 0, 0, 2), OsFlavour::Debian);
        a.sudo = SudoMode::Password("hunter2".into());
        assert!(!format!("{a:?}").contains("hunter2"));
        let kept = serde_json::to_string(&spec(vec![a]).without_secrets()).unwrap();
        assert!(!kept.contains("hunter2"));
    }

    #[test]
    fn a_personality_is_stable_and_well_formed() {
        let p = PiPersonality::for_node(OsFlavour::RpiOsBookworm, "n1");
        assert_eq!(p, PiPersonality::for_node(OsFlavour::RpiOsBookworm, "n1"));
        assert_eq!((p.serial.len(), p.sd_cid.len()), (16, 32));
        assert_ne!(
            p.serial,
            PiPersonality::for_node(OsFlavour::RpiOsBookworm, "n2").serial
        );
    }
}
