//! What templates of one node may name.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use minijinja::Value;
use serde_json::{Map, json};

use crate::diagnostic::Diagnostic;
use crate::inventory::{Deb, Expected, Node, Packages, Project};
use crate::kubernetes::{Arch, ByArch, Kubernetes, Manifest, ManifestSource, Source};
use crate::name::NodeName;
use crate::render::unknown::Watch;
use crate::render::{Renderer, resolve};
use crate::schema::secret_reference;
use crate::secret::SecretRef;
use crate::template::Engine;
use crate::yaml::{Yaml, YamlKind};

/// What is the same for all nodes. Made once a project, so that a large inventory is not
/// described anew for each of its nodes.
#[derive(Debug, Clone)]
pub struct ClusterContext {
    names: BTreeMap<&'static str, Value>,
    /// The section, when it is not the same for all nodes.
    templated: Option<Box<Kubernetes>>,
    /// The section as all nodes see it that see nothing of their own.
    described: Option<serde_json::Value>,
    /// How many servers are declared.
    servers: usize,
    /// What `kubernetes.artifact` says besides, by node.
    artifacts: BTreeMap<NodeName, serde_json::Value>,
}

impl ClusterContext {
    /// Describes the cluster.
    #[must_use]
    pub fn new(project: &Project) -> Self {
        let inventory = &project.inventory;
        let nodes: Vec<_> = inventory
            .nodes
            .values()
            .map(|node| {
                json!({
                    "name": node.name.as_str(),
                    "address": node.address,
                    "groups": groups(node),
                    "kubernetes": node.kubernetes.map(|role| role.as_str()),
                    "expected": expected(node),
                    "labels": node.labels,
                    "taints": taints(node),
                    "user": node.ssh.user,
                    "login": node.login(),
                })
            })
            .collect();
        let members: Map<String, serde_json::Value> = inventory
            .groups
            .iter()
            .map(|(group, nodes)| {
                let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
                (group.to_string(), json!(names))
            })
            .collect();
        let servers = inventory.servers().count();
        let described = inventory.kubernetes.as_ref().map(|k| describe(k, servers));
        Self {
            servers,
            artifacts: BTreeMap::new(),
            names: BTreeMap::from([
                ("nodes", serde_value(&nodes)),
                ("groups", serde_value(&members)),
                (
                    "cluster",
                    serde_value(json!({ "name": inventory.cluster.as_str() })),
                ),
                ("kubernetes", serde_value(&described)),
                (
                    "packages",
                    serde_value(inventory.packages.as_ref().map(packages)),
                ),
            ]),
            described,
            templated: inventory
                .kubernetes
                .as_ref()
                .filter(|kubernetes| {
                    let mut configs = kubernetes
                        .config
                        .values()
                        .chain(kubernetes.agent_config.values());
                    configs.any(resolve::templated)
                })
                .map(|kubernetes| Box::new(kubernetes.clone())),
        }
    }

    /// Says which program each node gets, in what templates may name as `kubernetes.artifact.`:
    /// `sha256`, `size`, `arch`. That depends on the node's architecture and is not known before
    /// it was met.
    #[must_use]
    pub fn with_artifacts(mut self, artifacts: BTreeMap<NodeName, serde_json::Value>) -> Self {
        self.artifacts = artifacts;
        self
    }

