//! `network`: a network interface with fixed addresses, by whichever program rules it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::{Presence, text_diff};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, Query};
use crate::shell::{quote, words};
use crate::token::Token;

mod manager;

pub use manager::Manager;

/// Fixed addresses of a network interface. The program that rules the interface is found on the node and
/// told in its own way: netplan, NetworkManager, dhcpcd or systemd-networkd. Further addresses, such as
/// those of a load balancer, stay. An interface without `gateway` gets no default route: a second network.
/// When it leaves the documents, its file goes, and the interface stays as it is until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name: `eth0`.
    pub interface: String,
    /// Addresses with the length of the network's prefix: `192.168.2.1/24`.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Where packets for everybody else go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains that short names are looked for in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
}

/// An address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// 0 to 32, or to 128.
    pub prefix: u8,
}

impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "An address with the length of its network's prefix, such as 192.168.2.1/24.",
        })
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an address with a prefix length, such as 192.168.2.1/24");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > longest {
            return Err(wrong());
        }
        Ok(Self { ip, prefix })
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// What was seen of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSeen {
    /// Who rules it.
    pub manager: Manager,
    /// That program's file: mode and text.
    pub file: Option<(String, String)>,
    /// Its addresses now.
    pub addresses: Vec<String>,
    /// Its gateways now.
    pub gateways: Vec<String>,
}

impl Network {
    fn probe(&self) -> String {
        format!(
            "# network {0}\nR=\ni={1}\n{2}",
            self.interface,
            quote(&self.interface),
            include_str!("network/probe.sh")
        )
    }

    fn access(&self) -> Effect {
        Effect::Access(format!("{} gets its addresses anew", self.interface))
    }

    fn wanted(&self, seen: &NetworkSeen) -> Option<String> {
        let before = seen.file.as_ref().map(|(_, text)| text.as_str());
        seen.manager
            .text(before, self, self.state == Presence::Present)
    }

    fn missing(&self, seen: &NetworkSeen) -> (Vec<String>, Option<String>) {
        let addresses = self
            .addresses
            .iter()
            .map(ToString::to_string)
            .filter(|a| !seen.addresses.contains(a))
            .collect();
        let gateway = self
            .gateway
            .map(|g| g.to_string())
            .filter(|g| !seen.gateways.contains(g));
        (addresses, gateway)
    }

    fn all_addresses(&self) -> Shown {
        let all: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        Shown::text(all.join(", "))
    }
}

fn shown(values: &[String]) -> Shown {
    if values.is_empty() {
        Shown::Absent
    } else {
        Shown::text(values.join(", "))
    }
}

impl Kind for Network {
    const NAME: &'static str = "network";
    type Observation = NetworkSeen;

