//! `authorized_keys`: the SSH keys an account can be entered with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, Line};
use crate::kinds::shared::is_account_name;
use crate::operation::Operation;
use crate::program::{Raw, sha256_hex};
use crate::query::{Answer, Answers, PathKind, PathState, Query};
use crate::shell::{quote, words};
use crate::token::Token;

/// The keys in `.ssh/authorized_keys` of an account's home (sshd(8), AUTHORIZED_KEYS FILE FORMAT);
/// the directory gets mode 0700, the file 0600, both belong to the account.
///
/// Keys are compared by their type and the key itself, so that a changed comment is no difference;
/// the options of a key that is listed here are made as written. A key that leaves the list stays
/// on the node unless `exclusive` is set, and an entry that leaves the role leaves the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizedKeys {
    /// The account.
    pub user: String,
    /// The keys, one line each, as in a `.pub` file; options may stand in front.
    pub keys: Vec<String>,
    /// `true`: no other keys are in the file. Look twice that the key you come in with is listed.
    #[serde(default)]
    pub exclusive: bool,
}

/// What was seen of an account's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysSeen {
    /// The account's home directory.
    pub home: String,
    /// The account's primary group.
    pub group: String,
    /// `.ssh`.
    pub directory: Option<PathState>,
    /// `.ssh/authorized_keys`.
    pub file: Option<PathState>,
    /// Its text.
    pub text: String,
}

/// One key of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    options: &'a str,
    kind: &'a str,
    blob: &'a str,
    comment: &'a str,
}

/// Key types of ssh-keygen(1) begin so; certificates included.
fn is_kind(word: &str) -> bool {
    [
        "ssh-",
        "ecdsa-sha2-",
        "sk-ssh-",
        "sk-ecdsa-",
        "webauthn-sk-",
    ]
    .iter()
    .any(|start| word.starts_with(start))
}

/// Cuts the first word off, where blanks inside double quotes do not end it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return (&text[..at], &text[at..]),
            _ => {}
        }
        escaped = c == '\\';
    }
    (text, "")
}

fn parse(line: &str) -> Option<Key<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (first, rest) = word(line);
    let (options, kind, rest) = if is_kind(first) {
        ("", first, rest)
    } else {
        let (kind, rest) = word(rest);
        (first, kind, rest)
    };
    let (blob, comment) = word(rest);
    (is_kind(kind) && !blob.is_empty()).then_some(Key {
        options,
        kind,
        blob,
        comment: comment.trim(),
    })
}

impl Key<'_> {
    fn is(&self, other: &Key<'_>) -> bool {
        self.kind == other.kind && self.blob == other.blob
    }

    /// For people: options, type, the end of the key, comment.
    fn shown(&self) -> String {
        let tail = self.blob.trim_end_matches('=');
        let cut = tail.len().saturating_sub(8);
        let mut text = String::from(self.options);
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&format!(
            "{} …{}",
            self.kind,
            tail.get(cut..).unwrap_or(tail)
        ));
        if !self.comment.is_empty() {
            text.push(' ');
            text.push_str(self.comment);
        }
        text
    }
}

/// The blob of a key begins with its own type (RFC 4253 section 6.6).
fn blob_matches(key: &Key<'_>) -> bool {
    let Ok(bytes) = STANDARD.decode(key.blob) else {
        return false;
    };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    rest.get(..u32::from_be_bytes(*length) as usize) == Some(key.kind.as_bytes())
}

