//! Whether machines can do their part in a cluster, by numbers: what is refused, and what a person should know.
//!
//! Thresholds are upstream's, each with its source. A machine that is a member already is never refused, because it is at work,
//! and of what nobody will change about it any more (its memory, its disk) a plan does not speak.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_model::kubernetes::KubernetesRole;
use picluster_resource::Numbers;

use crate::plan::Problem;

/// So many flushes at least before their mean says anything.
const FLUSHES: u64 = 16;
/// etcd wants the 99th percentile of the fsync of its log below this, in milliseconds
/// (<https://etcd.io/docs/v3.5/op-guide/hardware/#disks>).
const FLUSH_MS: u64 = 10;
/// A leader that takes longer than this for a flush, in milliseconds, misses its own heartbeats
/// (`--heartbeat-interval`, <https://etcd.io/docs/v3.5/tuning/#time-parameters>).
const HEARTBEAT_MS: u64 = 100;
/// What a server of k3s needs: 2 GB (<https://docs.k3s.io/installation/requirements#hardware>), less what firmware and kernel keep
/// for themselves. What is refused stands with the kind `cluster_member`.
const SERVER_MIB: u64 = 1700;
/// Below this share of free space, in percent, the kubelet takes images away (`imageGCHighThresholdPercent`, 85 % used,
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle>).
const FREE_PERCENT: u64 = 15;
/// Below this, in MiB, nothing of a cluster is put on a disk: its program, and the images it begins with, take as much.
const FREE_LEAST_MIB: u64 = 1024;
/// etcd complains when members are further apart than this, in seconds (`rafthttp`: "the clock difference against peer … is too
/// high"); what is seen over ssh is good to about the same.
const APART_S: i64 = 2;

/// The ports of a cluster's parts (<https://docs.k3s.io/installation/requirements#networking>,
/// <https://kubernetes.io/docs/reference/networking/ports-and-protocols/>), and who wants them.
const PORTS: &[(u16, Wanted, &str)] = &[
    (6443, Wanted::Server, "the API server"),
    (2379, Wanted::Etcd, "etcd"),
    (2380, Wanted::Etcd, "etcd's peers"),
    (10250, Wanted::All, "the kubelet"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Server,
    Etcd,
}

/// Who has a right to them, by the beginning of the process' name.
const OURS: &[&str] = &["k3s", "etcd", "kube-apiserver", "kubelet"];

/// What is known of a node.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// What it does in the cluster.
    pub role: KubernetesRole,
    /// It shares an etcd with others, or is to.
    pub etcd: bool,
    /// Its memory, in MiB; 0: not known.
    pub memory_mib: u64,
    /// How far its clock is ahead of the controller's, in seconds.
    pub skew_s: Option<i64>,
    /// The host name it has and keeps; empty: it gets one by this plan.
    pub hostname: &'a str,
    /// The disk of its datastore is not mounted yet: numbers of the place are those of another one.
    pub elsewhere: bool,
    /// What was read on it.
    pub numbers: Numbers,
}

/// What was found of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Nothing is done on it because of these.
    pub refused: Vec<Problem>,
    /// What a person should know.
    pub warned: Vec<Problem>,
}

/// Looks at all nodes of a cluster. Nodes without a finding are not named.
#[must_use]
pub fn findings(nodes: &BTreeMap<&NodeName, Known<'_>>) -> BTreeMap<NodeName, Findings> {
    let middle = median(nodes.values().filter_map(|n| n.skew_s));
    let mut found: BTreeMap<NodeName, Findings> = BTreeMap::new();
    for (name, node) in nodes {
        let mut its = Findings::default();
        memory(node, &mut its);
        space(node, &mut its);
        ports(node, &mut its);
        flushes(node, &mut its);
        clock(node, middle.filter(|_| nodes.len() > 2), &mut its);
        let namesake = nodes.iter().find(|(other, n)| {
            *other != name && !node.hostname.is_empty() && n.hostname == node.hostname
        });
        if let Some((other, _)) = namesake {
            its.warned.push(
                Problem::new(format!("has the host name of {other}, {}", node.hostname))
                    .cure("role base gives each node its own; without it: hostnamectl set-hostname NAME on one of them"),
            );
        }
        if its != Findings::default() {
            found.insert((*name).clone(), its);
        }
    }
    found
}

