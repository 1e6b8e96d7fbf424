//! Manifests that are applied by themselves (pkg/deploy/controller.go), and pods for what they ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Server;
use super::addons::is_disabled;
use crate::api::kinds::Kind;
use crate::api::status::Refusal;
use crate::api::{Key, Store, disruption, merge_patch};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::heart::{Heart, Kubernetes};
use crate::{clock, files, log, text};

const OWNER: &str = "objectset.rio.cattle.io/owner-name";

/// Watches `server/manifests` in a thread of its own. Upstream looks every 15 seconds; here it is every two.
pub(super) fn watch(server: &Arc<Server>, settings: &Settings) -> Outcome {
    let base = server.paths.server.join("manifests");
    let disabled: Vec<String> = settings.list("disable");
    let servicelb = !is_disabled(settings, "servicelb");
    let heart = server.heart.clone();
    let server = server.clone();
    let mut seen: BTreeMap<PathBuf, SystemTime> = BTreeMap::new();
    // At a start every manifest is applied again, whatever was applied before.
    pass(&heart, &base, &disabled, &mut seen, true);
    std::thread::spawn(move || {
        loop {
            for _ in 0..2 {
                // Pods are one server's business; manifests are every server's own.
                let leads = server.leads_since().is_some();
                match &heart {
                    _ if !leads => {}
                    Heart::BuiltIn(store) => workloads(store, servicelb),
                    Heart::Kubernetes(cluster) => {
                        if let Err(refusal) = schedule(&heart, cluster, servicelb) {
                            log::error(format!("Failed to schedule pods: {}", refusal.message));
                        }
                    }
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            pass(&heart, &base, &disabled, &mut seen, false);
        }
    });
    Ok(())
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(Result::ok).map(|e| e.path()) {
        if path.is_dir() {
            walk(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// `name` of `name.more.yaml`.
fn addon_name(path: &Path) -> String {
    file_name(path)
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn is_manifest(name: &str) -> bool {
    let lower = name.to_lowercase();
    !name.starts_with('.')
        && [".yaml", ".yml", ".json"]
            .iter()
            .any(|e| lower.ends_with(e))
}

fn disables(base: &Path, path: &Path, disabled: &[String]) -> bool {
    let relative = path.strip_prefix(base).unwrap_or(path);
    let folders = relative
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .map(|c| c.as_os_str().to_string_lossy().into_owned());
    let own = is_manifest(&file_name(path)).then(|| {
        let name = file_name(path);
        name.rsplit_once('.')
            .map_or(name.clone(), |(stem, _)| stem.to_owned())
    });
    folders.chain(own).any(|n| disabled.contains(&n))
}

fn pass(
    heart: &Heart,
    base: &Path,
    disabled: &[String],
    seen: &mut BTreeMap<PathBuf, SystemTime>,
    force: bool,
) {
    let mut all = vec![];
    walk(base, &mut all);
    all.sort();
    let skips: Vec<String> = all
        .iter()
        .filter_map(|p| file_name(p).strip_suffix(".skip").map(str::to_owned))
        .collect();
    for path in all {
        let name = file_name(&path);
        if disables(base, &path, disabled) {
            match undeploy(heart, &path) {
                Ok(()) => {
                    let _ = std::fs::remove_file(&path);
                }
                Err(refusal) => log::error(format!(
                    "Failed to delete {}: {}",
                    path.display(),
                    refusal.message
                )),
            }
            continue;
        }
        if !is_manifest(&name) || skips.contains(&name) {
            continue;
        }
        let Ok(modified) = std::fs::metadata(&path).and_then(|m| m.modified()) else {
            continue;
        };
        if seen.get(&path) == Some(&modified) {
            continue;
        }
        match deploy(heart, &path, force) {
            Ok(()) => {
                seen.insert(path, modified);
            }
            Err(fault) => log::error(format!(
                "Failed to process config: {}",
                fault.within(format!("failed to process {}", path.display()))
            )),
        }
    }
}

fn addon_kind(heart: &Heart) -> Result<Kind, Refusal> {
    heart
        .kind("k3s.cattle.io/v1", "Addon")?
        .ok_or_else(Refusal::no_such_path)
}

fn told(refusal: Refusal) -> Fault {
    Fault(refusal.message)
}

fn deploy(heart: &Heart, path: &Path, force: bool) -> Outcome {
    let content = files::read(path)?;
    let checksum = text::sha256(content.as_bytes());
    let name = addon_name(path);
    let kind = addon_kind(heart).map_err(told)?;
    let key = Key::of(&kind, "kube-system", &name);
    let spec = json!({"source": path.display().to_string(), "checksum": ""});
    let known = heart.get(&key).map_err(told)?;
    if known.is_none() {
        let new = json!({"metadata": {"name": name, "namespace": "kube-system"}, "spec": spec});
        heart.create(&kind, &key, new).map_err(told)?;
    }
    if !force && (known.as_ref()).is_some_and(|a| a["spec"]["checksum"] == checksum.as_str()) {
        return Ok(());
    }
    let documents: Vec<Value> =
        serde_yaml::from_multiple(&content).map_err(|e| Fault(e.to_string()))?;
    let mut objects = vec![];
    for document in documents.into_iter().filter(|d| !d.is_null()) {
        match document["items"].as_array() {
            Some(items)
                if document["kind"]
                    .as_str()
                    .is_some_and(|k| k.ends_with("List")) =>
            {
                objects.extend(items.iter().cloned())
            }
            _ => objects.push(document),
        }
    }
    let mut kept = vec![];
    for object in objects {
        kept.push(apply(heart, &name, object)?);
    }
    // A new addon owns nothing yet but what was just applied.
    if known.is_some() {
        for key in owned(heart, &name).map_err(told)? {
            if !kept.contains(&key) {
                heart.delete(&key).map_err(told)?;
            }
        }
    }
    heart
        .update(&kind, &key, |addon| {
            addon["spec"]["checksum"] = checksum.clone().into();
            addon["spec"]["source"] = path.display().to_string().into();
            Ok(())
        })
        .map_err(told)?;
    Ok(())
}

fn apply(heart: &Heart, addon: &str, mut object: Value) -> Outcome<Key> {
    let missing = |what: &str| Fault(format!("Object '{what}' is missing in '{object}'"));
    let api_version = object["apiVersion"]
        .as_str()
        .ok_or_else(|| missing("apiVersion"))?
        .to_owned();
    let kind_name = object["kind"]
        .as_str()
        .ok_or_else(|| missing("Kind"))?
        .to_owned();
    let kind = heart
        .kind(&api_version, &kind_name)
        .map_err(told)?
        .ok_or_else(|| {
            Fault(format!(
                "no matches for kind {kind_name:?} in version {api_version:?}"
            ))
        })?;
    let meta = |f: &str| {
        object["metadata"][f]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let namespace = if meta("namespace").is_empty() {
        "default".into()
    } else {
        meta("namespace")
    };
    let key = Key::of(&kind, &namespace, &meta("name"));
    for (name, value) in [
        ("objectset.rio.cattle.io/id", ""),
        (
            "objectset.rio.cattle.io/owner-gvk",
            "k3s.cattle.io/v1, Kind=Addon",
        ),
        (OWNER, addon),
        ("objectset.rio.cattle.io/owner-namespace", "kube-system"),
    ] {
        object["metadata"]["annotations"][name] = value.into();
    }
    let done = match heart.get(&key).map_err(told)? {
        None => heart.create(&kind, &key, object),
        Some(_) => heart.update(&kind, &key, |old| {
            merge_patch(old, &object);
            Ok(())
        }),
    };
    done.map_err(told)?;
    Ok(key)
}

fn owned(heart: &Heart, addon: &str) -> Result<Vec<Key>, Refusal> {
    let mut out: Vec<Key> = vec![];
    for kind in heart.kinds()? {
        for (key, object) in heart.list(&kind.group, &kind.plural, "")? {
            // The same object may be there under several versions of its group.
            if object["metadata"]["annotations"][OWNER] == addon && !out.contains(&key) {
                out.push(key);
            }
        }
    }
    Ok(out)
}

fn undeploy(heart: &Heart, path: &Path) -> Result<(), Refusal> {
    let name = addon_name(path);
    for key in owned(heart, &name)? {
        heart.delete(&key)?;
    }
    let kind = addon_kind(heart)?;
    heart.delete(&Key::of(&kind, "kube-system", &name))
}

/// What there is on a real Kubernetes instead of a scheduler and of the controller of charts: k3s' one chart becomes
/// what it would become, and pods go to the first node that takes them. The rest is the real controllers' business.
fn schedule(heart: &Heart, cluster: &Kubernetes, servicelb: bool) -> Result<(), Refusal> {
    if let Some(chart) = heart.get(&Key::new(
        "helm.cattle.io",
        "helmcharts",
        "kube-system",
        "traefik",
    ))? {
        traefik(heart, &chart, servicelb)?;
    }
    let waiting = cluster.list(
        "",
        "pods",
        "",
        "?fieldSelector=spec.nodeName%3D,status.phase%3DPending",
    )?;
    if waiting.is_empty() {
        return Ok(());
    }
    let nodes = cluster.list("", "nodes", "", "")?;
    for (key, pod) in waiting {
        // Pods of daemon sets name their node in an affinity.
        let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"][0]["matchFields"][0]["values"][0];
        let chosen = nodes.iter().find(|(node, object)| {
            terms.as_str().is_none_or(|name| node.name == name)
                && bears(object, &pod["spec"]["tolerations"], terms.is_string())
        });
        if let Some((node, _)) = chosen {
            cluster.bind(&key, &node.name)?;
        }
    }
    Ok(())
}

/// What the chart of traefik makes, and k3s' load balancer for it.
fn traefik(heart: &Heart, chart: &Value, servicelb: bool) -> Result<(), Refusal> {
    let kind = |name: &str| {
        heart
            .kind("apps/v1", name)?
            .ok_or_else(Refusal::no_such_path)
    };
    let owner = json!([{"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "name": "traefik", "uid": chart["metadata"]["uid"]}]);
    let tolerations = json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]);
    let deployments = kind("Deployment")?;
    let key = Key::of(&deployments, "kube-system", "traefik");
    if heart.get(&key)?.is_none() {
        let labels = json!({"app.kubernetes.io/name": "traefik"});
        let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"tolerations": tolerations, "containers": [{"name": "traefik", "image": "rancher/mirrored-library-traefik"}]}}});
        heart.create(&deployments, &key, json!({"metadata": {"name": "traefik", "namespace": "kube-system", "ownerReferences": owner}, "spec": spec}))?;
    }
    let daemons = kind("DaemonSet")?;
    let name = format!("svclb-traefik-{}", text::suffix("traefik", 8));
    let key = Key::of(&daemons, "kube-system", &name);
    if servicelb && heart.get(&key)?.is_none() {
        let labels = json!({"app": name, "svccontroller.k3s.cattle.io/svcname": "traefik"});
        let spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"tolerations": tolerations, "containers": [{"name": "lb-tcp-80", "image": "rancher/klipper-lb"},
                {"name": "lb-tcp-443", "image": "rancher/klipper-lb"}]}}});
        heart.create(&daemons, &key, json!({"metadata": {"name": name, "namespace": "kube-system", "ownerReferences": owner}, "spec": spec}))?;
    }
    Ok(())
}

/// Pods for deployments, daemon sets and the one chart that k3s brings; they run as soon as a node takes them.
fn workloads(store: &Arc<Store>, servicelb: bool) {
    let kinds = store.kinds();
    let find = |name: &str| kinds.iter().find(|k| k.kind == name).cloned();
    let (Some(pods), Some(deployments)) = (find("Pod"), find("Deployment")) else {
        return;
    };
    if let Some(chart) = store.get(&Key::new(
        "helm.cattle.io",
        "helmcharts",
        "kube-system",
        "traefik",
    )) {
        let _ = traefik(&Heart::BuiltIn(store.clone()), &chart, servicelb);
    }
    let nodes: Vec<Value> = store
        .list("", "nodes", "")
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    for (key, deployment) in store.list("apps", "deployments", "") {
        let wanted =
            usize::try_from(deployment["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(1);
        let have = mine(store, &deployment);
        for n in have.len()..wanted {
            let seed = text::uuid();
            let name = format!(
                "{}-{}-{}",
                key.name,
                text::suffix(&key.name, 10),
                text::suffix(&seed, 5)
            );
            let node = nodes
                .iter()
                .cycle()
                .skip(n)
                .take(nodes.len())
                .find(|node| fits(node, &deployment, false));
            make(
                store,
                &pods,
                &key.namespace,
                &name,
                &deployment,
                "ReplicaSet",
                node,
            );
        }
        for (key, pod) in have.iter().take(wanted) {
            if pod["spec"]["nodeName"].is_null()
                && let Some(node) = nodes.iter().find(|node| fits(node, &deployment, false))
            {
                place(store, &pods, key, node);
            }
        }
        for (key, _) in have.iter().skip(wanted) {
            let _ = store.delete(key);
        }
        let running = mine(store, &deployment)
            .iter()
            .filter(|(_, p)| p["status"]["phase"] == "Running")
            .count();
        let status = json!({"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": running, "availableReplicas": running,
            "observedGeneration": deployment["metadata"]["generation"]});
        if deployment["status"] != status {
            let _ = store.update(&deployments, &key, |d| {
                d["status"] = status.clone();
                Ok(())
            });
        }
    }
    for (key, daemon) in store.list("apps", "daemonsets", "") {
        let have = mine(store, &daemon);
        let fitting: Vec<&Value> = nodes.iter().filter(|n| fits(n, &daemon, true)).collect();
        for node in &fitting {
            if !have
                .iter()
                .any(|(_, p)| p["spec"]["nodeName"] == node["metadata"]["name"])
            {
                let seed = format!("{}{}", key.name, node["metadata"]["uid"]);
                make(
                    store,
                    &pods,
                    &key.namespace,
                    &format!("{}-{}", key.name, text::suffix(&seed, 5)),
                    &daemon,
                    "DaemonSet",
                    Some(node),
                );
            }
        }
        let up = mine(store, &daemon).len();
        let status = json!({"desiredNumberScheduled": fitting.len(), "currentNumberScheduled": up, "updatedNumberScheduled": up, "numberReady": up,
            "numberAvailable": up, "numberMisscheduled": 0, "observedGeneration": daemon["metadata"]["generation"]});
        if daemon["status"] != status
            && let Some(kind) = find("DaemonSet")
        {
            let _ = store.update(&kind, &key, |d| {
                d["status"] = status.clone();
                Ok(())
            });
        }
    }
    if let Some(budgets) = find("PodDisruptionBudget") {
        for (key, budget) in store.list("policy", "poddisruptionbudgets", "") {
            let status = disruption::status(store, &budget);
            if budget["status"] != status {
                let _ = store.update(&budgets, &key, |b| {
                    b["status"] = status.clone();
                    Ok(())
                });
            }
        }
    }
    if let Some(definitions) = find("CustomResourceDefinition") {
        let all = store.list(&definitions.group, &definitions.plural, "");
        for (key, _) in all.iter().filter(|(_, d)| d["status"].is_null()) {
            let _ = store.update(&definitions, key, |d| {
                d["status"] = json!({"conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]});
                Ok(())
            });
        }
    }
}

fn mine(store: &Store, owner: &Value) -> Vec<(Key, Value)> {
    let namespace = owner["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut pods = store.list("", "pods", namespace);
    pods.retain(|(_, p)| {
        p["metadata"]["ownerReferences"]
            .as_array()
            .is_some_and(|o| o.iter().any(|o| o["uid"] == owner["metadata"]["uid"]))
    });
    pods
}

/// Whether a node takes pods of an owner: ready, not cordoned (that stops daemons not), no taint without a toleration.
fn fits(node: &Value, owner: &Value, daemon: bool) -> bool {
    let tolerations = &owner["spec"]["template"]["spec"]["tolerations"];
    bears(node, tolerations, daemon)
}

/// The same for a list of tolerations.
fn bears(node: &Value, tolerations: &Value, daemon: bool) -> bool {
    let tolerations = tolerations.as_array().cloned().unwrap_or_default();
    node["spec"]["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|taint| {
            let key = taint["key"].as_str().unwrap_or_default();
            let daemons_bear = daemon && key.starts_with("node.kubernetes.io/");
            taint["effect"] == "PreferNoSchedule"
                || daemons_bear
                || tolerations.iter().any(|t| {
                    let same_key = t["key"] == taint["key"]
                        || (t["key"].is_null() && t["operator"] == "Exists");
                    let same_effect = t["effect"].is_null() || t["effect"] == taint["effect"];
                    let same_value = t["operator"] == "Exists"
                        || t["value"].as_str().unwrap_or("")
                            == taint["value"].as_str().unwrap_or("");
                    same_key && same_effect && same_value
                })
        })
}

fn running(node: &Value, containers: &Value, name: &str) -> Value {
    let now = clock::stamp();
    let last = text::sha256(name.as_bytes());
    let byte = u8::from_str_radix(&last[..2], 16).unwrap_or(2);
    let cidr = node["spec"]["podCIDR"].as_str().unwrap_or("10.42.0.0/24");
    let statuses: Vec<Value> = containers
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| json!({"name": c["name"], "image": c["image"], "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}}}))
        .collect();
    json!({"phase": "Running", "startTime": now, "podIP": super::nth(cidr, byte.max(2)), "hostIP": node["status"]["addresses"][0]["address"],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}], "containerStatuses": statuses})
}

fn make(
    store: &Store,
    pods: &Kind,
    namespace: &str,
    name: &str,
    owner: &Value,
    through: &str,
    node: Option<&Value>,
) {
    let template = &owner["spec"]["template"];
    let mut spec = template["spec"].clone();
    let status = match node {
        Some(node) => {
            spec["nodeName"] = node["metadata"]["name"].clone();
            running(node, &spec["containers"], name)
        }
        None => {
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})
        }
    };
    let object = json!({"metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": through, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": true}]},
        "spec": spec, "status": status});
    let _ = store.create(pods, &Key::of(pods, namespace, name), object);
}

fn place(store: &Store, pods: &Kind, key: &Key, node: &Value) {
    let _ = store.update(pods, key, |pod| {
        pod["spec"]["nodeName"] = node["metadata"]["name"].clone();
        pod["status"] = running(node, &pod["spec"]["containers"], &key.name);
        Ok(())
    });
}
