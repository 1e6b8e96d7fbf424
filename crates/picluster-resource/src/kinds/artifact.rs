//! `artifact`: a large file with these very bytes, mode and owner; or none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::{Presence, parse_mode, root};
use crate::kinds::rights::{Rights, check_mode, only_a_file, short};
use crate::kinds::shared::{
    check_owner, missing_owner, missing_parent, owner_queries, parent_query, with_access,
};
use crate::operation::{Operation, Staged};
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, PathKind, PathState, Query};
use crate::shell::{quote, words};

/// A large file that the controller has: a program, a bundle of images. It is known by its SHA-256;
/// plans and records hold that and its size, never its bytes. It is streamed to the node beside its
/// place, checked on both ends, and takes its place in one stroke; after a broken connection only
/// what is missing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where it stands on the node.
    pub path: NodePath,
    /// The controller's file, relative to the inventory's folder. Left out: the file named by its
    /// digest in the artifact cache (`$XDG_CACHE_HOME/picluster/artifacts/SHA256`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of its bytes, 64 hex digits. Left out: that of `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its size in bytes. Left out: read from the controller's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Permission bits as octal text.
    #[serde(default = "executable")]
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

fn executable() -> String {
    "0755".into()
}

/// What was seen of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSeen {
    /// `stat` of the path, not following a link.
    pub path: Option<PathState>,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: Option<String>,
    /// Uploads for this place that were begun and not finished; asked only where nothing is wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

impl Artifact {
    fn content_query(&self) -> Query {
        Query::Content {
            path: self.path.clone(),
            expect: self.sha256.clone(),
            // Its text is of no use to anybody.
            secret: true,
        }
    }

    fn rights(&self) -> Rights<'_> {
        Rights {
            mode: parse_mode(&self.mode).unwrap_or(0o755),
            owner: &self.owner,
            group: &self.group,
        }
    }

    fn wanted(&self) -> Result<&str, Diagnosis> {
        self.sha256.as_deref().ok_or_else(|| {
            Diagnosis::new(format!(
                "{} cannot be read on this controller, and no sha256 says what it is",
                self.source.as_deref().unwrap_or("its source")
            ))
            .cure("put the file there, or give its sha256")
        })
    }

    /// What every upload for this place is called, up to the digest of the bytes: hidden, without
    /// a suffix that anything watches for, and in the same directory, so that it can be renamed.
    fn part_prefix(&self) -> String {
        let dir = self.path.parent();
        let dir = dir.as_ref().map_or("", |dir| dir.as_str());
        format!(
            "{}/.picluster.up.{}.",
            dir.trim_end_matches('/'),
            &sha256_hex(self.path.as_str().as_bytes())[..16]
        )
    }

    fn parts_query(&self) -> Query {
        Query::Fragment(format!(
            "# unfinished uploads of {}\nfor f in {}*; do [ ! -e \"$f\" ] || printf '%s\\n' \"$f\"; done",
            self.path,
            quote(&self.part_prefix())
        ))
    }

    fn staged(&self) -> Result<Staged, Diagnosis> {
        let sha256 = self.wanted()?;
        let Some(size) = self.size else {
            return Err(self.not_at_hand());
        };
        let path = format!("{}{}", self.part_prefix(), &sha256[..16]);
        Ok(Staged {
            sha256: sha256.to_owned(),
            size,
            path: NodePath::new(path).map_err(|e| Diagnosis::new(e.to_string()))?,
        })
    }

    fn not_at_hand(&self) -> Diagnosis {
        let sha256 = self.sha256.as_deref().unwrap_or_default();
        let cure = match &self.source {
            Some(source) => format!("put it at {source}"),
            None => format!(
                "picluster fetch, if the kubernetes section names it (without a network: picluster fetch --from FILE), else put it at $XDG_CACHE_HOME/picluster/artifacts/{sha256}"
            ),
        };
        Diagnosis::new(format!(
            "{} is wanted with {}, and this controller has no such file",
            self.path,
            short(sha256)
        ))
        .cure(format!("{cure}; then: picluster apply"))
    }

    fn creation(&self) -> Change {
        let mut change = with_access(Change::new(Action::Create), &self.path);
        change.bytes = self.size.unwrap_or(0);
        self.rights().given(change.field(
            "content",
            Shown::Absent,
            Shown::text(short(self.sha256.as_deref().unwrap_or_default())),
        ))
    }
}

