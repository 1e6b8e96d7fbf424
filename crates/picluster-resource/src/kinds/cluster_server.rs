//! `cluster_server`: how one sees that a server of the cluster serves. Changes nothing.

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kube;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};

/// How one sees that this machine serves as a member of the control plane. It changes nothing. Before an apply
/// takes a server down (a restart of its unit, a reboot, a guarded change), it runs the `check` of every other server
/// that is a member, and afterwards that of the server itself; a server whose check fails keeps the others up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterServer {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// The unit that makes it serve: where it restarts or stops, the server is down.
    pub unit: String,
    /// What is there once the machine is, or was, a member: something that its first start leaves behind.
    pub data: NodePath,
    /// POSIX shell text, run as root: status 0 when the API server and the datastore behind it answer on this machine.
    /// What it prints says why they do not. It is stopped after 20 seconds.
    pub check: String,
    /// How long it may take to serve again after it was taken down, in seconds.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSeen {
    /// It is a member, or was one.
    pub member: bool,
}

impl ClusterServer {
    /// Asks whether it serves, now: the answer to a [`Query::Fragment`] of this text.
    #[must_use]
    pub fn proof(&self) -> String {
        format!(
            "# whether {} serves\ntimeout -k 5 20 sh -c {} </dev/null 2>&1",
            self.name,
            crate::shell::quote(&self.check)
        )
    }

    /// What an answer to [`ClusterServer::proof`] says.
    ///
    /// # Errors
    /// Why it does not serve, in a few words.
    pub fn judge(status: u32, text: &str) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // Kubernetes lists its checks, and marks those that fail so.
        let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty());
        let told = lines()
            .find(|l| l.starts_with("[-]"))
            .or_else(|| lines().next_back());
        Err(match (status, told) {
            (124 | 137, _) => "its check did not end within 20 s".into(),
            (_, Some(line)) => line.chars().take(200).collect(),
            (status, None) => format!("its check ended with exit status {status}"),
        })
    }
}

impl Kind for ClusterServer {
    const NAME: &'static str = "cluster_server";
    type Observation = ServerSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.check.trim().is_empty() {
            wrong.push("check is empty: it would call every server serving".into());
        }
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Path(self.data.clone())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<ServerSeen>, Diagnosis> {
        Ok(Seen::Now(ServerSeen {
            member: answers.path(&self.data)?.is_some(),
        }))
    }

    fn diff(&self, _seen: &ServerSeen, _ctx: Ctx<'_>) -> Diff {
        Diff::NoOp
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Run).field("serves", Shown::Later, Shown::Later)
    }

    fn operation(
        &self,
        _seen: &ServerSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        Err(Diagnosis::new("there is nothing to do for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_says_why() {
        for (status, text, why) in [
            (0, "[+]etcd ok\nok\n", None),
            (
                1,
                "noise\nreadyz check failed\n\n",
                Some("readyz check failed"),
            ),
            (
                1,
                "Error from server (InternalError): an error on the server (\"[+]ping ok\n[-]etcd failed: reason withheld\n\") has prevented the request\n",
                Some("[-]etcd failed: reason withheld"),
            ),
            (3, "", Some("its check ended with exit status 3")),
            (124, "waiting\n", Some("its check did not end within 20 s")),
        ] {
            let said = ClusterServer::judge(status, text).err();
            assert_eq!(said.as_deref(), why, "{status} {text:?}");
        }
    }
}
