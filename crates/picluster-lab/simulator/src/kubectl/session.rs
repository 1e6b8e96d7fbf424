//! Talking to the API as kubectl does: which server, which namespace, which objects.

use std::path::PathBuf;

use serde_json::Value;

use super::arguments::Arguments;
use super::{Done, Failure};
use crate::api::kinds::{self, Kind};
use crate::fault::Fault;
use crate::net::{self, Client};
use crate::{kubeconfig, log};

pub(super) const K3S: &str = "/etc/rancher/k3s/k3s.yaml";

pub(crate) struct Session {
    client: Client,
    pub(crate) namespace: String,
    known: std::cell::OnceCell<Vec<Kind>>,
}

/// An object that was named: `node/n1`, or `node n1`.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Named {
    pub(crate) fn path(&self) -> String {
        self.kind.path(&self.namespace, &self.name)
    }

    /// `node/n1`, `deployment.apps/coredns`.
    pub(crate) fn shown(&self) -> String {
        if self.kind.group.is_empty() {
            format!("{}/{}", self.kind.singular, self.name)
        } else {
            format!("{}.{}/{}", self.kind.singular, self.kind.group, self.name)
        }
    }
}

fn unreachable(url: &str, fault: &Fault) -> Failure {
    let (host, port) = net::authority(url).unwrap_or_default();
    if fault.0.contains("connection refused") {
        return Failure::Bare(format!(
            "The connection to the server {host}:{port} was refused - did you specify the right host or port?"
        ));
    }
    Failure::Bare(format!(
        "Unable to connect to the server: {}",
        fault
            .0
            .split_once("\": ")
            .map_or(fault.0.as_str(), |(_, w)| w)
    ))
}

