//! The objects, their versions, and what happened to them of late.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kinds::{self, Kind};
use super::shared::{self, Shared};
use super::status::Refusal;
use super::{controllers, validate};
use crate::etcd::Gateway;
use crate::fault::{Fault, Outcome};
use crate::{clock, files, log, text};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            plural: plural.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn node(name: &str) -> Self {
        Self::new("", "nodes", "", name)
    }

    pub(crate) fn secret(namespace: &str, name: &str) -> Self {
        Self::new("", "secrets", namespace, name)
    }

    pub(crate) fn of(kind: &Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace } else { "" };
        Self::new(&kind.group, &kind.plural, namespace, name)
    }
}

/// Something happened to an object.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) version: u64,
    pub(crate) verb: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Digest of the token that the cluster was founded with.
    bootstrap: String,
    happened: VecDeque<Happened>,
    forgotten: u64,
    /// How often something changed that is to outlive this process.
    changes: u64,
}

impl Inner {
    /// The file's text.
    fn text(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let objects: Vec<String> = self
            .objects
            .iter()
            .map(|(k, o)| {
                format!(
                    "{{\"group\":{},\"plural\":{},\"namespace\":{},\"name\":{},\"object\":{o}}}",
                    quoted(&k.group),
                    quoted(&k.plural),
                    quoted(&k.namespace),
                    quoted(&k.name)
                )
            })
            .collect();
        format!(
            "{{\"version\":{},\"bootstrap\":{},\"objects\":[{}]}}",
            self.version,
            quoted(&self.bootstrap),
            objects.join(",")
        )
    }
}

/// Where the objects are kept.
#[derive(Debug)]
enum Base {
    /// In a file; heartbeats alone are not written.
    File(PathBuf),
    /// In etcd, with other servers. What is held here follows what etcd says, in etcd's order.
    Etcd(Shared),
}

/// The store. `server/db/state.db` holds it between runs, or etcd.
#[derive(Debug)]
pub(crate) struct Store {
    base: Base,
    inner: Mutex<Inner>,
    bell: Condvar,
    /// How many of the changes are in the file.
    saved: Mutex<u64>,
}

/// How long a change that etcd has taken may need to come back.
const SETTLES: Duration = Duration::from_secs(10);

/// How many happenings watches can go back.
const REMEMBERED: usize = 512;

impl Store {
    /// Opens what a run before left, or an empty one.
    pub(crate) fn open(path: PathBuf) -> Outcome<Self> {
        let mut inner = Inner::default();
        if path.exists() {
            let file: Value = serde_json::from_str(&files::read(&path)?).map_err(|e| {
                Fault(format!(
                    "{} is no datastore of the simulator: {e}",
                    path.display()
                ))
            })?;
            inner.version = file["version"].as_u64().unwrap_or(0);
            inner.forgotten = inner.version;
            inner.bootstrap = file["bootstrap"].as_str().unwrap_or_default().to_owned();
            for entry in file["objects"].as_array().into_iter().flatten() {
                let part = |name: &str| entry[name].as_str().unwrap_or_default();
                let key = Key::new(
                    part("group"),
                    part("plural"),
                    part("namespace"),
                    part("name"),
                );
                inner.objects.insert(key, entry["object"].clone());
            }
        }
        Ok(Self {
            base: Base::File(path),
            inner: Mutex::new(inner),
            bell: Condvar::new(),
            saved: Mutex::default(),
        })
    }

