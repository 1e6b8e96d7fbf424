//! What a person should look at, each with what to do.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_plan::Plan;
use picluster_resource::Health;
use picluster_resource::health::{Medium, Root, Since};
use picluster_resource::kinds::clock::{WITHIN_S, apart};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Kubernetes, NodeStatus, Standing, State};

/// From this temperature on the firmware slows the processor down (Raspberry Pi documentation, "Frequency management and
/// thermal control"), in degrees Celsius.
const HOT_C: f64 = 80.0;
/// From this value of `life_time` on an eMMC is about to end: 80 to 90 % of its life are used.
const WORN: u8 = 9;
/// The value of `life_time` for more than was promised.
const OUTLIVED: u8 = 11;

/// Something a person should look at. Nothing of it makes a run fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Warning {
    /// The node.
    pub node: NodeName,
    /// What it is about.
    pub kind: Kind,
    /// In words, without the node's name.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The supply's voltage is too low, or was since the node started.
    UnderVoltage,
    /// The processor is slowed down, or was since the node started.
    Throttled,
    /// The processor is so hot that it is slowed down.
    Hot,
    /// `/` is mounted read-only, or its disk takes no writes.
    RootReadOnly,
    /// The medium of `/` is about to end.
    CardWear,
    /// The kernel's log has errors of the medium of `/`.
    DiskErrors,
    /// A server's API does not answer.
    ApiSilent,
    /// The node is not Ready.
    NotReady,
    /// Its kubelet is of another version than the inventory wants.
    Version,
    /// Its clock is wrong.
    Clock,
    /// It is not what its part in the cluster needs, by a number.
    Numbers,
}

/// All warnings, by node.
pub(super) fn all(
    nodes: &BTreeMap<NodeName, NodeStatus>,
    kubernetes: Option<&Kubernetes>,
    silent: &[&NodeName],
) -> Vec<Warning> {
    let mut all = Vec::new();
    for (name, node) in nodes {
        let mut add = |kind: Kind, what: String, cure: &str| {
            all.push(Warning {
                node: name.clone(),
                kind,
                what,
                cure: cure.to_owned(),
            });
        };
        if let Some(health) = &node.health {
            supply(health, &mut add);
        }
        medium(node, &mut add);
        if silent.contains(&name) {
            add(
                Kind::ApiSilent,
                "its API server does not answer".into(),
                "picluster plan, then on the node: journalctl -u k3s -n 50",
            );
        }
        cluster(node, kubernetes, &mut add);
        let skew = node.facts.as_ref().and_then(|f| f.now.skew_s).unwrap_or(0);
        if skew.unsigned_abs() > u64::from(WITHIN_S) {
            add(
                Kind::Clock,
                format!("its clock is {}", apart(skew)),
                "role base has its time service set it: picluster apply; on the node: timedatectl",
            );
        }
    }
    all
}

/// What a plan would say of the nodes, too.
pub(super) fn of_plan(plan: &Plan, nodes: &BTreeMap<NodeName, NodeStatus>) -> Vec<Warning> {
    let mut all = Vec::new();
    for (name, node) in plan
        .nodes
        .iter()
        .filter(|(name, _)| nodes.contains_key(*name))
    {
        all.extend(node.warnings.iter().map(|problem| Warning {
            node: name.clone(),
            kind: Kind::Numbers,
            what: problem.what.clone(),
            cure: problem.cure.clone().unwrap_or_default(),
        }));
    }
    all
}

/// `now` in the first words, `was` in the second.
fn tense<'a>(since: Since, now: &'a str, was: &'a str) -> Option<&'a str> {
    match since {
        Since { now: true, .. } => Some(now),
        Since {
            since_boot: true, ..
        } => Some(was),
        _ => None,
    }
}

