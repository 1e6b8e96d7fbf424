//! What servers do for their members: annotations, conditions, promotion, removal (`manageLearners`, metadata_controller.go,
//! member_controller.go in pkg/etcd).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Listed, Member};
use crate::api::kinds;
use crate::api::status::Refusal;
use crate::api::{Key, Store};
use crate::fault::Outcome;
use crate::heart::Heart;
use crate::release::Release;
use crate::{clock, log, net};

const NAME: &str = "etcd.k3s.cattle.io/node-name";
const ADDRESS: &str = "etcd.k3s.cattle.io/node-address";
const REMOVE: &str = "etcd.k3s.cattle.io/remove";
const REMOVED: &str = "etcd.k3s.cattle.io/removed-node-name";
const ROLE: &str = "node-role.kubernetes.io/etcd";

/// Upstream looks every 15 seconds.
const EVERY: Duration = Duration::from_secs(2);

/// Watches in threads of its own. `own` is the name of this server's node.
pub(crate) fn watch(member: &Arc<Member>, heart: &Heart, own: Option<String>) {
    let (members, nodes) = (member.clone(), heart.clone());
    std::thread::spawn(move || {
        loop {
            if let Some(own) = &own
                && let Err(refusal) = describe(&members, &nodes, own)
            {
                log::error(format!("error syncing '{own}': {}", refusal.message));
            }
            lead(&members, &nodes);
            std::thread::sleep(EVERY);
        }
    });
    if let Heart::BuiltIn(store) = heart {
        deletions(member.clone(), store.clone());
    }
}

fn text<'a>(node: &'a Value, annotation: &str) -> Option<&'a str> {
    node["metadata"]["annotations"][annotation].as_str()
}

fn update(heart: &Heart, key: &Key, change: impl FnMut(&mut Value)) -> Result<(), Refusal> {
    let mut change = change;
    let Some(kind) = kinds::built_in().into_iter().find(|k| k.kind == "Node") else {
        return Ok(());
    };
    heart
        .update(&kind, key, |node| {
            change(node);
            Ok(())
        })
        .map(|_| ())
}

/// The server's own node says which member it is.
fn describe(member: &Member, heart: &Heart, own: &str) -> Result<(), Refusal> {
    let key = Key::node(own);
    let Some(node) = heart.get(&key)? else {
        return Ok(());
    };
    let address = member.address.to_string();
    if text(&node, NAME) == Some(&member.name)
        && text(&node, ADDRESS) == Some(&address)
        && node["metadata"]["labels"][ROLE] == "true"
    {
        return Ok(());
    }
    update(heart, &key, |node| {
        let annotations = &mut node["metadata"]["annotations"];
        annotations[NAME] = member.name.clone().into();
        annotations[ADDRESS] = address.clone().into();
        let labels = &mut node["metadata"]["labels"];
        labels[ROLE] = "true".into();
        labels["node-role.kubernetes.io/control-plane"] = "true".into();
        if Release::ours().minor() < 35 {
            labels["node-role.kubernetes.io/master"] = "true".into();
        }
    })
}

/// What the server of the leading member does.
fn lead(member: &Member, heart: &Heart) {
    let leads = match member.gateway.status() {
        Ok(status) => status.leads,
        Err(why) => {
            log::error(format!(
                "Failed to check local etcd status for learner management: {why}"
            ));
            false
        }
    };
    member.leads(leads);
    let_go(member, leads);
    if !leads {
        return;
    }
    let listed = match member.gateway.members() {
        Ok(listed) => listed,
        Err(why) => {
            log::error(format!(
                "Failed to get etcd members for learner management: {why}"
            ));
            return;
        }
    };
    for learner in listed.iter().filter(|m| m.learner) {
        // One that is not in step yet is tried again.
        if member.gateway.promote(learner.id).is_ok() {
            log::info(format!("Promoted learner {}", learner.name));
        }
    }
    let Ok(nodes) = heart.list("", "nodes", "") else {
        return;
    };
    for (key, node) in nodes {
        if node["metadata"]["labels"][ROLE] != "true" {
            continue;
        }
        let own = listed.iter().find(|m| text(&node, NAME) == Some(&m.name));
        let condition = condition(member, own);
        if let Err(refusal) = say(heart, &key, &node, condition) {
            log::error(format!(
                "Unable to set etcd status condition {}: {}",
                key.name, refusal.message
            ));
        }
        if let Err(why) = asked_to_go(member, heart, &key, &node) {
            log::error(format!("error syncing '{}': {why}", key.name));
        }
    }
}

