//! Nodes that stop reporting (kubernetes/pkg/controller/nodelifecycle).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Server;
use crate::api::status::Refusal;
use crate::api::{Key, Store, kinds};
use crate::cli::Settings;
use crate::heart::Heart;
use crate::release::Release;
use crate::{clock, log};

/// What the cloud provider, the address allocator and the supervisor add to a node that has registered
/// (pkg/cloudprovider/instances.go, kubernetes/pkg/controller/nodeipam, pkg/server/server.go).
fn complete(server: Arc<Server>, store: Arc<Store>, own: Option<String>, network: String) {
    let Some(kind) = kinds::built_in().into_iter().find(|k| k.kind == "Node") else {
        return;
    };
    std::thread::spawn(move || {
        let mut version = 0;
        let mut role_is_set = false;
        loop {
            // Most of what happens is a node that is still there.
            for (key, node) in store.some("", "nodes", "", |node| {
                !role_is_set || !node["spec"]["providerID"].is_string()
            }) {
                let own = own
                    .as_ref()
                    .is_some_and(|o| key.name == *o || key.name.starts_with(&format!("{o}-")));
                if node["spec"]["providerID"].is_string() && (!own || role_is_set) {
                    continue;
                }
                // Addresses are given by one server alone; it comes to the others' nodes soon.
                if !own && server.leads_since().is_none() || own && other_leads(&server, &node) {
                    continue;
                }
                let cidr = free(&store, &network);
                let done = store.update(&kind, &key, |node| {
                    mark(node, &key.name, own);
                    if !node["spec"]["podCIDR"].is_string() {
                        node["spec"]["podCIDR"] = cidr.clone().into();
                        node["spec"]["podCIDRs"] = json!([cidr]);
                    }
                    node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] = "0".into();
                    Ok(())
                });
                role_is_set |= own && done.is_ok();
            }
            version = match store.since(version, Duration::from_secs(1)) {
                Ok(happened) => happened.last().map_or(version, |h| h.version),
                Err(_) => store.version(),
            };
        }
    });
}

/// An own node that has no address yet, while another server gives them.
fn other_leads(server: &Server, node: &Value) -> bool {
    server.leads_since().is_none() && !node["spec"]["podCIDR"].is_string()
}

const FINALIZER: &str = "wrangler.cattle.io/node";

/// What k3s itself writes on a node.
fn mark(node: &mut Value, name: &str, own: bool) {
    let labels = &mut node["metadata"]["labels"];
    labels["beta.kubernetes.io/instance-type"] = "k3s".into();
    labels["node.kubernetes.io/instance-type"] = "k3s".into();
    labels["simulator"] = "true".into();
    if own {
        labels["node-role.kubernetes.io/control-plane"] = "true".into();
        if Release::ours().minor() < 35 {
            labels["node-role.kubernetes.io/master"] = "true".into();
        }
    }
    // A hollow kubelet has set its own, and it is set once only.
    if !node["spec"]["providerID"].is_string() {
        node["spec"]["providerID"] = format!("k3s://{name}").into();
    }
    let finalizers = &mut node["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(all) if all.iter().any(|f| f == FINALIZER) => {}
        Some(all) => all.push(FINALIZER.into()),
        None => *finalizers = json!([FINALIZER]),
    }
}

/// Whether a node has all that.
fn is_marked(node: &Value, own: bool) -> bool {
    let labels = &node["metadata"]["labels"];
    labels["simulator"] == "true"
        && node["spec"]["providerID"].is_string()
        && (!own || labels["node-role.kubernetes.io/control-plane"] == "true")
}

/// The same on a real Kubernetes; and a node that is deleted takes its password along (pkg/nodepassword/controller.go).
fn provide(server: &Server, own: Option<&str>, role_is_set: &mut bool) -> Result<(), Refusal> {
    let heart = &server.heart;
    let Some(kind) = heart.kind("v1", "Node")? else {
        return Ok(());
    };
    for (key, node) in heart.list("", "nodes", "")? {
        let is_own = own.is_some_and(|o| key.name == *o || key.name.starts_with(&format!("{o}-")));
        let meta = &node["metadata"];
        let leads = server.leads_since().is_some();
        let done = if meta["deletionTimestamp"].is_string() {
            if !leads {
                continue;
            }
            if let Some(member) = &server.member
                && let Err(why) = crate::etcd::let_go(member, &node)
            {
                log::error(format!("error syncing '{}': {why}", key.name));
                continue;
            }
            let secret = format!("{}.node-password.k3s", key.name);
            heart.delete(&Key::secret("kube-system", &secret))?;
            heart.update(&kind, &key, |node| {
                if let Some(all) = node["metadata"]["finalizers"].as_array_mut() {
                    all.retain(|f| f != FINALIZER);
                }
                Ok(())
            })
        } else if is_marked(&node, is_own && !*role_is_set) {
            continue;
        } else {
            let done = heart.update(&kind, &key, |node| {
                mark(node, &key.name, is_own);
                Ok(())
            });
            *role_is_set |= is_own && done.is_ok();
            done
        };
        match done {
            // Somebody else was faster; the next round sees what there is then.
            Err(refusal) if refusal.code != 409 && refusal.code != 404 => return Err(refusal),
            _ => {}
        }
    }
    Ok(())
}

