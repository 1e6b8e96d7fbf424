//! What is asked of every node first, and what of it `when` may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Facts about a node. The first four are constant over an apply and may stand in `when`
/// conditions; the rest is for the engine and for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// The operating system.
    pub os: Os,
    /// Kernel and userland architecture.
    pub arch: Arch,
    /// The board.
    pub board: Board,
    /// `MemTotal` of `/proc/meminfo`, in MiB, rounded down.
    pub memory_mib: u64,
    /// The node at this moment.
    pub now: Now,
}

/// From `/etc/os-release` and marker files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Os {
    /// `ID=`: `debian`, `raspbian`, `ubuntu`.
    pub id: String,
    /// `VERSION_ID=`, may be empty (Debian testing).
    pub version: String,
    /// `VERSION_CODENAME=`.
    pub codename: String,
    /// Raspberry Pi OS: `/etc/rpi-issue` exists (64-bit images call themselves `debian`).
    pub raspberry_pi_os: bool,
    /// `PRETTY_NAME=`, for people.
    pub pretty: String,
    /// cloud-init is installed.
    pub cloud_init: bool,
}

/// Architectures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Arch {
    /// `uname -m`: `armv6l`, `armv7l`, `aarch64`, `x86_64`.
    pub kernel: String,
    /// `dpkg --print-architecture`: `armhf`, `arm64`, `amd64`. May differ from the kernel's.
    pub userland: String,
}

/// The board, from the device tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Board {
    /// `model`, e.g. `Raspberry Pi 4 Model B Rev 1.4`; empty on other machines.
    pub model: String,
    /// `serial-number`, 16 hex digits; empty on other machines.
    pub serial: String,
    /// Boot files can be tried for one boot: the firmware is one with `tryboot`, the kernel hands the wish on, and
    /// nobody else uses it (Raspberry Pi documentation, "Fail-safe OS updates").
    #[serde(default)]
    pub tryboot: bool,
}

/// What may change from one minute to the next. Not for `when`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Now {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/sys/kernel/hostname`.
    pub hostname: String,
    /// Seconds since the epoch by the node's clock.
    pub epoch: i64,
    /// How far the node's clock is ahead of the controller's, in seconds (negative: behind).
    /// Not in the facts program's output: whoever received the facts compares `epoch` with the
    /// clock at that moment. A fact like the others from then on, so that plans stay functions of
    /// their inputs. `None`: not compared.
    #[serde(default)]
    pub skew_s: Option<i64>,
    /// How root is had.
    pub root: RootAccess,
    /// The root file system is mounted read-only.
    pub root_read_only: bool,
    /// PID 1 is systemd.
    pub systemd: bool,
    /// `systemctl is-system-running`, e.g. `running`, `degraded`, `starting`; empty where it was not
    /// asked (a plan does not depend on it).
    pub system_state: String,
    /// Free space of `/`, in KiB.
    pub root_free_kib: u64,
    /// Serial or CID of the medium that holds `/` (`/sys/block/…/device/{cid,serial}`), if any.
    pub root_medium: String,
    /// MAC addresses of real network ports, sorted.
    pub macs: Vec<String>,
    /// The wireless port this session came in by; empty: by cable, or it cannot be told.
    #[serde(default)]
    pub ssh_wifi: String,
}

/// How root is had on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RootAccess {
    /// Logged in as root.
    IsRoot,
    /// `sudo -n` gives a root shell.
    Sudo,
    /// sudo is there and wants a password.
    SudoPassword,
    /// No sudo at all, or the user may not use it.
    #[default]
    None,
}

impl Facts {
    /// The part that `when` and templates may use, as JSON under `facts.`.
    #[must_use]
    pub fn constant(&self) -> serde_json::Value {
        serde_json::json!({
            "os": self.os, "arch": self.arch, "board": { "model": self.board.model, "serial": self.board.serial },
            "memory_mib": self.memory_mib,
        })
    }
}

/// The facts program: needs no privileges. Prints `key=value` lines, each value on one line. `$w`,
/// where it is set, is how the shell that runs it became root (`sudo`); with `$q` set, systemd is
/// asked for its state, too.
pub const FACTS_SH: &str = include_str!("facts.sh");

impl Facts {
    /// Reads what [`FACTS_SH`] printed.
    ///
    /// # Errors
    /// A sentence naming the line that is missing.
    pub fn parse(output: &str) -> Result<Self, String> {
        let mut facts = Self::default();
        let mut complete = false;
        for line in output.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let text = value.trim().to_owned();
            match key {
                "os.id" => facts.os.id = text,
                "os.version" => facts.os.version = text,
                "os.codename" => facts.os.codename = text,
                "os.pretty" => facts.os.pretty = text,
                "os.rpi" => facts.os.raspberry_pi_os = text == "1",
                "os.cloud_init" => facts.os.cloud_init = text == "1",
                "arch.kernel" => facts.arch.kernel = text,
                "arch.userland" => facts.arch.userland = text,
                "board.model" => facts.board.model = text,
                "board.serial" => facts.board.serial = text,
                "board.tryboot" => facts.board.tryboot = text == "1",
                "memory_kib" => facts.memory_mib = text.parse::<u64>().unwrap_or(0) / 1024,
                "now.boot_id" => facts.now.boot_id = text,
                "now.machine_id" => facts.now.machine_id = text,
                "now.hostname" => facts.now.hostname = text,
                "now.epoch" => facts.now.epoch = text.parse().unwrap_or(0),
                "now.root" => {
                    facts.now.root = match text.as_str() {
                        "root" => RootAccess::IsRoot,
                        "sudo" => RootAccess::Sudo,
                        "password" => RootAccess::SudoPassword,
                        _ => RootAccess::None,
                    };
                }
                "now.root_ro" => facts.now.root_read_only = text == "1",
                "now.systemd" => facts.now.systemd = text == "1",
                "now.system_state" => facts.now.system_state = text,
                "now.root_free" => {
                    // Blocks, and the size of one.
                    let mut numbers = text.split(' ').map(|n| n.parse::<u64>().unwrap_or(0));
                    let (blocks, size) = (numbers.next(), numbers.next());
                    facts.now.root_free_kib = blocks.unwrap_or(0) * (size.unwrap_or(0) / 512) / 2;
                }
                "now.root_medium" => facts.now.root_medium = text,
                "now.ssh_wifi" => facts.now.ssh_wifi = text,
                "now.mac" => facts.now.macs.push(text),
                "end" => complete = true,
                _ => {}
            }
        }
        facts.now.macs.sort();
        if complete {
            Ok(facts)
        } else {
            Err("the facts program ended early: its last line is missing".into())
        }
    }
}
