//! `link`: a symbolic link to this target; or none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::kinds::shared::{missing_parent, parent_query, place_tokens, with_access};
use crate::operation::{Operation, Undo};
use crate::path::NodePath;
use crate::query::{Answers, PathKind, Query};
use crate::shell::{quote, words};
use crate::token::Token;

/// A symbolic link. What it leads to need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where it stands.
    pub path: NodePath,
    /// What it says, absolute or relative to the link's directory, exactly as written. May be left
    /// out with `state: absent`.
    #[serde(default)]
    pub target: String,
    /// `present` or `absent`. Absent: only a link is removed, never a file.
    #[serde(default)]
    pub state: Presence,
    /// `true`: a file in its place is replaced by the link (its content is lost). A directory never
    /// is.
    #[serde(default)]
    pub force: bool,
}

/// What was seen of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSeen {
    /// What stands there.
    pub kind: Option<PathKind>,
    /// Where it points, when it is a link.
    pub target: Option<String>,
}

impl Kind for Link {
    const NAME: &'static str = "link";
    type Observation = LinkSeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.target.is_empty() && self.state == Presence::Present {
            wrong.push("target is missing".into());
        }
        if self.target.contains(['\n', '\0']) {
            wrong.push("target is a path on one line".into());
        }
        if self.path.as_str() == "/" {
            wrong.push("path is the root directory".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![Query::Path(self.path.clone())];
        if self.state == Presence::Present {
            queries.push(Query::Link(self.path.clone()));
            queries.extend(parent_query(&self.path));
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<LinkSeen>, Diagnosis> {
        let kind = answers.path(&self.path)?.map(|state| state.kind);
        let refused = match (kind, self.state) {
            (None | Some(PathKind::Link), _) => None,
            (Some(PathKind::File), Presence::Present) if self.force => None,
            (Some(PathKind::File), Presence::Present) => Some((
                "a file",
                "move it away, or say `force: true` to replace it".to_owned(),
            )),
            (Some(PathKind::File), Presence::Absent) => {
                Some(("a file", format!("look at it: ls -la {}", self.path)))
            }
            (Some(PathKind::Directory), _) => Some((
                "a directory",
                format!("look at it and move it away: ls -la {}", self.path),
            )),
            (Some(PathKind::Other), _) => Some((
                "a device, socket or pipe",
                format!("look at it: ls -la {}", self.path),
            )),
        };
        if let Some((what, cure)) = refused {
            return Err(Diagnosis::new(format!("{} is {what}, not a link", self.path)).cure(cure));
        }
        if self.state == Presence::Absent {
            return Ok(Seen::Now(LinkSeen { kind, target: None }));
        }
        if kind.is_none()
            && let Some(token) = missing_parent(&self.path, answers)?
        {
            return Ok(Seen::NotYet(token));
        }
        Ok(Seen::Now(LinkSeen {
            kind,
            target: answers.link(&self.path)?.map(str::to_owned),
        }))
    }

    fn diff(&self, seen: &LinkSeen, _ctx: Ctx<'_>) -> Diff {
        let change = match (self.state, seen.kind) {
            (Presence::Absent, None) => return Diff::NoOp,
            (Presence::Absent, Some(_)) => Change::new(Action::Delete).field(
                "state",
                Shown::text("present"),
                Shown::text("absent"),
            ),
            (Presence::Present, None) => Change::new(Action::Create).field(
                "target",
                Shown::Absent,
                Shown::text(&self.target),
            ),
            (Presence::Present, Some(PathKind::Link)) => Change::new(Action::Update).field_if(
                "target",
                seen.target.as_deref().unwrap_or(""),
                &self.target,
            ),
            (Presence::Present, Some(_)) => Change::new(Action::Update)
                .field("type", Shown::text("file"), Shown::text("symbolic link"))
                .because("force: true; the file's content is lost")
                .field("target", Shown::Absent, Shown::text(&self.target)),
        };
        with_access(change, &self.path).into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        with_access(Change::new(Action::Create), &self.path).field(
            "target",
            Shown::Absent,
            Shown::text(&self.target),
        )
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &LinkSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let path = quote(self.path.as_str());
        if change.action == Action::Delete {
            return Ok(Operation::script(format!(
                "[ -L {path} ] || {{ echo {path}' is no link now' >&2; exit 1; }}\nrm -f -- {path}"
            )));
        }
        let point = format!("point {}", words([self.path.as_str(), &self.target]));
        Ok(Operation::script(if seen.kind == Some(PathKind::File) {
            point
        } else {
            // A file that came up in between is not ours to lose.
            format!(
                "[ -L {path} ] || [ ! -e {path} ] || {{ echo {path}' is no link now' >&2; exit 1; }}\n{point}"
            )
        }))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => vec![Token::Path(self.path.clone())],
            Presence::Absent => Vec::new(),
        }
    }

    fn undo(&self, _seen: Option<&LinkSeen>, _change: &Change) -> Option<Undo> {
        Some(Undo::file(&self.path))
    }

    fn requires(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => place_tokens(&self.path, "root", "root"),
            Presence::Absent => Vec::new(),
        }
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            target: String::new(),
            force: false,
            ..self.clone()
        })
    }
}