    /// The `kubernetes` section as this node sees it, when that is not what all see.
    fn own_section(&self, node: &Node, names: &Names, out: &mut Vec<Diagnostic>) -> Option<Value> {
        let mut unknown = BTreeSet::new();
        let rendered = self.rendered_config(node, names, &mut unknown, out);
        let artifact = || BTreeSet::from([String::from("artifact")]);
        if let Some(asked) = &names.asked {
            let section = serde_value(rendered.or_else(|| self.described.clone())?);
            let section = match &names.watch {
                Some(watch) => watch.without(section, unknown),
                None => section,
            };
            return Some(asked.without(section, artifact()));
        }
        if let Some(watch) = &names.watch {
            // Which program a node gets is told by its architecture.
            let section = rendered.or_else(|| self.described.clone())?;
            unknown.extend(artifact());
            return Some(watch.without(serde_value(section), unknown));
        }
        let Some(artifact) = self.artifacts.get(&node.name) else {
            return rendered.map(serde_value);
        };
        let mut section = rendered.or_else(|| self.described.clone())?;
        let mut all = section
            .get("artifact")
            .and_then(serde_json::Value::as_object)
            .cloned()
            .unwrap_or_default();
        all.extend(artifact.as_object().cloned().unwrap_or_default());
        section["artifact"] = all.into();
        Some(serde_value(section))
    }

    /// The `kubernetes` section as this node sees it, when its configuration keys hold templates.
    /// Keys that ask for what is not known yet go to `unknown`.
    fn rendered_config(
        &self,
        node: &Node,
        names: &Names,
        unknown: &mut BTreeSet<String>,
        out: &mut Vec<Diagnostic>,
    ) -> Option<serde_json::Value> {
        let kubernetes = self.templated.as_ref()?;
        let renderer = Renderer {
            engine: Engine::plain(),
            node: node.name.as_str(),
            files: None,
            watch: names.watch.as_ref(),
            curious: false,
        };
        let scope = names.value();
        let mut rendered = kubernetes.clone();
        for (key, section) in [
            ("config", &mut rendered.config),
            ("agent_config", &mut rendered.agent_config),
        ] {
            for value in section.values_mut() {
                match renderer.known(renderer.value(value, &scope)) {
                    Some(Ok(found)) => *value = found,
                    Some(Err(found)) => out.extend(found),
                    None => {
                        unknown.insert(key.to_owned());
                    }
                }
            }
        }
        Some(describe(&rendered, self.servers))
    }

    /// A key of `kubernetes.config` as a node sees it before it was met. `None`: it is not there, or not known yet.
    pub(crate) fn config_of(&self, node: &Node, key: &str) -> Option<Yaml> {
        let written = self.templated.as_ref()?.config.get(key)?;
        let context = self.unmet_node(node).ok()?;
        let renderer = Renderer {
            engine: Engine::plain(),
            node: node.name.as_str(),
            files: None,
            watch: context.names.watch.as_ref(),
            curious: false,
        };
        let scope = context.names.value();
        renderer.known(renderer.value(written, &scope))?.ok()
    }

    /// Resolves the variables of `node` (which may refer to each other) against its facts.
    ///
    /// `facts` holds only what no apply changes; it is what `facts.` may be followed by.
    ///
    /// # Errors
    /// Variables that refer to each other in a circle, or whose templates fail.
    pub fn node(
        &self,
        node: &Node,
        facts: &serde_json::Value,
    ) -> Result<RenderContext, Vec<Diagnostic>> {
        self.about(node, serde_value(facts), None, None)
    }

    /// As [`Self::node`], before the node was met: whatever asks for its facts is not known.
    ///
    /// # Errors
    /// As there, of variables that need no facts.
    pub(crate) fn unmet_node(&self, node: &Node) -> Result<RenderContext, Vec<Diagnostic>> {
        let watch = Watch::default();
        self.about(node, watch.nothing(), Some(watch), None)
    }

    /// As [`Self::node`], or before the node was met, with a watch on who asks for
    /// `kubernetes.artifact`, which is not there.
    ///
    /// # Errors
    /// As there.
    pub(super) fn watched_node(
        &self,
        node: &Node,
        facts: Option<&serde_json::Value>,
        asked: Watch,
    ) -> Result<RenderContext, Vec<Diagnostic>> {
        match facts {
            Some(facts) => self.about(node, serde_value(facts), None, Some(asked)),
            None => {
                let watch = Watch::default();
                self.about(node, watch.nothing(), Some(watch), Some(asked))
            }
        }
    }

