//! What a running lab tells about its nodes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Whether a node has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Its PID 1 lives.
    On,
    /// Killed, powered off by itself, or ended by a failure.
    Off,
    /// The spec says there is no machine.
    Absent,
}

/// One node's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name in the inventory.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// Its login user.
    pub user: String,
    /// Whether it runs.
    pub power: Power,
    /// Whether its network cable is out ([`crate::Lab::cut`]).
    pub cut: bool,
    /// Boots since the lab came up, reboots included.
    pub boots: u32,
    /// Pid of its PID 1 as the lab's own processes see it.
    pub init_pid: Option<u32>,
    /// Why it is off, when it went off on its own.
    pub note: Option<String>,
}
