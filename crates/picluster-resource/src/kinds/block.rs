//! `block`: several lines between two markers in a text file that has other owners too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, EditSeen, Line, Missing};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};

/// Lines kept between `# BEGIN picluster NAME` and `# END picluster NAME`. Everything outside the
/// markers stays byte for byte. A new block goes to the end of the file; one that is there twice is
/// kept once. Where a marker was lost, the block is mended if its lines are the wanted ones;
/// otherwise nobody can tell our lines from others', and the file is left alone with an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The file. Not a symbolic link: name what it leads to.
    pub path: NodePath,
    /// The block's name in its markers; one file may hold several blocks.
    pub name: String,
    /// The lines. Empty: only the markers.
    #[serde(default)]
    pub content: String,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
    /// What begins a comment in this file.
    #[serde(default = "hash")]
    pub comment: String,
    /// `true`: a file that does not exist is made (mode 0644, root). `false`: it is waited for.
    #[serde(default)]
    pub create: bool,
}

fn hash() -> String {
    "#".into()
}

/// A block in a text: its lines from the BEGIN marker up to and including the END marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: usize,
    behind: usize,
}

impl Block {
    fn begin(&self) -> String {
        format!("{} BEGIN picluster {}", self.comment, self.name)
    }

    fn end(&self) -> String {
        format!("{} END picluster {}", self.comment, self.name)
    }

    /// The blocks of this name, with damaged ones mended as far as it is safe.
    fn parts(&self, lines: &[Line<'_>]) -> Result<Vec<Part>, Diagnosis> {
        let (begin, end) = (self.begin(), self.end());
        let content: Vec<&str> = self.content.lines().collect();
        let same = |from: usize| {
            lines
                .get(from..from + content.len())
                .is_some_and(|found| found.iter().map(|l| l.text).eq(content.iter().copied()))
        };
        let damaged = |marker: &str, other: &str, at: usize| {
            Diagnosis::new(format!(
                "line {} of {} is `{marker}`, but its `{other}` is gone: which lines are the block's cannot be told",
                at + 1,
                self.path
            ))
            .cure(format!(
                "put the line `{other}` back, or delete the block with both markers, on the node"
            ))
        };
        let mut parts = Vec::new();
        let mut open: Option<usize> = None;
        for (at, line) in lines.iter().enumerate() {
            let text = line.text.trim_end();
            if (text == begin || text == end)
                && let Some(first) = open.filter(|_| text == begin)
            {
                // A second BEGIN before the END.
                if !same(first + 1) || first + 1 + content.len() > at {
                    return Err(damaged(&begin, &end, first));
                }
                parts.push(Part {
                    first,
                    behind: first + 1 + content.len(),
                });
            }
            if text == begin {
                open = Some(at);
            } else if text == end {
                let first = match open.take() {
                    Some(first) => first,
                    None => {
                        // An END without BEGIN: ours if the wanted lines stand right above it.
                        let free = parts.last().map_or(0, |p: &Part| p.behind);
                        at.checked_sub(content.len())
                            .filter(|from| *from >= free && !content.is_empty() && same(*from))
                            .ok_or_else(|| damaged(&end, &begin, at))?
                    }
                };
                parts.push(Part {
                    first,
                    behind: at + 1,
                });
            }
        }
        if let Some(first) = open {
            if content.is_empty() || !same(first + 1) {
                return Err(damaged(&begin, &end, first));
            }
            parts.push(Part {
                first,
                behind: first + 1 + content.len(),
            });
        }
        Ok(parts)
    }

    fn edited(&self, before: &str) -> Result<String, Diagnosis> {
        let mut lines = edit::lines(before);
        let parts = self.parts(&lines)?;
        let (begin, end_marker) = (self.begin(), self.end());
        let mut texts = vec![begin.as_str()];
        texts.extend(self.content.lines());
        texts.push(&end_marker);
        let end = edit::line_end(&lines);
        for (n, part) in parts.iter().enumerate().rev() {
            let keep = n == 0 && self.state == Presence::Present;
            let new: Vec<Line<'_>> = if keep {
                texts.iter().map(|text| Line { text, end }).collect()
            } else {
                Vec::new()
            };
            lines.splice(part.first..part.behind, new);
        }
        if parts.is_empty() && self.state == Presence::Present {
            if let Some(last) = lines.last_mut()
                && last.end.is_empty()
            {
                last.end = end;
            }
            lines.extend(texts.iter().map(|text| Line { text, end }));
        }
        Ok(edit::join(&lines))
    }

