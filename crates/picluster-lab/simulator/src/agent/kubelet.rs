//! A kubelet's dealings with the API: it registers its node, says that it is well, and runs nothing.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Joined;
use crate::api::{label_value_problem, qualified_name_problem};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::heart::Programs;
use crate::labels::{KUBELET_LABELS, is_kubelet_label, is_kubernetes_label};
use crate::release::Release;
use crate::{clock, log, machine, server, text};

/// A real kubelet renews its lease every ten seconds; an idle one here may be noticed sooner.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// `SIMULATOR_READY_AFTER_MS`: how long a node is not ready after it has registered, as while a network comes up.
fn ready_after() -> Duration {
    let asked = std::env::var("SIMULATOR_READY_AFTER_MS")
        .ok()
        .and_then(|t| t.parse().ok());
    Duration::from_millis(asked.unwrap_or(500))
}

fn pairs(items: &[String]) -> Vec<(String, String)> {
    items
        .iter()
        .map(|i| i.split_once('=').unwrap_or((i, "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// What a kubelet refuses before it starts (kubernetes/cmd/kubelet/app/options/options.go).
fn validate(labels: &[(String, String)]) -> Outcome {
    let mut unknown: Vec<&str> = labels
        .iter()
        .map(|(k, _)| k.as_str())
        .filter(|k| is_kubernetes_label(k) && !is_kubelet_label(k))
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    if !unknown.is_empty() {
        return Err(Fault(format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix (kubelet.kubernetes.io, node.kubernetes.io) or be in the specifically allowed set ({})",
            unknown.join(" "),
            KUBELET_LABELS.join(", ")
        )));
    }
    let mut wrong = vec![];
    for (key, value) in labels {
        if let Some(why) = qualified_name_problem(key) {
            wrong.push(format!("'{key}' - {why}"));
        }
        if let Some(why) = label_value_problem(value) {
            wrong.push(format!("'{value}' - {why}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Fault(format!("invalid node labels: {}", wrong.join("; "))))
    }
}

/// `key[=value]:effect`, as `--register-with-taints` takes it.
fn taint(text: &str) -> Outcome<Value> {
    let fail = || {
        Fault(format!(
            "invalid argument \"{text}\" for \"--register-with-taints\" flag: invalid taint spec: {text}"
        ))
    };
    let (rest, effect) = text.rsplit_once(':').ok_or_else(fail)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(Fault(format!(
            "invalid argument \"{text}\" for \"--register-with-taints\" flag: invalid taint effect: {effect}, unsupported taint effect"
        )));
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if qualified_name_problem(key).is_some() || label_value_problem(value).is_some() {
        return Err(fail());
    }
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    Ok(taint)
}

fn ended(fault: Fault) -> Fault {
    let text = format!("failed to validate kubelet flags: {fault}");
    eprintln!("Error: {text}");
    Fault(format!("kubelet exited: {text}"))
}

/// Registers and reports for ever.
pub(super) fn run(
    settings: &Settings,
    joined: Joined,
    programs: Option<&Programs>,
    up: impl FnOnce(),
) -> Outcome {
    let labels = pairs(&settings.whole_list("node-label"));
    log::info(format!(
        "Running kubelet --hostname-override={} --kubeconfig={}",
        joined.name,
        settings
            .data_dir()
            .join("agent/kubelet.kubeconfig")
            .display()
    ));
    validate(&labels).map_err(ended)?;
    let taints: Vec<Value> = settings
        .whole_list("node-taint")
        .iter()
        .map(|t| taint(t))
        .collect::<Outcome<_>>()
        .map_err(ended)?;
    swap(settings)?;
    if let Some(programs) = programs {
        super::hollow::start(programs, settings, &joined)?;
        configure(settings, &joined, &labels);
        up();
        loop {
            std::thread::park();
        }
    }
    register(settings, &joined, &labels, &taints);
    configure(settings, &joined, &labels);
    up();
    let registered = Instant::now();
    let started = clock::now();
    loop {
        let ready = registered.elapsed() >= ready_after();
        report(&joined, ready, started);
        let left = ready_after().saturating_sub(registered.elapsed());
        std::thread::sleep(if left.is_zero() {
            HEARTBEAT
        } else {
            left.min(HEARTBEAT)
        });
    }
}

/// k3s starts its kubelet with `fail-swap-on=false`; who asks for the contrary gets the kubelet's refusal.
fn swap(settings: &Settings) -> Outcome {
    let strict = settings
        .argument("kubelet-arg", "fail-swap-on")
        .is_some_and(|v| v == "true");
    if strict && machine::swap_is_on() {
        let text = "failed to run Kubelet: running with swap on is not supported, please disable swap or set --fail-swap-on flag to false";
        eprintln!("Error: {text}");
        return Err(Fault(format!("kubelet exited: {text}")));
    }
    Ok(())
}

fn own_labels(joined: &Joined) -> Map<String, Value> {
    let arch = machine::architecture();
    let mut labels = Map::new();
    for (key, value) in [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", &joined.name),
        ("kubernetes.io/os", "linux"),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

fn register(settings: &Settings, joined: &Joined, labels: &[(String, String)], taints: &[Value]) {
    let mut all = own_labels(joined);
    for (key, value) in labels {
        all.insert(key.clone(), value.clone().into());
    }
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": joined.name, "labels": all,
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {}, "status": status(joined, false, clock::now())});
    if !taints.is_empty() {
        node["spec"]["taints"] = Value::Array(taints.to_vec());
    }
    let _ = settings;
    loop {
        log::klog(
            'I',
            "kubelet_node_status.go:75",
            format!("\"Attempting to register node\" node={:?}", joined.name),
        );
        let sent = joined.api.send(
            "POST",
            "/api/v1/nodes",
            &[("Content-Type", "application/json")],
            node.to_string().as_bytes(),
        );
        let why = match sent {
            Ok(answer) if answer.status == 201 => {
                log::klog(
                    'I',
                    "kubelet_node_status.go:78",
                    format!("\"Successfully registered node\" node={:?}", joined.name),
                );
                return;
            }
            Ok(answer) if answer.status == 409 => {
                log::klog(
                    'I',
                    "kubelet_node_status.go:124",
                    format!("\"Node was previously registered\" node={:?}", joined.name),
                );
                let patch = json!({"metadata": {"labels": own_labels(joined)}});
                let _ = patch_node(joined, "", &patch);
                return;
            }
            Ok(answer) => {
                let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                status["message"].as_str().unwrap_or("unknown").to_owned()
            }
            Err(fault) => fault.0,
        };
        log::klog(
            'E',
            "kubelet_node_status.go:107",
            format!(
                "\"Unable to register node with API server\" err={} node={:?}",
                log::quoted(&why),
                joined.name
            ),
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn patch_node(joined: &Joined, sub: &str, patch: &Value) -> Result<(), String> {
    let path = format!("{}{sub}", node_path(&joined.name));
    let headers = [("Content-Type", "application/strategic-merge-patch+json")];
    match joined
        .api
        .send("PATCH", &path, &headers, patch.to_string().as_bytes())
    {
        Ok(answer) if answer.status < 300 => Ok(()),
        Ok(answer) => {
            let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            Err(status["message"].as_str().unwrap_or("unknown").to_owned())
        }
        Err(fault) => Err(fault.0),
    }
}

/// `k3s.io/node-args`, with secrets left out (pkg/nodeconfig/nodeconfig.go).
fn node_args(words: &[String]) -> String {
    const SECRET: &[&str] = &[
        "--token",
        "-t",
        "--agent-token",
        "--datastore-endpoint",
        "--cluster-secret",
        "--etcd-s3-access-key",
        "--etcd-s3-secret-key",
    ];
    let mut list: Vec<String> = vec![];
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => {
                list.extend([name.to_owned(), value.to_owned()])
            }
            _ => list.push(word.clone()),
        }
    }
    for i in 1..list.len() {
        if SECRET.contains(&list[i - 1].as_str()) {
            list[i] = "********".into();
        }
    }
    json!(list).to_string()
}

fn node_env() -> String {
    let mut all: Vec<(String, String)> = std::env::vars()
        .filter(|(n, _)| n.starts_with("K3S_"))
        .collect();
    all.sort();
    let mut out = Map::new();
    for (name, value) in all {
        let secret = [
            "K3S_TOKEN",
            "K3S_DATASTORE_ENDPOINT",
            "K3S_AGENT_TOKEN",
            "K3S_CLUSTER_SECRET",
        ]
        .contains(&name.as_str());
        out.insert(
            name,
            if secret {
                "********".into()
            } else {
                value.into()
            },
        );
    }
    Value::Object(out).to_string()
}

/// Labels, annotations and addresses that k3s sets at every start (`configureNode` in pkg/agent/run.go, the cloud
/// provider, flannel, and the role label of servers).
fn configure(settings: &Settings, joined: &Joined, labels: &[(String, String)]) {
    let mut own = Map::new();
    for (key, value) in labels {
        own.insert(key.clone(), value.clone().into());
    }
    let ip = joined
        .addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (args, env) = (node_args(&settings.words), node_env());
    let backend = joined.config["FlannelBackend"]
        .as_str()
        .unwrap_or("vxlan")
        .to_owned();
    let mut annotations = json!({
        "k3s.io/hostname": joined.name,
        "k3s.io/internal-ip": ip,
        "k3s.io/node-args": args,
        "k3s.io/node-env": env,
        "k3s.io/node-config-hash": text::sha256(format!("{args}{env}").as_bytes()).to_uppercase(),
    });
    if backend != "none" {
        let mac = text::sha256(joined.name.as_bytes());
        annotations["flannel.alpha.coreos.com/backend-data"] =
            json!({"VNI": 1, "VtepMAC": format!("02:{}:{}:{}:{}:{}", &mac[..2], &mac[2..4], &mac[4..6], &mac[6..8], &mac[8..10])}).to_string().into();
        annotations["flannel.alpha.coreos.com/backend-type"] = backend.into();
        annotations["flannel.alpha.coreos.com/kube-subnet-manager"] = "true".into();
        annotations["flannel.alpha.coreos.com/public-ip"] = ip.clone().into();
    }
    let patch = json!({"metadata": {"labels": own, "annotations": annotations}});
    match patch_node(joined, "", &patch) {
        Ok(()) => log::info(format!(
            "Annotations and labels have been set successfully on node: {}",
            joined.name
        )),
        Err(why) => log::info(format!(
            "Failed to set annotations and labels on node {}: {why}",
            joined.name
        )),
    }
}

fn condition(kind: &str, ok: bool, reason: &str, message: &str) -> Value {
    let now = clock::stamp();
    json!({"type": kind, "status": if ok { "True" } else { "False" }, "lastHeartbeatTime": now, "lastTransitionTime": now,
        "reason": reason, "message": message})
}

fn status(joined: &Joined, ready: bool, _started: time::OffsetDateTime) -> Value {
    let mut addresses: Vec<Value> = joined
        .addresses
        .iter()
        .map(|a| json!({"type": "InternalIP", "address": a.to_string()}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": joined.name}));
    let release = Release::ours();
    let resources = json!({"cpu": machine::processors().to_string(), "ephemeral-storage": "30000000Ki", "memory": format!("{}Ki", machine::memory()), "pods": "110"});
    let main = if ready {
        condition(
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status",
        )
    } else {
        condition(
            "Ready",
            false,
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
        )
    };
    json!({
        "addresses": addresses,
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            main,
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "architecture": machine::architecture(),
            "bootID": machine::boot_id(),
            "containerRuntimeVersion": server::runtime_version(),
            "kernelVersion": machine::kernel(),
            "kubeProxyVersion": "",
            "kubeletVersion": release.as_str(),
            "machineID": machine::machine_id(),
            "operatingSystem": "linux",
            "osImage": machine::os_image(),
            "systemUUID": machine::system_uuid(),
        },
    })
}

fn report(joined: &Joined, ready: bool, started: time::OffsetDateTime) {
    let mut new = status(joined, ready, started);
    let old: Value = match joined.api.send("GET", &node_path(&joined.name), &[], &[]) {
        Ok(answer) if answer.status == 200 => {
            serde_json::from_slice(&answer.body).unwrap_or_default()
        }
        Ok(answer) => {
            let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let why = format!(
                "error getting node \"{}\": {}",
                joined.name,
                status["message"].as_str().unwrap_or("unknown")
            );
            log::klog(
                'E',
                "kubelet_node_status.go:548",
                format!(
                    "\"Error updating node status, will retry\" err={}",
                    log::quoted(&why)
                ),
            );
            return;
        }
        Err(fault) => {
            let why = format!("error getting node \"{}\": {fault}", joined.name);
            log::klog(
                'E',
                "kubelet_node_status.go:548",
                format!(
                    "\"Error updating node status, will retry\" err={}",
                    log::quoted(&why)
                ),
            );
            return;
        }
    };
    let mut turned_ready = false;
    for condition in new["conditions"].as_array_mut().into_iter().flatten() {
        let before = old["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == condition["type"]);
        if let Some(before) = before {
            if before["status"] == condition["status"] {
                condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
            } else if condition["type"] == "Ready" && condition["status"] == "True" {
                turned_ready = true;
            }
        }
    }
    match patch_node(joined, "/status", &json!({"status": new})) {
        Ok(()) if turned_ready => {
            log::klog(
                'I',
                "kubelet_node_status.go:501",
                format!(
                    "\"Fast updating node status as it just became ready\" node={:?}",
                    joined.name
                ),
            );
        }
        Ok(()) => {}
        Err(why) => log::klog(
            'E',
            "kubelet_node_status.go:548",
            format!(
                "\"Error updating node status, will retry\" err={}",
                log::quoted(&why)
            ),
        ),
    }
}
