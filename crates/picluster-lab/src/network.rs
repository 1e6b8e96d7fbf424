//! Which addresses the hub takes, so that any mix of node addresses works.
//!
//! Every node sits on one bridge. A node's interface carries its address with a /24 prefix, as on a home network;
//! the hub takes one unused host address in each of those /24s and is the router between them. Addresses that
//! cannot live in a /24 (last octet 0 or 255) become /32s with an on-link route. The hub's own foreign address
//! serves as router for those, and when a /24 has no free host address left.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// TCP port of the caching apt proxy on the hub.
pub(crate) const PROXY_PORT: u16 = 3142;

/// The hub's side of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HubPlan {
    /// Address and prefix length for the bridge.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Nodes that need a route of their own from the hub, with no matching prefix on the bridge.
    pub routes: Vec<Ipv4Addr>,
}

/// One node's side of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeNet {
    /// The node's own address.
    pub address: Ipv4Addr,
    /// Prefix length on its interface.
    pub prefix: u8,
    /// The hub's address as this node knows it: default router and apt proxy.
    pub hub: Ipv4Addr,
}

fn subnet(a: Ipv4Addr) -> [u8; 3] {
    let [x, y, z, _] = a.octets();
    [x, y, z]
}

fn fits_24(a: Ipv4Addr) -> bool {
    !matches!(a.octets(), [_, _, _, 0 | 255])
}

/// Plans the network for `nodes`; `reserved` are further addresses the hub must not take.
pub(crate) fn plan(nodes: &[Ipv4Addr], reserved: &[Ipv4Addr]) -> (HubPlan, Vec<NodeNet>) {
    let taken: BTreeSet<Ipv4Addr> = nodes.iter().chain(reserved).copied().collect();
    let subnets: BTreeSet<[u8; 3]> = nodes.iter().map(|a| subnet(*a)).collect();
    // 192.0.2.0/24 and its siblings are set aside for documentation: no real inventory needs all of them.
    let foreign = [
        [192, 0, 2],
        [198, 51, 100],
        [203, 0, 113],
        [198, 18, 0],
        [100, 64, 0],
    ]
    .into_iter()
    .find(|s| !subnets.contains(s) && !reserved.iter().any(|r| subnet(*r) == *s))
    .unwrap_or([198, 19, 255]);
    let foreign = Ipv4Addr::new(foreign[0], foreign[1], foreign[2], 1);
    // .1 first, as the router of a home network usually has it, then from the top.
    let hosts = || std::iter::once(1u8).chain((2..=254).rev());
    let mut addresses = vec![(foreign, 32)];
    let mut routes = Vec::new();
    let mut hub_in: std::collections::BTreeMap<[u8; 3], Ipv4Addr> =
        std::collections::BTreeMap::new();
    for s in &subnets {
        if !nodes.iter().any(|a| subnet(*a) == *s && fits_24(*a)) {
            continue;
        }
        let free = hosts()
            .map(|h| Ipv4Addr::new(s[0], s[1], s[2], h))
            .find(|a| !taken.contains(a));
        if let Some(a) = free {
            addresses.push((a, 24));
            hub_in.insert(*s, a);
        }
    }
    let mut plans = Vec::with_capacity(nodes.len());
    for a in nodes {
        let hub = if fits_24(*a) {
            hub_in.get(&subnet(*a)).copied()
        } else {
            None
        };
        if hub.is_none() {
            routes.push(*a);
        }
        plans.push(NodeNet {
            address: *a,
            prefix: if fits_24(*a) { 24 } else { 32 },
            hub: hub.unwrap_or(foreign),
        });
    }
    (HubPlan { addresses, routes }, plans)
}

/// A MAC address with a Raspberry Pi prefix, the same for a node at every start.
pub(crate) fn mac(node: &str) -> String {
    use sha2::{Digest, Sha256};
    let d = Sha256::digest(node.as_bytes());
    let b = |i: usize| d.get(i).copied().unwrap_or(0);
    format!("dc:a6:32:{:02x}:{:02x}:{:02x}", b(0), b(1), b(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> Ipv4Addr {
        s.parse().unwrap()
    }

    #[test]
    fn one_hub_address_per_subnet_and_never_a_taken_one() {
        let nodes = [ip("192.168.1.1"), ip("192.168.1.254"), ip("10.9.8.7")];
        let (hub, nets) = plan(&nodes, &[ip("10.9.8.1")]);
        assert_eq!(
            hub.addresses,
            [
                (ip("192.0.2.1"), 32),
                (ip("10.9.8.254"), 24),
                (ip("192.168.1.253"), 24)
            ]
        );
        assert!(hub.routes.is_empty());
        assert_eq!(nets[0].hub, ip("192.168.1.253"));
        assert_eq!(nets[2].hub, ip("10.9.8.254"));
    }

    #[test]
    fn network_and_broadcast_octets_become_routed_single_addresses() {
        let (hub, nets) = plan(&[ip("10.0.3.255"), ip("10.0.3.0"), ip("10.0.3.7")], &[]);
        assert_eq!(hub.routes, [ip("10.0.3.255"), ip("10.0.3.0")]);
        assert_eq!(
            nets[0],
            NodeNet {
                address: ip("10.0.3.255"),
                prefix: 32,
                hub: ip("192.0.2.1")
            }
        );
        assert_eq!(nets[2].hub, ip("10.0.3.1"));
    }

    #[test]
    fn a_full_subnet_is_routed_from_the_foreign_address() {
        let nodes: Vec<Ipv4Addr> = (1..=254).map(|h| Ipv4Addr::new(10, 0, 0, h)).collect();
        let (hub, nets) = plan(&nodes, &[]);
        assert_eq!(hub.addresses.len(), 1);
        assert_eq!(hub.routes.len(), 254);
        assert!(nets.iter().all(|n| n.hub == ip("192.0.2.1")));
    }

    #[test]
    fn the_foreign_address_evades_nodes_in_documentation_ranges() {
        let (hub, _) = plan(&[ip("192.0.2.9")], &[]);
        assert_eq!(hub.addresses[0], (ip("198.51.100.1"), 32));
    }
}
