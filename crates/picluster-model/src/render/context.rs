//! What templates of one node may name.

use std::collections::BTreeMap;

use minijinja::Value;
use serde_json::{Map, json};

use crate::diagnostic::Diagnostic;
use crate::inventory::{Expected, Inventory, Node, Project};
use crate::render::resolve;
use crate::yaml::Yaml;

/// What is the same for all nodes. Made once a project, so that a large inventory is not
/// described anew for each of its nodes.
#[derive(Debug, Clone)]
pub struct ClusterContext {
    names: BTreeMap<&'static str, Value>,
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
        Self {
            names: BTreeMap::from([
                ("nodes", serde_value(&nodes)),
                ("groups", serde_value(&members)),
                (
                    "cluster",
                    serde_value(json!({ "name": inventory.cluster.as_str() })),
                ),
                ("kubernetes", serde_value(kubernetes(inventory))),
            ]),
        }
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
        let mut names = Names(self.names.clone());
        names.0.insert(
            "node",
            serde_value(json!({
                "name": node.name.as_str(),
                "address": node.address,
                "groups": groups(node),
                "labels": node.labels,
                "kubernetes": node.kubernetes.map(|role| role.as_str()),
                "expected": expected(node),
                "user": node.ssh.user,
            })),
        );
        names.0.insert("facts", serde_value(facts));
        let mut out = Vec::new();
        let vars = resolve::vars(node, &names, &mut out);
        if !out.is_empty() {
            return Err(out);
        }
        names.0.insert("vars", vars);
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
        names.0.insert("params", params.clone());
        names
    }
}

/// The names of a template's outermost scope.
#[derive(Debug, Clone)]
pub(crate) struct Names(BTreeMap<&'static str, Value>);

impl Names {
    /// The scope as a value.
    pub fn value(&self) -> Value {
        Value::from_pairs(self.0.iter().map(|(name, value)| (*name, value.clone())))
    }

    /// The scope with one more name.
    pub fn with(&self, name: &'static str, value: Value) -> Self {
        let mut names = self.clone();
        names.0.insert(name, value);
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

fn expected(node: &Node) -> &'static str {
    match node.expected {
        Expected::Present => "present",
        Expected::Absent => "absent",
    }
}

fn kubernetes(inventory: &Inventory) -> serde_json::Value {
    let Some(kubernetes) = &inventory.kubernetes else {
        return serde_json::Value::Null;
    };
    let networks = |list: &[crate::kubernetes::Cidr]| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    let config: Map<String, serde_json::Value> = kubernetes
        .config
        .iter()
        .map(|(key, value)| (key.clone(), value.to_json()))
        .collect();
    json!({
        "distribution": kubernetes.distribution.as_str(),
        "version": kubernetes.version.to_string(),
        "minor": kubernetes.version.minor,
        "endpoint": kubernetes.endpoint,
        "disable": kubernetes.disable,
        "tls_san": kubernetes.tls_san,
        "cluster_cidr": networks(&kubernetes.cluster_cidr),
        "service_cidr": networks(&kubernetes.service_cidr),
        "config": config,
    })
}

fn serde_value<T: serde::Serialize>(value: T) -> Value {
    Value::from(minijinja::value::Serde(value))
}
