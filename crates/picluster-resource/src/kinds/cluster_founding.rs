//! `cluster_founding`: what tells a server to found a cluster, for as long as it has none.

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::shared::{missing_parent, parent_query, place_tokens};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::token::Token;

/// A file that makes a server found a cluster of several servers. It is written on one server only, the one that the
/// planner chooses from what all declared servers and agents remember, and only while that server has no datastore. What
/// has founded its cluster keeps the file until `cluster_join` takes it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterFounding {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// The file.
    pub path: NodePath,
    /// What it says.
    pub content: String,
    /// What is there once the server has a datastore: then there is nothing to found.
    pub data: NodePath,
    /// It is the one that founds. Left to the planner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub founds: bool,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingSeen {
    /// The file is there and says what it should.
    pub told: bool,
    /// There is a datastore.
    pub founded: bool,
}

impl Kind for ClusterFounding {
    const NAME: &'static str = "cluster_founding";
    type Observation = FoundingSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![
            Query::Text(self.path.clone()),
            Query::Path(self.data.clone()),
        ];
        queries.extend(parent_query(&self.path));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<FoundingSeen>, Diagnosis> {
        let text = answers.text(&self.path)?;
        let seen = FoundingSeen {
            told: text.is_some_and(|text| text == self.content),
            founded: answers.path(&self.data)?.is_some(),
        };
        if self.founds
            && !seen.founded
            && text.is_none()
            && let Some(token) = missing_parent(&self.path, answers)?
        {
            return Ok(Seen::NotYet(token));
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &FoundingSeen, ctx: Ctx<'_>) -> Diff {
        if !self.founds || seen.founded || seen.told {
            Diff::NoOp
        } else {
            Diff::Change(self.expected(ctx))
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        if !self.founds {
            return Change::new(Action::Create);
        }
        Change::new(Action::Create).field(
            "cluster",
            Shown::Absent,
            Shown::text("founded by this server; the others join it"),
        )
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        _seen: &FoundingSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let rights = ["0600", "root", "root"];
        let bytes = self.content.clone().into_bytes();
        Ok(Operation::put(self.path.as_str(), rights, bytes))
    }

    fn provides(&self) -> Vec<Token> {
        Vec::new()
    }

    fn requires(&self) -> Vec<Token> {
        place_tokens(&self.path, "root", "root")
    }
}
