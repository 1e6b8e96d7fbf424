//! `cluster_roll`: which nodes of the cluster are ours, and where they are, written down in the cluster itself.

use std::collections::BTreeMap;
use std::time::Duration;

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::cluster_node::CONTROL_PLANE;
use crate::kinds::kube::{self, Asked};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// The annotation of the namespace kube-system that lists our nodes and where to log in.
pub const ROLL: &str = "picluster/nodes";

/// The nodes of the cluster that picluster set up, and where it logs in to them: an annotation of the namespace
/// `kube-system`, which belongs to the cluster and to none of its nodes. A node
/// that leaves the inventory stays on the list, so that it is known as ours for as long as the cluster has it: `plan` names
/// it, and `apply --remove-nodes` takes it out of the cluster. Nodes of others are on no list. A name comes off it when its
/// machine has been cleaned: one that was deleted while it was away, and joins again, is noticed. Declared on every server: the
/// first one that can writes it. A list on a Node, where it stood before, is taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterRoll {
    /// The server that this stands on.
    #[schemars(with = "String")]
    pub server: NodeName,
    /// Every node of the cluster. Of each only `name` and `login` count, so that the inventory's `nodes` fit here.
    pub nodes: Vec<RollNode>,
    /// Nodes that are gone for good and come off the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub forget: Vec<NodeName>,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

/// A node of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollNode {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// Where to log in to it, `[USER@]HOST[:PORT]`.
    pub login: String,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollSeen {
    /// The list.
    pub listed: BTreeMap<NodeName, String>,
    /// Lists on Nodes, where they stood before, by the Node's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on_nodes: BTreeMap<String, BTreeMap<NodeName, String>>,
}

impl RollSeen {
    /// Everybody who is on any list; what the cluster's own says counts.
    fn all(&self) -> BTreeMap<NodeName, String> {
        let older = self.on_nodes.values().flatten();
        let all = older.chain(&self.listed);
        all.map(|(name, login)| (name.clone(), login.clone()))
            .collect()
    }
}

/// What a list says.
fn read(text: Option<&String>) -> BTreeMap<NodeName, String> {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// A node that is ours, by the inventory or by the cluster's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: NodeName,
    /// Where to log in to it, `[USER@]HOST[:PORT]`.
    pub login: String,
    /// The inventory has it in its cluster.
    pub declared: bool,
    /// The cluster has it.
    pub registered: bool,
    /// Its kubelet reports to the cluster.
    pub ready: bool,
    /// It is a member of the control plane.
    pub server: bool,
}

impl ClusterRoll {
    fn declared(&self) -> BTreeMap<NodeName, String> {
        let nodes = self.nodes.iter();
        nodes.map(|n| (n.name.clone(), n.login.clone())).collect()
    }

    fn question(&self) -> String {
        kube::question(&self.kubeconfig, &self.kubectl, None)
    }

    fn lists(nodes: &[kube::KubeNode], stdout: &str) -> RollSeen {
        let older = nodes
            .iter()
            .filter_map(|n| Some((n.name.clone(), read(Some(n.annotations.get(ROLL)?)))));
        RollSeen {
            listed: read(kube::notes(stdout).get(ROLL)),
            on_nodes: older.collect(),
        }
    }

    /// The nodes that are ours, whether the cluster still has them or not, out of the answer to what is asked anyway. `None`: the cluster does not say.
    #[must_use]
    pub fn registered(&self, answers: &Answers) -> Option<Vec<Registered>> {
        let (status, stdout) = answers.fragment(&self.question()).ok()?;
        let Asked::Nodes(nodes) = kube::answer(status, stdout) else {
            return None;
        };
        let mut ours = Self::lists(&nodes, stdout).all();
        let declared = self.declared();
        ours.extend(declared.clone());
        let known = ours.into_iter().map(|(name, login)| {
            let node = nodes.iter().find(|n| n.name == name.as_str());
            Registered {
                login,
                declared: declared.contains_key(&name),
                registered: node.is_some(),
                ready: node.is_some_and(|n| n.ready == "True"),
                server: node.is_some_and(|n| n.labels.contains_key(CONTROL_PLANE)),
                name,
            }
        });
        Some(known.collect())
    }
}

impl Kind for ClusterRoll {
    const NAME: &'static str = "cluster_roll";
    type Observation = RollSeen;

    fn key(&self) -> String {
        match self.forget.first() {
            Some(node) => format!("{} without {node}", self.server),
            None => self.server.to_string(),
        }
    }

    fn check(&self) -> Vec<String> {
        kube::no_program(&self.kubectl).into_iter().collect()
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.question())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<RollSeen>, Diagnosis> {
        let (status, stdout) = answers.fragment(&self.question())?;
        let Asked::Nodes(nodes) = kube::answer(status, stdout) else {
            return Ok(Seen::NotYet(Token::Cluster(ClusterToken::Api)));
        };
        Ok(Seen::Now(Self::lists(&nodes, stdout)))
    }

