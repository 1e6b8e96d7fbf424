//! What servers do for their members: annotations, conditions, promotion, removal (`manageLearners`, metadata_controller.go,
//! member_controller.go in pkg/etcd).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Listed, Member};
use crate::api::Key;
use crate::api::kinds;
use crate::api::status::Refusal;
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
        if let Err(why) = part(member, heart, &key, &node) {
            log::error(format!("error syncing '{}': {why}", key.name));
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

/// The member of a node that is deleted goes with it, before the node does (`onRemove`).
pub(crate) fn let_go(member: &Member, node: &Value) -> Outcome {
    if node["metadata"]["labels"][ROLE] != "true" {
        return Ok(());
    }
    let (Some(name), Some(address)) = (text(node, NAME), text(node, ADDRESS)) else {
        return Ok(());
    };
    let node = node["metadata"]["name"].as_str().unwrap_or_default();
    log::info(format!("Removing etcd member {node} from cluster"));
    remove(member, name, address)
}

/// Sees to it that a node of a member is kept until the member is gone, and lets both go once the node is deleted.
fn part(member: &Member, heart: &Heart, key: &Key, node: &Value) -> Outcome {
    // A real API server keeps it by itself, for the supervisor's own finalizer (`lifecycle::provide`).
    let Heart::BuiltIn(store) = heart else {
        return Ok(());
    };
    let told = |r: Refusal| crate::fault::Fault(r.message);
    if !kept(node) {
        return update(heart, key, keep).map_err(told);
    }
    if node["metadata"]["deletionTimestamp"].is_string() {
        let_go(member, node)?;
        store.delete(key).map_err(told)?;
    }
    Ok(())
}

/// What keeps the node of a member (wrangler's `OnRemove`, by the name that member_controller.go gives it).
const FINALIZER: &str = "wrangler.cattle.io/managed-etcd-controller";

/// Whether a node stays, when it is deleted, until its member is gone.
pub(crate) fn kept(node: &Value) -> bool {
    let all = node["metadata"]["finalizers"].as_array();
    all.is_some_and(|all| all.iter().any(|f| f == FINALIZER))
}

fn keep(node: &mut Value) {
    match node["metadata"]["finalizers"].as_array_mut() {
        Some(all) => all.push(FINALIZER.into()),
        None => node["metadata"]["finalizers"] = json!([FINALIZER]),
    }
}
