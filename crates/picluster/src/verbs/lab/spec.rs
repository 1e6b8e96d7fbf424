//! From an inventory to a lab's specification.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use picluster_lab::{LabSpec, NodeSpec, OsFlavour, SudoMode};
use picluster_model::inventory::{Expected, Node, Project};
use picluster_model::kubernetes::{Distribution, KubernetesRole};
use picluster_model::ssh::{Jump, SudoPassword};
use picluster_plan::addr::glob;

use crate::cli::LabMade;
use crate::error::Failure;
use crate::verbs::lab::home::Home;
use crate::verbs::lab::which;
use crate::{person, secrets};

/// One lab node per inventory node, with its name and address; names are resolved inside.
///
/// # Errors
/// An unknown system, an IPv6 address, a secret without value.
pub fn specification(project: &Project, made: &LabMade, home: &Home) -> Result<LabSpec, Failure> {
    let systems = systems(made)?;
    let secrets = secrets::resolve(project, &project.secrets())?;
    let mut names = Names::default();
    let mut nodes = Vec::new();
    for node in project.inventory.nodes.values() {
        let os = systems
            .iter()
            .rev()
            .find(|(pattern, _)| glob(pattern, node.name.as_str()))
            .map_or(OsFlavour::RpiOsTrixie, |(_, os)| *os);
        let mut spec = NodeSpec::new(node.name.as_str(), names.address(&node.address, node)?, os);
        spec.ssh_port = node.ssh.port.unwrap_or(22);
        spec.user = node.ssh.user.clone().unwrap_or_else(person::login_name);
        spec.absent = node.expected == Expected::Absent;
        if let SudoPassword::Secret(reference) = &node.ssh.sudo
            && let Some(password) = secrets.0.get(reference)
        {
            spec.sudo = SudoMode::Password(password.reveal().clone());
        }
        nodes.push(spec);
    }
    let jumps = jump_hosts(project, &mut names)?;
    nodes.extend(jumps);
    Ok(LabSpec {
        name: which::name(project)?,
        nodes,
        authorized_keys: home.authorized_keys(project),
        dns: names.dns,
        kubernetes: made.kubernetes,
        etcd: shares_etcd(project),
    })
}

/// Whether the inventory's servers keep their cluster in etcd: k3s brings its own, a stand-in for it does not.
fn shares_etcd(project: &Project) -> bool {
    let k3s = project
        .inventory
        .kubernetes
        .as_ref()
        .is_some_and(|k| k.distribution == Distribution::K3s);
    let nodes = project.inventory.nodes.values();
    let servers = nodes.filter(|n| n.kubernetes == Some(KubernetesRole::Server));
    k3s && servers.count() > 1
}

/// Hosts between the controller and the nodes that are no nodes themselves: plain Debian machines.
fn jump_hosts(project: &Project, names: &mut Names) -> Result<Vec<NodeSpec>, Failure> {
    let mut hosts: BTreeMap<String, NodeSpec> = BTreeMap::new();
    for node in project.inventory.nodes.values() {
        for jump in &node.ssh.jump {
            let Jump::Host { user, host, port } = jump else {
                continue;
            };
            let address = names.address(host, node)?;
            let entry = hosts
                .entry(host.clone())
                .or_insert_with(|| NodeSpec::new(jump_name(host), address, OsFlavour::Debian));
            entry.user = user.clone().unwrap_or_else(person::login_name);
            entry.ssh_port = port.unwrap_or(22);
        }
    }
    Ok(hosts.into_values().collect())
}

/// The lab's name for a jump host that is no node.
pub(super) fn jump_name(host: &str) -> String {
    let label: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    format!("jump-{label}")
}

/// Names that stand where addresses are expected get addresses of their own.
#[derive(Default)]
struct Names {
    dns: Vec<(String, IpAddr)>,
}

impl Names {
    fn address(&mut self, text: &str, node: &Node) -> Result<Ipv4Addr, Failure> {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => Ok(ip),
            Ok(IpAddr::V6(_)) => Err(Failure::usage(format!(
                "{}: {}: a lab has IPv4 only, and its address is {text}",
                node.span, node.name
            ))
            .hint("the lab was not started")),
            Err(_) => {
                if let Some((_, IpAddr::V4(ip))) = self.dns.iter().find(|(name, _)| name == text) {
                    return Ok(*ip);
                }
                // 198.18.0.0/15 is set aside for tests (RFC 2544): no real rack uses it.
                let n = u32::try_from(self.dns.len()).unwrap_or(0) + 10;
                let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n);
                self.dns.push((text.to_owned(), IpAddr::V4(ip)));
                Ok(ip)
            }
        }
    }
}

fn systems(made: &LabMade) -> Result<Vec<(String, OsFlavour)>, Failure> {
    made.os
        .iter()
        .map(|text| {
            let (pattern, os) = text.split_once('=').unwrap_or(("*", text));
            let os = match os {
                "rpi-os-trixie" => OsFlavour::RpiOsTrixie,
                "rpi-os-bookworm" => OsFlavour::RpiOsBookworm,
                "ubuntu-24.04" => OsFlavour::Ubuntu2404,
                "debian" => OsFlavour::Debian,
                other => {
                    return Err(Failure::usage(format!("the lab has no system {other:?}"))
                        .hint("it has rpi-os-trixie, rpi-os-bookworm, ubuntu-24.04 and debian"));
                }
            };
            Ok((pattern.to_owned(), os))
        })
        .collect()
}
