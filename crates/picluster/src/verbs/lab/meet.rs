//! Pins the host keys of a lab's nodes in the lab's own store.
//!
//! Who puts a rack up compares each fingerprint once. The lab put these nodes up itself, on a network
//! that nobody else is on, so it knows their keys: it pins them at `up`, as if they had been compared,
//! and from then on the rules of real racks hold: a wiped card is a changed key, a forgotten one asks.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use picluster_lab::Lab;
use picluster_model::inventory::Project;
use picluster_model::ssh::Jump;
use picluster_ssh::{PinName, PinStore, PublicKey};

use crate::error::Failure;
use crate::store::Store;
use crate::verbs::lab::failure;
use crate::verbs::lab::home::Home;
use crate::verbs::lab::spec::jump_name;

/// Rounds of questions: on a machine that is busy a node may miss one.
const ROUNDS: usize = 3;

/// Asks every node that is on for its host key and pins it. Returns the names of those without an
/// answer: their first contact is one like any other.
///
/// # Errors
/// When the pins cannot be written, or `ssh-keyscan` cannot be run.
pub fn pin(lab: &Lab, home: &Home, project: &Project) -> Result<Vec<String>, Failure> {
    let store = Store::below(&home.store(), &project.inventory.cluster);
    let pins = PinStore::open(store.root()).map_err(|e| Failure::usage(e.to_string()))?;
    let mut asked = BTreeMap::new();
    for (pin, node) in wanted(project) {
        if !pins.get(&pin).is_empty() {
            continue;
        }
        // Declared absent: there is no machine to ask.
        if lab.spec().nodes.iter().any(|n| n.name == node && !n.absent) {
            let (address, _) = lab.ssh_target(&node).map_err(failure)?;
            asked.insert(address, pin);
        }
    }
    for _ in 0..ROUNDS {
        let ports: BTreeSet<u16> = asked.keys().map(std::net::SocketAddr::port).collect();
        for port in ports {
            let hosts: Vec<String> = asked
                .keys()
                .filter(|a| a.port() == port)
                .map(|a| a.ip().to_string())
                .collect();
            for (host, key) in scan(lab, port, &hosts)? {
                let Ok(ip) = host.parse() else { continue };
                if let Some(pin) = asked.remove(&std::net::SocketAddr::new(ip, port)) {
                    pins.add(&pin, &key, "pinned by the lab")
                        .map_err(|e| Failure::usage(e.to_string()))?;
                }
            }
        }
    }
    Ok(asked.values().map(|p| p.as_str().to_owned()).collect())
}

/// The pins picluster will look for, and the lab node behind each.
fn wanted(project: &Project) -> BTreeMap<PinName, String> {
    let mut wanted = BTreeMap::new();
    for node in project.inventory.nodes.values() {
        wanted.insert(PinName::node(&node.name), node.name.to_string());
        for jump in &node.ssh.jump {
            if let Jump::Host { host, port, .. } = jump
                && let Ok(pin) = PinName::jump(host, port.unwrap_or(22))
            {
                wanted.insert(pin, jump_name(host));
            }
        }
    }
    wanted
}

fn scan(lab: &Lab, port: u16, hosts: &[String]) -> Result<Vec<(String, PublicKey)>, Failure> {
    let output = lab
        .controller_command("ssh-keyscan")
        .args(["-T", "10", "-t", "ed25519", "-p", &port.to_string()])
        .args(hosts)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| Failure::usage(format!("cannot run ssh-keyscan: {e}")))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(answer)
        .collect())
}

/// `192.168.2.1 ssh-ed25519 AAAA…`, or `[192.168.2.1]:2222 ssh-ed25519 AAAA…`.
fn answer(line: &str) -> Option<(String, PublicKey)> {
    let (host, key) = line.split_once(' ')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => host,
    };
    Some((host.to_owned(), PublicKey::from_openssh(key).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_answer_are_read_and_talk_is_not() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        for line in [
            format!("192.168.2.1 {key}"),
            format!("[192.168.2.1]:2222 {key}"),
        ] {
            let (host, found) = answer(&line).unwrap();
            assert_eq!(host, "192.168.2.1");
            assert_eq!(found.to_openssh().unwrap().trim(), key);
        }
        assert!(answer("# 192.168.2.1:22 SSH-2.0-OpenSSH_10.0").is_none());
        assert!(answer("").is_none());
    }
}
