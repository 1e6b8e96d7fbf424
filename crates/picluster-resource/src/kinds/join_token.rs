//! `join_token`: the token with which machines join a cluster of kubeadm, for as long as a run needs it.

use std::time::Duration;

use picluster_model::{NodeName, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::kinds::kube;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Reaction, Token};

/// A bootstrap token of kubeadm, with the cluster's address and the hash of its CA: what `kubeadm` on another machine takes as
/// its `discovery`. It is made only when a machine is about to join in the same run, stands in a file in /run that only root
/// may read, and ends by itself. A second entry with `state: absent` revokes it when those who joined with it are Ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The name of the value in the whole cluster.
    pub name: String,
    /// `present`: there is one when somebody needs it. `absent`: it is revoked.
    #[serde(default)]
    pub state: Presence,
    /// With `absent`: the nodes that are waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub nodes: Vec<NodeName>,
    /// The file below /run that it stands in meanwhile.
    pub path: NodePath,
    /// The program.
    pub program: NodePath,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
    /// After how many seconds it ends by itself.
    #[serde(default = "half_an_hour")]
    pub ttl: u32,
    /// It is for control planes: the certificates that all of them share are put into the cluster, encrypted with a key that
    /// stands beside the token (`kubeadm init phase upload-certs`), and are taken out with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificates: bool,
    /// With `certificates`: the release of the cluster, `v1.33.2`, which kubeadm otherwise looks up in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

fn half_an_hour() -> u32 {
    1800
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSeen {
    /// The file is there.
    pub file: bool,
    /// The cluster knows the token in it.
    pub valid: bool,
}

impl JoinToken {
    fn read<'a>(&self, answers: &'a Answers) -> Result<Option<&'a Secret<String>>, Diagnosis> {
        let found = answers.secret(&self.path)?;
        Ok(found.filter(|text| !text.reveal().trim().is_empty()))
    }

    /// Whether the cluster knows the token in the file, and has certificates for it where they go with it.
    fn is_known(&self, answers: &Answers) -> Result<bool, Diagnosis> {
        let (status, said) = answers.fragment(&self.question())?;
        Ok(status == 0 && said.trim().starts_with("secret/"))
    }

    /// The public part of the token in the file is the name of its Secret
    /// (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>).
    fn preamble(&self) -> String {
        format!(
            "{}f={}\nid() {{ sed -n 's/.*\"token\":\"\\([a-z0-9]\\{{6\\}}\\)\\..*/\\1/p' \"$f\"; }}\n",
            kube::function(&self.kubeconfig, &self.kubectl),
            quote(self.path.as_str()),
        )
    }

    fn question(&self) -> String {
        format!(
            "# join token {}\n{}[ -s \"$f\" ] || exit 0\nid=$(id) && [ -n \"$id\" ] || exit 0\n{}kc -n kube-system get secret \"bootstrap-token-$id\" -o name || exit {}",
            self.name,
            self.preamble(),
            if self.certificates {
                "[ \"$(kc -n kube-system get secret kubeadm-certs -o 'jsonpath={.metadata.annotations.picluster/token}')\" = \"$id\" ] && "
            } else {
                ""
            },
            kube::FAILED,
        )
    }
}

impl Kind for JoinToken {
    const NAME: &'static str = "join_token";
    type Observation = TokenSeen;

    fn key(&self) -> String {
        match self.state {
            Presence::Present => self.name.clone(),
            Presence::Absent => format!("{} revoked", self.name),
        }
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(good) {
            wrong.push("name consists of letters, digits and `-_.`".into());
        }
        if !self.path.as_str().starts_with("/run/") {
            wrong.push("path lies below /run: it is not to outlive the machine's run".into());
        }
        if self.state == Presence::Present && !self.nodes.is_empty() {
            wrong.push("nodes are for `state: absent`".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        if self.certificates != self.version.is_some() {
            wrong.push("version goes with `certificates`, and both with control planes".into());
        }
        if !(60..=86_400).contains(&self.ttl) {
            wrong.push("ttl is 60 to 86400 seconds".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![Query::Secret(self.path.clone())];
        if self.state == Presence::Present {
            queries.push(Query::Fragment(self.question()));
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<TokenSeen>, Diagnosis> {
        let file = self.read(answers)?.is_some();
        let valid = match self.state {
            Presence::Absent => false,
            Presence::Present => file && self.is_known(answers)?,
        };
        Ok(Seen::Now(TokenSeen { file, valid }))
    }

    fn diff(&self, seen: &TokenSeen, ctx: Ctx<'_>) -> Diff {
        match self.state {
            Presence::Present if seen.valid => Diff::NoOp,
            Presence::Absent if !seen.file => Diff::NoOp,
            Presence::Present | Presence::Absent => Diff::Change(self.expected(ctx)),
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Present => {
                Change::new(Action::Create).field("token", Shown::Absent, Shown::Later)
            }
            Presence::Absent => {
                Change::new(Action::Delete).field("token", Shown::text("valid"), Shown::Absent)
            }
        }
    }

    fn operation(
        &self,
        _seen: &TokenSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let body = match self.state {
            Presence::Present => include_str!("join_token/mint.sh"),
            Presence::Absent => include_str!("join_token/revoke.sh"),
        };
        let release = self.version.as_deref().filter(|_| self.certificates);
        let script = format!(
            "# join token {}\n{}program={} ttl={}s certificates={}\n{body}",
            self.name,
            self.preamble(),
            quote(self.program.as_str()),
            self.ttl,
            quote(release.unwrap_or_default()),
        );
        Ok(Operation::script(script).within(Duration::from_secs(120)))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => vec![
                Token::Path(self.path.clone()),
                Token::Cluster(ClusterToken::Value(self.name.clone())),
            ],
            Presence::Absent => Vec::new(),
        }
    }

    fn requires(&self) -> Vec<Token> {
        let joined = |node: &NodeName| Token::Cluster(ClusterToken::Joined(node.clone()));
        self.nodes.iter().map(joined).collect()
    }

    fn reactions(&self) -> Vec<Reaction> {
        match self.state {
            Presence::Present => Vec::new(),
            Presence::Absent => vec![Reaction {
                on: Token::Path(self.path.clone()),
                unit: None,
                restart: false,
            }],
        }
    }

    fn follow_up(
        &self,
        seen: Option<&TokenSeen>,
        _inputs: &[Token],
        ctx: Ctx<'_>,
    ) -> Option<Change> {
        seen?;
        (self.state == Presence::Absent).then(|| self.expected(ctx))
    }

    fn yields(&self, answers: &Answers) -> Option<(String, Secret<String>)> {
        if self.state == Presence::Absent {
            return None;
        }
        let text = self.read(answers).ok().flatten()?;
        // What the cluster does not know any more is nothing to join with, and another server may have one that it knows.
        if !self.is_known(answers).ok()? {
            return None;
        }
        Some((
            self.name.clone(),
            Secret::new(text.reveal().trim().to_owned()),
        ))
    }
}
