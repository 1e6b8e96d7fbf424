//! `cluster_value`: a secret that comes to be on a node and that other nodes need.

use std::time::Duration;

use picluster_model::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// A secret that a program of this node makes in a file, such as the token of a new cluster. Any
/// resource of any node may refer to it as `{ cluster_value: NAME }`; where it is not known yet, that
/// resource waits for it. The value is read with the node's other answers and kept in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterValue {
    /// Its name in the whole cluster.
    pub name: String,
    /// The file that holds it, and nothing else; spaces around it do not count.
    pub path: NodePath,
    /// How long to wait for the file, in seconds, once everything before it is done.
    #[serde(default = "minute")]
    pub timeout: u32,
}

fn minute() -> u32 {
    60
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueSeen {
    /// The file is there and holds something.
    pub known: bool,
}

impl ClusterValue {
    fn read<'a>(&self, answers: &'a Answers) -> Result<Option<&'a Secret<String>>, Diagnosis> {
        let found = answers.secret(&self.path)?;
        Ok(found.filter(|text| !text.reveal().trim().is_empty()))
    }
}

impl Kind for ClusterValue {
    const NAME: &'static str = "cluster_value";
    type Observation = ValueSeen;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn check(&self) -> Vec<String> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(good) {
            return vec!["name consists of letters, digits and `-_.`".into()];
        }
        Vec::new()
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Secret(self.path.clone())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<ValueSeen>, Diagnosis> {
        Ok(Seen::Now(ValueSeen {
            known: self.read(answers)?.is_some(),
        }))
    }

    fn diff(&self, seen: &ValueSeen, ctx: Ctx<'_>) -> Diff {
        if seen.known {
            Diff::NoOp
        } else {
            Diff::Change(self.expected(ctx))
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Create).field("value", Shown::Absent, Shown::Later)
    }

    fn operation(
        &self,
        _seen: &ValueSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let script = format!(
            "# wait for {0}\nf={1}\nn=0\nuntil grep -q '[^[:space:]]' \"$f\" 2>/dev/null; do\n  [ $n -lt {2} ] || {{ echo \"$f did not appear within {2} s\" >&2; exit 1; }}\n  n=$((n+1)); sleep 1\ndone",
            self.path,
            quote(self.path.as_str()),
            self.timeout
        );
        // Each turn takes a little longer than its second.
        Ok(Operation::script(script).within(Duration::from_secs(u64::from(self.timeout) * 2 + 10)))
    }

    fn provides(&self) -> Vec<Token> {
        vec![Token::Cluster(ClusterToken::Value(self.name.clone()))]
    }

    fn yields(&self, answers: &Answers) -> Option<(String, Secret<String>)> {
        let text = self.read(answers).ok().flatten()?;
        Some((
            self.name.clone(),
            Secret::new(text.reveal().trim().to_owned()),
        ))
    }
}