impl Session {
    /// `--kubeconfig`, `KUBECONFIG`, k3s' own file (pkg/kubectl/main.go), `~/.kube/config`.
    pub(crate) fn open(arguments: &Arguments) -> Done<Self> {
        let environment = std::env::var("KUBECONFIG").ok().filter(|k| !k.is_empty());
        let named = arguments
            .flag("kubeconfig")
            .map(str::to_owned)
            .or(environment);
        let path = match named {
            Some(path) => PathBuf::from(path),
            None => {
                let own = PathBuf::from(K3S);
                match std::fs::File::open(&own) {
                    Ok(_) => own,
                    Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                        log::warn(format!(
                            "Unable to read {K3S}, please start server with --write-kubeconfig-mode or --write-kubeconfig-group to modify kube config permissions"
                        ));
                        return Err(Failure::Plain(format!(
                            "error loading config file \"{K3S}\": open {K3S}: permission denied"
                        )));
                    }
                    Err(_) => std::env::var_os("HOME")
                        .map(PathBuf::from)
                        .unwrap_or_default()
                        .join(".kube/config"),
                }
            }
        };
        if !path.exists() {
            if arguments.flag("kubeconfig").is_some() {
                return Err(Failure::Plain(format!(
                    "stat {}: no such file or directory",
                    path.display()
                )));
            }
            return Err(Failure::Bare("The connection to the server localhost:8080 was refused - did you specify the right host or port?".into()));
        }
        let (mut client, mut namespace) = kubeconfig::load(&path, arguments.flag("context"))?;
        if let Some(server) = arguments.flag("server") {
            client.base = server.trim_end_matches('/').to_owned();
        }
        if arguments.is_on("insecure-skip-tls-verify") {
            client.ca = None;
        }
        if let Some(token) = arguments.flag("token") {
            client.authorization = Some(format!("Bearer {token}"));
        }
        // Who says nothing of who they are is asked (kubernetes/client-go, tools/clientcmd/client_config.go,
        // getUserIdentificationPartialConfig, and auth_loaders.go, PromptingAuthLoader); here nobody ever answers.
        if client.authorization.is_none() && client.identity.is_none() {
            return Err(Failure::Bare("Please enter Username: error: EOF".into()));
        }
        if let Some(given) = arguments.flag("namespace") {
            namespace = given.to_owned();
        }
        Ok(Self {
            client,
            namespace,
            known: std::cell::OnceCell::new(),
        })
    }

    pub(crate) fn base(&self) -> &str {
        &self.client.base
    }

    /// Bytes of an answer; refusals are failures.
    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Done<Vec<u8>> {
        let headers: &[(&str, &str)] = if kind.is_empty() {
            &[]
        } else {
            &[("Content-Type", kind)]
        };
        let answer = self
            .client
            .send(method, path, headers, body)
            .map_err(|f| unreachable(&self.client.base, &f))?;
        if answer.status < 300 {
            return Ok(answer.body);
        }
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status == 401 {
            return Err(Failure::Bare(
                "error: You must be logged in to the server (Unauthorized)".into(),
            ));
        }
        // An invalid object is told without the words about the server.
        let message = status["message"].as_str().map_or_else(
            || String::from_utf8_lossy(&answer.body).into_owned(),
            str::to_owned,
        );
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        if reason == "Invalid" {
            return Err(Failure::Bare(format!("The {message}")));
        }
        Err(Failure::Server { reason, message })
    }

    pub(crate) fn get(&self, path: &str) -> Done<Value> {
        let bytes = self.send("GET", path, "", &[])?;
        serde_json::from_slice(&bytes).map_err(|e| Failure::Plain(e.to_string()))
    }

    pub(crate) fn patch(&self, named: &Named, patch: &Value) -> Done<Value> {
        let bytes = self.send(
            "PATCH",
            &named.path(),
            "application/merge-patch+json",
            patch.to_string().as_bytes(),
        )?;
        serde_json::from_slice(&bytes).map_err(|e| Failure::Plain(e.to_string()))
    }

    /// Kinds that definitions have added are asked for only when a word is none of the built-in ones.
    fn discovered(&self) -> &[Kind] {
        self.known.get_or_init(|| {
            let definitions = self
                .get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
                .unwrap_or_default();
            definitions["items"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(kinds::defined)
                .collect()
        })
    }

    /// The kind that a word such as `nodes`, `no`, `deploy` or `addons.k3s.cattle.io` means.
    pub(crate) fn kind(&self, word: &str) -> Done<Kind> {
        let lower = word.to_lowercase();
        let (name, group) = lower
            .split_once('.')
            .map_or((lower.as_str(), None), |(n, g)| (n, Some(g)));
        let fits = |k: &Kind| {
            let group_fits =
                group.is_none_or(|g| k.group == g || format!("{}.{}", k.version, k.group) == g);
            group_fits
                && (k.plural == name || k.singular == name || k.short.iter().any(|s| s == name))
        };
        if let Some(kind) = kinds::built_in().into_iter().find(|k| fits(k)) {
            return Ok(kind);
        }
        // An unreachable server is the more useful thing to say.
        self.get("/version")?;
        self.discovered()
            .iter()
            .find(|k| fits(k))
            .cloned()
            .ok_or_else(|| {
                Failure::Plain(format!("the server doesn't have a resource type {word:?}"))
            })
    }

    /// The kind of an object in a manifest.
    pub(crate) fn kind_of(&self, object: &Value, source: &str) -> Done<Kind> {
        let (version, kind) = (
            object["apiVersion"].as_str().unwrap_or_default(),
            object["kind"].as_str().unwrap_or_default(),
        );
        let fits = |k: &Kind| k.kind == kind && k.api_version() == version;
        if let Some(found) = kinds::built_in().into_iter().find(|k| fits(k)) {
            return Ok(found);
        }
        self.discovered().iter().find(|k| fits(k)).cloned().ok_or_else(|| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            Failure::Plain(format!(
                "resource mapping not found for name: {name:?} namespace: {:?} from {source:?}: no matches for kind {kind:?} in version {version:?}\nensure CRDs are installed first",
                object["metadata"]["namespace"].as_str().unwrap_or_default()
            ))
        })
    }

    pub(crate) fn named(&self, kind: &Kind, name: &str) -> Named {
        Named {
            kind: kind.clone(),
            namespace: if kind.namespaced {
                self.namespace.clone()
            } else {
                String::new()
            },
            name: name.to_owned(),
        }
    }

    /// Objects that words name: `node n1 n2`, `node/n1 pod/p`, or a kind and a selector.
    pub(crate) fn targets(&self, words: &[String], arguments: &Arguments) -> Done<Vec<Named>> {
        let Some(first) = words.first() else {
            return Err(Failure::Plain(
                "you must specify one or more resources by argument or filename.".into(),
            ));
        };
        if first.contains('/') {
            return words
                .iter()
                .map(|w| match w.split_once('/') {
                    Some((kind, name)) => Ok(self.named(&self.kind(kind)?, name)),
                    None => Err(Failure::Plain("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form".into())),
                })
                .collect();
        }
        let kind = self.kind(first)?;
        if words.len() > 1 {
            return Ok(words[1..]
                .iter()
                .map(|name| self.named(&kind, name))
                .collect());
        }
        if arguments.flag("selector").is_none()
            && arguments.flag("field-selector").is_none()
            && !arguments.is_on("all")
        {
            return Err(Failure::Plain(
                "resource(s) were provided, but no name was specified".into(),
            ));
        }
        let list = self.list(&kind, arguments)?;
        Ok(list
            .iter()
            .map(|o| Named {
                kind: kind.clone(),
                namespace: o["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                name: o["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            })
            .collect())
    }

    /// Objects of a kind, as selectors choose them.
    pub(crate) fn list(&self, kind: &Kind, arguments: &Arguments) -> Done<Vec<Value>> {
        let namespace = if arguments.is_on("all-namespaces") {
            ""
        } else {
            &self.namespace
        };
        let mut path = kind.path(namespace, "");
        let mut sign = '?';
        for (flag, name) in [
            ("selector", "labelSelector"),
            ("field-selector", "fieldSelector"),
        ] {
            if let Some(value) = arguments.flag(flag) {
                path.push_str(&format!("{sign}{name}={}", encode(value)));
                sign = '&';
            }
        }
        let mut items = match self.get(&path)?["items"].take() {
            Value::Array(items) => items,
            _ => vec![],
        };
        for item in &mut items {
            item["apiVersion"] = kind.api_version().into();
            item["kind"] = kind.kind.clone().into();
        }
        Ok(items)
    }
}

/// Percent-encoding for a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
