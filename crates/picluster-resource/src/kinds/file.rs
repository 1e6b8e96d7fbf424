//! `file`: a regular file with this content, mode and owner; or none.

use picluster_model::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::rights::{Rights, check_mode, only_a_file, short};
use crate::kinds::shared::{
    check_owner, missing_owner, missing_parent, owner_queries, parent_query, with_access,
};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, ContentState, PathKind, PathState, Query};
use crate::shell::{quote, words};

/// A regular file. Written whole, through a temporary file and a rename; never torn. A symbolic link
/// in its place is replaced by the file; a directory or device is not.
///
/// On a file system without owners and modes (the firmware partition is vfat) `mode`, `owner` and
/// `group` are neither set nor compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it stands.
    pub path: NodePath,
    /// Its whole text. May hold secrets. (`template: NAME` in a role renders `templates/NAME` into
    /// it.)
    #[serde(default)]
    pub content: SecretText,
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
    /// A command (sh text) that checks the new text before it takes the place of the old one; `{}`
    /// stands for the file to check (`visudo -cf {}`). Where it fails, its output is the error and
    /// the file stays as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<String>,
}

/// Whether a thing should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It should be there.
    #[default]
    Present,
    /// It should not.
    Absent,
}

pub(crate) fn default_mode() -> String {
    "0644".into()
}

pub(crate) fn root() -> String {
    "root".into()
}

/// What was seen of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeen {
    /// `stat` of the path, not following a link.
    pub path: Option<PathState>,
    /// Digest, and text where it differs.
    pub content: Option<ContentState>,
    /// It stands on a file system that knows no owners and modes.
    #[serde(default)]
    pub ownerless: bool,
}

/// Octal permission text (`0644`, `644`) as bits.
#[must_use]
pub fn parse_mode(text: &str) -> Option<u32> {
    (3..=4)
        .contains(&text.len())
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
}

impl File {
    /// What asks for the content. The text of a secret file is never sent, so what is hoped for
    /// need not be known, and a value that comes to be during the run changes no question.
    fn content_query(&self) -> Query {
        let secret = self.content.is_sensitive();
        Query::Content {
            path: self.path.clone(),
            expect: (!secret).then(|| sha256_hex(self.content.0.as_bytes())),
            secret,
        }
    }

    /// What file system it stands on; asked only where Raspberry Pis mount vfat.
    fn file_system(&self) -> Option<String> {
        let boot = NodePath::new("/boot").ok()?;
        let parent = self.path.parent().filter(|dir| dir.is_under(&boot))?;
        Some(format!(
            "# file system of {parent}\nstat -f -c %T -- {}",
            quote(parent.as_str())
        ))
    }

    fn creation(&self, ownerless: bool, ctx: Ctx<'_>) -> Change {
        let mut change = with_access(Change::new(Action::Create), &self.path);
        let revealed = self.content.reveal(ctx.secrets);
        if revealed.is_err() {
            change = change.field("content", Shown::Absent, Shown::Later);
        }
        if let Ok(text) = revealed {
            change.bytes = text.reveal().len() as u64;
            change = change.field(
                "content",
                Shown::Absent,
                if self.content.is_sensitive() {
                    Shown::Sensitive
                } else {
                    Shown::text(short(&sha256_hex(text.reveal().as_bytes())))
                },
            );
            if !self.content.is_sensitive() && !text.reveal().is_empty() {
                change.text = Some(text_diff("", text.reveal()));
            }
        }
        if ownerless {
            return change;
        }
        self.rights().given(change)
    }

    fn rights(&self) -> Rights<'_> {
        Rights {
            mode: parse_mode(&self.mode).unwrap_or(0o644),
            owner: &self.owner,
            group: &self.group,
        }
    }
}

