//! `node_labels`: labels and taints of a node of the cluster, set and removed with the cluster's credentials.

use std::collections::{BTreeMap, BTreeSet};
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

/// The annotation of the Node that lists which labels and taints are ours.
pub const OWNED: &str = "picluster/owned";

/// Runs kubectl. The Node is written by others at the same time, its kubelet first of all: who is told that it
/// has changed meanwhile reads it again and tries again, as the API's conventions have it
/// (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#concurrency-control-and-consistency>).
/// Who gets no answer tries again, too: a server that a hundred nodes join at once is slow for minutes. What was done all the same is
/// then found done; what is wanted in the end is looked at afterwards in any case.
const ATTEMPTS: &str = r#"do_it() {
  for try in 1 2 3 4 5 6; do
    kc "$@" && return
    code=$?
    [ $try = 1 ] || ! grep -q '^error: taint .* not found' /run/picluster/kubectl.err || return 0
    grep -q '(Conflict)' /run/picluster/kubectl.err && continue
    [ $code = 124 ] || grep -qE 'Client.Timeout|deadline exceeded|was refused|connection reset|\((ServiceUnavailable|TooManyRequests|Timeout|ServerTimeout)\)' /run/picluster/kubectl.err || break
    sleep 2
  done
  cat /run/picluster/kubectl.err >&2; exit 1
}
"#;

/// Labels and taints of one node of the cluster. Declared on a server, where the administrator's
/// credentials are. What is listed is set; what was listed once and no longer is, is removed; everything
/// else on the node belongs to somebody else and stays. Which are ours is written on the node itself, in an
/// annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeLabels {
    /// The node's name in the cluster.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// Labels and their values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints, as `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
    #[serde(default)]
    pub taints: Vec<String>,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

/// What was seen of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelsSeen {
    /// Values of the labels that are listed or ours.
    pub labels: BTreeMap<String, String>,
    /// Values of the taints that are listed or ours, by `KEY:EFFECT`.
    pub taints: BTreeMap<String, String>,
    /// What is ours by the annotation; `None`: there is none, or it cannot be read.
    pub owned: Option<Owned>,
}

/// What is ours on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owned {
    /// Keys of labels.
    pub labels: BTreeSet<String>,
    /// `KEY:EFFECT` of taints.
    pub taints: BTreeSet<String>,
}

impl Owned {
    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.taints.is_empty()
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            labels: self.labels.union(&other.labels).cloned().collect(),
            taints: self.taints.union(&other.taints).cloned().collect(),
        }
    }

    fn words(&self) -> String {
        let all: Vec<&str> = self
            .labels
            .iter()
            .chain(&self.taints)
            .map(String::as_str)
            .collect();
        all.join(", ")
    }
}

/// The line that sets and removes labels, and notes which are ours, at once. Each start of kubectl takes a Pi a good part of a
/// second, and a server does this for every node of its cluster.
fn patch(owned: Option<&Owned>, labels: &BTreeMap<&str, Option<&str>>) -> String {
    let mut metadata = serde_json::json!({});
    if let Some(owned) = owned {
        let note = (!owned.is_empty()).then(|| serde_json::to_string(owned).unwrap_or_default());
        metadata["annotations"] = serde_json::json!({ OWNED: note });
    }
    if !labels.is_empty() {
        metadata["labels"] = serde_json::json!(labels);
    }
    let patch = serde_json::json!({ "metadata": metadata });
    format!(
        "do_it patch node \"$n\" --type merge -p {}\n",
        quote(&patch.to_string())
    )
}

/// A taint's identity (`KEY:EFFECT`) and value.
fn taint(text: &str) -> Option<(String, String)> {
    let (left, effect) = text.rsplit_once(':')?;
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    let good = !key.is_empty() && matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
    good.then(|| (format!("{key}:{effect}"), value.to_owned()))
}

/// A value as people see it: an empty one is a value, too.
fn shown(value: Option<&String>) -> Shown {
    match value.map(String::as_str) {
        None => Shown::Absent,
        Some("") => Shown::text("\"\""),
        Some(text) => Shown::text(text),
    }
}

impl NodeLabels {
    fn question(&self) -> Query {
        Query::ClusterNode {
            kubeconfig: self.kubeconfig.clone(),
            kubectl: self.kubectl.clone(),
            name: self.node.to_string(),
        }
    }

    fn wanted_taints(&self) -> BTreeMap<String, String> {
        self.taints.iter().filter_map(|t| taint(t)).collect()
    }

    fn ours(&self) -> Owned {
        Owned {
            labels: self.labels.keys().cloned().collect(),
            taints: self.wanted_taints().into_keys().collect(),
        }
    }

    fn changes(&self, seen: &LabelsSeen) -> Change {
        let ours = self.ours();
        let before = seen.owned.clone().unwrap_or_default();
        let mut change = Change::new(Action::Update);
        let taints = self.wanted_taints();
        for (what, keys, wanted, have) in [
            (
                "label",
                before.labels.union(&ours.labels),
                &self.labels,
                &seen.labels,
            ),
            (
                "taint",
                before.taints.union(&ours.taints),
                &taints,
                &seen.taints,
            ),
        ] {
            for key in keys {
                if wanted.get(key) != have.get(key) {
                    change = change.field(
                        &format!("{what} {key}"),
                        shown(have.get(key)),
                        shown(wanted.get(key)),
                    );
                }
            }
        }
        let recorded = seen.owned.clone().unwrap_or_default();
        if recorded != ours {
            let text = |owned: &Owned| {
                if owned.is_empty() {
                    Shown::Absent
                } else {
                    Shown::Text(owned.words())
                }
            };
            change = change.field("owned", text(&recorded), text(&ours));
        }
        change
    }
}

