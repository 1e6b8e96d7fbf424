//! What a server stands on: the built-in API, or a real Kubernetes where the machine has one.

mod chunked;
mod definitions;
mod forward;
pub(crate) mod kubernetes;
pub(crate) mod programs;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use chunked::Chunked;
pub(crate) use kubernetes::Kubernetes;
pub(crate) use programs::Programs;

use crate::api::kinds::Kind;
use crate::api::status::Refusal;
use crate::api::{Key, Store};

/// Where a cluster's objects are. What the server itself keeps goes through here.
#[derive(Clone)]
pub(crate) enum Heart {
    /// The simulator's own API over its own store.
    BuiltIn(Arc<Store>),
    /// A real API server, asked as `system:admin`.
    Kubernetes(Arc<Kubernetes>),
}

impl Heart {
    /// Kinds that are known. Of a real API server: as of the last time that one was missing.
    pub(crate) fn kinds(&self) -> Result<Vec<Kind>, Refusal> {
        match self {
            Self::BuiltIn(store) => Ok(store.kinds()),
            Self::Kubernetes(cluster) => cluster.kinds(),
        }
    }

    /// The kind that a manifest means.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Result<Option<Kind>, Refusal> {
        match self {
            Self::BuiltIn(store) => Ok(store
                .kinds()
                .into_iter()
                .find(|k| k.kind == kind && k.api_version() == api_version)),
            Self::Kubernetes(cluster) => cluster.kind(api_version, kind),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Value>, Refusal> {
        match self {
            Self::BuiltIn(store) => Ok(store.get(key)),
            Self::Kubernetes(cluster) => cluster.get(key),
        }
    }

    /// Objects of a kind; an empty namespace means all.
    pub(crate) fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
    ) -> Result<Vec<(Key, Value)>, Refusal> {
        match self {
            Self::BuiltIn(store) => Ok(store.list(group, plural, namespace)),
            Self::Kubernetes(cluster) => cluster.list(group, plural, namespace, ""),
        }
    }

    /// The nodes of servers.
    pub(crate) fn servers(&self) -> Result<Vec<(Key, Value)>, Refusal> {
        let is = |node: &Value| {
            node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == "true"
        };
        match self {
            Self::BuiltIn(store) => Ok(store.some("", "nodes", "", is)),
            Self::Kubernetes(cluster) => {
                let mut all = cluster.list("", "nodes", "", "")?;
                all.retain(|(_, node)| is(node));
                Ok(all)
            }
        }
    }

    pub(crate) fn create(&self, kind: &Kind, key: &Key, object: Value) -> Result<Value, Refusal> {
        match self {
            Self::BuiltIn(store) => store.create(kind, key, object),
            Self::Kubernetes(cluster) => cluster.create(kind, key, object),
        }
    }

    /// Changes an object by a function. A real API server refuses when somebody else has changed it meanwhile.
    pub(crate) fn update(
        &self,
        kind: &Kind,
        key: &Key,
        change: impl FnMut(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        match self {
            Self::BuiltIn(store) => store.update(kind, key, change),
            Self::Kubernetes(cluster) => cluster.update(kind, key, change),
        }
    }

    /// Takes an object away; one that is not there is no error.
    pub(crate) fn delete(&self, key: &Key) -> Result<(), Refusal> {
        match self {
            Self::BuiltIn(store) => store.delete(key).map(|_| ()),
            Self::Kubernetes(cluster) => cluster.delete(key),
        }
    }

    /// Sets one condition of a node.
    pub(crate) fn set_node_condition(&self, key: &Key, condition: &Value) -> Result<(), Refusal> {
        match self {
            Self::BuiltIn(_) => {
                let Some(kind) = self.kind("v1", "Node")? else {
                    return Ok(());
                };
                self.update(&kind, key, |node| {
                    let all = &mut node["status"]["conditions"];
                    if let Some(all) = all.as_array_mut() {
                        all.retain(|c| c["type"] != condition["type"]);
                        all.push(condition.clone());
                    } else {
                        *all = Value::Array(vec![condition.clone()]);
                    }
                    Ok(())
                })
                .map(|_| ())
            }
            Self::Kubernetes(cluster) => cluster.set_node_condition(key, condition),
        }
    }
}
