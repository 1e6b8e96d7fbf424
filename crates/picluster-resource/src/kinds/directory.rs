//! `directory`: a directory with this mode and owner; or none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::{Presence, parse_mode, root};
use crate::kinds::rights::{Rights, check_mode};
use crate::kinds::shared::{
    check_owner, missing_owner, missing_parent, owner_queries, parent_query, place_tokens,
    with_access,
};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, PathKind, PathState, Query};
use crate::shell::{quote, words};
use crate::token::Token;

/// A directory; what is in it is not looked at. The directory above it must exist or have an entry
/// of its own.
///
/// With `state: absent` it is removed only when it is empty: whatever is left in it has an owner
/// who was not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Where it is.
    pub path: NodePath,
    /// Permission bits as octal text.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Owner, by name.
    #[serde(default = "root")]
    pub owner: String,
    /// Group, by name.
    #[serde(default = "root")]
    pub group: String,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
}

fn default_mode() -> String {
    "0755".into()
}

/// What was seen of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySeen {
    /// `stat` of the path.
    pub path: Option<PathState>,
    /// Some of what is in it; asked only where it should go.
    pub entries: Vec<String>,
}

impl Directory {
    fn rights(&self) -> Rights<'_> {
        Rights {
            mode: parse_mode(&self.mode).unwrap_or(0o755),
            owner: &self.owner,
            group: &self.group,
        }
    }

    fn entries(&self) -> Option<String> {
        (self.state == Presence::Absent).then(|| {
            format!(
                "# what is in {0}\n[ ! -d {1} ] || ls -A -- {1} | head -n 4",
                self.path,
                quote(self.path.as_str())
            )
        })
    }
}

impl Kind for Directory {
    const NAME: &'static str = "directory";
    type Observation = DirectorySeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(check_mode(&self.mode, "0755"));
        if self.path.as_str() == "/" {
            wrong.push("path is the root directory".into());
        }
        wrong.extend(check_owner(&self.owner, &self.group));
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![Query::Path(self.path.clone())];
        if self.state == Presence::Present {
            queries.extend(parent_query(&self.path));
            queries.extend(owner_queries(&self.owner, &self.group));
        }
        queries.extend(self.entries().map(Query::Fragment));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<DirectorySeen>, Diagnosis> {
        let path = answers.path(&self.path)?.cloned();
        if let Some(state) = path.as_ref().filter(|p| p.kind != PathKind::Directory) {
            let what = match state.kind {
                PathKind::Link => "a symbolic link",
                _ => "no directory",
            };
            return Err(
                Diagnosis::new(format!("{} is there, but it is {what}", self.path))
                    .cure(format!("look at it and move it away: ls -la {}", self.path)),
            );
        }
        if self.state == Presence::Present {
            if path.is_none()
                && let Some(token) = missing_parent(&self.path, answers)?
            {
                return Ok(Seen::NotYet(token));
            }
            if let Some(token) = missing_owner(&self.owner, &self.group, answers)? {
                return Ok(Seen::NotYet(token));
            }
        }
        let entries = match self.entries() {
            Some(fragment) => {
                let (_, names) = answers.fragment(&fragment)?;
                names.lines().map(str::to_owned).collect()
            }
            None => Vec::new(),
        };
        Ok(Seen::Now(DirectorySeen { path, entries }))
    }

    fn diff(&self, seen: &DirectorySeen, ctx: Ctx<'_>) -> Diff {
        let Some(path) = &seen.path else {
            return match self.state {
                Presence::Absent => Diff::NoOp,
                Presence::Present => Diff::Change(self.expected(ctx)),
            };
        };
        if self.state == Presence::Absent {
            let change = Change::new(Action::Delete).field(
                "state",
                Shown::text("present"),
                Shown::text("absent"),
            );
            return Diff::Change(if seen.entries.is_empty() {
                change
            } else {
                // An earlier step of the plan may empty it.
                change.because(format!(
                    "only if it is empty by then; now it holds {}",
                    listed(&seen.entries)
                ))
            });
        }
        let change = with_access(Change::new(Action::Update), &self.path);
        self.rights().compared(path, change).into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        self.rights().given(Change::new(Action::Create))
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &DirectorySeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let path = quote(self.path.as_str());
        if change.action == Action::Delete {
            if !seen.entries.is_empty() {
                return Err(Diagnosis::new(format!(
                    "{} is not empty, so it stays: it holds {}",
                    self.path,
                    listed(&seen.entries)
                ))
                .cure("move away what is in it, or take the entry out of the role"));
            }
            return Ok(Operation::script(format!("rmdir -- {path}")));
        }
        let own = words([
            self.path.as_str(),
            &self.rights().mode_text(),
            &self.owner,
            &self.group,
        ]);
        Ok(Operation::script(match seen.path {
            // Never open to others for a moment, then as wanted.
            None => format!("mkdir -m 0700 -- {path}\nown {own}"),
            Some(_) => format!("own {own}"),
        }))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => vec![Token::Path(self.path.clone())],
            Presence::Absent => Vec::new(),
        }
    }

    fn requires(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => place_tokens(&self.path, &self.owner, &self.group),
            Presence::Absent => Vec::new(),
        }
    }
}

/// Up to three names.
fn listed(entries: &[String]) -> String {
    let names = entries.iter().take(3).map(String::as_str);
    let mut text = names.collect::<Vec<_>>().join(", ");
    if entries.len() > 3 {
        text.push_str(" and more");
    }
    text
}