impl Kind for NodeLabels {
    const NAME: &'static str = "node_labels";
    type Observation = LabelsSeen;

    fn key(&self) -> String {
        self.node.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self
            .taints
            .iter()
            .filter(|t| taint(t).is_none())
            .map(|t| format!("{t:?} is no taint: KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute"))
            .collect();
        if self.wanted_taints().len() < self.taints.len() && wrong.is_empty() {
            wrong.push("a key and effect is there twice among the taints".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![self.question()])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<LabelsSeen>, Diagnosis> {
        let (status, stdout) = answers.cluster_node(&self.question())?;
        let (found, missing) = match kube::answer(status, stdout) {
            Asked::Nodes(nodes) => (
                nodes.into_iter().find(|n| n.name == self.node.as_str()),
                ClusterToken::Joined(self.node.clone()),
            ),
            Asked::NotFound => (None, ClusterToken::Joined(self.node.clone())),
            _ => (None, ClusterToken::Api),
        };
        let Some(node) = found else {
            // Where nothing is wanted, a node that is still to come needs nothing.
            return Ok(if self.ours().is_empty() {
                Seen::Now(LabelsSeen {
                    labels: BTreeMap::new(),
                    taints: BTreeMap::new(),
                    owned: None,
                })
            } else {
                Seen::NotYet(Token::Cluster(missing))
            });
        };
        let owned: Option<Owned> = node
            .annotations
            .get(OWNED)
            .and_then(|text| serde_json::from_str(text).ok());
        let mine = self.ours().with(&owned.clone().unwrap_or_default());
        Ok(Seen::Now(LabelsSeen {
            labels: node
                .labels
                .into_iter()
                .filter(|(key, _)| mine.labels.contains(key))
                .collect(),
            taints: node
                .taints
                .into_iter()
                .map(|t| (format!("{}:{}", t.key, t.effect), t.value))
                .filter(|(key, _)| mine.taints.contains(key))
                .collect(),
            owned,
        }))
    }

    fn diff(&self, seen: &LabelsSeen, _ctx: Ctx<'_>) -> Diff {
        self.changes(seen).into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let nothing = LabelsSeen {
            labels: BTreeMap::new(),
            taints: BTreeMap::new(),
            owned: None,
        };
        Change {
            action: Action::Create,
            ..self.changes(&nothing)
        }
    }

    fn operation(
        &self,
        seen: &LabelsSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let (ours, before) = (self.ours(), seen.owned.clone().unwrap_or_default());
        let mut script = format!(
            "# labels and taints of {0}\n{1}n={2}\n{ATTEMPTS}",
            self.node,
            kube::function(&self.kubeconfig, &self.kubectl),
            quote(self.node.as_str())
        );
        // Written before any taint is set and shortened after all that go are removed: whoever is killed in
        // between leaves nothing behind that nobody owns. Labels go in one patch with it.
        let both = ours.with(&before);
        let mut labels: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for key in &both.labels {
            match self.labels.get(key) {
                Some(value) if seen.labels.get(key) != Some(value) => {
                    labels.insert(key, Some(value));
                }
                None if seen.labels.contains_key(key) => {
                    labels.insert(key, None);
                }
                _ => {}
            }
        }
        let wanted = self.wanted_taints();
        let mut taints: Vec<String> = Vec::new();
        for key in &both.taints {
            match wanted.get(key) {
                Some(value) if seen.taints.get(key) != Some(value) => {
                    let (name, effect) = key.rsplit_once(':').unwrap_or((key, ""));
                    taints.push(quote(&match value.as_str() {
                        "" => format!("{name}:{effect}"),
                        value => format!("{name}={value}:{effect}"),
                    }));
                }
                None if seen.taints.contains_key(key) => taints.push(quote(&format!("{key}-"))),
                _ => {}
            }
        }
        let first = if taints.is_empty() { &ours } else { &both };
        let note = Some(first).filter(|first| **first != before || seen.owned.is_none());
        if note.is_some() || !labels.is_empty() {
            script.push_str(&patch(note, &labels));
        }
        if !taints.is_empty() {
            script.push_str(&format!(
                "do_it taint node \"$n\" --overwrite {}\n",
                taints.join(" ")
            ));
        }
        if *first != ours {
            script.push_str(&patch(Some(&ours), &BTreeMap::new()));
        }
        Ok(Operation::script(script).within(Duration::from_secs(300)))
    }

    /// A server does this for every node of its cluster, and many of them come to be ready at the same time.
    fn small(&self) -> bool {
        true
    }

    fn requires(&self) -> Vec<Token> {
        vec![
            Token::Cluster(ClusterToken::Api),
            Token::Cluster(ClusterToken::Joined(self.node.clone())),
        ]
    }
}
