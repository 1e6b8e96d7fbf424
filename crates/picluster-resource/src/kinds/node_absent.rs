//! `node_absent`: the cluster has no such node.

use std::time::Duration;

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kube::{self, Asked};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// A node that the cluster does not have: its Node is deleted, and with it go, by the cluster's own controllers, the pods
/// that are bound to it, its node password, and for a server of k3s' embedded etcd its membership there. kubeadm has no such
/// controller: `stacked_etcd` takes the member away. Declared on a server that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeAbsent {
    /// The node's name in the cluster.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// It is a member of the control plane: others have to be seen serving before it goes.
    #[serde(default)]
    pub server: bool,
    /// With kubeadm: the name of the control plane that this is declared on, whose etcd (a static pod) lets the node's member go
    /// before the Node is deleted, once more than half of the members that stay are healthy. Whether the node has a member is
    /// etcd's word, not the Node's: a control plane whose join broke off is a member before it is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stacked_etcd: Option<NodeName>,
    /// How long to wait until it is gone, in seconds: etcd has to let a member go first.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentSeen {
    /// The version of its kubelet; `None`: the cluster has no such node.
    pub there: Option<String>,
}

/// Exit status of the script when too few members would be left; what it found follows.
const NO_QUORUM: u32 = 71;

impl NodeAbsent {
    fn question(&self) -> String {
        kube::question(&self.kubeconfig, &self.kubectl, None)
    }

    fn change(&self, node: Shown) -> Change {
        let change = Change::new(Action::Delete).field("node", node, Shown::Absent);
        if self.stacked_etcd.is_none() || !self.server {
            return change;
        }
        change.field(
            "member of etcd",
            Shown::text("its own"),
            Shown::text("removed, while more than half of the others are healthy"),
        )
    }
}

impl Kind for NodeAbsent {
    const NAME: &'static str = "node_absent";
    type Observation = AbsentSeen;

    fn key(&self) -> String {
        self.node.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.question())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<AbsentSeen>, Diagnosis> {
        let (status, stdout) = answers.fragment(&self.question())?;
        match kube::answer(status, stdout) {
            Asked::Nodes(nodes) => Ok(Seen::Now(AbsentSeen {
                there: nodes
                    .into_iter()
                    .find(|n| n.name == self.node.as_str())
                    .map(|n| n.version),
            })),
            // Where there is no cluster there is no node of it.
            Asked::NoCredentials | Asked::NoKubectl => Ok(Seen::Now(AbsentSeen { there: None })),
            Asked::NoAnswer | Asked::NotFound => {
                Ok(Seen::NotYet(Token::Cluster(ClusterToken::Api)))
            }
        }
    }

    fn diff(&self, seen: &AbsentSeen, _ctx: Ctx<'_>) -> Diff {
        match &seen.there {
            None => Diff::NoOp,
            Some(version) => Diff::Change(self.change(Shown::text(version.as_str()))),
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        self.change(Shown::Later)
    }

    fn operation(
        &self,
        _seen: &AbsentSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        // Deleted without waiting, and then looked for: `kc` ends what takes longer than 20 seconds.
        let (at, member) = match &self.stacked_etcd {
            Some(here) => (
                format!("here={}\n", quote(here.as_str())),
                include_str!("node_absent/member.sh"),
            ),
            None => (String::new(), ""),
        };
        let script = format!(
            "# node {0} leaves the cluster\n{1}n={0} within={2}\n{at}{member}{3}",
            quote(self.node.as_str()),
            kube::function(&self.kubeconfig, &self.kubectl),
            self.timeout,
            include_str!("node_absent/delete.sh"),
        );
        let more = if self.stacked_etcd.is_some() { 180 } else { 60 };
        Ok(Operation::script(script).within(Duration::from_secs(u64::from(self.timeout) + more)))
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        if status != NO_QUORUM {
            return None;
        }
        let said = |key: &str| output.lines().find_map(|l| l.strip_prefix(key));
        let node = &self.node;
        let found = match (said("@@ left "), said("@@ healthy "), said("@@ down")) {
            (Some(left), Some(healthy), Some(down)) => {
                let down = down.trim();
                format!(
                    "{node} keeps its member of etcd: without it {left} are left, of which {healthy} are healthy, and etcd needs more than half{}",
                    if down.is_empty() {
                        String::new()
                    } else {
                        format!("; not healthy: {down}")
                    },
                )
            }
            _ => format!(
                "{node} keeps its member of etcd: the other members do not say how they are: {}",
                output.lines().last().unwrap_or_default()
            ),
        };
        Some(Diagnosis::new(found).cure(
            "bring the other control planes up (etcdctl endpoint health --cluster in the pod etcd-NAME), then: picluster apply --remove-nodes",
        ))
    }
}