    fn key(&self) -> String {
        self.interface.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let name = |text: &str, more: &[u8]| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        // IFNAMSIZ of linux/if.h is 16, with the NUL at its end.
        if !name(&self.interface, b"_-.") || self.interface.len() > 15 {
            wrong.push(format!(
                "interface {:?} is not the name of one, such as eth0",
                self.interface
            ));
        }
        if self.interface.starts_with("wl") {
            wrong.push(format!(
                "{} is wireless: its connection, with its password, is made by the image's own means; give it a fixed address in the router",
                self.interface
            ));
        }
        if self.state == Presence::Present && self.addresses.is_empty() {
            wrong.push("addresses is empty".into());
        }
        let reaches = |gateway: IpAddr| {
            self.addresses.iter().any(|a| match (a.ip, gateway) {
                (IpAddr::V4(a4), IpAddr::V4(g)) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(a.prefix)).unwrap_or(0);
                    u32::from(a4) & mask == u32::from(g) & mask && a4 != g
                }
                (IpAddr::V6(a6), IpAddr::V6(g)) => {
                    let mask = u128::MAX
                        .checked_shl(128 - u32::from(a.prefix))
                        .unwrap_or(0);
                    g.is_unicast_link_local()
                        || (u128::from(a6) & mask == u128::from(g) & mask && a6 != g)
                }
                _ => false,
            })
        };
        if let Some(gateway) = self.gateway.filter(|g| !reaches(*g)) {
            wrong.push(format!(
                "gateway {gateway} is in none of the networks of {}",
                self.interface
            ));
        }
        for domain in &self.search {
            if !name(domain, b"-._") {
                wrong.push(format!("search {domain:?} is not a domain"));
            }
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.probe())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<NetworkSeen>, Diagnosis> {
        let (_, printed) = answers.fragment(&self.probe())?;
        let i = &self.interface;
        let mut files: BTreeMap<String, (String, String)> = BTreeMap::new();
        let mut current = None;
        let (mut manager, mut addresses, mut gateways) = (None, Vec::new(), Vec::new());
        let (mut complete, mut there) = (false, true);
        for line in printed.split('\n') {
            if let Some(body) = line.strip_prefix(['|', '+']) {
                if let Some((_, text)) = current.as_ref().and_then(|path| files.get_mut(path)) {
                    text.push_str(body);
                    if line.starts_with('|') {
                        text.push('\n');
                    }
                }
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "manager" => manager = Some(rest.to_owned()),
                "address" => addresses.push(rest.to_owned()),
                "gateway" => gateways.push(rest.to_owned()),
                "file" => {
                    if let Some((mode, path)) = rest.split_once(' ') {
                        files.insert(path.to_owned(), (mode.to_owned(), String::new()));
                        current = Some(path.to_owned());
                    }
                }
                "no-interface" => there = false,
                "end" => complete = true,
                _ => {}
            }
        }
        if !complete {
            return Err(Diagnosis::new(format!(
                "the node did not say all about {i}"
            )));
        }
        if !there {
            return Err(Diagnosis::new(format!("there is no network interface {i}"))
                .cure("see what there is: ip -br link; newer systems call the first port end0"));
        }
        let manager = match manager.as_deref() {
            Some(word) => Manager::read(word).ok_or_else(|| {
                Diagnosis::new(format!("{i} is ruled by {word}, which picluster does not write for"))
                    .cure("give it its address in /etc/network/interfaces, or hand it to systemd-networkd")
            })?,
            None => {
                return Err(Diagnosis::new(format!(
                    "nothing rules {i}: neither netplan, NetworkManager, dhcpcd nor systemd-networkd"
                ))
                .cure("see who gave it its address: ip addr; systemctl list-units '*network*'"));
            }
        };
        Ok(Seen::Now(NetworkSeen {
            manager,
            file: files.remove(&manager.path(i)),
            addresses,
            gateways,
        }))
    }

    fn diff(&self, seen: &NetworkSeen, _ctx: Ctx<'_>) -> Diff {
        let path = seen.manager.path(&self.interface);
        let before = seen.file.as_ref().map(|(_, text)| text.as_str());
        let after = self.wanted(seen);
        let text_differs = before != after.as_deref();
        let mut change = Change::new(match (self.state, before) {
            (Presence::Absent, _) => Action::Delete,
            (_, None) => Action::Create,
            _ => Action::Update,
        });
        if self.state == Presence::Present {
            let (addresses, gateway) = self.missing(seen);
            if !addresses.is_empty() {
                change = change.field("addresses", shown(&seen.addresses), self.all_addresses());
            }
            if let Some(gateway) = gateway {
                change = change.field("gateway", shown(&seen.gateways), Shown::text(gateway));
            }
        }
        if text_differs {
            let what = |there| {
                if there {
                    Shown::text("present")
                } else {
                    Shown::Absent
                }
            };
            let (from, to) = match (before, &after) {
                (Some(_), Some(_)) => (Shown::text("another text"), Shown::text("as wanted")),
                (from, to) => (what(from.is_some()), what(to.is_some())),
            };
            change = change
                .field("at boot", from, to)
                .because(format!("{path}, which {} reads", seen.manager.name()));
            let after = after.as_deref().unwrap_or("");
            change.bytes = after.len() as u64;
            change.text = Some(text_diff(before.unwrap_or(""), after));
        } else if let Some((mode, _)) = &seen.file
            && seen.manager.mode() == "600"
            && mode != "600"
        {
            change = change.field("mode", Shown::text(mode), Shown::text("600"));
        }
        if change.fields.is_empty() {
            return Diff::NoOp;
        }
        if self.state == Presence::Present {
            change = change.effect(self.access());
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Absent => {
                Change::new(Action::Delete).field("at boot", Shown::Later, Shown::Absent)
            }
            Presence::Present => {
                let change = Change::new(Action::Create)
                    .field("addresses", Shown::Later, self.all_addresses())
                    .field("at boot", Shown::Later, Shown::Later)
                    .effect(self.access());
                match self.gateway {
                    Some(gateway) => {
                        change.field("gateway", Shown::Later, Shown::text(gateway.to_string()))
                    }
                    None => change,
                }
            }
        }
    }

    fn operation(
        &self,
        seen: &NetworkSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let path = seen.manager.path(&self.interface);
        let mut script = format!("i={} f={}\n", quote(&self.interface), quote(&path));
        if let Some((_, text)) = &seen.file {
            script.push_str(&format!("same \"$f\" {}\n", sha256_hex(text.as_bytes())));
        }
        let Some(after) = self.wanted(seen) else {
            script.push_str("rm -f -- \"$f\"\n");
            return Ok(Operation::script(script));
        };
        script.push_str(&format!(
            "put \"$f\" {} root root\n",
            words([format!("0{}", seen.manager.mode())])
        ));
        if self.state == Presence::Present {
            script.push_str(seen.manager.take_up());
        }
        Ok(Operation::script(script)
            .with_payload(after.into_bytes())
            .within(Duration::from_secs(90)))
    }

    /// Where dhcpcd rules, its file is edited by others too: one after the other.
    fn provides(&self) -> Vec<Token> {
        let dhcpcd = NodePath::new("/etc/dhcpcd.conf").ok();
        dhcpcd.map(Token::Path).into_iter().collect()
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}
