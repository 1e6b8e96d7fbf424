//! Becoming a member of a cluster that is there (`join` in pkg/etcd/etcd.go).

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::process::Initial;
use super::{Listed, Place, host, peer_url};
use crate::fault::{Fault, Outcome};
use crate::net::{self, Client};
use crate::{agent, log};

/// Why a join is tried again, or not.
enum Trouble {
    /// The members have to settle first.
    Later(Fault),
    /// The server could not say who its members are.
    NoList(Fault),
    Never(Fault),
}

/// Adds this server's member as a learner. Waits for as long as others are joining.
pub(super) fn cluster(
    place: &Place,
    node: &str,
    name: &str,
    address: IpAddr,
    via: &Client,
) -> Outcome<Initial> {
    loop {
        match tried(place, node, name, address, via) {
            Ok(initial) => return Ok(initial),
            Err(Trouble::Later(why)) => log::info(format!(
                "Waiting for other members to finish joining etcd cluster: {why}"
            )),
            Err(Trouble::NoList(why)) => log::info(format!(
                "Waiting to retrieve etcd cluster member list: failed to get MemberList from server: {why}"
            )),
            Err(Trouble::Never(why)) => return Err(why.within("etcd cluster join failed")),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Client URLs of members that vote, but our own; the server that was named comes first (`ClientURLs`).
fn voters(members: &[Listed], own: &str, named: &str) -> Vec<String> {
    let host = |url: &String| net::authority(url).map(|(h, _)| h).unwrap_or_default();
    let others = members
        .iter()
        .filter(|m| !m.learner && !m.clients.iter().any(|u| host(u) == own));
    let (first, rest): (Vec<&Listed>, Vec<&Listed>) =
        others.partition(|m| m.clients.iter().any(|u| host(u) == named));
    let all = first.into_iter().chain(rest);
    all.flat_map(|m| m.clients.iter().cloned()).collect()
}

/// The node of a member's name.
fn node_of(member: &str) -> &str {
    match member.rfind('-') {
        Some(at) if at > 1 => &member[..at],
        _ => member,
    }
}

fn tried(
    place: &Place,
    node: &str,
    name: &str,
    address: IpAddr,
    via: &Client,
) -> Result<Initial, Trouble> {
    let said = agent::fetched(via, "/db/info").map_err(Trouble::NoList)?;
    let said: Value =
        serde_json::from_slice(&said).map_err(|e| Trouble::Never(Fault(e.to_string())))?;
    let mut members: Vec<Listed> = said["members"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Listed::of)
        .collect();
    let own = host(address).trim_matches(['[', ']']).to_owned();
    let named = net::authority(&via.base).map_err(Trouble::Never)?.0;
    let urls = voters(&members, &own, &named);
    let mut add = true;
    let mut cluster = vec![];
    for member in &mut members {
        for peer in &member.peers {
            let there = net::authority(peer).map(|(h, _)| h).unwrap_or_default() == own;
            // One that has not started has no name; with our address it is us.
            if member.name.is_empty() && there {
                member.name = name.to_owned();
            }
            add &= !(member.name == name && there);
            cluster.push(format!("{}={peer}", member.name));
        }
        if member.name != name && node_of(&member.name) == node {
            let file = place.folder().join("name");
            if let Err(e) = std::fs::remove_file(&file) {
                log::error(format!(
                    "Failed to remove etcd name file {}: {e}",
                    file.display()
                ));
            }
            return Err(Trouble::Never(Fault::new(
                "duplicate node name found, please use a unique name for this node",
            )));
        }
    }
    let peer = peer_url(address);
    if add {
        log::info(format!(
            "Adding member {name}={peer} to etcd cluster [{}]",
            cluster.join(" ")
        ));
        let gateway = place.gateway(&urls).map_err(Trouble::Never)?;
        gateway.add_learner(&peer).map_err(|why| {
            let settling = ["too many learner members in cluster", "unhealthy cluster"];
            if settling.iter().any(|s| why.0.contains(s)) {
                Trouble::Later(why)
            } else {
                Trouble::Never(why)
            }
        })?;
        cluster.push(format!("{name}={peer}"));
    }
    log::info(format!(
        "Starting etcd to join cluster with members [{}]",
        cluster.join(" ")
    ));
    Ok(Initial {
        cluster: cluster.join(","),
        is_new: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_server_is_asked_first_and_learners_never() {
        let member = |name: &str, ip: &str, learner: bool| Listed {
            id: 1,
            name: name.into(),
            peers: vec![format!("https://{ip}:2380")],
            clients: vec![format!("https://{ip}:2379")],
            learner,
        };
        let all = [
            member("n1-0a", "10.0.0.1", false),
            member("n2-0b", "10.0.0.2", false),
            member("n3-0c", "10.0.0.3", true),
            member("n4-0d", "10.0.0.4", false),
        ];
        assert_eq!(
            voters(&all, "10.0.0.4", "10.0.0.2"),
            ["https://10.0.0.2:2379", "https://10.0.0.1:2379"]
        );
        assert_eq!(voters(&all, "10.0.0.9", "vip.lan").len(), 3);
    }

    #[test]
    fn a_member_is_named_for_its_node() {
        assert_eq!(node_of("pi-2-1a2b3c4d"), "pi-2");
        assert_eq!(node_of("default"), "default");
        assert_eq!(node_of(""), "");
    }
}