    /// Opens what is in etcd, and follows it in a thread of its own. `objects`: they are this store's; otherwise it keeps
    /// the founding token alone.
    pub(crate) fn on_etcd(gateway: &Arc<Gateway>, objects: bool) -> Outcome<Arc<Self>> {
        let mut inner = Inner::default();
        if objects {
            let (version, found) = shared::load(gateway)?;
            inner.version = version;
            inner.forgotten = version;
            inner.objects.extend(found);
        }
        let store = Arc::new(Self {
            base: Base::Etcd(Shared::new(gateway.clone())),
            inner: Mutex::new(inner),
            bell: Condvar::new(),
            saved: Mutex::default(),
        });
        if objects {
            let (follower, gateway) = (store.clone(), gateway.clone());
            std::thread::spawn(move || {
                loop {
                    let from = follower.version() + 1;
                    let ended = shared::follow(&gateway, from, |changes| follower.happens(changes));
                    if let Err(why) = ended {
                        log::error(format!("watch of the datastore ended: {why}"));
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
            });
        }
        Ok(store)
    }

    /// Something happened in etcd. What did at once is seen at once: nobody may believe to have heard of a version while half
    /// of it is still to come.
    fn happens(&self, changes: Vec<shared::Change>) {
        let mut inner = self.lock();
        for (version, key, object) in changes {
            if version < inner.version {
                continue;
            }
            inner.version = version;
            match object {
                Some(object) => {
                    let verb = if inner.objects.contains_key(&key) {
                        "MODIFIED"
                    } else {
                        "ADDED"
                    };
                    inner.objects.insert(key.clone(), object.clone());
                    self.ring(&mut inner, verb, key, object);
                }
                None => {
                    if let Some(mut gone) = inner.objects.remove(&key) {
                        gone["metadata"]["resourceVersion"] = version.to_string().into();
                        self.ring(&mut inner, "DELETED", key, gone);
                    }
                }
            }
        }
        self.bell.notify_all();
    }

    /// Whether what is held here can be believed: a majority of the servers' datastores answers.
    pub(crate) fn sound(&self, patience: Duration) -> Result<(), Refusal> {
        match &self.base {
            Base::File(_) => Ok(()),
            Base::Etcd(shared) => shared.sound(patience),
        }
    }

    /// Hands a change to etcd and waits until it has come back. None when somebody else was faster.
    fn commit(
        &self,
        shared: &Shared,
        key: &Key,
        object: Option<&Value>,
        expected: u64,
        others: &[Key],
    ) -> Result<Option<()>, Refusal> {
        let done = shared.commit(key, object, expected, others)?;
        let end = Instant::now() + SETTLES;
        let mut inner = self.lock();
        let Some(version) = done else {
            // The other's change is about to be heard of.
            let _ = self
                .bell
                .wait_timeout(inner, Duration::from_millis(50))
                .unwrap_or_else(PoisonError::into_inner);
            return Ok(None);
        };
        while inner.version < version {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Refusal::internal("etcdserver: request timed out"));
            }
            inner = self
                .bell
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(Some(()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when what has changed until now is in the file. Who comes while it is being written has the next one written for
    /// all that came meanwhile.
    fn save(&self, inner: MutexGuard<'_, Inner>) {
        let Base::File(path) = &self.base else {
            return;
        };
        let changes = inner.changes;
        drop(inner);
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved >= changes {
            return;
        }
        let (text, changes) = {
            let inner = self.lock();
            (inner.text(), inner.changes)
        };
        if let Err(fault) = files::replace(path, text.as_bytes(), 0o600) {
            log::error(format!("error in txn: {fault}"));
        }
        *saved = changes;
    }

    /// Digest of the founding token; empty in a new store.
    pub(crate) fn bootstrap(&self) -> Outcome<String> {
        match &self.base {
            Base::File(_) => Ok(self.lock().bootstrap.clone()),
            Base::Etcd(shared) => shared.bootstrap(),
        }
    }

    pub(crate) fn set_bootstrap(&self, digest: &str) -> Outcome {
        if let Base::Etcd(shared) = &self.base {
            return shared.set_bootstrap(digest);
        }
        let mut inner = self.lock();
        inner.bootstrap = digest.to_owned();
        inner.changes += 1;
        self.save(inner);
        Ok(())
    }

    /// Everything, to be kept in another store.
    pub(crate) fn objects(&self) -> Vec<(Key, Value)> {
        let inner = self.lock();
        inner
            .objects
            .iter()
            .map(|(k, o)| (k.clone(), o.clone()))
            .collect()
    }

    /// Keeps an object as it was in another store.
    pub(crate) fn take(&self, key: &Key, object: &Value) -> Result<(), Refusal> {
        let Base::Etcd(shared) = &self.base else {
            return Ok(());
        };
        self.commit(shared, key, Some(object), 0, &[]).map(|_| ())
    }

    /// The version of the newest object.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// All kinds, with those that definitions have added.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut all = kinds::built_in();
        let inner = self.lock();
        for (key, object) in &inner.objects {
            if key.plural == "customresourcedefinitions" {
                for kind in kinds::defined(object) {
                    if !all.iter().any(|k| {
                        k.group == kind.group
                            && k.plural == kind.plural
                            && k.version == kind.version
                    }) {
                        all.push(kind);
                    }
                }
            }
        }
        all
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// Objects of a kind; an empty namespace means all.
    pub(crate) fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<(Key, Value)> {
        self.some(group, plural, namespace, |_| true)
    }

    /// Those of them that are wanted: who needs few does not copy all.
    pub(crate) fn some(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<(Key, Value)> {
        self.lock()
            .objects
            .iter()
            .filter(|(k, _)| k.group == group && k.plural == plural)
            .filter(|(k, _)| namespace.is_empty() || k.namespace == namespace)
            .filter(|(_, o)| wanted(o))
            .map(|(k, o)| (k.clone(), o.clone()))
            .collect()
    }

    /// Keeps a new object.
    pub(crate) fn create(&self, kind: &Kind, key: &Key, object: Value) -> Result<Value, Refusal> {
        loop {
            if let Some(made) = self.try_create(kind, key, object.clone())? {
                return Ok(made);
            }
        }
    }

    fn try_create(
        &self,
        kind: &Kind,
        key: &Key,
        mut object: Value,
    ) -> Result<Option<Value>, Refusal> {
        let inner = self.lock();
        if inner.objects.contains_key(key) {
            return Err(Refusal::exists(&kind.group, &kind.plural, &key.name));
        }
        if kind.namespaced
            && !inner
                .objects
                .contains_key(&Key::new("", "namespaces", "", &key.namespace))
        {
            return Err(Refusal::not_found("", "namespaces", &key.namespace));
        }
        object["kind"] = kind.kind.clone().into();
        object["apiVersion"] = kind.api_version().into();
        let meta = &mut object["metadata"];
        meta["name"] = key.name.clone().into();
        if kind.namespaced {
            meta["namespace"] = key.namespace.clone().into();
        }
        meta["uid"] = text::uuid().into();
        meta["creationTimestamp"] = clock::stamp().into();
        // Leases have none: their registry counts no changes (pkg/registry/coordination/lease/strategy.go).
        if !kind.group.is_empty() && kind.kind != "Lease" {
            meta["generation"] = 1.into();
        }
        validate::object(kind, &object)?;
        controllers::settle(kind, &mut object);
        let Base::Etcd(shared) = &self.base else {
            return Ok(Some(self.put(inner, "ADDED", key.clone(), object)));
        };
        drop(inner);
        let object = ordered(object);
        let done = self.commit(shared, key, Some(&object), 0, &[])?;
        Ok(done.map(|()| self.get(key).unwrap_or(object)))
    }

    /// Changes an object by a function; what it returns unchanged stays as it is, version and all.
    pub(crate) fn update(
        &self,
        kind: &Kind,
        key: &Key,
        mut change: impl FnMut(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Value, Refusal> {
        loop {
            if let Some(changed) = self.try_update(kind, key, &mut change)? {
                return Ok(changed);
            }
        }
    }

    fn try_update(
        &self,
        kind: &Kind,
        key: &Key,
        change: &mut dyn FnMut(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Option<Value>, Refusal> {
        let inner = self.lock();
        let Some(old) = inner.objects.get(key).cloned() else {
            return Err(Refusal::not_found(&kind.group, &kind.plural, &key.name));
        };
        let mut new = old.clone();
        change(&mut new)?;
        let version = &new["metadata"]["resourceVersion"];
        if version.as_str().is_some_and(|v| !v.is_empty())
            && *version != old["metadata"]["resourceVersion"]
        {
            return Err(Refusal::conflict(&kind.group, &kind.plural, &key.name));
        }
        for fixed in [
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "name",
            "namespace",
            "generation",
        ] {
            match &old["metadata"][fixed] {
                Value::Null => {
                    if let Some(meta) = new["metadata"].as_object_mut() {
                        meta.shift_remove(fixed);
                    }
                }
                value => new["metadata"][fixed] = value.clone(),
            }
        }
        new["kind"] = old["kind"].clone();
        new["apiVersion"] = old["apiVersion"].clone();
        let can_be_fixed = kind.plural == "secrets" || kind.plural == "configmaps";
        if can_be_fixed
            && old["immutable"] == true
            && (new["data"] != old["data"] || new["immutable"] != true)
        {
            return Err(Refusal::invalid(
                "",
                &kind.kind,
                &key.name,
                &["data: Forbidden: field is immutable when `immutable` is set".into()],
            ));
        }
        validate::object(kind, &new)?;
        controllers::settle(kind, &mut new);
        if new == old {
            return Ok(Some(old));
        }
        if old["metadata"]["generation"].is_u64() && new["spec"] != old["spec"] {
            new["metadata"]["generation"] =
                (old["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        let Base::Etcd(shared) = &self.base else {
            return Ok(Some(self.put(inner, "MODIFIED", key.clone(), new)));
        };
        drop(inner);
        let new = ordered(new);
        let done = self.commit(shared, key, Some(&new), version_of(&old), &[])?;
        Ok(done.map(|()| self.get(key).unwrap_or(new)))
    }

    fn put(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        verb: &'static str,
        key: Key,
        mut object: Value,
    ) -> Value {
        inner.version += 1;
        object["metadata"]["resourceVersion"] = inner.version.to_string().into();
        let object = ordered(object);
        let heartbeat = inner
            .objects
            .get(&key)
            .is_some_and(|old| only_a_heartbeat(old, &object));
        inner.objects.insert(key.clone(), object.clone());
        self.ring(&mut inner, verb, key, object.clone());
        if !heartbeat {
            inner.changes += 1;
            self.save(inner);
        }
        object
    }

    fn ring(&self, inner: &mut Inner, verb: &'static str, key: Key, object: Value) {
        inner.happened.push_back(Happened {
            version: inner.version,
            verb,
            key,
            object,
        });
        while inner.happened.len() > REMEMBERED {
            if let Some(old) = inner.happened.pop_front() {
                inner.forgotten = old.version;
            }
        }
        self.bell.notify_all();
    }

    /// Takes an object away, and what cannot be without it.
    pub(crate) fn delete(&self, key: &Key) -> Result<Option<Value>, Refusal> {
        let mut inner = self.lock();
        let Some(gone) = inner.objects.get(key).cloned() else {
            return Ok(None);
        };
        let dependents: Vec<Key> = inner
            .objects
            .iter()
            .filter(|(k, o)| *k != key && controllers::goes_with(key, &gone, k, o))
            .map(|(k, _)| k.clone())
            .collect();
        if let Base::Etcd(shared) = &self.base {
            drop(inner);
            let done = self.commit(shared, key, None, version_of(&gone), &dependents)?;
            return match done {
                Some(()) => Ok(Some(gone)),
                None => self.delete(key),
            };
        }
        inner.changes += 1;
        for one in std::iter::once(key).chain(&dependents) {
            if let Some(object) = inner.objects.remove(one) {
                inner.version += 1;
                self.ring(&mut inner, "DELETED", one.clone(), object);
            }
        }
        self.save(inner);
        Ok(Some(gone))
    }

    /// Happenings after a version: waits for the first of them, so long.
    pub(crate) fn since(&self, version: u64, patience: Duration) -> Result<Vec<Happened>, Refusal> {
        let end = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            if version < inner.forgotten {
                return Err(Refusal::expired());
            }
            let new: Vec<Happened> = inner
                .happened
                .iter()
                .filter(|h| h.version > version)
                .cloned()
                .collect();
            let left = end.saturating_duration_since(Instant::now());
            if !new.is_empty() || left.is_zero() {
                return Ok(new);
            }
            inner = self
                .bell
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The version of an object, as etcd counts.
fn version_of(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// The order in which the API server writes an object.
fn ordered(object: Value) -> Value {
    let mut ordered = serde_json::Map::new();
    if let Value::Object(fields) = object {
        for first in ["kind", "apiVersion", "metadata"] {
            if let Some(value) = fields.get(first) {
                ordered.insert(first.into(), value.clone());
            }
        }
        for (name, value) in fields {
            ordered.entry(name).or_insert(value);
        }
    }
    Value::Object(ordered)
}

/// Whether two states of a node or lease differ in nothing but when it was last heard of.
fn only_a_heartbeat(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        object["spec"]["renewTime"] = Value::Null;
        for condition in object["status"]["conditions"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            condition["lastHeartbeatTime"] = Value::Null;
        }
        object
    };
    matches!(old["kind"].as_str(), Some("Node" | "Lease")) && bare(old) == bare(new)
}