/// The first /24 of the network of pods that no node has.
fn free(store: &Store, network: &str) -> String {
    let taken: Vec<String> = store
        .list("", "nodes", "")
        .iter()
        .filter_map(|(_, n)| n["spec"]["podCIDR"].as_str().map(str::to_owned))
        .collect();
    let base: Vec<&str> = network.split('.').collect();
    (0..256)
        .map(|n| match base.as_slice() {
            [a, b, ..] => format!("{a}.{b}.{n}.0/24"),
            _ => format!("10.42.{n}.0/24"),
        })
        .find(|c| !taken.contains(c))
        .unwrap_or_default()
}

/// Upstream's grace is 40 seconds (50 since 1.32); here nodes renew their leases every two, so silence is noticed sooner.
const GRACE: i64 = 12;

/// Seconds of `5s` or `1m0s`.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0_i64, String::new());
    for c in text.chars() {
        match c {
            '0'..='9' => number.push(c),
            'h' | 'm' | 's' => {
                let n: i64 = number.parse().ok()?;
                total += n * if c == 'h' {
                    3600
                } else if c == 'm' {
                    60
                } else {
                    1
                };
                number.clear();
            }
            _ => return None,
        }
    }
    number.is_empty().then_some(total)
}

/// Watches in a thread of its own.
pub(super) fn watch(server: &Arc<Server>, settings: &Settings) {
    let asked = settings
        .argument("kube-controller-manager-arg", "node-monitor-grace-period")
        .or_else(|| settings.argument("kube-controller-arg", "node-monitor-grace-period"));
    let grace = asked.and_then(|g| seconds(&g)).unwrap_or(GRACE);
    let own = (!settings.is_on("disable-agent")).then(|| crate::agent::node_name(settings));
    let store = match &server.heart {
        Heart::BuiltIn(store) => store.clone(),
        Heart::Kubernetes(_) => {
            // The rest is the real controllers' business.
            let server = server.clone();
            std::thread::spawn(move || {
                let mut role_is_set = false;
                loop {
                    if let Err(refusal) = provide(&server, own.as_deref(), &mut role_is_set) {
                        log::error(format!("Failed to update nodes: {}", refusal.message));
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
            });
            return;
        }
    };
    complete(
        server.clone(),
        store.clone(),
        own,
        server.config["ClusterIPRange"]
            .as_str()
            .unwrap_or("10.42.0.0/16")
            .to_owned(),
    );
    let server = server.clone();
    let grace = Duration::from_secs(grace.unsigned_abs());
    std::thread::spawn(move || {
        let mut heard: HashMap<String, (String, Instant)> = HashMap::new();
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if server.leads_since().is_none() {
                // Who begins to watch, after another server's end, gives everybody the grace anew.
                heard.clear();
                continue;
            }
            let leases = store.list("coordination.k8s.io", "leases", "kube-node-lease");
            let leases: HashMap<String, Value> =
                leases.into_iter().map(|(k, v)| (k.name, v)).collect();
            for (key, node) in store.list("", "nodes", "") {
                let beat = beat(&node, leases.get(&key.name));
                // When it was heard counts, not what the node's clock said then (`tryUpdateNodeHealth`).
                let now = Instant::now();
                let last = heard
                    .entry(key.name.clone())
                    .or_insert_with(|| (beat.clone(), now));
                if last.0 != beat {
                    *last = (beat, now);
                } else if last.1.elapsed() > grace {
                    silence(&store, &key);
                }
            }
        }
    });
}

/// What is another text when a node was heard of again: when it last reported, and renewed its lease.
fn beat(node: &Value, lease: Option<&Value>) -> String {
    let conditions = node["status"]["conditions"].as_array();
    let reports = conditions
        .into_iter()
        .flatten()
        .filter(|c| KUBELETS.iter().any(|k| c["type"] == *k))
        .filter_map(|c| c["lastHeartbeatTime"].as_str());
    let renewed = lease.and_then(|l| l["spec"]["renewTime"].as_str());
    reports.chain(renewed).collect::<Vec<_>>().join(" ")
}

/// Conditions that a kubelet reports.
const KUBELETS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

fn silence(store: &Store, key: &Key) {
    let Some(kind) = kinds::built_in().into_iter().find(|k| k.kind == "Node") else {
        return;
    };
    let now = clock::stamp();
    let _ = store.update(&kind, key, |node| {
        for condition in node["status"]["conditions"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            let reported = KUBELETS.iter().any(|k| condition["type"] == *k);
            if reported && condition["status"] != "Unknown" {
                condition["status"] = "Unknown".into();
                condition["reason"] = "NodeStatusUnknown".into();
                condition["message"] = "Kubelet stopped posting node status.".into();
                condition["lastTransitionTime"] = now.clone().into();
            }
        }
        Ok(())
    });
}
