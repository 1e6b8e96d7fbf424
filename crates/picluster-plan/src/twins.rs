//! Names that lead to one machine, and machines that claim one identity: found only where all are looked at together.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_resource::Facts;

use crate::plan::Problem;

/// What keeps nodes from being worked on because of each other, on each of them.
///
/// Two names for one machine would both be worked on at the same time. Copies of one card share a machine-id, of which systemd
/// makes the identity a machine asks DHCP for its address with (machine-id(5), networkd.conf(5) `DUIDType=`), and by which
/// Kubernetes tells nodes apart; kubeadm asks for machines that differ in it and in their MAC addresses
/// (<https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm/#verify-mac-address>).
#[must_use]
pub fn twins<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a Facts)>,
) -> BTreeMap<NodeName, Problem> {
    let nodes: Vec<(&NodeName, &Facts)> = nodes.into_iter().collect();
    let mut found = BTreeMap::new();
    for (at, (name, facts)) in nodes.iter().enumerate() {
        for (other, others) in nodes.iter().skip(at + 1) {
            if let Some(shared) = Shared::of(facts, others) {
                for (one, two) in [(*name, *other), (*other, *name)] {
                    found
                        .entry(one.clone())
                        .or_insert_with(|| shared.problem(one, two));
                }
            }
        }
    }
    found
}

/// What two nodes have in common that no two machines may have.
enum Shared {
    /// They run at the same time, since the same boot.
    Machine,
    /// A MAC address.
    Mac(String),
    /// `/etc/machine-id`.
    MachineId,
}

impl Shared {
    fn of(one: &Facts, two: &Facts) -> Option<Self> {
        let same = |a: &str, b: &str| !a.is_empty() && a == b;
        // Random at every boot (random(4)).
        if same(&one.now.boot_id, &two.now.boot_id) {
            return Some(Self::Machine);
        }
        if let Some(mac) = one.now.macs.iter().find(|mac| two.now.macs.contains(mac)) {
            return Some(Self::Mac(mac.clone()));
        }
        same(&one.now.machine_id, &two.now.machine_id).then_some(Self::MachineId)
    }

    fn problem(&self, node: &NodeName, other: &NodeName) -> Problem {
        match self {
            Self::Machine => Problem::new(format!("is the machine that {other} is: both addresses lead to it")).cure(
                "correct one of the two addresses, or take one of the names out of the inventory; if its key was accepted by mistake: picluster forget-key NODE",
            ),
            Self::Mac(mac) => Problem::new(format!("has the MAC address of {other}, {mac}: the network brings each of them the other's frames")).cure(
                "take away what sets it on one of them (cloned-mac-address of NetworkManager, macaddress of netplan, smsc95xx.macaddr in cmdline.txt) and reboot that one",
            ),
            Self::MachineId => Problem::new(format!("has the machine-id of {other}, as the copy of a card has")).cure(format!(
                "give the copy an identity of its own, here if it is {node}: sudo rm /etc/machine-id /etc/ssh/ssh_host_* && sudo systemd-machine-id-setup && sudo ssh-keygen -A && sudo reboot; then: picluster forget-key {node}",
            )),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn facts(boot: &str, id: &str, macs: &[&str]) -> Facts {
        let mut facts = Facts::default();
        facts.now.boot_id = boot.into();
        facts.now.machine_id = id.into();
        facts.now.macs = macs.iter().map(ToString::to_string).collect();
        facts
    }

    fn told(list: &[(&str, Facts)]) -> Vec<String> {
        let nodes: Vec<(NodeName, &Facts)> = list
            .iter()
            .map(|(n, f)| (NodeName::new(*n).unwrap(), f))
            .collect();
        twins(nodes.iter().map(|(n, f)| (n, *f)))
            .into_iter()
            .map(|(name, problem)| format!("{name}: {}", problem.what))
            .collect()
    }

    #[test]
    fn machines_that_differ_have_nothing_to_say() {
        assert_eq!(
            told(&[
                ("a", facts("1", "x", &["02:01"])),
                ("b", facts("2", "y", &["02:02", "02:03"])),
            ]),
            Vec::<String>::new()
        );
        // What is not known is not the same.
        assert_eq!(
            told(&[("a", facts("", "", &[])), ("b", facts("", "", &[]))]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_shared_is_said_on_both_and_the_strongest_first() {
        assert_eq!(
            told(&[
                ("a", facts("1", "x", &["02:01"])),
                ("b", facts("1", "x", &["02:01"])),
                ("c", facts("2", "x", &["02:03"])),
                ("d", facts("3", "z", &["02:03"])),
                ("e", facts("4", "w", &["02:04"])),
            ]),
            [
                "a: is the machine that b is: both addresses lead to it",
                "b: is the machine that a is: both addresses lead to it",
                "c: has the machine-id of a, as the copy of a card has",
                "d: has the MAC address of c, 02:03: the network brings each of them the other's frames",
            ]
        );
    }
}
