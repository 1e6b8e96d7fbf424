//! What `line`, `ini` and `block` have in common: a text file is read whole, edited here, and
//! written whole with its mode and owner kept.

use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Shown};
use crate::kind::{Diagnosis, Seen};
use crate::kinds::file::{Presence, text_diff};
use crate::kinds::shared::{missing_parent, parent_query, with_access};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, PathKind, PathState, Query};
use crate::shell::quote;
use crate::token::Token;

/// What was seen of a file that is edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditSeen {
    /// `stat` of the path; `None`: no file.
    pub path: Option<PathState>,
    /// Its text; empty when there is no file.
    pub text: String,
}

impl EditSeen {
    /// No file.
    pub(crate) fn nothing() -> Self {
        Self {
            path: None,
            text: String::new(),
        }
    }
}

/// What it means that the file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It comes from elsewhere.
    Wait,
    /// It is made.
    Create,
    /// Nothing to do.
    Fine,
}

impl Missing {
    /// As the fields `state` and `create` say it.
    pub(crate) fn of(state: Presence, create: bool) -> Self {
        match (state, create) {
            (Presence::Absent, _) => Self::Fine,
            (Presence::Present, true) => Self::Create,
            (Presence::Present, false) => Self::Wait,
        }
    }
}

/// The questions.
pub(crate) fn queries(path: &NodePath) -> Vec<Query> {
    let mut queries = vec![Query::Path(path.clone()), Query::Text(path.clone())];
    queries.extend(parent_query(path));
    queries
}

/// Reads the file, and refuses whatever could not be written back unharmed.
pub(crate) fn observe(
    path: &NodePath,
    missing: Missing,
    answers: &Answers,
) -> Result<Seen<EditSeen>, Diagnosis> {
    let Some(state) = answers.path(path)? else {
        return Ok(match missing {
            Missing::Wait => Seen::NotYet(Token::Path(path.clone())),
            Missing::Create => match missing_parent(path, answers)? {
                Some(token) => Seen::NotYet(token),
                None => Seen::Now(EditSeen::nothing()),
            },
            Missing::Fine => Seen::Now(EditSeen::nothing()),
        });
    };
    match state.kind {
        PathKind::File => {}
        PathKind::Link => {
            return Err(Diagnosis::new(format!(
                "{path} is a symbolic link; editing it would replace the link by a file"
            ))
            .cure(format!("name the file it leads to: readlink -f {path}")));
        }
        PathKind::Directory | PathKind::Other => {
            return Err(Diagnosis::new(format!("{path} is not a regular file"))
                .cure(format!("look at it: ls -la {path}")));
        }
    }
    let text = answers
        .text(path)?
        .ok_or_else(|| Diagnosis::new(format!("{path} is there but cannot be read")))?;
    // NUL is lost on the way and invalid UTF-8 is replaced: writing that back would do harm.
    if text.len() as u64 != state.size || text.contains('\u{FFFD}') {
        return Err(Diagnosis::new(format!(
            "{path} holds bytes that are not text (or changed while it was read), so it is not edited"
        ))
        .cure(format!("look at it: LC_ALL=C grep -naP '[^\\x01-\\x7f]' {path}")));
    }
    if state.owner == "UNKNOWN" || state.group == "UNKNOWN" {
        return Err(Diagnosis::new(format!(
            "{path} belongs to an account or group that does not exist, which an edit could not keep"
        ))
        .cure(format!("give it an owner: chown root:root {path}")));
    }
    Ok(Seen::Now(EditSeen {
        path: Some(state.clone()),
        text: text.to_owned(),
    }))
}

/// A change from what was seen to `after`; its one field is added by the caller.
pub(crate) fn change(path: &NodePath, seen: &EditSeen, after: &str) -> Change {
    let action = match seen.path {
        Some(_) => Action::Update,
        None => Action::Create,
    };
    let mut change = with_access(Change::new(action), path);
    change.bytes = after.len() as u64;
    // The lines around are not ours. Where not everybody may read them on the node, not everybody
    // may read them in a plan.
    if seen
        .path
        .as_ref()
        .is_none_or(|state| state.mode & 0o004 != 0)
    {
        change.text = Some(text_diff(&seen.text, after));
    }
    change
}

/// A text as the value of a field: `(none)` when there is none.
pub(crate) fn shown(text: Option<&str>) -> Shown {
    text.map_or(Shown::Absent, Shown::text)
}

/// Writes `after`, unless the file is no longer the one that was seen.
pub(crate) fn operation(path: &NodePath, seen: &EditSeen, after: String) -> Operation {
    let after = after.into_bytes();
    match &seen.path {
        Some(state) => {
            let mode = format!("{:04o}", state.mode);
            let rights = [mode.as_str(), &state.owner, &state.group];
            let before = sha256_hex(seen.text.as_bytes());
            Operation::put(path.as_str(), rights, after)
                .behind(&format!("same {} {before}\n", quote(path.as_str())))
        }
        None => Operation::put(path.as_str(), ["0644", "root", "root"], after),
    }
}

/// A line of a text and what ends it (`\n`, `\r\n`, or nothing at the end of the file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Without its end.
    pub text: &'a str,
    /// Its end.
    pub end: &'a str,
}

/// Takes a text apart; joined again it is the same byte for byte.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    text.split_inclusive('\n')
        .map(|line| {
            let text = line
                .strip_suffix("\r\n")
                .or_else(|| line.strip_suffix('\n'))
                .unwrap_or(line);
            Line {
                text,
                end: &line[text.len()..],
            }
        })
        .collect()
}

/// How lines end in this text: as its first one does.
pub(crate) fn line_end(lines: &[Line<'_>]) -> &'static str {
    match lines.first() {
        Some(line) if line.end == "\r\n" => "\r\n",
        _ => "\n",
    }
}

/// Puts lines together.
pub(crate) fn join(lines: &[Line<'_>]) -> String {
    lines
        .iter()
        .flat_map(|line| [line.text, line.end])
        .collect()
}

/// Takes the end off the last line of a text that had none, after lines behind it have gone. An
/// empty line keeps it: without it there would be no line.
pub(crate) fn keep_open_end(before: &str, lines: &mut [Line<'_>]) {
    let open = !before.is_empty() && !before.ends_with('\n');
    if let (true, Some(last)) = (open, lines.last_mut())
        && !last.text.is_empty()
    {
        last.end = "";
    }
}

/// Inserts texts as lines at `at`. A last line without an end gets one when something follows it,
/// and then the new last line has none: whether a file ends in a newline stays as it was.
pub(crate) fn insert<'a>(lines: &mut Vec<Line<'a>>, at: usize, texts: &[&'a str]) {
    let end = line_end(lines);
    let at = at.min(lines.len());
    let open_end = lines.last().is_some_and(|line| line.end.is_empty());
    let behind_last = at == lines.len();
    if open_end
        && behind_last
        && !texts.is_empty()
        && let Some(last) = lines.last_mut()
    {
        last.end = end;
    }
    let new: Vec<Line<'a>> = texts.iter().map(|text| Line { text, end }).collect();
    lines.splice(at..at, new);
    if open_end
        && behind_last
        && let Some(last) = lines.last_mut()
    {
        last.end = "";
    }
}