    fn about(
        &self,
        node: &Node,
        facts: Value,
        watch: Option<Watch>,
        asked: Option<Watch>,
    ) -> Result<RenderContext, Vec<Diagnostic>> {
        let mut names = Names {
            all: self.names.clone(),
            watch,
            asked,
        };
        names.all.insert(
            "node",
            serde_value(json!({
                "name": node.name.as_str(),
                "address": node.address,
                "groups": groups(node),
                "labels": node.labels,
                "taints": taints(node),
                "kubernetes": node.kubernetes.map(|role| role.as_str()),
                "expected": expected(node),
                "user": node.ssh.user,
                "login": node.login(),
            })),
        );
        names.all.insert("facts", facts);
        let mut out = Vec::new();
        let vars = resolve::vars(node, &names, &mut out);
        if !out.is_empty() {
            return Err(out);
        }
        names.all.insert("vars", vars);
        if let Some(kubernetes) = self.own_section(node, &names, &mut out) {
            names.all.insert("kubernetes", kubernetes);
        }
        if !out.is_empty() {
            return Err(out);
        }
        Ok(RenderContext {
            names,
            node: node.name.to_string(),
        })
    }
}

/// What templates of one node may name. Made once a node.
#[derive(Debug, Clone)]
pub struct RenderContext {
    names: Names,
    node: String,
}

impl RenderContext {
    /// As [`ClusterContext::node`], for a single node.
    ///
    /// # Errors
    /// Variables that refer to each other in a circle, or whose templates fail.
    pub fn new(
        project: &Project,
        node: &Node,
        facts: &serde_json::Value,
    ) -> Result<Self, Vec<Diagnostic>> {
        ClusterContext::new(project).node(node, facts)
    }

    /// The name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn with_params(&self, params: &Value) -> Names {
        let mut names = self.names.clone();
        names.all.insert("params", params.clone());
        names
    }
}

/// The names of a template's outermost scope.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    all: BTreeMap<&'static str, Value>,
    /// Notices when something is asked for that is not known yet; without it everything is.
    pub watch: Option<Watch>,
    /// Notices when `kubernetes.artifact` is asked for; only who wants to know that has one.
    pub asked: Option<Watch>,
}

impl Names {
    /// The scope as a value.
    pub fn value(&self) -> Value {
        Value::from_pairs(self.all.iter().map(|(name, value)| (*name, value.clone())))
    }

    /// The scope with one more name.
    pub fn with(&self, name: &'static str, value: Value) -> Self {
        let mut names = self.clone();
        names.all.insert(name, value);
        names
    }

    /// The scope of one repetition.
    pub fn with_item(&self, item: Value, index: usize) -> Self {
        self.with("item", item).with("index", Value::from(index))
    }
}

/// A value of a document as a value of templates.
pub(crate) fn to_value(yaml: &Yaml) -> Value {
    serde_value(yaml.to_json())
}

fn groups(node: &Node) -> Vec<&str> {
    node.groups.iter().map(|group| group.as_str()).collect()
}

fn taints(node: &Node) -> Vec<String> {
    node.taints.iter().map(ToString::to_string).collect()
}

fn expected(node: &Node) -> &'static str {
    match node.expected {
        Expected::Present => "present",
        Expected::Absent => "absent",
    }
}

/// Where the servers of a cluster keep what it knows: together in their etcd, outside of the cluster, or the only one by
/// itself.
fn datastore(kubernetes: &Kubernetes, servers: usize) -> &'static str {
    match servers {
        _ if kubernetes.config.contains_key("datastore-endpoint") => "external",
        0 | 1 => "single",
        _ => "etcd",
    }
}

