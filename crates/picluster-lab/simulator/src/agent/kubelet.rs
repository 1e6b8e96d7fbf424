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

/// A real kubelet renews its lease every ten seconds; here silence is to be noticed sooner.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How often it looks what the cluster says of its node (`nodeStatusUpdateFrequency`, ten seconds upstream).
const LOOK: Duration = Duration::from_secs(4);

/// How often it says what has not changed (`nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);

/// How long a lease counts for, in seconds (`nodeLeaseDurationSeconds`).
const LEASE: u64 = 40;

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
    let mut reporter = Reporter::default();
    loop {
        let ready = registered.elapsed() >= ready_after();
        reporter.go(&joined, ready);
        let left = ready_after().saturating_sub(registered.elapsed());
        std::thread::sleep(if left.is_zero() {
            HEARTBEAT
        } else {
            left.min(HEARTBEAT)
        });
    }
}

/// What a kubelet says of itself from time to time (kubernetes/pkg/kubelet/kubelet_node_status.go): a lease that it renews, and
/// the status of its node when that is another than the cluster knows, or was not said for long.
#[derive(Debug, Default)]
struct Reporter {
    /// The lease as it was answered last.
    lease: Option<Value>,
    /// Its node was there when it last looked.
    registered: bool,
    looked: Option<(Instant, bool)>,
    reported: Option<Instant>,
}

impl Reporter {
    fn go(&mut self, joined: &Joined, ready: bool) {
        let due = match self.looked {
            Some((at, said)) => at.elapsed() >= LOOK || said != ready,
            None => true,
        };
        if due {
            let unsaid = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
            let came = report(joined, ready, unsaid);
            self.looked = match came {
                Came::Said | Came::Known => Some((Instant::now(), ready)),
                Came::Gone | Came::Failed => None,
            };
            match came {
                Came::Said => {
                    self.registered = true;
                    self.reported = Some(Instant::now());
                }
                Came::Known => self.registered = true,
                Came::Gone => self.registered = false,
                Came::Failed => {}
            }
        }
        if self.registered {
            self.renew(joined);
        }
    }

    /// pkg/controller/lease (`sync`) in component-helpers: what it holds is renewed; made where there is none.
    fn renew(&mut self, joined: &Joined) {
        const FOLDER: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let own = format!("{FOLDER}/{}", joined.name);
        let mut lease = match self.lease.take() {
            Some(lease) => lease,
            None => match joined.api.send("GET", &own, &[], &[]) {
                Ok(answer) if answer.status == 200 => {
                    serde_json::from_slice(&answer.body).unwrap_or_default()
                }
                Ok(answer) if answer.status == 404 => json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": joined.name, "namespace": "kube-node-lease"},
                    "spec": {"holderIdentity": joined.name, "leaseDurationSeconds": LEASE},
                }),
                _ => return,
            },
        };
        lease["spec"]["holderIdentity"] = joined.name.clone().into();
        lease["spec"]["renewTime"] = clock::micro().into();
        let (method, path) = if lease["metadata"]["uid"].is_string() {
            ("PUT", own.as_str())
        } else {
            ("POST", FOLDER)
        };
        let headers = [("Content-Type", "application/json")];
        let sent = joined
            .api
            .send(method, path, &headers, lease.to_string().as_bytes());
        let why = match sent {
            Ok(answer) if answer.status < 300 => {
                self.lease = serde_json::from_slice(&answer.body).ok();
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
            "controller.go:195",
            format!("\"Failed to update lease\" err={}", log::quoted(&why)),
        );
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
        "spec": {}, "status": status(joined, false)});
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

fn status(joined: &Joined, ready: bool) -> Value {
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

/// What came of a report.
enum Came {
    /// It was said.
    Said,
    /// The cluster knew it already.
    Known,
    /// There is no such node.
    Gone,
    /// Nobody answered, or not as hoped.
    Failed,
}

/// Looks at its node, and says how it is where that is another way, or `unsaid`.
fn report(joined: &Joined, ready: bool, unsaid: bool) -> Came {
    let failed = |why: &str| {
        log::klog(
            'E',
            "kubelet_node_status.go:548",
            format!(
                "\"Error updating node status, will retry\" err={}",
                log::quoted(why)
            ),
        );
    };
    let mut new = status(joined, ready);
    let old: Value = match joined.api.send("GET", &node_path(&joined.name), &[], &[]) {
        Ok(answer) if answer.status == 200 => {
            serde_json::from_slice(&answer.body).unwrap_or_default()
        }
        Ok(answer) => {
            let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let why = status["message"].as_str().unwrap_or("unknown");
            failed(&format!("error getting node \"{}\": {why}", joined.name));
            return if answer.status == 404 {
                Came::Gone
            } else {
                Came::Failed
            };
        }
        Err(fault) => {
            failed(&format!("error getting node \"{}\": {fault}", joined.name));
            return Came::Failed;
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
    if !unsaid && same_but_for_the_time(&old["status"], &new) {
        return Came::Known;
    }
    match patch_node(joined, "/status", &json!({"status": new})) {
        Ok(()) => {
            if turned_ready {
                log::klog(
                    'I',
                    "kubelet_node_status.go:501",
                    format!(
                        "\"Fast updating node status as it just became ready\" node={:?}",
                        joined.name
                    ),
                );
            }
            Came::Said
        }
        Err(why) => {
            failed(&why);
            Came::Failed
        }
    }
}

/// Whether the cluster knows all of it already (`nodeStatusHasChanged`): others add conditions of their own.
fn same_but_for_the_time(old: &Value, new: &Value) -> bool {
    let bare = |condition: &Value| {
        let mut bare = condition.clone();
        bare["lastHeartbeatTime"] = Value::Null;
        bare
    };
    let known: Vec<Value> = old["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(bare)
        .collect();
    new.as_object().into_iter().flatten().all(|(field, value)| {
        if field == "conditions" {
            let own = value.as_array().into_iter().flatten();
            own.map(bare).all(|condition| known.contains(&condition))
        } else {
            old[field] == *value
        }
    })
}