fn supply(health: &Health, add: &mut impl FnMut(Kind, String, &str)) {
    let power = health.power.clone().unwrap_or_default();
    let low = tense(
        power.under_voltage,
        "under-voltage now",
        "under-voltage since its start",
    );
    if let Some(what) = low {
        add(
            Kind::UnderVoltage,
            what.into(),
            "a better supply and a short cable (5.1 V; Pi 4: 3 A, Pi 5: 5 A), less on its USB ports; it is why cards and disks lose data",
        );
    }
    let throttled = power.throttled.unwrap_or_default();
    let slowed = tense(
        throttled,
        "the processor is throttled now",
        "the processor was throttled since its start",
    );
    if let Some(what) = slowed {
        add(
            Kind::Throttled,
            what.into(),
            if low.is_some() {
                "the supply first, then air and a heat sink"
            } else {
                "air and a heat sink, or a fan"
            },
        );
    }
    if let Some(degrees) = health.temperature_c
        && degrees >= HOT_C
        && !throttled.now
    {
        add(
            Kind::Hot,
            format!("{degrees:.0} °C: from {HOT_C:.0} °C on the processor is slowed down"),
            "air and a heat sink, or a fan",
        );
    }
}

fn medium(node: &NodeStatus, add: &mut impl FnMut(Kind, String, &str)) {
    let nothing = Root::default();
    let root = node.health.as_ref().map_or(&nothing, |h| &h.root);
    let replace = match root.medium {
        Medium::Emmc => {
            "back up what is on it now; the module has to be replaced, or boot from NVMe or USB"
        }
        _ => "back up what is on it now, and replace it",
    };
    let read_only = node.facts.as_ref().is_some_and(|f| f.now.root_read_only);
    if read_only {
        add(
            Kind::RootReadOnly,
            "/ is mounted read-only, as a dying card ends".into(),
            "look at `dmesg | tail`; replace the card if it shows I/O errors, else `mount -o remount,rw /`",
        );
    } else if root.write_protected {
        add(
            Kind::RootReadOnly,
            format!("{} takes no writes any more", root.disk),
            replace,
        );
    }
    let worn = root.life_time.filter(|t| *t >= WORN);
    let spare = root.pre_eol.filter(|e| *e >= 2);
    let used = |tens: u8| {
        format!(
            "{} to {} % of its life are used",
            (tens - 1) * 10,
            tens * 10
        )
    };
    let wear = match (worn, spare) {
        (Some(OUTLIVED..), _) => Some("more than its promised life is used".to_owned()),
        (Some(tens), _) => Some(used(tens)),
        (None, Some(2)) => Some("80 % of its spare blocks are used".to_owned()),
        (None, Some(_)) => Some("its spare blocks are all but used".to_owned()),
        (None, None) => None,
    };
    if let Some(wear) = wear {
        add(
            Kind::CardWear,
            format!("{} wears out: {wear}", root.disk),
            replace,
        );
    }
    if root.errors > 0 || !root.state.is_empty() {
        let what = match root.errors {
            0 => format!("{} is {}", root.disk, root.state),
            1 => format!("an error of {} in the kernel's log", root.disk),
            n => format!("{n} errors of {} in the kernel's log", root.disk),
        };
        add(
            Kind::DiskErrors,
            what,
            "back up what is on it; look at `dmesg`, supply and cable, then replace it",
        );
    }
}

fn cluster(
    node: &NodeStatus,
    kubernetes: Option<&Kubernetes>,
    add: &mut impl FnMut(Kind, String, &str),
) {
    let (Some(kubernetes), Some(says)) = (kubernetes, &node.kubernetes) else {
        return;
    };
    let what = match says.standing {
        Standing::Ready => None,
        // Whoever is known to be off is not expected to report.
        _ if node.state == State::Absent => None,
        Standing::NotReady => Some("the cluster says that it is not Ready"),
        Standing::Unknown => Some("the cluster has not heard of it for a while"),
        Standing::NotRegistered => Some("the cluster does not know it"),
        Standing::AnotherMachine => Some("another machine is registered under its name"),
    };
    if let Some(what) = what {
        let cure = if node.state == State::Observed {
            "picluster apply waits for it, and looks for the cause where it does not come"
        } else {
            "the node itself first: it could not be looked at"
        };
        add(Kind::NotReady, what.into(), cure);
    }
    if !says.version.is_empty() && says.version != kubernetes.version {
        add(
            Kind::Version,
            format!(
                "runs {}, and the inventory wants {}",
                says.version, kubernetes.version
            ),
            "picluster plan shows what an upgrade would do",
        );
    }
}