fn describe(kubernetes: &Kubernetes, servers: usize) -> serde_json::Value {
    let networks = |list: &[crate::kubernetes::Cidr]| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    let section = |entries: &IndexMap<String, Yaml>| -> Map<String, serde_json::Value> {
        entries
            .iter()
            .map(|(key, value)| (key.clone(), placeholders(value)))
            .collect()
    };
    let token = |reference: &Option<SecretRef>| reference.as_ref().map(SecretRef::placeholder);
    json!({
        "distribution": kubernetes.distribution.as_str(),
        "version": kubernetes.version.to_string(),
        "minor": kubernetes.version.minor,
        "endpoint": kubernetes.endpoint,
        "datastore": datastore(kubernetes, servers),
        "repository": kubernetes.repository.as_ref().map(|repository| json!({
            "url": repository.url,
            "key": repository.key.display().to_string(),
        })),
        "disable": kubernetes.disable,
        "tls_san": kubernetes.tls_san,
        "cluster_cidr": networks(&kubernetes.cluster_cidr),
        "service_cidr": networks(&kubernetes.service_cidr),
        "service_networks": networks(&kubernetes.service_networks()),
        "token": token(&kubernetes.token),
        "agent_token": token(&kubernetes.agent_token),
        "artifact": by_arch(kubernetes.artifact.as_ref()),
        "checksum": by_arch(kubernetes.checksum.as_ref()),
        "images": by_arch(kubernetes.images.as_ref()),
        "config": section(&kubernetes.config),
        "agent_config": section(&kubernetes.agent_config),
        "registries": kubernetes.registries.as_ref().map(placeholders),
        "kubeconfig": {
            "mode": kubernetes.kubeconfig.mode,
            "merge": kubernetes.kubeconfig.merge,
            "context": kubernetes.kubeconfig.context,
            "path": kubernetes.kubeconfig.path.as_ref().map(|path| path.display().to_string()),
        },
        "manifests": kubernetes.manifests.iter().map(manifest).collect::<Vec<_>>(),
    })
}

/// The files come in an order of their own, so that what is made of them does, too.
fn packages(packages: &Packages) -> serde_json::Value {
    let file = |deb: &Deb| json!({ "name": deb.name, "path": deb.path.display().to_string(), "arch": deb.arch });
    json!({
        "files": packages.files.iter().map(file).collect::<Vec<_>>(),
        "only": packages.only,
    })
}

/// By architecture, or none: templates say `kubernetes.artifact[facts.arch.userland]`.
fn by_arch<T: ToString>(values: Option<&ByArch<T>>) -> serde_json::Value {
    let Some(values) = values else {
        return serde_json::Value::Null;
    };
    let all: Map<String, serde_json::Value> = Arch::ALL
        .into_iter()
        .map(|arch| {
            (
                arch.as_str().to_owned(),
                json!(values.get(arch).map(ToString::to_string)),
            )
        })
        .collect();
    json!(all)
}

fn manifest(manifest: &Manifest) -> serde_json::Value {
    let (path, url, content) = match &manifest.source {
        ManifestSource::From(Source::Path(path)) => (Some(path.display().to_string()), None, None),
        ManifestSource::From(Source::Url(url)) => (None, Some(url), None),
        ManifestSource::Text(text) => (None, None, Some(text)),
    };
    json!({
        "name": manifest.name,
        "path": path,
        "url": url,
        "content": content,
        "checksum": manifest.checksum,
        "wait": manifest.wait,
    })
}

/// A value with the placeholders of secrets in the place of references to them.
fn placeholders(value: &Yaml) -> serde_json::Value {
    if let Some(reference) = secret_reference(value) {
        return json!(reference.placeholder());
    }
    match &value.kind {
        YamlKind::Seq(items) => items.iter().map(placeholders).collect(),
        YamlKind::Map(entries) => entries
            .iter()
            .map(|(key, _, value)| (key.clone(), placeholders(value)))
            .collect::<Map<_, _>>()
            .into(),
        _ => value.to_json(),
    }
}

fn serde_value<T: serde::Serialize>(value: T) -> Value {
    Value::from(minijinja::value::Serde(value))
}