impl Kind for Artifact {
    const NAME: &'static str = "artifact";
    type Observation = ArtifactSeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(check_mode(&self.mode, "0755"));
        let is_digest = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        match &self.sha256 {
            Some(text) if !is_digest(text) => wrong.push(format!(
                "sha256 {text:?} is not 64 hexadecimal digits in lower case"
            )),
            None if self.source.is_none() && self.state == Presence::Present => {
                wrong.push("neither source nor sha256 says which file it is".into());
            }
            _ => {}
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
        } else {
            queries.push(self.parts_query());
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<ArtifactSeen>, Diagnosis> {
        let path = answers.path(&self.path)?.cloned();
        only_a_file(&self.path, path.as_ref())?;
        if self.state == Presence::Absent {
            let Query::Fragment(text) = self.parts_query() else {
                return Err(Diagnosis::new("no question about unfinished uploads"));
            };
            let (_, parts) = answers.fragment(&text)?;
            return Ok(Seen::Now(ArtifactSeen {
                path,
                sha256: None,
                parts: parts.lines().map(str::to_owned).collect(),
            }));
        }
        let wanted = self.wanted()?;
        if path.is_none()
            && let Some(token) = missing_parent(&self.path, answers)?
        {
            return Ok(Seen::NotYet(token));
        }
        if let Some(token) = missing_owner(&self.owner, &self.group, answers)? {
            return Ok(Seen::NotYet(token));
        }
        let seen = ArtifactSeen {
            path,
            sha256: answers
                .content(&self.content_query())?
                .map(|c| c.sha256.clone()),
            parts: Vec::new(),
        };
        let right = seen.sha256.as_deref() == Some(wanted);
        if !right && self.size.is_none() {
            return Err(self.not_at_hand());
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &ArtifactSeen, _ctx: Ctx<'_>) -> Diff {
        if self.state == Presence::Absent {
            let mut change = with_access(Change::new(Action::Delete), &self.path);
            if seen.path.is_some() {
                change = change.field("state", Shown::text("present"), Shown::text("absent"));
            }
            if !seen.parts.is_empty() {
                change = change.field("unfinished upload", Shown::text("there"), Shown::Absent);
            }
            return change.into_diff();
        }
        let Some(path) = &seen.path else {
            return Diff::Change(self.creation());
        };
        let wanted = self.sha256.as_deref().unwrap_or_default();
        let mut change = Change::new(Action::Update);
        let is_file = path.kind == PathKind::File;
        if !is_file {
            change = change.field("type", Shown::text("symbolic link"), Shown::text("file"));
        }
        if seen.sha256.as_deref() != Some(wanted) || !is_file {
            change.bytes = self.size.unwrap_or(0);
        }
        if seen.sha256.as_deref() != Some(wanted) {
            let before = seen.sha256.as_deref();
            change = change.field(
                "content",
                before.map_or(Shown::Absent, |d| Shown::text(short(d))),
                Shown::text(short(wanted)),
            );
        }
        change = self.rights().compared_as_file(path, change);
        with_access(change, &self.path).into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        if self.state == Presence::Absent {
            return with_access(Change::new(Action::Delete), &self.path).field(
                "state",
                Shown::Later,
                Shown::text("absent"),
            );
        }
        self.creation()
    }

    fn operation(
        &self,
        seen: &ArtifactSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        if change.action == Action::Delete {
            let all = [self.path.as_str()]
                .into_iter()
                .chain(seen.parts.iter().map(String::as_str));
            return Ok(Operation::script(format!("rm -f -- {}", words(all))));
        }
        let mode = self.rights().mode_text();
        let written = |field: &str| matches!(field, "content" | "type");
        // A change of mode or owner alone needs no sending.
        if !change.fields.iter().any(|f| written(&f.field)) {
            let target = words([self.path.as_str(), &mode, &self.owner, &self.group]);
            return Ok(Operation::script(format!("own {target}")));
        }
        let dir = self.path.parent();
        let dir = dir.as_ref().map_or("/", |dir| dir.as_str());
        let script = format!(
            "own \"$staged\" {}\nsync \"$staged\"\nmv -fT -- \"$staged\" {}\nsync {}",
            words([mode.as_str(), &self.owner, &self.group]),
            quote(self.path.as_str()),
            quote(dir),
        );
        Ok(Operation::script(script)
            .with_staged(self.staged()?)
            .within(Duration::from_secs(120)))
    }

    fn file(&self) -> Option<(&NodePath, &str, &str)> {
        Some((&self.path, &self.owner, &self.group))
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            source: None,
            sha256: None,
            size: None,
            ..self.clone()
        })
    }
}