    /// Others of its kind write the same list.
    fn ground(_seen: RollSeen) -> RollSeen {
        RollSeen {
            listed: BTreeMap::new(),
            on_nodes: BTreeMap::new(),
        }
    }

    fn diff(&self, seen: &RollSeen, _ctx: Ctx<'_>) -> Diff {
        let all = seen.all();
        let mut change = Change::new(if all.is_empty() {
            Action::Create
        } else {
            Action::Update
        });
        // One who is forgotten leaves what else stands where to those who write the list.
        if self.forget.is_empty() {
            for node in seen.on_nodes.keys() {
                let before = Shown::text(format!("on Node {node}"));
                change = change.field("list", before, Shown::text("in the cluster's own place"));
            }
        }
        for (name, login) in &self.declared() {
            let before = match all.get(name) {
                Some(same) if same == login => continue,
                Some(other) => Shown::text(other.as_str()),
                None => Shown::Absent,
            };
            change = change.field(name.as_str(), before, Shown::text(login.as_str()));
        }
        for name in &self.forget {
            if let Some(login) = all.get(name) {
                change = change.field(name.as_str(), Shown::text(login.as_str()), Shown::Absent);
            }
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = Change::new(Action::Create);
        for (name, login) in &self.declared() {
            change = change.field(name.as_str(), Shown::Absent, Shown::text(login.as_str()));
        }
        change
    }

    fn operation(
        &self,
        seen: &RollSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut all = seen.all();
        all.extend(self.declared());
        all.retain(|name, _| !self.forget.contains(name));
        let json = serde_json::to_string(&all).unwrap_or_default();
        let mut script = format!(
            "# the list of our nodes\n{}note() {{ kc annotate \"$@\" >/dev/null || {{ cat /run/picluster/kubectl.err >&2; exit 1; }}; }}\nnote namespace {} --overwrite {}",
            kube::function(&self.kubeconfig, &self.kubectl),
            kube::HOME,
            quote(&format!("{ROLL}={json}")),
        );
        for node in seen.on_nodes.keys() {
            script += &format!("\nnote node {} {ROLL}-", quote(node));
        }
        Ok(Operation::script(script).within(Duration::from_secs(60)))
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::Cluster(ClusterToken::Api)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Answer;

    #[test]
    fn who_is_listed_is_known_also_when_the_inventory_has_him_no_longer() {
        let roll: ClusterRoll = serde_json::from_value(serde_json::json!({
            "server": "rpi01", "nodes": [{"name": "rpi01", "login": "192.168.2.1", "kubernetes": "server"}],
            "kubeconfig": "/etc/k3s.yaml", "kubectl": ["/usr/local/bin/kubectl"],
        }))
        .unwrap();
        let said = |status: u32, stdout: String| {
            let query = Query::Fragment(roll.question());
            Answers([(query, Answer::Fragment { status, stdout })].into())
        };
        let listed = r#"{"rpi01":"192.168.2.1","rpi02":"pi@192.168.2.2:22","rpi03":"192.168.2.3","rpi04":"192.168.2.4"}"#;
        // One was written where lists stood before.
        let older = r#"{"rpi02":"pi@10.0.0.1","rpi05":"192.168.2.5"}"#;
        let node = |name: &str, ready: &str, role: &str| {
            serde_json::json!({
                "kind": "Node",
                "metadata": {"name": name, "labels": {(role): "true"}, "annotations": if name == "rpi01" { serde_json::json!({(ROLL): older}) } else { serde_json::json!({}) }},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let items = [
            node("rpi01", "True", "a"),
            node("rpi02", "True", "a"),
            node("rpi03", "Unknown", "node-role.kubernetes.io/control-plane"),
            // Somebody else's.
            node("theirs", "True", "a"),
            serde_json::json!({"kind": "Namespace", "metadata": {"name": "default"}}),
            serde_json::json!({"kind": "Namespace", "metadata": {"name": "kube-system", "annotations": {(ROLL): listed}}}),
        ];
        let text = serde_json::json!({"kind": "List", "items": items}).to_string();
        let known = |name: &str, login: &str, declared, ready, server| Registered {
            name: NodeName::new(name).unwrap(),
            login: login.into(),
            declared,
            registered: !["rpi04", "rpi05"].contains(&name),
            ready,
            server,
        };
        // rpi04 is listed, and the cluster does not have it any more: its machine was not cleaned yet.
        assert_eq!(
            roll.registered(&said(0, text)),
            Some(vec![
                known("rpi01", "192.168.2.1", true, true, false),
                known("rpi02", "pi@192.168.2.2:22", false, true, false),
                known("rpi03", "192.168.2.3", false, false, true),
                known("rpi04", "192.168.2.4", false, false, false),
                known("rpi05", "192.168.2.5", false, false, false),
            ])
        );
        assert_eq!(roll.registered(&said(92, String::new())), None);
    }
}
