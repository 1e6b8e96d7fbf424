//! `node_drained`: the pods of a node go elsewhere before something is done to it that they should not see.

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
use crate::token::{ClusterToken, Token};

/// The annotation of a Node that picluster cordoned, with what for. A node that somebody else cordoned has none, and stays
/// cordoned.
pub const CORDONED: &str = "picluster/cordoned";

/// The annotation of a Node that was drained, with what for.
pub const DRAINED: &str = "picluster/drained";

/// What a node is drained for, where it is not another version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It is to leave the cluster.
    #[default]
    Removal,
    /// It is to be switched off.
    Shutdown,
    /// Packages of its system are upgraded, and it may reboot.
    Packages,
}

impl Purpose {
    /// As it stands in the annotations of the Node.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removal => "removal",
            Self::Shutdown => "shutdown",
            Self::Packages => "packages",
        }
    }
}

/// A node without the pods that can run elsewhere, while its kubelet has another version than is wanted. Declared on a
/// server, where the administrator's credentials are. It is done in an upgrade only, before the node's program is replaced:
/// the node is cordoned (an annotation remembers who did it) and `kubectl drain` evicts its pods, within their disruption
/// budgets; pods of daemon sets stay. Where no other node could take the pods nothing is done: they go on running while
/// the program is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDrained {
    /// The node's name in the cluster.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// The version its kubelet is to have: with that it is not drained. Left out: `purpose` says what it is
    /// drained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is drained for, without `version`: `removal`, `shutdown` or `packages`.
    #[serde(default, skip_serializing_if = "is_removal")]
    pub purpose: Purpose,
    /// How long the pods may take, in seconds, all together. What stays then is named, and the node takes pods again.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
    /// Whether pods with data in an `emptyDir` volume go, too: the data is gone then. Those in `kube-system` go in any case.
    #[serde(default)]
    pub delete_emptydir_data: bool,
    /// Whether pods go that nobody would make again, because they have no controller.
    #[serde(default)]
    pub force: bool,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

fn is_removal(purpose: &Purpose) -> bool {
    *purpose == Purpose::Removal
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainSeen {
    /// Version of its kubelet; `None`: there is no such node.
    pub version: Option<String>,
    /// No new pods are placed there.
    pub cordoned: bool,
    /// It was picluster that cordoned it.
    pub ours: bool,
    /// What it was drained for.
    pub drained: Option<String>,
    /// Another node is Ready and takes pods.
    pub elsewhere: bool,
}

impl DrainSeen {
    /// Of a node that is not there.
    fn nothing() -> Self {
        Self {
            version: None,
            cordoned: false,
            ours: false,
            drained: None,
            elsewhere: false,
        }
    }
}

/// Exit status of the script when it says what keeps the pods.
const STAY: u32 = 71;

impl NodeDrained {
    fn question(&self) -> String {
        kube::question(&self.kubeconfig, &self.kubectl, None)
    }

    /// What it is drained for.
    fn goal(&self) -> &str {
        self.version.as_deref().unwrap_or(self.purpose.as_str())
    }

    fn change(&self, cordoned: Shown, pods: Shown) -> Change {
        let mut change = Change::new(Action::Run);
        if cordoned != Shown::text("cordoned") {
            change = change.field("scheduling", cordoned, Shown::text("cordoned"));
        }
        change
            .field("pods", pods, Shown::text("evicted"))
            .effect(Effect::Drain(format!(
                "drains {}: its pods are evicted and start elsewhere; they have {} s",
                self.node, self.timeout
            )))
    }

    fn bound(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout) + 180)
    }
}

impl Kind for NodeDrained {
    const NAME: &'static str = "node_drained";
    type Observation = DrainSeen;

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

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<DrainSeen>, Diagnosis> {
        let (status, stdout) = answers.fragment(&self.question())?;
        let nodes = match kube::answer(status, stdout) {
            Asked::Nodes(nodes) => nodes,
            Asked::NoCredentials | Asked::NoKubectl => {
                return Ok(Seen::Now(DrainSeen::nothing()));
            }
            Asked::NoAnswer | Asked::NotFound => {
                return Ok(Seen::NotYet(Token::Cluster(ClusterToken::Api)));
            }
        };
        // One that we cordoned takes pods again before it is this one's turn.
        let takes = |n: &kube::KubeNode| !n.unschedulable || n.annotations.contains_key(CORDONED);
        let elsewhere = nodes
            .iter()
            .any(|n| n.name != self.node.as_str() && n.ready == "True" && takes(n));
        let found = nodes.into_iter().find(|n| n.name == self.node.as_str());
        Ok(Seen::Now(found.map_or_else(DrainSeen::nothing, |node| {
            DrainSeen {
                version: Some(node.version),
                cordoned: node.unschedulable,
                ours: node.annotations.contains_key(CORDONED),
                drained: node.annotations.get(DRAINED).cloned(),
                elsewhere,
            }
        })))
    }

    /// Whether other nodes are Ready changes by itself.
    fn ground(seen: DrainSeen) -> DrainSeen {
        DrainSeen {
            elsewhere: true,
            ..seen
        }
    }

    fn diff(&self, seen: &DrainSeen, _ctx: Ctx<'_>) -> Diff {
        let Some(version) = &seen.version else {
            return Diff::NoOp;
        };
        let there = self.version.as_ref() == Some(version);
        let done = seen.cordoned && seen.drained.as_deref() == Some(self.goal());
        if there || done || !seen.elsewhere {
            return Diff::NoOp;
        }
        let scheduling = if seen.cordoned { "cordoned" } else { "on" };
        Diff::Change(self.change(Shown::text(scheduling), Shown::text("run here")))
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        self.change(Shown::Later, Shown::Later)
    }