impl AuthorizedKeys {
    fn wanted(&self) -> Vec<(&str, Key<'_>)> {
        let mut wanted: Vec<(&str, Key<'_>)> = Vec::new();
        for line in &self.keys {
            if let Some(key) = parse(line)
                && !wanted.iter().any(|(_, other)| other.is(&key))
            {
                wanted.push((line.trim(), key));
            }
        }
        wanted
    }

    fn fragment(&self) -> String {
        format!(
            r#"# authorized keys of {name}
u={quoted}
e=$(getent passwd "$u") || exit 3
h=${{e%:*}}; h=${{h##*:}}
printf '%s\n' "$h"; id -gn -- "$u"
set --; m=
for p in "$h" "$h/.ssh" "$h/.ssh/authorized_keys"; do
  if [ -e "$p" ] || [ -L "$p" ]; then set -- "$@" "$p"; else m="$m-
"; fi
done
[ $# = 0 ] || stat -c '%f %U %G %s %n' -- "$@"
printf %s "$m"
if [ -f "$h/.ssh/authorized_keys" ]; then cat -- "$h/.ssh/authorized_keys"; fi"#,
            name = self.user,
            quoted = quote(&self.user),
        )
    }

    fn edited(&self, before: &str) -> String {
        let wanted = self.wanted();
        let mut seen = vec![false; wanted.len()];
        let mut lines: Vec<Line<'_>> = Vec::new();
        for line in edit::lines(before) {
            let found = parse(line.text);
            let ours = found
                .as_ref()
                .and_then(|key| wanted.iter().position(|(_, w)| w.is(key)));
            match (ours, found) {
                (Some(n), Some(key)) => {
                    if std::mem::replace(&mut seen[n], true) {
                        continue;
                    }
                    let text = if key.options == wanted[n].1.options {
                        line.text
                    } else {
                        wanted[n].0
                    };
                    lines.push(Line { text, ..line });
                }
                _ if self.exclusive && !is_remark(line.text) => {}
                _ => lines.push(line),
            }
        }
        edit::keep_open_end(before, &mut lines);
        let missing: Vec<&str> = wanted
            .iter()
            .zip(&seen)
            .filter(|(_, seen)| !**seen)
            .map(|((text, _), _)| *text)
            .collect();
        let at = lines.len();
        edit::insert(&mut lines, at, &missing);
        edit::join(&lines)
    }
}

/// A comment or blank line: no key, also for sshd.
fn is_remark(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// One field for every line that comes, goes or changes.
fn compare(mut change: Change, before: &str, after: &str) -> Change {
    let mut new: Vec<&str> = after.lines().filter(|line| !is_remark(line)).collect();
    let mut old = Vec::new();
    for line in before.lines().filter(|line| !is_remark(line)) {
        match new.iter().position(|other| *other == line) {
            Some(at) => drop(new.remove(at)),
            None => old.push(line),
        }
    }
    let shown = |line: &str| Shown::text(parse(line).map_or(line.to_owned(), |key| key.shown()));
    for line in old {
        let same = |other: &&str| match (parse(line), parse(other)) {
            (Some(a), Some(b)) => a.is(&b),
            _ => false,
        };
        let to = new.iter().position(same).map(|at| new.remove(at));
        change = change.field("key", shown(line), to.map_or(Shown::Absent, shown));
    }
    for line in new {
        change = change.field("key", Shown::Absent, shown(line));
    }
    change
}

impl Kind for AuthorizedKeys {
    const NAME: &'static str = "authorized_keys";
    type Observation = KeysSeen;

    fn key(&self) -> String {
        self.user.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !is_account_name(&self.user) {
            wrong.push(format!("user {:?} is no name for an account", self.user));
        }
        for line in &self.keys {
            match parse(line) {
                _ if line.trim().contains(['\n', '\r', '\0']) => {
                    wrong.push("a key is one line; write one list item per key".into());
                }
                None if line.contains("PRIVATE KEY") => {
                    wrong.push("this is a private key; the public one (`.pub`) is meant".into());
                }
                None => wrong.push(format!("{line:?} is no public key as in a `.pub` file")),
                Some(key) if !blob_matches(&key) => wrong.push(format!(
                    "the key {} is damaged: its data is not that of a key of type {}",
                    key.shown(),
                    key.kind
                )),
                Some(_) => {}
            }
        }
        if self.exclusive && self.keys.is_empty() {
            wrong.push("exclusive without any key would lock the account's owner out".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.fragment())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<KeysSeen>, Diagnosis> {
        let (status, output) = answers.fragment(&self.fragment())?;
        let not_yet = || Ok(Seen::NotYet(Token::User(self.user.clone())));
        if status == 3 {
            return not_yet();
        }
        let mut parts = output.splitn(6, '\n');
        let mut next = || {
            parts
                .next()
                .ok_or_else(|| Diagnosis::new(format!("the keys of {} cannot be read", self.user)))
        };
        let home = next()?.to_owned();
        let group = next()?.to_owned();
        let mut states = Vec::new();
        for _ in 0..3 {
            states.push(stat(next()?)?);
        }
        let text = next()?.to_owned();
        let [home_state, directory, file] = <[Option<PathState>; 3]>::try_from(states)
            .map_err(|_| Diagnosis::new("three paths were asked for"))?;
        if home_state.is_none() {
            return not_yet();
        }
        let path = format!("{home}/.ssh");
        for (state, kind, path) in [
            (&directory, PathKind::Directory, path.clone()),
            (&file, PathKind::File, format!("{path}/authorized_keys")),
        ] {
            // Written as root: a link here could lead the write anywhere.
            if state.as_ref().is_some_and(|s| s.kind != kind) {
                return Err(Diagnosis::new(format!(
                    "{path} is not a plain {}; nothing is written through it",
                    if kind == PathKind::File {
                        "file"
                    } else {
                        "directory"
                    }
                ))
                .cure(format!("look at it and move it away: ls -la {path}")));
            }
        }
        if file.as_ref().is_some_and(|f| f.size != text.len() as u64) || text.contains('\u{FFFD}') {
            return Err(Diagnosis::new(format!(
                "{path}/authorized_keys holds bytes that are not text, so it is not edited"
            )));
        }
        Ok(Seen::Now(KeysSeen {
            home,
            group,
            directory,
            file,
            text,
        }))
    }

    fn diff(&self, seen: &KeysSeen, _ctx: Ctx<'_>) -> Diff {
        let after = self.edited(&seen.text);
        let mut change = Change::new(match seen.file {
            Some(_) => Action::Update,
            None => Action::Create,
        });
        if after != seen.text {
            change = compare(change, &seen.text, &after)
                .effect(Effect::Access(format!("the keys of {}", self.user)));
            change.bytes = after.len() as u64;
        }
        for (state, what, mode) in [
            (&seen.directory, ".ssh", "0700"),
            (&seen.file, "file", "0600"),
        ] {
            if let Some(state) = state {
                change = change
                    .field_if(
                        &format!("mode of {what}"),
                        &format!("{:04o}", state.mode),
                        mode,
                    )
                    .field_if(&format!("owner of {what}"), &state.owner, &self.user);
            }
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let after = self.edited("");
        let mut change = compare(Change::new(Action::Create), "", &after)
            .effect(Effect::Access(format!("the keys of {}", self.user)));
        change.bytes = after.len() as u64;
        change
    }

    fn operation(
        &self,
        seen: &KeysSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let directory = format!("{}/.ssh", seen.home);
        let file = format!("{directory}/authorized_keys");
        let mut script = match seen.directory {
            None => format!("mkdir -m 0700 -- {}\n", quote(&directory)),
            Some(_) => format!(
                "[ ! -L {0} ] || {{ echo {0}' is a link' >&2; exit 1; }}\n",
                quote(&directory)
            ),
        };
        let owned = |path: &str, mode: &str| {
            format!("own {}\n", words([path, mode, &self.user, &seen.group]))
        };
        script.push_str(&owned(&directory, "0700"));
        if !change.fields.iter().any(|f| f.field == "key") {
            if seen.file.is_some() {
                script.push_str(&owned(&file, "0600"));
            }
            return Ok(Operation::script(script));
        }
        if seen.file.is_some() {
            script.push_str(&format!(
                "same {} {}\n",
                quote(&file),
                sha256_hex(seen.text.as_bytes())
            ));
        }
        script.push_str(&format!(
            "put {}\n",
            words([file.as_str(), "0600", &self.user, &seen.group])
        ));
        Ok(Operation::script(script).with_payload(self.edited(&seen.text).into_bytes()))
    }

    fn way_in_of(&self, seen: &KeysSeen) -> Option<&str> {
        // Accounts may share a home, and with it their keys; then it has another's name, or this one's.
        let own = seen.home.rsplit('/').next() == Some(self.user.as_str());
        own.then_some(self.user.as_str())
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::User(self.user.clone())]
    }
}

/// One line of the fragment's `stat`, `-` for nothing.
fn stat(line: &str) -> Result<Option<PathState>, Diagnosis> {
    if line == "-" {
        return Ok(None);
    }
    let raw = Raw {
        status: 0,
        text: line.to_owned(),
    };
    let nowhere = crate::path::NodePath::new("/").map_err(|e| Diagnosis::new(e.to_string()))?;
    match Query::Path(nowhere).parse(&raw) {
        Ok(Answer::Path(state)) => Ok(state),
        Ok(_) => Ok(None),
        Err(why) => Err(Diagnosis::new(why)),
    }
}
