//! `datastore_snapshot`: what a k3s server knows, kept before it goes to another version.

use std::time::Duration;

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kube::{self, Asked};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;

/// A copy of a k3s server's datastore, made in an upgrade before any program is replaced: the way back, because an older
/// release may not understand what a newer one has written. With embedded etcd it is upstream's own snapshot
/// (`k3s etcd-snapshot save`). SQLite is copied while k3s is stopped for a moment, as k3s' documentation wants it
/// (<https://docs.k3s.io/datastore/backup-restore>), together with the token and the certificates; containers go on running.
/// An external datastore is somebody else's to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatastoreSnapshot {
    /// The server's name in the cluster.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// The version it is to have: with that, nothing is kept.
    pub version: String,
    /// The server's unit.
    pub unit: String,
    /// The program of k3s.
    pub program: NodePath,
    /// The server's data, `/var/lib/rancher/k3s/server`. Copies are in `db/snapshots` below it, where upstream has its own.
    pub data: NodePath,
    /// How many copies of SQLite stay there, this one included. Those of etcd are upstream's to prune.
    #[serde(default = "two")]
    pub keep: u32,
    /// etcd is a static pod of kubeadm, whose `etcdctl snapshot save` makes the copy. `data` is its data directory, and copies are
    /// in /var/backups/etcd.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub static_pod: bool,
    /// Credentials that may read this node.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

fn two() -> u32 {
    2
}

/// Where a server keeps its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datastore {
    /// etcd, as a part of k3s.
    Etcd,
    /// A file.
    Sqlite,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSeen {
    /// The version the server has, by its cluster; empty where that does not say; `None`: it is no member.
    pub version: Option<String>,
    /// The datastore that is on it.
    pub datastore: Option<Datastore>,
    /// Copies that were made within the last hour.
    pub recent: Vec<String>,
}

impl DatastoreSnapshot {
    fn question(&self) -> String {
        kube::question(&self.kubeconfig, &self.kubectl, None)
    }

    /// What is in the datastore's folder. A server that changed over to etcd has both, and uses etcd
    /// (k3s pkg/cluster/managed.go).
    fn look(&self) -> String {
        if self.static_pod {
            return format!(
                "# copies of the datastore\n[ ! -d {}/member ] || echo etcd\n[ ! -d /var/backups/etcd ] || find /var/backups/etcd -maxdepth 1 -name 'picluster-*' -mmin -60 | sed 's/.*\\//snapshots\\//'",
                quote(self.data.as_str()),
            );
        }
        format!(
            "# copies of the datastore\ncd {}/db 2>/dev/null || exit 0\nif [ -d etcd ]; then echo etcd; elif [ -e state.db ]; then echo sqlite; fi\n[ ! -d snapshots ] || find snapshots -maxdepth 1 -name 'picluster-*' -mmin -60",
            quote(self.data.as_str()),
        )
    }

    /// The name of the copy, by the version it is a copy of.
    fn name(version: &str) -> String {
        let known = if version.is_empty() {
            "unknown"
        } else {
            version
        };
        format!("picluster-{}", known.replace('+', "-"))
    }

    fn change(&self, datastore: Option<Datastore>) -> Change {
        let change = Change::new(Action::Run);
        match datastore {
            Some(Datastore::Etcd) => {
                change.field("copy", Shown::Absent, Shown::text("a snapshot of etcd"))
            }
            Some(Datastore::Sqlite) => change
                .field("copy", Shown::Absent, Shown::text("of SQLite"))
                .because(format!("{} stops for a moment", self.unit))
                .effect(Effect::Restart(self.unit.clone())),
            None => change.field("copy", Shown::Absent, Shown::Later),
        }
    }
}

impl Kind for DatastoreSnapshot {
    const NAME: &'static str = "datastore_snapshot";
    type Observation = SnapshotSeen;

    fn key(&self) -> String {
        self.node.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.keep == 0 {
            wrong.push("keep is at least 1".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![
            Query::Fragment(self.question()),
            Query::Fragment(self.look()),
        ])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<SnapshotSeen>, Diagnosis> {
        let (status, stdout) = answers.fragment(&self.question())?;
        let version = match kube::answer(status, stdout) {
            Asked::Nodes(nodes) => nodes
                .into_iter()
                .find(|n| n.name == self.node.as_str())
                .map(|n| n.version),
            Asked::NoCredentials | Asked::NoKubectl => None,
            Asked::NoAnswer | Asked::NotFound => Some(String::new()),
        };
        let (_, found) = answers.fragment(&self.look())?;
        let lines = || found.lines().map(str::trim);
        let datastore = lines().find_map(|line| match line {
            "etcd" => Some(Datastore::Etcd),
            "sqlite" => Some(Datastore::Sqlite),
            _ => None,
        });
        let recent = lines()
            .filter_map(|l| l.strip_prefix("snapshots/"))
            .map(str::to_owned)
            .collect();
        Ok(Seen::Now(SnapshotSeen {
            version,
            datastore,
            recent,
        }))
    }

    fn diff(&self, seen: &SnapshotSeen, _ctx: Ctx<'_>) -> Diff {
        let Some(version) = seen.version.as_ref().filter(|v| **v != self.version) else {
            return Diff::NoOp;
        };
        let name = Self::name(version);
        // Upstream puts the node and the time behind it. A server that does not answer may have been stopped for this very
        // copy: what was kept in the last hour is of the version it had.
        let made = |copy: &String| {
            version.is_empty() || *copy == name || copy.starts_with(&format!("{name}-"))
        };
        // etcd's snapshots are made by a server that runs.
        let mute = seen.datastore == Some(Datastore::Etcd) && version.is_empty();
        if seen.datastore.is_none() || mute || seen.recent.iter().any(made) {
            return Diff::NoOp;
        }
        Diff::Change(self.change(seen.datastore))
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        self.change(None)
    }

    fn operation(
        &self,
        seen: &SnapshotSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let name = Self::name(seen.version.as_deref().unwrap_or_default());
        let head = format!(
            "# keep the datastore of {}\nd={} name={} unit={} program={} keep={}\n",
            quote(self.node.as_str()),
            quote(self.data.as_str()),
            quote(&name),
            quote(&self.unit),
            quote(self.program.as_str()),
            self.keep,
        );
        let body = match seen.datastore {
            Some(Datastore::Etcd) if self.static_pod => {
                let kc = kube::function(&self.kubeconfig, &self.kubectl);
                let head = head + &kc + "node=" + &quote(self.node.as_str()) + "\n";
                let script = head + include_str!("datastore_snapshot/static_pod.sh");
                return Ok(Operation::script(script).within(Duration::from_secs(600)));
            }
            Some(Datastore::Etcd) => "\"$program\" etcd-snapshot save --name \"$name\"",
            _ => include_str!("datastore_snapshot/sqlite.sh"),
        };
        // Hundreds of megabytes on a slow card.
        Ok(Operation::script(head + body).within(Duration::from_secs(600)))
    }
}
