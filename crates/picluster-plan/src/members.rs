//! The control plane as far as a plan knows it: which declared servers are members, how one sees that they
//! serve, and which steps can take one down.

use picluster_model::NodeName;
use picluster_model::kubernetes::KubernetesRole;
use picluster_resource::kinds::cluster_server::ClusterServer;
use picluster_resource::{Effect, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Step, Work};

/// Units whose restart takes a member of the control plane, or its way to the others, down for a while, whatever
/// its own unit is called.
const TAKE_DOWN: &[&str] = &[
    "k3s.service",
    "rke2-server.service",
    "kubelet.service",
    "etcd.service",
    "containerd.service",
    "crio.service",
    "docker.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "networking.service",
    "dhcpcd.service",
    "wpa_supplicant.service",
    "nftables.service",
    "ufw.service",
];

/// A declared server when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Whether it is a member of the control plane.
    pub standing: MemberStanding,
    /// How one sees that it serves; missing where no role of it says so, or where it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ClusterServer>,
}

/// Whether a declared server is a member of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberStanding {
    /// It has never been one: nothing is lost when it is down.
    Blank,
    /// It is, or was; whether it serves is asked when it matters.
    Member,
    /// Nobody can say; why not, in words: "was not reached".
    Unknown(String),
    /// It is one, and is to leave: until its cluster has let it go it counts there, whether it serves or not.
    Leaves,
}

/// Whether a step can take its node, or another member, out of the control plane for a while: the deletion of a member, a reboot, a restart or the stop of what the
/// control plane stands on, and a guarded change, which may cut the node off until it is taken back.
#[must_use]
pub fn takes_down(step: &Step, server: Option<&ClusterServer>) -> bool {
    let counts =
        |unit: &str| TAKE_DOWN.contains(&unit) || server.is_some_and(|server| server.unit == unit);
    let restarts = |effect: &Effect| matches!(effect, Effect::Restart(unit) if counts(unit));
    let stops = match &step.work {
        Work::Reboot { .. } => true,
        // What is switched off on purpose is nothing to wait for: consent stands instead of the guard.
        Work::PowerOff => false,
        Work::Resource(resource) => match resource.as_ref() {
            Resource::Unit(unit) => unit.active == Some(false) && counts(&unit.name),
            // Whoever deletes a member takes a vote away from those that stay.
            Resource::NodeAbsent(absent) => absent.server,
            // Its static pods start anew, etcd among them.
            Resource::KubeadmUpgrade(upgrade) => upgrade.role == KubernetesRole::Server,
            // Packages restart what they like: containerd, the network, systemd itself.
            Resource::PackageUpgrade(_) => true,
            _ => false,
        },
    };
    stops || step.guard.is_some() || step.change.effects.iter().any(restarts)
}

/// The member that a step makes its cluster let go.
#[must_use]
pub fn lets_go(step: &Step) -> Option<&NodeName> {
    match &step.work {
        Work::Resource(resource) => match resource.as_ref() {
            Resource::NodeAbsent(absent) if absent.server => Some(&absent.node),
            _ => None,
        },
        Work::Reboot { .. } | Work::PowerOff => None,
    }
}

/// Whether a step makes its node a member: the first start of what makes it serve.
#[must_use]
pub fn joins(step: &Step, server: Option<&ClusterServer>) -> bool {
    match &step.work {
        Work::Resource(resource) => match resource.as_ref() {
            Resource::Unit(unit) => server.is_some_and(|server| server.unit == unit.name),
            Resource::Kubeadm(_) => true,
            _ => false,
        },
        Work::Reboot { .. } | Work::PowerOff => false,
    }
}