/// The middle one; of two in the middle the lower.
fn median(numbers: impl Iterator<Item = i64>) -> Option<i64> {
    let mut all: Vec<i64> = numbers.collect();
    all.sort_unstable();
    all.get(all.len().checked_sub(1)? / 2).copied()
}

fn clock(node: &Known<'_>, middle: Option<i64>, its: &mut Findings) {
    let (Some(skew), Some(middle)) = (node.skew_s, middle) else {
        return;
    };
    let apart = skew.saturating_sub(middle);
    if apart.abs() > APART_S {
        let side = if apart > 0 { "ahead of" } else { "behind" };
        its.warned.push(
            Problem::new(format!(
                "its clock is {} s {side} the other nodes' (against this machine {skew:+} s, their median {middle:+} s)",
                apart.abs()
            ))
            .cure("on the node: timedatectl; role base has its time service set it"),
        );
    }
}

fn memory(node: &Known<'_>, its: &mut Findings) {
    let mib = node.memory_mib;
    // What is not known is not too little.
    if node.role == KubernetesRole::Server && !node.numbers.member && mib > 0 && mib < SERVER_MIB {
        its.warned.push(
            Problem::new(format!("it has {mib} MiB of memory, and a server wants 2 GB"))
                .cure("keep pods off it (taints), leave out what is not needed (kubernetes.disable), or make it an agent"),
        );
    }
}

fn space(node: &Known<'_>, its: &mut Findings) {
    let n = &node.numbers;
    if n.all_mib == 0 || node.elsewhere || n.free_mib * 100 >= n.all_mib * FREE_PERCENT {
        return;
    }
    let percent = n.free_mib * 100 / n.all_mib;
    let problem = Problem::new(format!(
        "{} of {} MiB are free at {} ({percent} %): below {FREE_PERCENT} % the kubelet takes images away",
        n.free_mib, n.all_mib, n.place
    ))
    .cure("make room there (`du -xh / | sort -h | tail`, `journalctl --vacuum-size=50M`), or give it a disk for data (role data-disk)");
    if n.free_mib < FREE_LEAST_MIB && !n.member {
        its.refused.push(problem);
    } else {
        its.warned.push(problem);
    }
}

fn ports(node: &Known<'_>, its: &mut Findings) {
    // Of a member they are its own.
    if node.numbers.member {
        return;
    }
    for (port, wanted, what) in PORTS {
        let server = node.role == KubernetesRole::Server;
        let wanted = match wanted {
            Wanted::All => true,
            Wanted::Server => server,
            Wanted::Etcd => server && node.etcd,
        };
        let holder = node.numbers.ports.iter().find(|(p, _)| p == port);
        let Some((_, process)) = holder.filter(|_| wanted) else {
            continue;
        };
        if OURS.iter().any(|ours| process.starts_with(ours)) {
            continue;
        }
        let who = match process.as_str() {
            "" => "somebody".to_owned(),
            name => format!("`{name}`"),
        };
        its.refused.push(
            Problem::new(format!("{who} listens on port {port}, which {what} needs"))
                .cure("stop it there, or let it listen elsewhere; on the node: sudo ss -ltnp"),
        );
    }
}

