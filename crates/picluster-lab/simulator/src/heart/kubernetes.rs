//! A real Kubernetes: etcd, API server and controllers, started with the certificates that k3s has.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Programs;
use super::definitions;
use super::forward::Forward;
use crate::api::kinds::Kind;
use crate::api::status::Refusal;
use crate::api::{Caller, Key};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome, errno};
use crate::http::{Reply, Request};
use crate::net::{Answer, Client};
use crate::{files, log};

/// How long etcd and the API server may take, in the worst of circumstances.
const PATIENCE: Duration = Duration::from_secs(180);

const ETCD: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const CONTROLLERS: u16 = 10257;

/// What the programs are told that is not in files.
pub(crate) struct Plan<'a> {
    /// `server` below the data directory.
    pub(crate) server: &'a Path,
    /// Of the API server, on the loopback address.
    pub(crate) port: u16,
    /// Where the server's own node is.
    pub(crate) address: String,
    /// `10.42.0.0/16`.
    pub(crate) pods: &'a str,
    /// `10.43.0.0/16`.
    pub(crate) services: &'a str,
    /// `cluster.local`.
    pub(crate) domain: &'a str,
    /// Embedded etcd runs already, on its usual port.
    pub(crate) has_etcd: bool,
}

/// The API of a running cluster.
pub(crate) struct Kubernetes {
    admin: Client,
    forward: Forward,
    known: Mutex<Vec<Kind>>,
}