impl Kind for File {
    const NAME: &'static str = "file";
    const SECRETS: &'static [&'static str] = &["content"];
    type Observation = FileSeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(check_mode(&self.mode, "0644"));
        if self.validate.as_ref().is_some_and(|v| !v.contains("{}")) {
            wrong.push("validate has no `{}` for the file to check".into());
        }
        if self.content.0.contains('\0') {
            wrong.push("content holds a NUL byte, which no text file has".into());
        }
        if self.path.as_str() == "/" {
            wrong.push("path is the root directory".into());
        }
        wrong.extend(check_owner(&self.owner, &self.group));
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![Query::Path(self.path.clone())];
        if self.state == Presence::Present {
            queries.push(self.content_query());
            queries.extend(parent_query(&self.path));
            queries.extend(owner_queries(&self.owner, &self.group));
            queries.extend(self.file_system().map(Query::Fragment));
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<FileSeen>, Diagnosis> {
        let path = answers.path(&self.path)?.cloned();
        only_a_file(&self.path, path.as_ref())?;
        if self.state == Presence::Absent {
            return Ok(Seen::Now(FileSeen {
                path,
                content: None,
                ownerless: false,
            }));
        }
        if path.is_none()
            && let Some(token) = missing_parent(&self.path, answers)?
        {
            return Ok(Seen::NotYet(token));
        }
        if let Some(token) = missing_owner(&self.owner, &self.group, answers)? {
            return Ok(Seen::NotYet(token));
        }
        let ownerless = match self.file_system() {
            Some(fragment) => {
                let (_, kind) = answers.fragment(&fragment)?;
                // Names of statfs(2) magic numbers as coreutils' stat prints them.
                matches!(kind.trim(), "msdos" | "vfat" | "exfat")
            }
            None => false,
        };
        Ok(Seen::Now(FileSeen {
            path,
            content: answers.content(&self.content_query())?.cloned(),
            ownerless,
        }))
    }

    fn diff(&self, seen: &FileSeen, ctx: Ctx<'_>) -> Diff {
        let Some(path) = &seen.path else {
            return match self.state {
                Presence::Absent => Diff::NoOp,
                Presence::Present => Diff::Change(self.creation(seen.ownerless, ctx)),
            };
        };
        if self.state == Presence::Absent {
            let change = with_access(Change::new(Action::Delete), &self.path);
            return Diff::Change(change.field(
                "state",
                Shown::text("present"),
                Shown::text("absent"),
            ));
        }
        let mut change = Change::new(Action::Update);
        if path.kind != PathKind::File {
            change = change.field("type", Shown::text("symbolic link"), Shown::text("file"));
        }
        let Ok(wanted) = self.content.reveal(ctx.secrets) else {
            // Without its secrets nothing can be compared; `queries` has already said so.
            return Diff::Change(self.expected(ctx));
        };
        let wanted = wanted.reveal();
        let same = seen
            .content
            .as_ref()
            .is_some_and(|c| c.sha256 == sha256_hex(wanted.as_bytes()));
        if !same {
            change.bytes = wanted.len() as u64;
            if self.content.is_sensitive() {
                change = change.field("content", Shown::Sensitive, Shown::Sensitive);
            } else {
                let before = seen.content.as_ref();
                change = change.field(
                    "content",
                    before.map_or(Shown::Absent, |c| Shown::text(short(&c.sha256))),
                    Shown::text(short(&sha256_hex(wanted.as_bytes()))),
                );
                change.text = before
                    .and_then(|c| c.text.as_ref())
                    .map(|before| text_diff(before, wanted));
            }
        }
        if !seen.ownerless {
            change = self.rights().compared_as_file(path, change);
        }
        with_access(change, &self.path).into_diff()
    }

    fn expected(&self, ctx: Ctx<'_>) -> Change {
        if self.state == Presence::Absent {
            return with_access(Change::new(Action::Delete), &self.path).field(
                "state",
                Shown::Later,
                Shown::text("absent"),
            );
        }
        self.creation(false, ctx)
    }

    fn small(&self) -> bool {
        self.validate.is_none()
    }

    fn operation(
        &self,
        _seen: &FileSeen,
        change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        if change.action == Action::Delete {
            return Ok(Operation::script(format!(
                "rm -f -- {}",
                words([self.path.as_str()])
            )));
        }
        let text = self.content.reveal(ctx.secrets)?;
        // A change of mode or owner alone needs no writing.
        let written = |field: &str| matches!(field, "content" | "type");
        let only_owned = !change.fields.iter().any(|f| written(&f.field));
        let target = words([
            self.path.as_str(),
            &self.rights().mode_text(),
            &self.owner,
            &self.group,
        ]);
        if only_owned {
            return Ok(Operation::script(format!("own {target}")));
        }
        let bytes = text.reveal().clone().into_bytes();
        let Some(check) = &self.validate else {
            let mode = self.rights().mode_text();
            let rights = [mode.as_str(), &self.owner, &self.group];
            return Ok(Operation::put(self.path.as_str(), rights, bytes));
        };
        // Checked as a temporary in /run first: the real place never sees a bad text.
        let script = format!(
            "[ -d /run/picluster ] || mkdir -p /run/picluster\n\
             unused /run/picluster\n\
             t=$pt\n\
             umask 077\n\
             trap 'rm -f -- \"$t\"' EXIT\n\
             cat > \"$t\"\n\
             umask 022\n\
             sh -c {} check \"$t\" </dev/null || {{ echo 'the new text was refused; the file is as it was' >&2; exit 1; }}\n\
             put {target} < \"$t\"",
            quote(&check.replace("{}", "\"$1\""))
        );
        Ok(Operation::script(script).with_payload(bytes))
    }

    fn file(&self) -> Option<(&NodePath, &str, &str)> {
        Some((&self.path, &self.owner, &self.group))
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            content: SecretText::default(),
            validate: None,
            ..self.clone()
        })
    }
}

/// The unified diff people see, two lines of context.
#[must_use]
pub fn text_diff(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(2)
        .to_string()
}
