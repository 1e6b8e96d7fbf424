//! Objects in etcd, one key each, as servers share them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::status::Refusal;
use super::store::Key;
use crate::etcd::Gateway;
use crate::fault::Outcome;

/// Upstream's prefix for objects; what is below it is the simulator's own.
const OBJECTS: &str = "/registry/";

/// Digest of the founding token, in embedded etcd. Upstream keeps keys and passwords below `/bootstrap`, encrypted with the token
/// (`storageKey` in pkg/cluster/storage.go), as is done here in a datastore outside of the cluster.
const BOOTSTRAP: &str = "/k3s-simulator/bootstrap";

/// How many operations a transaction may have (`--max-txn-ops`), less some.
const OPERATIONS: usize = 100;

/// The way to what is shared.
#[derive(Debug)]
pub(super) struct Shared(Arc<Gateway>);

fn place(key: &Key) -> String {
    let group = if key.group.is_empty() {
        "core"
    } else {
        &key.group
    };
    let name = if key.namespace.is_empty() {
        key.name.clone()
    } else {
        format!("{}/{}", key.namespace, key.name)
    };
    format!("{OBJECTS}{group}/{}/{name}", key.plural)
}

fn text(key: &Key, object: &Value) -> String {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.shift_remove("resourceVersion");
    }
    json!({"group": key.group, "plural": key.plural, "namespace": key.namespace, "name": key.name, "object": object})
        .to_string()
}

fn parsed(text: &str, version: u64) -> Option<(Key, Value)> {
    let all: Value = serde_json::from_str(text).ok()?;
    let part = |name: &str| all[name].as_str().unwrap_or_default();
    let key = Key::new(
        part("group"),
        part("plural"),
        part("namespace"),
        part("name"),
    );
    let mut object = all["object"].clone();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    Some((key, object))
}

/// All objects, and the revision of that state.
pub(super) fn load(gateway: &Gateway) -> Outcome<(u64, BTreeMap<Key, Value>)> {
    let (revision, entries) = gateway.all(OBJECTS)?;
    let objects = entries
        .iter()
        .filter_map(|e| parsed(&e.value, e.revision))
        .collect();
    Ok((revision, objects))
}

/// A change: the revision, what it is about, and what it is now; no object: it is deleted.
pub(super) type Change = (u64, Key, Option<Value>);

/// Hears of every change from a revision on, until it breaks off. Those of one revision come together.
pub(super) fn follow(gateway: &Gateway, from: u64, mut each: impl FnMut(Vec<Change>)) -> Outcome {
    gateway.watch(OBJECTS, from, |events| {
        let changes = events.into_iter().filter_map(|event| match event {
            Ok(entry) => {
                let (key, object) = parsed(&entry.value, entry.revision)?;
                Some((entry.revision, key, Some(object)))
            }
            Err(entry) => Some((entry.revision, key_at(&entry.key)?, None)),
        });
        each(changes.collect());
    })
}

/// The key whose place this is.
fn key_at(place: &str) -> Option<Key> {
    let parts: Vec<&str> = place.strip_prefix(OBJECTS)?.split('/').collect();
    let group = |g: &str| {
        if g == "core" {
            String::new()
        } else {
            g.to_owned()
        }
    };
    match parts.as_slice() {
        [g, plural, name] => Some(Key::new(&group(g), plural, "", name)),
        [g, plural, namespace, name] => Some(Key::new(&group(g), plural, namespace, name)),
        _ => None,
    }
}

fn told(why: crate::fault::Fault) -> Refusal {
    Refusal::internal(why)
}

impl Shared {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self(gateway)
    }

    pub(super) fn sound(&self, patience: Duration) -> Result<(), Refusal> {
        self.0.sound(patience).map_err(told)
    }

    /// Writes or, without an object, deletes, if the key was last changed at `expected`; others are deleted with it. Gives
    /// the revision; none when the condition did not hold.
    pub(super) fn commit(
        &self,
        key: &Key,
        object: Option<&Value>,
        expected: u64,
        others: &[Key],
    ) -> Result<Option<u64>, Refusal> {
        let at = place(key);
        let put = object.map(|object| text(key, object));
        let mut gone: Vec<String> = others.iter().map(place).collect();
        // More than a transaction takes go before, by themselves.
        while gone.len() > OPERATIONS {
            let first: Vec<String> = gone.drain(..OPERATIONS).collect();
            if self
                .0
                .commit(&at, expected, None, &first)
                .map_err(told)?
                .is_none()
            {
                return Ok(None);
            }
        }
        if put.is_none() {
            gone.push(at.clone());
        }
        self.0
            .commit(&at, expected, put.as_deref(), &gone)
            .map_err(told)
    }

    pub(super) fn bootstrap(&self) -> Outcome<String> {
        Ok(self.0.get(BOOTSTRAP)?.unwrap_or_default())
    }

    pub(super) fn set_bootstrap(&self, digest: &str) -> Outcome {
        self.0.put(BOOTSTRAP, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_its_object() {
        for key in [
            Key::node("n1"),
            Key::secret("kube-system", "n1.node-password.k3s"),
            Key::new("apps", "deployments", "default", "web"),
            Key::new("storage.k8s.io", "storageclasses", "", "local-path"),
        ] {
            assert_eq!(key_at(&place(&key)), Some(key.clone()));
            let object = json!({"metadata": {"name": key.name, "resourceVersion": "3"}});
            let (read, object) = parsed(&text(&key, &object), 7).unwrap();
            assert_eq!(read, key);
            assert_eq!(object["metadata"]["resourceVersion"], "7");
        }
    }
}