/// Waits until a port is free: the processes of a run before may be about to end.
pub(crate) fn until_free(port: u16) -> Outcome {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            Err(e) if Instant::now() > end => {
                return Err(Fault(format!(
                    "listen tcp 127.0.0.1:{port}: bind: {}",
                    errno(&e)
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// `--name=value`; what is asked for in `kube-…-arg` comes last and counts.
fn words(pairs: &[(&str, String)], asked: Vec<String>) -> Vec<String> {
    let mut words: Vec<String> = pairs.iter().map(|(n, v)| format!("--{n}={v}")).collect();
    words.extend(
        asked
            .iter()
            .map(|a| format!("--{}", a.trim_start_matches('-'))),
    );
    words
}

fn etcd(plan: &Plan<'_>) -> Vec<String> {
    let data = plan.server.join("db/etcd").display().to_string();
    let clients = format!("http://127.0.0.1:{ETCD}");
    let peers = format!("http://127.0.0.1:{ETCD_PEERS}");
    let pairs = [
        ("name", "default".to_owned()),
        ("data-dir", data),
        ("listen-client-urls", clients.clone()),
        ("advertise-client-urls", clients),
        ("listen-peer-urls", peers.clone()),
        ("initial-advertise-peer-urls", peers.clone()),
        ("initial-cluster", format!("default={peers}")),
        ("logger", "zap".into()),
        ("log-level", "warn".into()),
        // Room for slow disks of busy machines.
        ("heartbeat-interval", "500".into()),
        ("election-timeout", "5000".into()),
    ];
    words(&pairs, vec![])
}

/// As k3s runs it (pkg/daemons/control/server.go, `apiServer`), but for its datastore.
fn api_server(plan: &Plan<'_>, settings: &Settings) -> Vec<String> {
    let tls = |name: &str| plan.server.join("tls").join(name).display().to_string();
    let issuer = format!("https://kubernetes.default.svc.{}", plan.domain);
    let pairs = [
        ("advertise-address", plan.address.clone()),
        ("allow-privileged", "true".into()),
        ("anonymous-auth", "false".into()),
        ("api-audiences", format!("{issuer},k3s")),
        ("authorization-mode", "Node,RBAC".into()),
        ("bind-address", "127.0.0.1".into()),
        ("client-ca-file", tls("client-ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("enable-bootstrap-token-auth", "true".into()),
        (
            "etcd-servers",
            format!(
                "{}://127.0.0.1:{ETCD}",
                if plan.has_etcd { "https" } else { "http" }
            ),
        ),
        ("insecure-port", "0".into()),
        ("kubelet-certificate-authority", tls("server-ca.crt")),
        (
            "kubelet-client-certificate",
            tls("client-kube-apiserver.crt"),
        ),
        ("kubelet-client-key", tls("client-kube-apiserver.key")),
        ("profiling", "false".into()),
        ("proxy-client-cert-file", tls("client-auth-proxy.crt")),
        ("proxy-client-key-file", tls("client-auth-proxy.key")),
        ("requestheader-allowed-names", "system:auth-proxy".into()),
        ("requestheader-client-ca-file", tls("request-header-ca.crt")),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".into(),
        ),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        ("secure-port", plan.port.to_string()),
        ("service-account-issuer", issuer),
        (
            "service-account-key-file",
            plan.server.join("etc/service.pub").display().to_string(),
        ),
        (
            "service-account-signing-key-file",
            tls("service.current.key"),
        ),
        ("service-cluster-ip-range", plan.services.to_owned()),
        ("storage-backend", "etcd3".into()),
        ("tls-cert-file", tls("serving-kube-apiserver.crt")),
        ("tls-private-key-file", tls("serving-kube-apiserver.key")),
    ];
    let mut pairs = pairs.to_vec();
    if plan.has_etcd {
        pairs.push(("etcd-cafile", tls("etcd/server-ca.crt")));
        pairs.push(("etcd-certfile", tls("etcd/client.crt")));
        pairs.push(("etcd-keyfile", tls("etcd/client.key")));
    }
    words(&pairs, settings.whole_list("kube-apiserver-arg"))
}

/// As k3s runs it (pkg/daemons/control/server.go, `controllerManager`).
fn controllers(plan: &Plan<'_>, settings: &Settings) -> Vec<String> {
    let tls = |name: &str| plan.server.join("tls").join(name).display().to_string();
    let kubeconfig = plan
        .server
        .join("cred/controller.kubeconfig")
        .display()
        .to_string();
    let mut pairs = vec![
        ("allocate-node-cidrs", "true".to_owned()),
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".into()),
        ("cluster-cidr", plan.pods.to_owned()),
        ("configure-cloud-routes", "false".into()),
        (
            "controllers",
            "*,tokencleaner,-service,-route,-cloud-node-lifecycle".into(),
        ),
        ("kubeconfig", kubeconfig),
        ("leader-elect", plan.has_etcd.to_string()),
        ("port", "0".into()),
        ("profiling", "false".into()),
        ("root-ca-file", tls("server-ca.crt")),
        ("secure-port", CONTROLLERS.to_string()),
        (
            "service-account-private-key-file",
            tls("service.current.key"),
        ),
        ("service-cluster-ip-range", plan.services.to_owned()),
        ("use-service-account-credentials", "true".into()),
    ];
    let (client, server) = (
        (tls("client-ca.nochain.crt"), tls("client-ca.key")),
        (tls("server-ca.nochain.crt"), tls("server-ca.key")),
    );
    for (cert, key, (cert_file, key_file)) in [
        (
            "cluster-signing-kube-apiserver-client-cert-file",
            "cluster-signing-kube-apiserver-client-key-file",
            &client,
        ),
        (
            "cluster-signing-kubelet-client-cert-file",
            "cluster-signing-kubelet-client-key-file",
            &client,
        ),
        (
            "cluster-signing-kubelet-serving-cert-file",
            "cluster-signing-kubelet-serving-key-file",
            &server,
        ),
        (
            "cluster-signing-legacy-unknown-cert-file",
            "cluster-signing-legacy-unknown-key-file",
            &server,
        ),
    ] {
        pairs.push((cert, cert_file.clone()));
        pairs.push((key, key_file.clone()));
    }
    let mut asked = settings.whole_list("kube-controller-manager-arg");
    asked.extend(settings.whole_list("kube-controller-arg"));
    words(&pairs, asked)
}

impl Kubernetes {
    /// Starts everything, from the first thread, and waits until the API server is ready and knows k3s' own kinds.
    pub(crate) fn start(
        programs: &Programs,
        plan: &Plan<'_>,
        settings: &Settings,
    ) -> Outcome<Self> {
        let tls = |name: &str| files::read(&plan.server.join("tls").join(name));
        let public = crate::pki::load_or_make_key(&plan.server.join("tls/service.current.key"))?
            .public_key_pem()
            .replace("\r\n", "\n");
        files::write_changed(
            &plan.server.join("etc/service.pub"),
            public.as_bytes(),
            0o644,
        )?;
        for port in [plan.port, CONTROLLERS] {
            until_free(port)?;
        }
        let base = format!("https://127.0.0.1:{}", plan.port);
        let mut admin = Client::new(&base, Some(tls("server-ca.crt")?));
        let mut proxy = admin.clone();
        admin.identity = Some((tls("client-admin.crt")?, tls("client-admin.key")?));
        proxy.identity = Some((tls("client-auth-proxy.crt")?, tls("client-auth-proxy.key")?));
        let cluster = Self {
            admin,
            forward: Forward::new(&proxy, plan.port)?,
            known: Mutex::default(),
        };
        if !plan.has_etcd {
            for port in [ETCD, ETCD_PEERS] {
                until_free(port)?;
            }
            files::folder(&plan.server.join("db/etcd"), 0o700)?;
            programs.start("etcd", &etcd(plan))?;
        }
        programs.start("kube-apiserver", &api_server(plan, settings))?;
        cluster.wait("/readyz")?;
        programs.start("kube-controller-manager", &controllers(plan, settings))?;
        cluster.define()?;
        Ok(cluster)
    }

    fn wait(&self, path: &str) -> Outcome {
        let end = Instant::now() + PATIENCE;
        loop {
            let why = match self.admin.send("GET", path, &[], &[]) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
                Err(fault) => fault.0,
            };
            if Instant::now() > end {
                return Err(Fault(format!("the API server is not ready: {why}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn define(&self) -> Outcome {
        let group = "apiextensions.k8s.io";
        let told = |r: Refusal| Fault(r.message);
        let kind = self
            .kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
            .map_err(told)?
            .ok_or_else(|| Fault::new("the API server knows no definitions"))?;
        for definition in definitions::all() {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key::new(group, &kind.plural, "", name);
            if self.get(&key).map_err(told)?.is_none() {
                log::info(format!("Creating CRD {name}"));
                self.create(&kind, &key, definition.clone()).map_err(told)?;
            }
            let spec = &definition["spec"];
            let (group, plural) = (&spec["group"], &spec["names"]["plural"]);
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            self.wait(&format!("/apis/{}/v1/{}", text(group), text(plural)))?;
        }
        self.discover().map_err(told)?;
        Ok(())
    }

    /// Answers a request as the API server does.
    pub(crate) fn pass_on(&self, caller: Option<&Caller>, request: &Request) -> Reply {
        self.forward.pass(caller, request)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let headers: &[(&str, &str)] = if body.is_some() {
            &[("Content-Type", "application/json")]
        } else {
            &[]
        };
        let answer = self
            .admin
            .send(method, path, headers, &bytes)
            .map_err(|f| Refusal::unavailable(f.0))?;
        read(&answer)
    }

    /// Asks the API server for all kinds that can be listed.
    fn discover(&self) -> Result<Vec<Kind>, Refusal> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut roots = vec![(String::new(), "v1".to_owned())];
        for group in self.send("GET", "/apis", None)?["groups"]
            .as_array()
            .into_iter()
            .flatten()
        {
            for version in group["versions"].as_array().into_iter().flatten() {
                roots.push((text(&group["name"]), text(&version["version"])));
            }
        }
        let mut kinds: Vec<Kind> = vec![];
        for (group, version) in roots {
            let root = if group.is_empty() {
                format!("/api/{version}")
            } else {
                format!("/apis/{group}/{version}")
            };
            // A group whose server is away must not hide the others.
            let Ok(list) = self.send("GET", &root, None) else {
                continue;
            };
            for resource in list["resources"].as_array().into_iter().flatten() {
                let listed = resource["verbs"]
                    .as_array()
                    .is_some_and(|v| ["list", "delete"].iter().all(|w| v.iter().any(|v| v == w)));
                if listed && !text(&resource["name"]).contains('/') {
                    kinds.push(Kind {
                        group: group.clone(),
                        version: version.clone(),
                        plural: text(&resource["name"]),
                        singular: text(&resource["kind"]).to_lowercase(),
                        kind: text(&resource["kind"]),
                        short: vec![],
                        namespaced: resource["namespaced"] == true,
                    });
                }
            }
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = kinds.clone();
        Ok(kinds)
    }

    pub(super) fn kinds(&self) -> Result<Vec<Kind>, Refusal> {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if known.is_empty() {
            return self.discover();
        }
        Ok(known)
    }

    fn find(&self, fits: impl Fn(&Kind) -> bool) -> Result<Option<Kind>, Refusal> {
        if let Some(kind) = self.kinds()?.into_iter().find(&fits) {
            return Ok(Some(kind));
        }
        Ok(self.discover()?.into_iter().find(&fits))
    }

    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Refusal> {
        self.find(|k| k.kind == kind && k.api_version() == api_version)
    }

    fn kind_of(&self, group: &str, plural: &str) -> Result<Kind, Refusal> {
        self.find(|k| k.group == group && k.plural == plural)?
            .ok_or_else(Refusal::no_such_path)
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Value>, Refusal> {
        let kind = self.kind_of(&key.group, &key.plural)?;
        match self.send("GET", &kind.path(&key.namespace, &key.name), None) {
            Ok(object) => Ok(Some(object)),
            Err(refusal) if refusal.code == 404 => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// `query` is empty, or begins with a question mark.
    pub(crate) fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        query: &str,
    ) -> Result<Vec<(Key, Value)>, Refusal> {
        let kind = self.kind_of(group, plural)?;
        let mut list = self.send("GET", &(kind.path(namespace, "") + query), None)?;
        let Value::Array(items) = list["items"].take() else {
            return Ok(vec![]);
        };
        Ok(items
            .into_iter()
            .map(|object| {
                let meta = |f: &str| {
                    object["metadata"][f]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                (Key::of(&kind, &meta("namespace"), &meta("name")), object)
            })
            .collect())
    }

    pub(super) fn create(
        &self,
        kind: &Kind,
        key: &Key,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.clone().into();
        if kind.namespaced {
            object["metadata"]["namespace"] = key.namespace.clone().into();
        }
        self.send("POST", &kind.path(&key.namespace, ""), Some(&object))
    }

    pub(super) fn update(
        &self,
        kind: &Kind,
        key: &Key,
        mut change: impl FnMut(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        let path = kind.path(&key.namespace, &key.name);
        let old = self.send("GET", &path, None)?;
        let mut new = old.clone();
        change(&mut new)?;
        if new == old {
            return Ok(old);
        }
        self.send("PUT", &path, Some(&new))
    }

    pub(super) fn set_node_condition(&self, key: &Key, condition: &Value) -> Result<(), Refusal> {
        let kind = self.kind_of(&key.group, &key.plural)?;
        let path = kind.path("", &key.name) + "/status";
        let patch = serde_json::json!({"status": {"conditions": [condition]}}).to_string();
        let headers = [("Content-Type", "application/strategic-merge-patch+json")];
        let answer = self
            .admin
            .send("PATCH", &path, &headers, patch.as_bytes())
            .map_err(|f| Refusal::unavailable(f.0))?;
        read(&answer).map(|_| ())
    }

    pub(super) fn delete(&self, key: &Key) -> Result<(), Refusal> {
        let kind = self.kind_of(&key.group, &key.plural)?;
        let path = kind.path(&key.namespace, &key.name) + "?propagationPolicy=Background";
        match self.send("DELETE", &path, None) {
            Err(refusal) if refusal.code != 404 => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Gives a pod to a node, as a scheduler does.
    pub(crate) fn bind(&self, pod: &Key, node: &str) -> Result<(), Refusal> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/binding",
            pod.namespace, pod.name
        );
        let binding = serde_json::json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name, "namespace": pod.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        self.send("POST", &path, Some(&binding)).map(drop)
    }
}

fn read(answer: &Answer) -> Result<Value, Refusal> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        return Ok(body);
    }
    let message = match body["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    Err(Refusal::passed_on(answer.status, message))
}
