//! `timezone`: the node's time zone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, PathKind, Query};
use crate::shell::words;
use crate::token::Token;

/// The time zone: the link `/etc/localtime` (localtime(5)), and `/etc/timezone` where a system keeps
/// that file too (Debian up to 12; Debian 13 dropped it).
///
/// Programs that are running keep the zone they started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timezone {
    /// Its name in the tz database, such as `Europe/Berlin` or `Etc/UTC`.
    pub name: String,
}

/// What was seen of the time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimezoneSeen {
    /// What `/etc/localtime` points to; `None`: it is missing or no link.
    pub link: Option<String>,
    /// Something other than a link is at `/etc/localtime`.
    pub copy: bool,
    /// The text of `/etc/timezone`; `None`: there is no such file.
    pub file: Option<String>,
}

const ZONES: &str = "/usr/share/zoneinfo";

fn path(text: &str) -> Result<NodePath, Diagnosis> {
    NodePath::new(text).map_err(|e| Diagnosis::new(e.to_string()))
}

impl Timezone {
    fn zone(&self) -> Result<NodePath, Diagnosis> {
        path(&format!("{ZONES}/{}", self.name))
    }
}

impl TimezoneSeen {
    /// The zone the link names: `timedatectl` writes it relative (`../usr/share/zoneinfo/…`).
    fn zone(&self) -> Option<&str> {
        let link = self.link.as_deref()?;
        link.strip_prefix("..")
            .unwrap_or(link)
            .strip_prefix(ZONES)?
            .strip_prefix('/')
    }
}

impl Kind for Timezone {
    const NAME: &'static str = "timezone";
    type Observation = TimezoneSeen;

    fn key(&self) -> String {
        // A node has one.
        String::from("timezone")
    }

    fn check(&self) -> Vec<String> {
        let good = self.name.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
        });
        if good {
            Vec::new()
        } else {
            vec![format!(
                "name {:?} is no time zone such as `Europe/Berlin`",
                self.name
            )]
        }
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![
            Query::Path(path("/etc/localtime")?),
            Query::Link(path("/etc/localtime")?),
            Query::Text(path("/etc/timezone")?),
            Query::Path(path(ZONES)?),
            Query::Path(self.zone()?),
        ])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<TimezoneSeen>, Diagnosis> {
        if answers.path(&path(ZONES)?)?.is_none() {
            return Ok(Seen::NotYet(Token::Package("tzdata".into())));
        }
        match answers.path(&self.zone()?)?.map(|state| state.kind) {
            // Many names are links to others.
            Some(PathKind::File | PathKind::Link) => {}
            Some(_) => {
                return Err(Diagnosis::new(format!(
                    "{} is a region with many time zones, not a zone",
                    self.name
                ))
                .cure(format!("choose one of them: ls {ZONES}/{}", self.name)));
            }
            None => {
                return Err(Diagnosis::new(format!("the node knows no time zone {}", self.name))
                    .cure(
                    "look for it: timedatectl list-timezones; old names (US/Pacific) are in the package tzdata-legacy since Debian 13 and Ubuntu 24.04",
                ));
            }
        }
        let localtime = path("/etc/localtime")?;
        let kind = answers.path(&localtime)?.map(|state| state.kind);
        if kind == Some(PathKind::Directory) {
            return Err(Diagnosis::new("/etc/localtime is a directory"));
        }
        Ok(Seen::Now(TimezoneSeen {
            link: answers.link(&localtime)?.map(str::to_owned),
            copy: kind.is_some_and(|kind| kind != PathKind::Link),
            file: answers.text(&path("/etc/timezone")?)?.map(str::to_owned),
        }))
    }

    fn diff(&self, seen: &TimezoneSeen, _ctx: Ctx<'_>) -> Diff {
        let mut change = Change::new(Action::Update);
        if seen.zone() != Some(&self.name) {
            let before = match (&seen.link, seen.copy) {
                (Some(link), _) => Shown::text(seen.zone().unwrap_or(link)),
                (None, true) => Shown::text("a copy of a zone's file"),
                (None, false) => Shown::Absent,
            };
            change = change.field("name", before, Shown::text(&self.name));
        }
        if let Some(file) = &seen.file {
            change = change.field_if("/etc/timezone", file.trim(), &self.name);
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update)
            .field("name", Shown::Later, Shown::text(&self.name))
            .field("/etc/timezone", Shown::Later, Shown::text(&self.name))
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &TimezoneSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut script = String::new();
        if seen.zone() != Some(&self.name) {
            script.push_str(&format!(
                "point {}\n",
                words(["/etc/localtime", &format!("{ZONES}/{}", self.name)])
            ));
        }
        if seen
            .file
            .as_ref()
            .is_some_and(|file| file.trim() != self.name)
        {
            let line = format!("{}\n", self.name).into_bytes();
            return Ok(
                Operation::put("/etc/timezone", ["0644", "root", "root"], line).behind(&script),
            );
        }
        Ok(Operation::script(script))
    }

    fn provides(&self) -> Vec<Token> {
        path("/etc/localtime")
            .map(Token::Path)
            .into_iter()
            .collect()
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::Package("tzdata".into())]
    }
}