    /// What stands between the markers now.
    fn between<'a>(&self, before: &'a str) -> Option<Vec<&'a str>> {
        let lines = edit::lines(before);
        let parts = self.parts(&lines).ok()?;
        let part = parts.first()?;
        let (begin, end) = (self.begin(), self.end());
        let inner = lines[part.first..part.behind].iter().map(|line| line.text);
        Some(
            inner
                .filter(|text| text.trim_end() != begin && text.trim_end() != end)
                .collect(),
        )
    }
}

/// A number of lines, for people; the text diff shows them.
fn count(lines: usize) -> String {
    match lines {
        1 => "1 line".into(),
        n => format!("{n} lines"),
    }
}

impl Kind for Block {
    const NAME: &'static str = "block";
    type Observation = EditSeen;

    fn key(&self) -> String {
        format!("{}:{}", self.path, self.name)
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.name.is_empty()
            || !self
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        {
            wrong.push("name consists of letters, digits and `-_./`".into());
        }
        if self.comment.trim().is_empty() || self.comment.contains(['\n', '\r', '\0']) {
            wrong.push("comment is what begins a comment in this file, such as `#` or `;`".into());
        }
        if self.content.contains(['\r', '\0']) {
            wrong.push(
                "content has lines that end in a newline only (it follows the file's own ends)"
                    .into(),
            );
        }
        let marks = [self.begin(), self.end()];
        if self
            .content
            .lines()
            .any(|line| marks.iter().any(|mark| line.trim_end() == mark))
        {
            wrong.push("content holds a marker of this very block".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(edit::queries(&self.path))
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<EditSeen>, Diagnosis> {
        let missing = Missing::of(self.state, self.create);
        let seen = edit::observe(&self.path, missing, answers)?;
        if let Seen::Now(seen) = &seen {
            self.edited(&seen.text)?;
        }
        Ok(seen)
    }

    fn diff(&self, seen: &EditSeen, ctx: Ctx<'_>) -> Diff {
        let Ok(after) = self.edited(&seen.text) else {
            // `observe` has refused it.
            return Diff::Change(self.expected(ctx));
        };
        if after == seen.text {
            return Diff::NoOp;
        }
        let before = self.between(&seen.text);
        let wanted = (self.state == Presence::Present).then(|| count(self.content.lines().count()));
        let mut change = edit::change(&self.path, seen, &after).field(
            "content",
            edit::shown(before.as_ref().map(|lines| count(lines.len())).as_deref()),
            edit::shown(wanted.as_deref()),
        );
        let parts = self.parts(&edit::lines(&seen.text)).map_or(0, |p| p.len());
        if parts > 1 {
            change = change.because("the block is there more than once");
        } else if wanted.is_some() && before.is_some_and(|b| b.into_iter().eq(self.content.lines()))
        {
            change = change.because("a marker was lost or changed");
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let after = self.edited("").unwrap_or_default();
        let wanted = (self.state == Presence::Present).then(|| count(self.content.lines().count()));
        edit::change(&self.path, &EditSeen::nothing(), &after).field(
            "content",
            Shown::Absent,
            edit::shown(wanted.as_deref()),
        )
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
        Ok(edit::operation(&self.path, seen, self.edited(&seen.text)?))
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
