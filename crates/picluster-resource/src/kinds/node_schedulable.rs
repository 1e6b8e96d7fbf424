//! `node_schedulable`: a node that was cordoned for a while takes pods again.

use std::time::Duration;

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kube::{self, Asked};
use crate::kinds::node_drained::{CORDONED, DRAINED};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Reaction, Token};

/// A node that takes pods again after `node_drained`, once it is Ready: also when the run that drained it was broken off.
/// A node that somebody else cordoned stays cordoned. Declared on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSchedulable {
    /// The node's name in the cluster.
    #[schemars(with = "String")]
    pub node: NodeName,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulableSeen {
    /// No new pods are placed there.
    pub cordoned: bool,
    /// What picluster cordoned it for.
    pub ours: Option<String>,
    /// What it was drained for.
    pub drained: Option<String>,
}

impl NodeSchedulable {
    fn question(&self) -> String {
        kube::question(&self.kubeconfig, &self.kubectl, None)
    }
}

impl Kind for NodeSchedulable {
    const NAME: &'static str = "node_schedulable";
    type Observation = SchedulableSeen;

    fn key(&self) -> String {
        self.node.to_string()
    }

    fn check(&self) -> Vec<String> {
        kube::no_program(&self.kubectl).into_iter().collect()
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.question())])
    }

    fn observe(
        &self,
        answers: &Answers,
        _ctx: Ctx<'_>,
    ) -> Result<Seen<SchedulableSeen>, Diagnosis> {
        let (status, stdout) = answers.fragment(&self.question())?;
        // Of a node that nobody can speak of nothing is owed, as far as is known.
        let found = match kube::answer(status, stdout) {
            Asked::Nodes(nodes) => nodes.into_iter().find(|n| n.name == self.node.as_str()),
            _ => None,
        };
        Ok(Seen::Now(SchedulableSeen {
            cordoned: found.as_ref().is_some_and(|n| n.unschedulable),
            ours: found
                .as_ref()
                .and_then(|n| n.annotations.get(CORDONED).cloned()),
            drained: found.and_then(|n| n.annotations.get(DRAINED).cloned()),
        }))
    }

    fn diff(&self, seen: &SchedulableSeen, _ctx: Ctx<'_>) -> Diff {
        let mut change = Change::new(Action::Update);
        if let Some(why) = &seen.ours {
            let before = if seen.cordoned { "cordoned" } else { "on" };
            change = change
                .field("scheduling", Shown::text(before), Shown::text("on"))
                .because(format!("an earlier run cordoned it for {why}"));
        }
        if let Some(why) = &seen.drained {
            change = change.field("drained", Shown::text(why.as_str()), Shown::Absent);
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update)
            .field("scheduling", Shown::text("cordoned"), Shown::text("on"))
            .field("drained", Shown::Later, Shown::Absent)
    }

    fn operation(
        &self,
        seen: &SchedulableSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let spec = if seen.ours.is_some() {
            r#","spec":{"unschedulable":null}"#
        } else {
            ""
        };
        let patch = format!(
            r#"{{"metadata":{{"annotations":{{"{CORDONED}":null,"{DRAINED}":null}}}}{spec}}}"#
        );
        let script = format!(
            "# {0} takes pods again\n{1}kc patch node {0} --type merge -p {2} >/dev/null || {{ cat /run/picluster/kubectl.err >&2; exit 1; }}",
            quote(self.node.as_str()),
            kube::function(&self.kubeconfig, &self.kubectl),
            quote(&patch),
        );
        Ok(Operation::script(script).within(Duration::from_secs(60)))
    }

    fn reactions(&self) -> Vec<Reaction> {
        vec![Reaction {
            on: Token::Cluster(ClusterToken::Drained(self.node.clone())),
            unit: None,
            restart: false,
        }]
    }

    fn follow_up(
        &self,
        seen: Option<&SchedulableSeen>,
        _inputs: &[Token],
        _ctx: Ctx<'_>,
    ) -> Option<Change> {
        let seen = seen?;
        let mut change = Change::new(Action::Update);
        // Whoever cordoned it before has his reasons still.
        if !seen.cordoned || seen.ours.is_some() {
            change = change.field("scheduling", Shown::text("cordoned"), Shown::text("on"));
        }
        Some(change.field("drained", Shown::Later, Shown::Absent))
    }
}
