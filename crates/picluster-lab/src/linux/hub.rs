//! The network all nodes meet in: a bridge in the supervisor's own network namespace, with no way out.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::error::Trouble;
use crate::linux::tool::{feed, tool};
use crate::network::{HubPlan, NodeNet, mac};

const BRIDGE: &str = "br0";

/// Builds the bridge.
pub(crate) fn up(plan: &HubPlan) -> Result<(), Trouble> {
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link add {BRIDGE} type bridge"),
        format!("link set {BRIDGE} up"),
    ];
    for (address, prefix) in &plan.addresses {
        lines.push(format!("addr add {address}/{prefix} dev {BRIDGE}"));
    }
    for address in &plan.routes {
        lines.push(format!("route add {address}/32 dev {BRIDGE}"));
    }
    batch(&lines)?;
    // The hub is the router between the nodes' subnets. A redirect would tell a node about a neighbour it cannot reach.
    for (file, value) in [
        ("ip_forward", "1"),
        ("conf/all/send_redirects", "0"),
        ("conf/default/send_redirects", "0"),
        ("conf/br0/send_redirects", "0"),
    ] {
        let path = format!("/proc/sys/net/ipv4/{file}");
        std::fs::write(&path, value).map_err(|e| Trouble(format!("write {path}: {e}")))?;
    }
    Ok(())
}

/// Gives node number `index` a fresh network namespace with `eth0` plugged into the bridge; whatever it had before
/// (firewall rules, sysctls) is gone, as after a real boot.
pub(crate) fn plug(index: usize, name: &str, address: Ipv4Addr, cut: bool) -> Result<(), Trouble> {
    // The hub's end goes first: removing the namespace alone frees the pair some time later, and the new port would
    // collide with the old one.
    let _ = batch(&[format!("route del unreachable {address}/32")]);
    if PathBuf::from(format!("/sys/class/net/p{index}")).exists() || netns(index).exists() {
        let _ = batch(&[format!("link del p{index}")]);
        let _ = batch(&[format!("netns del n{index}")]);
    }
    batch(&[
        format!("netns add n{index}"),
        format!(
            "link add p{index} type veth peer name eth0 address {} netns n{index}",
            mac(name)
        ),
        format!(
            "link set p{index} master {BRIDGE} {}",
            if cut { "down" } else { "up" }
        ),
        // Asking for an address nobody answers to yet would make the next question wait a second.
        format!(
            "neigh replace {address} lladdr {} dev {BRIDGE} nud stale",
            mac(name)
        ),
    ])
}

/// Name of the hub's port for a node.
pub(crate) fn port(index: usize) -> String {
    format!("p{index}")
}

/// Gives a virtual machine a fresh cable: a tap on the bridge.
pub(crate) fn plug_tap(
    index: usize,
    name: &str,
    address: Ipv4Addr,
    cut: bool,
) -> Result<(), Trouble> {
    let _ = batch(&[format!("route del unreachable {address}/32")]);
    // The last boot's outlived the emulator.
    let _ = batch(&[format!("link del p{index}")]);
    batch(&[
        format!("tuntap add dev p{index} mode tap"),
        format!(
            "link set p{index} master {BRIDGE} {}",
            if cut { "down" } else { "up" }
        ),
        format!(
            "neigh replace {address} lladdr {} dev {BRIDGE} nud stale",
            mac(name)
        ),
    ])
}

/// Path that names a node's network namespace.
pub(crate) fn netns(index: usize) -> PathBuf {
    PathBuf::from(format!("/run/netns/n{index}"))
}

/// A node is off: there is no way to it. Its namespace outlives it and would go on refusing connections, which no machine
/// without power does. Those that have a route of their own (see [`up`]) keep it.
pub(crate) fn gone(address: Ipv4Addr) {
    let _ = batch(&[format!("route add unreachable {address}/32")]);
}

/// Pulls the cable, or puts it back.
pub(crate) fn link(index: usize, name: &str, address: Ipv4Addr, up: bool) -> Result<(), Trouble> {
    let mut lines = vec![format!(
        "link set p{index} {}",
        if up { "up" } else { "down" }
    )];
    if up {
        // The hub must not remember that nobody answered.
        lines.push(format!(
            "neigh replace {address} lladdr {} dev {BRIDGE} nud stale",
            mac(name)
        ));
    }
    batch(&lines)
}

/// Sets up `lo` and `eth0` of the namespace this process is in.
pub(crate) fn configure(net: &NodeNet) -> Result<(), Trouble> {
    // systemd would open this to every group; ids beyond the lab's are no groups here, and it would fail.
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 65535");
    batch(&[
        "link set lo up".to_owned(),
        format!("addr replace {}/{} dev eth0", net.address, net.prefix),
        "link set eth0 up".to_owned(),
        format!("route replace default via {} dev eth0 onlink", net.hub),
    ])
}

fn batch(lines: &[String]) -> Result<(), Trouble> {
    let input = lines.join("\n") + "\n";
    feed(tool("ip").args(["-batch", "-"]), input.as_bytes()).map(drop)
}
