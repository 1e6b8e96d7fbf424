//! The programs that rule a network interface, and how each is told a fixed address.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Network;

/// Who rules the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// netplan, whichever program it hands the work to: Ubuntu, Raspberry Pi OS trixie.
    Netplan,
    /// NetworkManager: Raspberry Pi OS bookworm.
    NetworkManager,
    /// dhcpcd: Raspberry Pi OS bullseye.
    Dhcpcd,
    /// systemd-networkd: Debian, Armbian.
    Networkd,
}

/// Lines of ours in a file of others.
const BEGIN: &str = "# BEGIN picluster ";
const END: &str = "# END picluster ";

impl Manager {
    pub(super) fn read(word: &str) -> Option<Self> {
        Some(match word {
            "netplan" => Self::Netplan,
            "NetworkManager" => Self::NetworkManager,
            "dhcpcd" => Self::Dhcpcd,
            "networkd" => Self::Networkd,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Netplan => "netplan",
            Self::NetworkManager => "NetworkManager",
            Self::Dhcpcd => "dhcpcd",
            Self::Networkd => "systemd-networkd",
        }
    }

    /// The file it reads.
    pub(super) fn path(self, interface: &str) -> String {
        match self {
            Self::Netplan => format!("/etc/netplan/90-picluster-{interface}.yaml"),
            Self::NetworkManager => {
                format!("/etc/NetworkManager/system-connections/picluster-{interface}.nmconnection")
            }
            Self::Dhcpcd => "/etc/dhcpcd.conf".into(),
            Self::Networkd => format!("/etc/systemd/network/10-picluster-{interface}.network"),
        }
    }

    /// NetworkManager ignores connections that others may read, and netplan warns of them.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Netplan | Self::NetworkManager => "600",
            Self::Dhcpcd | Self::Networkd => "644",
        }
    }

    /// The file's text with the interface as wanted; `None` for the interface: without it.
    pub(super) fn text(self, before: Option<&str>, net: &Network, present: bool) -> Option<String> {
        match self {
            Self::Dhcpcd => Some(in_between(before.unwrap_or(""), net, present)),
            _ if !present => None,
            Self::Netplan => Some(netplan(net)),
            Self::NetworkManager => Some(keyfile(net)),
            Self::Networkd => Some(networkd(net)),
        }
    }

    /// How it takes a changed file up. The file's path is `$f`, the interface `$i`.
    pub(super) fn take_up(self) -> &'static str {
        match self {
            // What cannot be read stops before anything is taken down.
            Self::Netplan => "netplan generate\nnetplan apply\n",
            Self::NetworkManager => {
                "nmcli connection load \"$f\"\nnmcli --wait 45 connection up id \"picluster-$i\"\n"
            }
            Self::Dhcpcd => "systemctl restart dhcpcd\n",
            Self::Networkd => "networkctl reload\nnetworkctl reconfigure \"$i\"\n",
        }
    }
}

fn list<T: ToString>(items: &[T], separator: &str) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(separator)
}

fn quoted<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items
        .iter()
        .map(|i| format!("\"{}\"", i.to_string()))
        .collect();
    texts.join(", ")
}

const HEAD: &str = "# Written by picluster; change the inventory instead.\n";

/// netplan(5), version 2.
fn netplan(net: &Network) -> String {
    let mut out = format!(
        "{HEAD}network:\n  version: 2\n  ethernets:\n    {}:\n      dhcp4: false\n      addresses: [{}]\n",
        net.interface,
        quoted(&net.addresses)
    );
    if let Some(gateway) = net.gateway {
        let _ = writeln!(out, "      routes: [{{ to: default, via: \"{gateway}\" }}]");
    }
    if !net.dns.is_empty() || !net.search.is_empty() {
        let _ = writeln!(
            out,
            "      nameservers: {{ addresses: [{}], search: [{}] }}",
            quoted(&net.dns),
            quoted(&net.search)
        );
    }
    out
}

/// nm-settings-keyfile(5).
fn keyfile(net: &Network) -> String {
    let mut out = format!(
        "{HEAD}[connection]\nid=picluster-{0}\ntype=ethernet\ninterface-name={0}\nautoconnect-priority=100\n",
        net.interface
    );
    for (section, four) in [("ipv4", true), ("ipv6", false)] {
        let addresses: Vec<_> = net
            .addresses
            .iter()
            .filter(|a| a.ip.is_ipv4() == four)
            .collect();
        let dns: Vec<&IpAddr> = net.dns.iter().filter(|d| d.is_ipv4() == four).collect();
        let method = match (four, addresses.is_empty()) {
            (true, false) => "manual",
            (true, true) => "disabled",
            // Router advertisements go on beside fixed addresses.
            (false, _) => "auto",
        };
        let _ = write!(out, "\n[{section}]\nmethod={method}\n");
        for (number, address) in addresses.iter().enumerate() {
            let gateway = net
                .gateway
                .filter(|g| number == 0 && g.is_ipv4() == four)
                .map(|g| format!(",{g}"))
                .unwrap_or_default();
            let _ = writeln!(out, "address{}={address}{gateway}", number + 1);
        }
        if !dns.is_empty() {
            let _ = writeln!(out, "dns={};", list(&dns, ";"));
        }
        if four && !net.search.is_empty() {
            let _ = writeln!(out, "dns-search={};", list(&net.search, ";"));
        }
        if net.gateway.is_none() {
            out.push_str("never-default=true\n");
        }
    }
    out
}

/// systemd.network(5).
fn networkd(net: &Network) -> String {
    let mut out = format!("{HEAD}[Match]\nName={}\n\n[Network]\n", net.interface);
    for address in &net.addresses {
        let _ = writeln!(out, "Address={address}");
    }
    if let Some(gateway) = net.gateway {
        let _ = writeln!(out, "Gateway={gateway}");
    }
    for dns in &net.dns {
        let _ = writeln!(out, "DNS={dns}");
    }
    if !net.search.is_empty() {
        let _ = writeln!(out, "Domains={}", list(&net.search, " "));
    }
    out
}

/// dhcpcd.conf(5): a section of the interface, at the end, between marks.
fn in_between(before: &str, net: &Network, present: bool) -> String {
    let (begin, end) = (
        format!("{BEGIN}{}", net.interface),
        format!("{END}{}", net.interface),
    );
    let mut out = String::new();
    let mut inside = false;
    for line in before.split_inclusive('\n') {
        match line.trim_end() {
            text if text == begin => inside = true,
            text if text == end => inside = false,
            _ if inside => {}
            _ => out.push_str(line),
        }
    }
    if !present {
        return out;
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    let _ = writeln!(out, "{begin}\ninterface {}", net.interface);
    for address in &net.addresses {
        let name = if address.ip.is_ipv4() {
            "ip_address"
        } else {
            "ip6_address"
        };
        let _ = writeln!(out, "static {name}={address}");
    }
    match net.gateway {
        Some(gateway) => {
            let _ = writeln!(out, "static routers={gateway}");
        }
        None => out.push_str("nogateway\n"),
    }
    if !net.dns.is_empty() {
        let _ = writeln!(out, "static domain_name_servers={}", list(&net.dns, " "));
    }
    if !net.search.is_empty() {
        let _ = writeln!(out, "static domain_search={}", list(&net.search, " "));
    }
    let _ = writeln!(out, "{end}");
    out
}
