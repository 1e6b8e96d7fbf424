//! `line`: one line in a text file.

use regex_lite::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Change, Diff};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, EditSeen, Missing};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};

/// One line in a text file that has other owners too. Everything else in the file stays byte for
/// byte, also Windows line ends and a missing newline at the end; mode and owner stay, ACLs do not.
///
/// With `match`, the first line it finds becomes `line` and further ones it finds go, so that
/// exactly one remains; when it finds none, `line` is added at the end. With `state: absent` every
/// line it finds goes.
///
/// When it leaves the documents, a line without `match` goes. One with `match` stays: it has taken
/// the place of a line that nobody knows any more, and without either the file would say less than
/// it did before (`/etc/hosts` without the node's own name, say).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The file. Not a symbolic link: name what it leads to.
    pub path: NodePath,
    /// The line, without its end. May be left out with `state: absent` and `match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// A regular expression (as of the Rust crate `regex-lite`) that finds the lines this one
    /// replaces; it need not match the whole line: anchor it with `^`. Left out: only the very
    /// line.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
    /// `true`: a file that does not exist is made (mode 0644, root). `false`: it is waited for.
    #[serde(default)]
    pub create: bool,
}

impl Line {
    fn regex(&self) -> Option<Regex> {
        self.pattern.as_deref().and_then(|p| Regex::new(p).ok())
    }

    /// The text as it should be.
    fn edited(&self, before: &str) -> String {
        let regex = self.regex();
        let wanted = self.line.as_deref();
        let meant =
            |text: &str| wanted == Some(text) || regex.as_ref().is_some_and(|r| r.is_match(text));
        let keep = wanted.filter(|_| self.state == Presence::Present);
        let mut found = false;
        let mut lines = edit::lines(before);
        lines.retain_mut(|line| {
            if !meant(line.text) {
                return true;
            }
            let first = !std::mem::replace(&mut found, true);
            match keep {
                Some(text) if first => {
                    line.text = text;
                    true
                }
                _ => false,
            }
        });
        if let (Some(text), false) = (keep, found) {
            let at = lines.len();
            edit::insert(&mut lines, at, &[text]);
        } else {
            edit::keep_open_end(before, &mut lines);
        }
        edit::join(&lines)
    }

    /// The lines of `before` that will not be there any more, for people.
    fn losing(&self, before: &str) -> Option<String> {
        let regex = self.regex();
        let gone: Vec<&str> = before
            .lines()
            .filter(|text| match self.state {
                Presence::Present => {
                    self.line.as_deref() != Some(text)
                        && regex.as_ref().is_some_and(|r| r.is_match(text))
                }
                Presence::Absent => {
                    self.line.as_deref() == Some(text)
                        || regex.as_ref().is_some_and(|r| r.is_match(text))
                }
            })
            .collect();
        (!gone.is_empty()).then(|| gone.join("\n"))
    }

    fn wanted(&self) -> Option<&str> {
        self.line
            .as_deref()
            .filter(|_| self.state == Presence::Present)
    }
}

impl Kind for Line {
    const NAME: &'static str = "line";
    type Observation = EditSeen;

    fn key(&self) -> String {
        let what = self.pattern.as_deref().or(self.line.as_deref());
        format!("{}:{}", self.path, what.unwrap_or(""))
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match (&self.line, self.state) {
            (Some(line), _) if line.contains(['\n', '\r', '\0']) => {
                wrong.push("line must be one line; use several entries, or `block`".into());
            }
            (Some(line), _) if line.is_empty() => wrong.push("line is empty".into()),
            (None, Presence::Present) => wrong.push("line is missing".into()),
            (None, Presence::Absent) if self.pattern.is_none() => {
                wrong.push("say what is to go: `line` or `match`".into());
            }
            _ => {}
        }
        if let Some(pattern) = &self.pattern {
            match Regex::new(pattern) {
                Err(e) => wrong.push(format!("match is no regular expression: {e}")),
                Ok(regex) if regex.is_match("") => wrong
                    .push("match also finds empty lines, and so would replace any of them".into()),
                Ok(_) => {}
            }
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(edit::queries(&self.path))
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<EditSeen>, Diagnosis> {
        let missing = Missing::of(self.state, self.create);
        edit::observe(&self.path, missing, answers)
    }

    fn diff(&self, seen: &EditSeen, _ctx: Ctx<'_>) -> Diff {
        let after = self.edited(&seen.text);
        if after == seen.text {
            return Diff::NoOp;
        }
        let losing = self.losing(&seen.text);
        let change = edit::change(&self.path, seen, &after);
        let wanted = edit::shown(self.wanted());
        Diff::Change(if losing.is_none() && after.len() < seen.text.len() {
            change
                .field("line", wanted.clone(), wanted)
                .because("it stands there more than once")
        } else {
            change.field("line", edit::shown(losing.as_deref()), wanted)
        })
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        // What it replaces in a file that is not there yet cannot be known.
        let mut change = edit::change(&self.path, &EditSeen::nothing(), &self.edited(""));
        change.text = None;
        change.field("line", crate::Shown::Absent, edit::shown(self.wanted()))
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &EditSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        Ok(edit::operation(&self.path, seen, self.edited(&seen.text)))
    }

    fn file(&self) -> Option<(&NodePath, &str, &str)> {
        Some((&self.path, "root", "root"))
    }

    fn removal(&self) -> Option<Self> {
        let added = self.state == Presence::Present && self.pattern.is_none();
        added.then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_took_no_others_place_goes_with_the_documents() {
        let line = |json: serde_json::Value| serde_json::from_value::<Line>(json).unwrap();
        let added = line(serde_json::json!({"path": "/etc/environment", "line": "EDITOR=vi"}));
        let gone = added.removal().unwrap();
        assert_eq!((gone.state, gone.line), (Presence::Absent, added.line));
        let replaced = line(
            serde_json::json!({"path": "/etc/hosts", "match": "^127\\.0\\.1\\.1\\s", "line": "127.0.1.1\tpi"}),
        );
        assert_eq!(replaced.removal(), None);
    }
}