    fn operation(
        &self,
        seen: &DrainSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let yes = |on: bool| if on { "yes" } else { "" };
        let script = format!(
            "# drain {name}, at most {timeout} s\n{function}n={name} goal={goal} within={timeout}\ncordon={cordon} mine={mine} emptydir={emptydir} force={force}\n{body}",
            name = quote(self.node.as_str()),
            timeout = self.timeout,
            function = kube::function(&self.kubeconfig, &self.kubectl),
            goal = quote(self.goal()),
            cordon = yes(!seen.cordoned),
            mine = yes(!seen.cordoned || seen.ours),
            emptydir = yes(self.delete_emptydir_data),
            force = yes(self.force),
            body = include_str!("node_drained/drain.sh"),
        );
        Ok(Operation::script(script).within(self.bound()))
    }

    fn provides(&self) -> Vec<Token> {
        vec![Token::Cluster(ClusterToken::Drained(self.node.clone()))]
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        (status == STAY).then(|| stay(self, output))
    }
}

/// What keeps the pods, by what the script found.
fn stay(drain: &NodeDrained, output: &str) -> Diagnosis {
    let part = |name: &str| -> Vec<&str> {
        let mut lines = output
            .lines()
            .skip_while(|l| l.strip_prefix("@@ ") != Some(name));
        lines.next();
        lines
            .take_while(|l| !l.starts_with("@@ "))
            .filter(|l| !l.trim().is_empty())
            .collect()
    };
    let (node, pods, said) = (&drain.node, part("stay"), part("said"));
    let names = if pods.is_empty() {
        "nobody can say which".to_owned()
    } else {
        pods.join(", ")
    };
    let again = match (&drain.version, drain.purpose) {
        (None, Purpose::Shutdown) => format!(
            "then run: picluster shutdown {node}; with --no-drain it is switched off with its pods; until then {node} takes pods as before"
        ),
        _ => format!("then run: picluster apply; until then {node} takes pods as before"),
    };
    let heard = |text: &str| said.iter().any(|l| l.contains(text));
    if part("why").contains(&"emptydir") {
        return Diagnosis::new(format!(
            "{node} is not drained: pods there keep data in an emptyDir volume, which is gone when they leave: {names}"
        ))
        .cure(format!(
            "save what is needed of it and delete the pods, or let the data go (delete_emptydir_data: true; of role k3s: drain_emptydir_data), {again}"
        ));
    }
    // kubernetes/kubectl/pkg/drain/filters.go
    if heard("declare no controller") {
        return Diagnosis::new(format!(
            "{node} is not drained: nobody would make these pods again: {names}"
        ))
        .cure(format!(
            "delete them, or let them go (force: true; of role k3s: drain_force), {again}"
        ));
    }
    // kubernetes/pkg/registry/core/pod/storage/eviction.go
    if heard("disruption budget") {
        return Diagnosis::new(format!(
            "{node} is not drained: a disruption budget kept pods there for {} s: {names}",
            drain.timeout
        ))
        .cure(format!(
            "kubectl get pdb -A shows what is allowed; give them another replica, or more time (timeout; of role k3s: drain_timeout), {again}"
        ));
    }
    let last = said
        .iter()
        .rev()
        .find(|l| l.contains("error"))
        .map_or(String::new(), |l| format!("; kubectl said: {}", l.trim()));
    Diagnosis::new(format!(
        "{node} is not drained: after {} s these pods are still there: {names}{last}",
        drain.timeout
    ))
    .cure(format!(
        "kubectl describe pod says what they wait for; give them more time (timeout; of role k3s: drain_timeout), {again}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_keeps_the_pods_is_named() {
        let drain: NodeDrained = serde_json::from_value(serde_json::json!({
            "node": "rpi02", "version": "v1.34.1+k3s1", "timeout": 30,
            "kubeconfig": "/etc/k3s.yaml", "kubectl": ["/usr/local/bin/kubectl"],
        }))
        .unwrap();
        for (output, words, cure) in [
            (
                "@@ why\nemptydir\n@@ stay\ndefault/cache-1\n@@ said\n",
                "an emptyDir volume, which is gone when they leave: default/cache-1",
                "drain_emptydir_data",
            ),
            (
                "@@ why\ndrain\n@@ stay\ndefault/one\n@@ said\nerror: unable to drain node \"rpi02\" due to error: cannot delete Pods that declare no controller (use --force to override): default/one, continuing command...\n",
                "nobody would make these pods again: default/one",
                "drain_force",
            ),
            (
                "@@ why\ndrain\n@@ stay\nshop/web-1\nshop/web-2\n@@ said\nerror when evicting pods/\"web-1\" -n \"shop\" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.\n",
                "a disruption budget kept pods there for 30 s: shop/web-1, shop/web-2",
                "kubectl get pdb -A",
            ),
            (
                "@@ why\ndrain\n@@ stay\nshop/slow\n@@ said\nerror when waiting for pod \"slow\" in namespace \"shop\" to terminate: global timeout reached: 30s\n",
                "after 30 s these pods are still there: shop/slow; kubectl said: error when waiting",
                "drain_timeout",
            ),
        ] {
            let found = drain_explains(&drain, output);
            assert!(found.what.contains(words), "{}", found.what);
            let said = found.cure.unwrap();
            assert!(
                said.contains(cure) && said.contains("picluster apply"),
                "{said}"
            );
        }
    }

    fn drain_explains(drain: &NodeDrained, output: &str) -> Diagnosis {
        stay(drain, output)
    }
}
