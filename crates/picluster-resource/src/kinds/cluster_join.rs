//! `cluster_join`: where a server looks for the others, should it have no datastore of its own.

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::shared::{missing_parent, parent_query, place_tokens};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// A file that makes a server join the cluster of the others and never found one: a line `server: URL`, with the URL of
/// the registration address or of another server, and what else is wanted. A server that has founded the cluster gets it once
/// another one has joined, and loses what told it to found; nothing is restarted for that, because who has a datastore
/// does not look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterJoin {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// The file.
    pub path: NodePath,
    /// What it says besides, whole lines.
    #[serde(default)]
    pub content: String,
    /// Files that it names: they come before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<NodePath>,
    /// The file that tells a server to found: it is taken away.
    pub founding: NodePath,
    /// The fixed registration address, `https://HOST:PORT`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
    /// The declared servers. Any of them but itself will do.
    #[schemars(with = "Vec<String>")]
    pub servers: Vec<NodeName>,
    /// Their addresses, in the same order.
    pub addresses: Vec<String>,
    /// The port that all of them listen on.
    pub port: u16,
    /// It is to be gone: the server is the only one that is left, and has its datastore.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// The server it joins at. Left to the planner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub via: Option<NodeName>,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSeen {
    /// The URL it joins at.
    pub url: Option<String>,
    /// The rest of the file is as it should be.
    pub as_wanted: bool,
    /// It is still told to found.
    pub founds: bool,
}

impl ClusterJoin {
    /// The URLs that will do; the one to be written comes first.
    fn urls(&self) -> Vec<String> {
        if let Some(fixed) = &self.registration {
            return vec![fixed.clone()];
        }
        let others = || {
            let all = self.servers.iter().zip(&self.addresses);
            all.filter(|(name, _)| **name != self.name)
        };
        let via = others().filter(|(name, _)| self.via.as_ref() == Some(*name));
        via.chain(others())
            .map(|(_, address)| match address.contains(':') {
                true => format!("https://[{address}]:{}", self.port),
                false => format!("https://{address}:{}", self.port),
            })
            .collect()
    }

    /// The one to be written.
    fn url(&self) -> String {
        self.urls().into_iter().next().unwrap_or_default()
    }

    fn file(&self) -> String {
        format!("server: {}\n{}", self.url(), self.content)
    }
}

impl Kind for ClusterJoin {
    const NAME: &'static str = "cluster_join";
    type Observation = JoinSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let count = self.servers.len();
        if self.addresses.len() != count {
            wrong.push("addresses has as many entries as servers".into());
        }
        if self.urls().is_empty() {
            wrong.push("servers names no other server".into());
        }
        if let Some(url) = self
            .registration
            .as_ref()
            .filter(|url| !url.starts_with("https://"))
        {
            wrong.push(format!("registration {url:?} is not https://HOST:PORT"));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![
            Query::Text(self.path.clone()),
            Query::Path(self.founding.clone()),
        ];
        queries.extend(parent_query(&self.path));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<JoinSeen>, Diagnosis> {
        let text = answers.text(&self.path)?;
        let (first, rest) = match text {
            Some(text) => text.split_once('\n').unwrap_or((text, "")),
            None => ("", ""),
        };
        let url = first.strip_prefix("server: ").map(str::to_owned);
        if !self.absent
            && text.is_none()
            && let Some(token) = missing_parent(&self.path, answers)?
        {
            return Ok(Seen::NotYet(token));
        }
        Ok(Seen::Now(JoinSeen {
            as_wanted: url.is_some() && rest == self.content,
            founds: answers.path(&self.founding)?.is_some(),
            url,
        }))
    }

    /// That it was told to found between the plan and now is what the plan itself does.
    fn ground(seen: JoinSeen) -> JoinSeen {
        JoinSeen {
            founds: false,
            ..seen
        }
    }

    fn diff(&self, seen: &JoinSeen, ctx: Ctx<'_>) -> Diff {
        if self.absent {
            return match seen.url {
                Some(_) => Diff::Change(self.expected(ctx)),
                None => Diff::NoOp,
            };
        }
        let urls = self.urls();
        let good = seen
            .url
            .as_deref()
            .is_some_and(|url| urls.iter().any(|u| u == url) && seen.as_wanted);
        if !good {
            let before = match &seen.url {
                Some(url) => Shown::text(url),
                None => Shown::Absent,
            };
            let action = match seen.url {
                Some(_) => Action::Update,
                None => Action::Create,
            };
            let after = Shown::text(self.url());
            return Diff::Change(Change::new(action).field("joins", before, after));
        }
        if seen.founds {
            let change = Change::new(Action::Update);
            return Diff::Change(change.field(
                "founds",
                Shown::text("yes, should its datastore be lost"),
                Shown::text("never"),
            ));
        }
        Diff::NoOp
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let url = Shown::text(self.url());
        if self.absent {
            return Change::new(Action::Delete).field("joins", url, Shown::Absent);
        }
        Change::new(Action::Create).field("joins", Shown::Absent, url)
    }

    fn operation(
        &self,
        _seen: &JoinSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        if self.absent {
            // A member that is told nothing goes on as a member: its datastore says so
            // (pkg/cluster/managed.go).
            let files = [&self.path, &self.founding].map(|path| quote(path.as_str()));
            return Ok(Operation::script(format!("rm -f -- {}\n", files.join(" "))));
        }
        let rights = ["0600", "root", "root"];
        let bytes = self.file().into_bytes();
        // Only behind the new file, so that there is no moment in which nothing says what it is.
        Ok(Operation::put(self.path.as_str(), rights, bytes)
            .then(&format!("\nrm -f -- {}", quote(self.founding.as_str()))))
    }

    fn provides(&self) -> Vec<Token> {
        Vec::new()
    }

    fn requires(&self) -> Vec<Token> {
        let mut tokens = place_tokens(&self.path, "root", "root");
        tokens.extend(self.reads.iter().cloned().map(Token::Path));
        tokens
    }

    /// It names a file that goes with the other servers, without which k3s would not start again.
    fn removal(&self) -> Option<Self> {
        Some(Self {
            absent: true,
            ..self.clone()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn join(via: Option<&str>) -> ClusterJoin {
        serde_json::from_value(serde_json::json!({
            "name": "s1", "path": "/etc/x/50-server.yaml", "founding": "/etc/x/50-found.yaml", "content": "a: b\n",
            "servers": ["s1", "s2", "s3"], "addresses": ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "port": 6443,
            "via": via,
        }))
        .unwrap()
    }

    #[test]
    fn nobody_joins_at_himself_and_any_other_server_will_do() {
        assert_eq!(join(None).file(), "server: https://10.0.0.2:6443\na: b\n");
        assert_eq!(
            join(Some("s3")).file(),
            "server: https://10.0.0.3:6443\na: b\n"
        );
        let seen = |url: &str| JoinSeen {
            url: Some(url.into()),
            as_wanted: true,
            founds: false,
        };
        let settled = |url: &str| {
            let facts = crate::Facts::default();
            let secrets = picluster_model::secret::SecretValues::default();
            let ctx = Ctx {
                facts: &facts,
                secrets: &secrets,
            };
            join(Some("s2")).diff(&seen(url), ctx) == Diff::NoOp
        };
        assert!(settled("https://10.0.0.2:6443") && settled("https://10.0.0.3:6443"));
        assert!(!settled("https://10.0.0.1:6443") && !settled("https://10.0.0.9:6443"));
    }
}