fn flushes(node: &Known<'_>, its: &mut Findings) {
    let n = &node.numbers;
    let asked = node.role == KubernetesRole::Server && node.etcd && !n.member && !node.elsewhere;
    let Some(flushes) = n.flushes.filter(|f| asked && f.count >= FLUSHES) else {
        return;
    };
    let mean = flushes.mean_tenths();
    if mean <= FLUSH_MS * 10 {
        return;
    }
    let how = match flushes.measured {
        true => format!("the mean of {} that were measured", flushes.count),
        false => format!("the mean of {} since it started", flushes.count),
    };
    let so = match mean >= HEARTBEAT_MS * 10 {
        true => format!(", and a leader this slow misses its heartbeats of {HEARTBEAT_MS} ms"),
        false => String::new(),
    };
    let disk = match n.disk.as_str() {
        "" => n.place.clone(),
        disk => format!("{disk} ({})", n.medium.words()),
    };
    its.warned.push(
        Problem::new(format!(
            "a flush of {disk} takes {}.{} ms, {how}; etcd wants 99 of 100 within {FLUSH_MS} ms{so}",
            mean / 10,
            mean % 10
        ))
        .cure("put the datastore on an SSD or NVMe (role data-disk); on this one lost leaders are to be expected under load"),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use picluster_resource::numbers::{DataMedium, Flushes};

    use super::*;

    fn good(role: KubernetesRole) -> Known<'static> {
        Known {
            role,
            etcd: true,
            memory_mib: 3792,
            skew_s: None,
            hostname: "",
            elsewhere: false,
            numbers: Numbers {
                place: "/var/lib/rancher".into(),
                free_mib: 20_000,
                all_mib: 29_000,
                disk: "nvme0n1".into(),
                medium: DataMedium::Nvme,
                flushes: Some(Flushes {
                    count: 64,
                    micros: 64_000,
                    measured: true,
                }),
                ..Numbers::default()
            },
        }
    }

    fn all_said(nodes: Vec<Known<'_>>) -> Vec<String> {
        let names: Vec<NodeName> = (0..nodes.len())
            .map(|i| NodeName::new(format!("n{i}")).unwrap())
            .collect();
        let found = findings(&names.iter().zip(nodes).collect());
        let all = found.into_iter().flat_map(|(name, f)| {
            let refused = f.refused.into_iter().map(|p| ("refused", p));
            let warned = f.warned.into_iter().map(|p| ("warned", p));
            let both: Vec<_> = refused.chain(warned).collect();
            both.into_iter()
                .map(move |(how, p)| format!("{name} {how}: {}", p.what))
        });
        all.collect()
    }

    /// What is said of one node: `refused: …`, `warned: …`.
    fn said(role: KubernetesRole, change: impl Fn(&mut Known<'_>)) -> Vec<String> {
        let mut known = good(role);
        change(&mut known);
        let all = all_said(vec![known]);
        all.iter().map(|text| text.replacen("n0 ", "", 1)).collect()
    }

    use KubernetesRole::{Agent, Server};

    const NOTHING: [&str; 0] = [];

    #[test]
    fn memory_and_space_by_role_and_by_what_the_node_is_already() {
        assert_eq!(said(Server, |_| ()), NOTHING);
        assert_eq!(said(Agent, |_| ()), NOTHING);
        assert_eq!(
            said(Server, |n| n.memory_mib = 925),
            ["warned: it has 925 MiB of memory, and a server wants 2 GB"]
        );
        assert_eq!(said(Agent, |n| n.memory_mib = 925), NOTHING);
        let member = |n: &mut Known<'_>| {
            n.memory_mib = 925;
            n.numbers.member = true;
        };
        assert_eq!(said(Server, member), NOTHING);
        assert_eq!(
            said(Agent, |n| n.numbers.free_mib = 4000),
            [
                "warned: 4000 of 29000 MiB are free at /var/lib/rancher (13 %): below 15 % the kubelet takes images away"
            ]
        );
        let full = "900 of 29000 MiB are free at /var/lib/rancher (3 %): below 15 % the kubelet takes images away";
        assert_eq!(
            said(Agent, |n| n.numbers.free_mib = 900),
            [format!("refused: {full}")]
        );
        let member = |n: &mut Known<'_>| {
            n.numbers.free_mib = 900;
            n.numbers.member = true;
        };
        assert_eq!(said(Agent, member), [format!("warned: {full}")]);
        let elsewhere = |n: &mut Known<'_>| {
            n.numbers.free_mib = 900;
            n.elsewhere = true;
        };
        assert_eq!(said(Agent, elsewhere), NOTHING);
        // What is not known is nothing to complain of.
        let unknown = |n: &mut Known<'_>| {
            n.memory_mib = 0;
            n.numbers = Numbers::default();
        };
        assert_eq!(said(Server, unknown), NOTHING);
    }

    #[test]
    fn a_slow_flush_is_a_matter_of_who_is_to_hold_an_etcd() {
        let slow = |count, micros, measured| {
            move |n: &mut Known<'_>| {
                n.numbers.disk = "mmcblk0".into();
                n.numbers.medium = DataMedium::Sd;
                n.numbers.flushes = Some(Flushes {
                    count,
                    micros,
                    measured,
                });
            }
        };
        assert_eq!(
            said(Server, slow(64, 992_000, true)),
            [
                "warned: a flush of mmcblk0 (an SD card or eMMC) takes 15.5 ms, the mean of 64 that were measured; etcd wants 99 of 100 within 10 ms"
            ]
        );
        assert_eq!(
            said(Server, slow(17, 2_000_000, false)),
            [
                "warned: a flush of mmcblk0 (an SD card or eMMC) takes 117.6 ms, the mean of 17 since it started; etcd wants 99 of 100 within 10 ms, and a leader this slow misses its heartbeats of 100 ms"
            ]
        );
        let bad = slow(64, 992_000, true);
        assert_eq!(said(Agent, bad), NOTHING);
        assert_eq!(said(Server, slow(64, 640_000, true)), NOTHING);
        assert_eq!(said(Server, slow(15, 992_000, true)), NOTHING);
        for change in [
            (|n| n.etcd = false) as fn(&mut Known<'_>),
            |n| n.numbers.member = true,
            |n| n.elsewhere = true,
        ] {
            let both = |n: &mut Known<'_>| {
                bad(n);
                change(n);
            };
            assert_eq!(said(Server, both), NOTHING);
        }
    }

    #[test]
    fn ports_of_others_are_named_with_who_has_them() {
        let with = |port: u16, process: &'static str| {
            move |n: &mut Known<'_>| n.numbers.ports = vec![(port, process.to_owned())]
        };
        assert_eq!(
            said(Server, with(6443, "nginx")),
            ["refused: `nginx` listens on port 6443, which the API server needs"]
        );
        assert_eq!(said(Agent, with(6443, "nginx")), NOTHING);
        assert_eq!(
            said(Agent, with(10250, "")),
            ["refused: somebody listens on port 10250, which the kubelet needs"]
        );
        assert_eq!(said(Server, with(6443, "k3s-server")), NOTHING);
        assert_eq!(said(Server, with(6443, "kube-apiserver")), NOTHING);
        assert_eq!(
            said(Server, with(2379, "nginx")),
            ["refused: `nginx` listens on port 2379, which etcd needs"]
        );
        let alone = |n: &mut Known<'_>| {
            with(2379, "nginx")(n);
            n.etcd = false;
        };
        assert_eq!(said(Server, alone), NOTHING);
        let member = |n: &mut Known<'_>| {
            with(10250, "nginx")(n);
            n.numbers.member = true;
        };
        assert_eq!(said(Server, member), NOTHING);
    }

    #[test]
    fn clocks_are_held_against_the_median_of_all() {
        let skews = |all: &[i64]| {
            let with = |skew: &i64| Known {
                skew_s: Some(*skew),
                ..good(Agent)
            };
            all_said(all.iter().map(with).collect())
        };
        assert_eq!(skews(&[0, 1, -1, 2]), NOTHING);
        assert_eq!(
            skews(&[0, 0, 40]),
            [
                "n2 warned: its clock is 40 s ahead of the other nodes' (against this machine +40 s, their median +0 s)"
            ]
        );
        // It is this machine that is wrong: the nodes agree.
        assert_eq!(skews(&[3600, 3601, 3600]), NOTHING);
        assert_eq!(
            skews(&[3600, 3601, 3590]),
            [
                "n2 warned: its clock is 10 s behind the other nodes' (against this machine +3590 s, their median +3600 s)"
            ]
        );
        // Two say nothing about who is right.
        assert_eq!(skews(&[0, 40]), NOTHING);
    }

    #[test]
    fn one_host_name_for_two_is_said_where_it_stays() {
        let named = |hosts: &[&'static str]| {
            let with = |host: &&'static str| Known {
                hostname: host,
                ..good(Agent)
            };
            all_said(hosts.iter().map(with).collect())
        };
        assert_eq!(named(&["a", "b", ""]), NOTHING);
        assert_eq!(named(&["", "", ""]), NOTHING);
        assert_eq!(
            named(&["pi", "b", "pi"]),
            [
                "n0 warned: has the host name of n2, pi",
                "n2 warned: has the host name of n0, pi"
            ]
        );
    }
}