/// Status, reason and message of `EtcdIsVoter`.
fn condition(member: &Member, own: Option<&Listed>) -> (&'static str, &'static str, String) {
    let Some(own) = own else {
        let why = "Node is not a member of the etcd cluster";
        return ("False", "NotAMember", why.into());
    };
    if let Err(why) = member.reach(own) {
        return (
            "False",
            "Unhealthy",
            format!("failed to check etcd member status: {why}"),
        );
    }
    if own.learner {
        let why = "Node has not been promoted to voting member of the etcd cluster";
        return ("False", "MemberIsLearner", why.into());
    }
    let why = "Node is a voting member of the etcd cluster";
    ("True", "MemberNotLearner", why.into())
}

fn say(
    heart: &Heart,
    key: &Key,
    node: &Value,
    (status, reason, message): (&str, &str, String),
) -> Result<(), Refusal> {
    let conditions = node["status"]["conditions"].as_array();
    let is_said = conditions.into_iter().flatten().any(|c| {
        c["type"] == "EtcdIsVoter"
            && c["status"] == status
            && c["reason"] == reason
            && c["message"] == message.as_str()
    });
    if is_said {
        return Ok(());
    }
    let now = clock::stamp();
    let new = json!({"type": "EtcdIsVoter", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now});
    heart.set_node_condition(key, &new)
}

/// `etcd.k3s.cattle.io/remove=true` on a node removes its member, and says which it was.
fn asked_to_go(member: &Member, heart: &Heart, key: &Key, node: &Value) -> Outcome {
    let Some(asked) = text(node, REMOVE) else {
        return Ok(());
    };
    let told = |r: Refusal| crate::fault::Fault(r.message);
    if let Some(removed) = text(node, REMOVED) {
        if text(node, NAME).is_some_and(|now| now != removed) {
            // It has joined again under another name.
            update(heart, key, |node| {
                let annotations = &mut node["metadata"]["annotations"];
                if let Some(all) = annotations.as_object_mut() {
                    all.shift_remove(REMOVED);
                }
                annotations[REMOVE] = "false".into();
            })
            .map_err(told)?;
        }
        return Ok(());
    }
    if !asked.eq_ignore_ascii_case("true") {
        return Ok(());
    }
    let (Some(name), Some(address)) = (text(node, NAME), text(node, ADDRESS)) else {
        return Ok(());
    };
    remove(member, name, address)?;
    let name = name.to_owned();
    update(heart, key, |node| {
        let annotations = &mut node["metadata"]["annotations"];
        annotations[REMOVED] = name.clone().into();
        if let Some(all) = annotations.as_object_mut() {
            all.shift_remove(NAME);
            all.shift_remove(ADDRESS);
        }
    })
    .map_err(told)
}

/// Removes the member of this name and address (`RemovePeer`).
fn remove(member: &Member, name: &str, address: &str) -> Outcome {
    for listed in member.gateway.members()? {
        let there = listed.name == name
            && listed
                .peers
                .iter()
                .any(|p| net::authority(p).is_ok_and(|(host, _)| host == address));
        if there {
            log::info(format!(
                "Removing name={} id={} address={address} from etcd",
                listed.name, listed.id
            ));
            return member.gateway.remove(listed.id);
        }
    }
    Ok(())
}

/// The member of a node that is deleted goes with it (`onRemove`). All servers take note; whoever leads does it.
pub(crate) fn removed_node(member: &Member, node: &Value) {
    if node["metadata"]["labels"][ROLE] != "true" {
        return;
    }
    let of = |annotation: &str| text(node, annotation).map(str::to_owned);
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    if let (Some(member_name), Some(address)) = (of(NAME), of(ADDRESS)) {
        member.leaving().push(Leaving {
            node: name.to_owned(),
            name: member_name,
            address,
            since: Instant::now(),
        });
    }
}

/// A member whose node is gone.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    node: String,
    name: String,
    address: String,
    since: Instant,
}

/// Removes members whose nodes are gone, if this one leads; otherwise another does.
fn let_go(member: &Member, leads: bool) {
    let all: Vec<Leaving> = std::mem::take(&mut *member.leaving());
    for one in all {
        if leads {
            log::info(format!("Removing etcd member {} from cluster", one.node));
            match remove(member, &one.name, &one.address) {
                Ok(()) => continue,
                Err(why) => log::error(format!("error syncing '{}': {why}", one.node)),
            }
        }
        if one.since.elapsed() < Duration::from_secs(60) {
            member.leaving().push(one);
        }
    }
}

fn deletions(member: Arc<Member>, store: Arc<Store>) {
    std::thread::spawn(move || {
        let mut version = store.version();
        loop {
            let happened = match store.since(version, Duration::from_secs(30)) {
                Ok(happened) => happened,
                Err(_) => {
                    version = store.version();
                    continue;
                }
            };
            for h in happened {
                version = h.version;
                if h.verb == "DELETED" && h.key.plural == "nodes" {
                    removed_node(&member, &h.object);
                }
            }
        }
    });
}
