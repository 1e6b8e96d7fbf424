//! `ini`: one assignment in a file of sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, EditSeen, Line, Missing};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};

/// One assignment `key=value` in a section of a file as systemd and NetworkManager write them
/// (systemd.syntax(7)): `[Section]` headers that may come more than once, comments with `#` or
/// `;`, long lines continued with a backslash.
///
/// The last assignment of a key counts: that one is made right, earlier ones and all comments
/// stay. A missing key goes to the end of its section, a missing section to the end of the file.
/// With `state: absent` every assignment of the key in that section goes (with `value`: those with
/// that value).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ini {
    /// The file. Not a symbolic link: name what it leads to.
    pub path: NodePath,
    /// The section's name, without brackets. Empty: before the first section.
    #[serde(default)]
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, one line. May be left out with `state: absent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
    /// `true`: a file that does not exist is made (mode 0644, root). `false`: it is waited for.
    #[serde(default)]
    pub create: bool,
}

/// One assignment: the lines it takes and what it says.
#[derive(Debug)]
struct Assignment {
    first: usize,
    count: usize,
    value: String,
}

/// What a file holds for a section and key.
#[derive(Debug, Default)]
struct Found {
    assignments: Vec<Assignment>,
    /// Behind the last line of the last part of the section that is not blank.
    end: Option<usize>,
}

fn header(text: &str) -> Option<&str> {
    text.trim().strip_prefix('[')?.strip_suffix(']')
}

fn is_comment(text: &str) -> bool {
    text.trim_start().starts_with(['#', ';'])
}

impl Ini {
    fn find(&self, lines: &[Line<'_>]) -> Found {
        let mut found = Found::default();
        let mut section = "";
        if self.section.is_empty() {
            found.end = Some(0);
        }
        let mut at = 0;
        while at < lines.len() {
            let text = lines[at].text;
            let mut count = 1;
            if let Some(name) = header(text) {
                section = name;
            } else if !is_comment(text) {
                while lines[at + count - 1].text.ends_with('\\') && at + count < lines.len() {
                    count += 1;
                }
                if section == self.section
                    && let Some((key, value)) = text.split_once('=')
                    && key.trim() == self.key
                {
                    found.assignments.push(Assignment {
                        first: at,
                        count,
                        value: logical(value, &lines[at + 1..at + count]),
                    });
                }
            }
            at += count;
            if section == self.section && !text.trim().is_empty() {
                found.end = Some(at);
            }
        }
        found
    }

    fn edited(&self, before: &str) -> String {
        let mut lines = edit::lines(before);
        let found = self.find(&lines);
        let Some(value) = self
            .value
            .as_deref()
            .filter(|_| self.state == Presence::Present)
        else {
            let keep = self.value.as_deref();
            for gone in found.assignments.iter().rev() {
                if keep.is_none_or(|only| only == gone.value) {
                    lines.drain(gone.first..gone.first + gone.count);
                }
            }
            edit::keep_open_end(before, &mut lines);
            return edit::join(&lines);
        };
        let plain = format!("{}={value}", self.key);
        let head = format!("[{}]", self.section);
        if let Some(last) = found.assignments.last() {
            if last.value == value {
                return before.to_owned();
            }
            // As it was written: `key = value` keeps its blanks.
            let old = lines[last.first].text;
            let cut = old.find('=').map_or(0, |equals| {
                let behind = &old[equals + 1..];
                equals + 1 + (behind.len() - behind.trim_start_matches([' ', '\t']).len())
            });
            let new = format!("{}{value}", &old[..cut]);
            let end = lines[last.first + last.count - 1].end;
            lines.splice(
                last.first..last.first + last.count,
                [Line { text: &new, end }],
            );
            return edit::join(&lines);
        }
        match found.end {
            // A backslash at the very end of the file would take the new line for its continuation.
            Some(end)
                if end == lines.len() && before.trim_end_matches(['\r', '\n']).ends_with('\\') =>
            {
                edit::insert(&mut lines, end, &["", &plain]);
            }
            Some(end) => edit::insert(&mut lines, end, &[&plain]),
            None => {
                let at = lines.len();
                let blank = lines
                    .last()
                    .is_some_and(|line| !line.text.trim().is_empty());
                if blank {
                    edit::insert(&mut lines, at, &["", &head, &plain]);
                } else {
                    edit::insert(&mut lines, at, &[&head, &plain]);
                }
            }
        }
        edit::join(&lines)
    }

    fn before(&self, text: &str) -> Option<String> {
        let found = self.find(&edit::lines(text));
        match self.state {
            Presence::Present => found.assignments.last().map(|a| a.value.clone()),
            Presence::Absent => {
                let only = self.value.as_deref();
                let gone: Vec<String> = found
                    .assignments
                    .into_iter()
                    .map(|a| a.value)
                    .filter(|value| only.is_none_or(|only| only == value))
                    .collect();
                (!gone.is_empty()).then(|| gone.join("\n"))
            }
        }
    }

    fn wanted(&self) -> Option<&str> {
        self.value
            .as_deref()
            .filter(|_| self.state == Presence::Present)
    }
}

/// A value with its continuation lines, each backslash a blank (systemd.syntax(7)).
fn logical(first: &str, more: &[Line<'_>]) -> String {
    let mut value = first.to_owned();
    for line in more {
        if value.ends_with('\\') {
            value.pop();
            value.push(' ');
        }
        value.push_str(line.text);
    }
    value.trim().to_owned()
}

impl Kind for Ini {
    const NAME: &'static str = "ini";
    type Observation = EditSeen;

    fn key(&self) -> String {
        let mut key = format!("{}:{}.{}", self.path, self.section, self.key);
        // Several values of one key can be taken away, each by an entry of its own.
        if let (Presence::Absent, Some(value)) = (self.state, &self.value) {
            key.push('=');
            key.push_str(value);
        }
        key
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let key = self.key.as_str();
        if key.is_empty()
            || key.trim() != key
            || key.contains(['=', '\n', '\r', '\0'])
            || key.starts_with(['#', ';', '['])
        {
            wrong.push(format!("key {key:?} cannot stand before a `=`"));
        }
        if self.section.contains(['\n', '\r', '\0', '[', ']']) {
            wrong.push("section is a name without brackets, on one line".into());
        }
        match &self.value {
            None if self.state == Presence::Present => wrong.push("value is missing".into()),
            Some(value)
                if value.trim() != value
                    || value.contains(['\n', '\r', '\0'])
                    || value.ends_with('\\') =>
            {
                wrong.push(
                    "value is one line without blanks around it or a backslash at its end".into(),
                );
            }
            _ => {}
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
        let before = self.before(&seen.text);
        Diff::Change(edit::change(&self.path, seen, &after).field(
            "value",
            edit::shown(before.as_deref()),
            edit::shown(self.wanted()),
        ))
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = edit::change(&self.path, &EditSeen::nothing(), &self.edited(""));
        change.text = None;
        change.field("value", Shown::Absent, edit::shown(self.wanted()))
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
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}
