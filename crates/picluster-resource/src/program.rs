//! Joins the questions of many resources into one shell program and takes its output apart again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use picluster_model::Secret;
use sha2::{Digest, Sha256};

use crate::frame::Frame;
use crate::query::{
    AccountState, Answer, AnswerError, Answers, ContentState, GroupState, PackageState,
    PasswordState, PathKind, PathState, Query, UnitState,
};
use crate::shell::{quote, words};

/// Marks of units whose inputs changed and that have not yet taken them up. In /run: a reboot
/// starts every unit anew and clears the marks with the same stroke.
pub const PENDING_DIR: &str = "/run/picluster/pending";

/// Text of changed files larger than this is not fetched for diffs.
const TEXT_LIMIT: u32 = 65_536;

/// Shell functions in scope of every operation, together with [`crate::frame::FRAME_SH`].
///
/// - `put PATH MODE OWNER GROUP`: standard input becomes the file: temporary in the same directory
///   (dot-prefixed, without the real suffix, so that nothing which watches `*.conf` or `*.yaml`
///   takes it up), synced, renamed, directory synced. Never a torn file.
/// - `own PATH MODE OWNER GROUP`: chown and chmod; nothing on a file system that has no owners.
/// - `same PATH SHA256`: fails, saying so, when the file is no longer the one that was read.
/// - `point PATH TARGET`: a symbolic link made or replaced in one stroke.
/// - `pend UNIT restart|reload`: sets the pending mark; `restart` is never weakened to `reload`.
pub const PRELUDE_SH: &str = include_str!("prelude.sh");

/// A probe program and the questions it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeProgram {
    /// Shell text; defines functions and prints frames when run. Needs the frame function.
    pub script: String,
    queries: Vec<Query>,
}

/// The raw text an answer is read from: what the node's tools printed for one question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Raw {
    /// Exit status of the tool.
    pub status: u32,
    /// Its standard output, cut down to this question.
    pub text: String,
}

// Frame ids of the joined sections; questions with a frame of their own count from BASE.
const PATHS: u32 = 1;
const LINKS: u32 = 2;
const DIGESTS: u32 = 3;
const PACKAGES: u32 = 4;
const POLICY: u32 = 5;
const UNITS: u32 = 6;
const PENDING: u32 = 7;
const SYSCTLS: u32 = 8;
const GROUPS: u32 = 9;
/// Last frame of every program: without it the answers are not complete.
const END: u32 = 10;
const SIZES: u32 = 11;
const TEXTS: u32 = 12;
const BASE: u32 = 100;

impl ProbeProgram {
    /// Joins questions; duplicates are asked once.
    #[must_use]
    pub fn new(queries: impl IntoIterator<Item = Query>) -> Self {
        let queries: BTreeSet<Query> = queries.into_iter().collect();
        let queries: Vec<Query> = queries.into_iter().collect();
        let mut sh = String::new();
        sections(&mut sh, &queries);
        singles(&mut sh, &queries);
        let _ = writeln!(sh, "fo= fi={END} fs=0; emit");
        Self {
            script: sh,
            queries,
        }
    }

    /// The questions.
    #[must_use]
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// Whether `frame` is the last one of this program.
    #[must_use]
    pub fn is_end(frame: &Frame) -> bool {
        frame.id == END
    }

    /// Reads the answers to `wanted`, which are some or all of the questions, out of the frames.
    ///
    /// # Errors
    /// [`AnswerError`] for the first of them that cannot be understood.
    pub fn parse(&self, wanted: &[Query], frames: &[Frame]) -> Result<Answers, AnswerError> {
        let raws = split(&self.queries, frames);
        let wanted: BTreeSet<&Query> = wanted.iter().collect();
        let mut answers = BTreeMap::new();
        for (query, raw) in raws {
            if !wanted.contains(&query) {
                continue;
            }
            let answer = query.parse(&raw).map_err(|why| AnswerError {
                query: query.to_string(),
                why,
            })?;
            answers.insert(query, answer);
        }
        Ok(Answers(answers))
    }
}

fn select<'a, T>(queries: &'a [Query], pick: impl Fn(&'a Query) -> Option<T>) -> Vec<T> {
    queries.iter().filter_map(pick).collect()
}

fn paths_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Path(path) => Some(path.as_str()),
        _ => None,
    })
}

fn links_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Link(path) => Some(path.as_str()),
        _ => None,
    })
}

fn units_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Unit(name) => Some(name.as_str()),
        _ => None,
    })
}

fn sysctls_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Sysctl(key) => Some(key.as_str()),
        _ => None,
    })
}

fn texts_of(queries: &[Query]) -> Vec<&str> {
    select(queries, |q| match q {
        Query::Text(path) => Some(path.as_str()),
        _ => None,
    })
}

/// What many questions share is asked in one process. Nothing here forks but the tools themselves:
/// starting processes is what a probe costs.
fn sections(sh: &mut String, queries: &[Query]) {
    let paths = paths_of(queries);
    if !paths.is_empty() {
        let _ = writeln!(
            sh,
            "rows {PATHS} stat -c '%f %U %G %s %n' -- {}",
            words(paths)
        );
    }
    links(sh, &links_of(queries));
    let contents: BTreeSet<&str> = queries
        .iter()
        .filter_map(|q| match q {
            Query::Content { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    if !contents.is_empty() {
        // The list is kept: single frames below send the text of those that differ.
        let _ = writeln!(
            sh,
            "{}fo=; [ $# = 0 ] || rows {DIGESTS} sha256sum -- \"$@\"\nsums=$fo",
            regular(contents)
        );
    }
    texts(sh, &texts_of(queries));
    packages(sh, queries);
    let units = units_of(queries);
    if !units.is_empty() {
        let _ = writeln!(
            sh,
            "rows {UNITS} systemctl show -p LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result,TriggeredBy -- {0}\n\
             fo=; for u in {0}; do v=; [ ! -e \"{PENDING_DIR}/$u\" ] || read -r v < \"{PENDING_DIR}/$u\"; fo=\"$fo$v$nl\"; done; fi={PENDING} fs=0; emit",
            words(&units)
        );
    }
    let sysctls = sysctls_of(queries);
    if !sysctls.is_empty() {
        let files = sysctls.iter().map(|key| sysctl_file(key));
        // Not with `read`: dash reads byte by byte, and the kernel gives a number from its beginning or not at all.
        let _ = writeln!(
            sh,
            "set --; fo=; for p in {}; do if [ -e \"$p\" ]; then set -- \"$@\" \"$p\"; fo=\"$fo=\"; else fo=\"$fo!\"; fi; done\n\
             [ $# = 0 ] || fo=\"$fo$nl$(grep -H '' -- \"$@\" </dev/null 2>/dev/null)\"; fi={SYSCTLS} fs=0; emit",
            words(files)
        );
    }
    let groups = select(queries, |q| match q {
        Query::Group(name) => Some(name.as_str()),
        _ => None,
    });
    if !groups.is_empty() {
        let _ = writeln!(sh, "rows {GROUPS} getent group {}", words(groups));
    }
}

/// The file of a kernel setting.
fn sysctl_file(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

/// Makes those of the paths that are regular files the positional parameters: opening a pipe would
/// wait for its other end for ever.
fn regular<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    format!(
        "set --; for p in {}; do [ ! -f \"$p\" ] || set -- \"$@\" \"$p\"; done\n",
        words(paths)
    )
}

/// One `readlink` for all that are links. The frame's first line has an `l` for each of those, the
/// next ones are their targets. Where the lines do not add up (a target with a newline in it, a
/// `readlink` that takes one at a time), each is asked alone and has a length before it.
fn links(sh: &mut String, links: &[&str]) {
    if links.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"set --; m=; for p in {}; do if [ -L "$p" ]; then set -- "$@" "$p"; m="${{m}}l"; else m="$m-"; fi; done
fo=; [ $# = 0 ] || fo=$(readlink -- "$@" </dev/null 2>/dev/null); n=0; IFS=$nl; set -f; for v in $fo; do n=$((n+1)); done; unset IFS; set +f
if [ $n = $# ]; then fo="$m$nl$fo"; else
fo="n$m$nl"; for p; do v=$(readlink -- "$p" </dev/null 2>/dev/null; echo x); v=${{v%x}}; v=${{v%"$nl"}}; fo="$fo${{#v}} $v$nl"; done; fi; fi={LINKS} fs=0; emit"#,
        words(links)
    );
}

/// One `cat` for all: its text is taken apart by the sizes that `stat` gave just before. Where they
/// do not add up (a file that is being written, one that holds NUL, one of the kernel's that has no
/// size), `$t` stays empty, and each file gets a frame of its own below.
fn texts(sh: &mut String, texts: &[&str]) {
    if texts.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"s_t() {{ [ -f "$1" ] && cat -- "$1"; }}
{}t=; if [ $# -gt 1 ]; then rows {SIZES} stat -Lc '%s %n' -- "$@"; n=0; IFS=$nl; set -f; for v in $fo; do n=$((n+${{v%% *}})); done; unset IFS; set +f
fo=$(cat -- "$@" </dev/null 2>/dev/null; echo x); fo=${{fo%x}}; if [ ${{#fo}} = $n ]; then t=1 fi={TEXTS} fs=0; emit; fi; fi"#,
        regular(texts.iter().copied())
    );
}

/// One `dpkg-query` for all packages; one `apt-cache policy` for those that are missing or at
/// another version than hoped for. Without apt's binary caches, which it would write otherwise.
fn packages(sh: &mut String, queries: &[Query]) {
    let asked: Vec<(&str, Option<&str>, bool)> = select(queries, |q| match q {
        Query::Package {
            name,
            version,
            candidates,
        } => Some((name.as_str(), version.as_deref(), *candidates)),
        _ => None,
    });
    if asked.is_empty() {
        return;
    }
    let names: BTreeSet<&str> = asked.iter().map(|(name, _, _)| *name).collect();
    let _ = writeln!(
        sh,
        "rows {PACKAGES} dpkg-query -W -f='${{Package}} ${{db:Status-Abbrev}} ${{Version}}\\n' -- {}",
        words(names)
    );
    let wants: Vec<String> = asked
        .iter()
        .filter(|(_, _, candidates)| *candidates)
        .map(|(name, version, _)| match version {
            Some(version) => format!("{name}={version}"),
            None => (*name).to_owned(),
        })
        .collect();
    if wants.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"have=' '
while read -r n s v; do case $s in ?[itW]*) have="$have$n $n=$v ";; esac; done <<E
$fo
E
miss=
for w in {}; do case "$have" in *" $w "*) continue;; esac
case $w in *'*') case "$have" in *" ${{w%?}}"*) continue;; esac;; esac
miss="$miss ${{w%%=*}}"; done
[ -z "$miss" ] || rows {POLICY} apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= policy $miss"#,
        words(wants)
    );
}

fn singles(sh: &mut String, queries: &[Query]) {
    let accounts = select(queries, |q| match q {
        Query::Account(name) => Some(name.as_str()),
        _ => None,
    });
    if !accounts.is_empty() {
        // The hash stays in this shell and in a pipe.
        let _ = writeln!(
            sh,
            r#"pw=$(getent passwd {} </dev/null 2>/dev/null)
s_a() {{ fi=$1 fs=0 fo=; case "$nl$pw" in *"$nl$2:"*) ;; *) emit; return;; esac
fo=$nl$pw; fo=${{fo#*"$nl$2:"}}; fo=$2:${{fo%%"$nl"*}}; v=$(id -Gn -- "$2" </dev/null 2>/dev/null)
h=; while IFS=: read -r p m _; do if [ "$p" = "$2" ]; then h=x$m; break; fi; done 2>/dev/null < /etc/shadow
case $h in x) h=empty;; ''|'x!'*|'x*'*) h=locked;; *) h=$(printf %s "${{h#x}}" | sha256sum);; esac
fo="$fo$nl${{v%% *}}$nl$v$nl$h$nl"; emit; }}"#,
            words(accounts)
        );
    }
    if queries.iter().any(|q| matches!(q, Query::Secret(_))) {
        sh.push_str("s_x() { [ -f \"$1\" ] && cat -- \"$1\"; }\n");
    }
    if queries.iter().any(|q| matches!(q, Query::Content { .. })) {
        let _ = writeln!(
            sh,
            r#"s_c() {{ case "$nl$sums$nl" in *"$nl$3  $2$nl"*) return 0;; *"  $2$nl"*) ;; *) return 0;; esac
[ "$(stat -Lc %s -- "$2")" -gt {TEXT_LIMIT} ] || frame "$1" cat -- "$2"; }}"#
        );
    }
    for (n, query) in (BASE..).zip(queries) {
        let _ = match query {
            Query::Content {
                path,
                expect,
                secret: false,
            } => writeln!(
                sh,
                "s_c {n} {} {}",
                quote(path.as_str()),
                expect.as_deref().unwrap_or("-")
            ),
            Query::Text(path) => writeln!(
                sh,
                "[ -n \"$t\" ] || frame {n} s_t {}",
                quote(path.as_str())
            ),
            Query::Account(name) => writeln!(sh, "s_a {n} {}", quote(name)),
            // What it defines stays in the process of its frame.
            Query::Fragment(text) => writeln!(sh, "s_{n}() {{\n{text}\n}}\nframe {n} s_{n}"),
            Query::Secret(path) => writeln!(sh, "frame {n} s_x {}", quote(path.as_str())),
            _ => Ok(()),
        };
    }
}

/// Gives every question its own part of the output.
fn split(queries: &[Query], frames: &[Frame]) -> Vec<(Query, Raw)> {
    let by_id: BTreeMap<u32, &Frame> = frames.iter().map(|f| (f.id, f)).collect();
    let text = |id: u32| by_id.get(&id).map(|f| f.text()).unwrap_or_default();
    let (stats, digests) = (text(PATHS), text(DIGESTS));
    let (packages, policy) = (text(PACKAGES), text(POLICY));
    let (units, pending, groups) = (text(UNITS), text(PENDING), text(GROUPS));
    let links = by_id.get(&LINKS).map(|f| targets(f)).unwrap_or_default();
    let sysctls = text(SYSCTLS);
    let texts = by_id
        .get(&TEXTS)
        .map(|f| cut(&text(SIZES), &f.bytes))
        .unwrap_or_default();
    let by_position = |names: Vec<&str>, body: &str, name: &str| -> String {
        names
            .iter()
            .zip(body.lines())
            .find(|(n, _)| **n == name)
            .map(|(_, line)| line.to_owned())
            .unwrap_or_default()
    };
    // Behind the digest's 64 digits: a file's name may itself end in another's.
    let digest_line = |body: &str, end: &str| -> String {
        body.lines()
            .find(|line| line.get(64..) == Some(end))
            .unwrap_or_default()
            .to_owned()
    };
    let line_starting = |body: &str, name: &str, end: char| -> String {
        body.lines()
            .find(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with(end)))
            .unwrap_or_default()
            .to_owned()
    };
    (BASE..)
        .zip(queries)
        .map(|(n, query)| {
            let own = by_id.get(&n);
            let mut status = own.map_or(0, |f| f.status);
            let raw_text = match query {
                Query::Path(path) => stat_line(&stats, path.as_str()),
                Query::Link(path) => {
                    let at = links_of(queries).iter().position(|p| *p == path.as_str());
                    match at.and_then(|at| links.get(at)) {
                        Some(target) => target.clone().unwrap_or_default(),
                        None => {
                            status = 1;
                            String::new()
                        }
                    }
                }
                Query::Content { path, .. } => {
                    let mut raw = digest_line(&digests, &format!("  {path}"));
                    if let (false, Some(frame)) = (raw.is_empty(), own) {
                        raw.push('\n');
                        raw.push_str(&frame.text());
                    }
                    raw
                }
                Query::Package { name, .. } => {
                    let mut raw = line_starting(&packages, name, ' ');
                    raw.push('\n');
                    raw.push_str(policy_of(&policy, name));
                    raw
                }
                Query::Unit(name) => {
                    let at = units_of(queries).iter().position(|u| u == name);
                    let block = at.and_then(|at| units.split("\n\n").nth(at)).unwrap_or("");
                    let mark = by_position(units_of(queries), &pending, name);
                    format!("{}\nPending={mark}", block.trim())
                }
                Query::Sysctl(key) => sysctl_value(queries, &sysctls, key),
                Query::Group(name) => line_starting(&groups, name, ':'),
                Query::Text(path) => match (own, texts.get(path.as_str())) {
                    (Some(frame), _) => frame.text(),
                    (None, Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                    (None, None) => {
                        status = 1;
                        String::new()
                    }
                },
                Query::Secret(_) | Query::Account(_) | Query::Fragment(_) => {
                    own.map(|f| f.text()).unwrap_or_default()
                }
            };
            (
                query.clone(),
                Raw {
                    status,
                    text: raw_text,
                },
            )
        })
        .collect()
}

/// The targets of links, in the order they were asked; `None`: no link. Empty where the frame does
/// not add up.
fn targets(frame: &Frame) -> Vec<Option<String>> {
    let text = frame.text();
    let (mask, body) = text.split_once('\n').unwrap_or((&text, ""));
    let mut found = Vec::new();
    if let Some(mask) = mask.strip_prefix('n') {
        let mut rest = frame.bytes.get(mask.len() + 2..).unwrap_or_default();
        for letter in mask.chars() {
            if letter != 'l' {
                found.push(None);
                continue;
            }
            let Some(space) = rest.iter().position(|b| *b == b' ') else {
                return Vec::new();
            };
            let length: Option<usize> = std::str::from_utf8(&rest[..space])
                .ok()
                .and_then(|n| n.parse().ok());
            let Some(target) = length.and_then(|n| rest.get(space + 1..space + 1 + n)) else {
                return Vec::new();
            };
            found.push(Some(String::from_utf8_lossy(target).into_owned()));
            rest = rest.get(space + 2 + target.len()..).unwrap_or_default();
        }
        return found;
    }
    let mut lines = body.lines();
    for letter in mask.chars() {
        found.push(match letter {
            'l' => match lines.next() {
                Some(target) => Some(target.to_owned()),
                None => return Vec::new(),
            },
            _ => None,
        });
    }
    if lines.next().is_some() {
        return Vec::new();
    }
    found
}

/// The texts of files that were printed one behind the other, by `stat`'s sizes and names.
fn cut<'a>(sizes: &str, all: &'a [u8]) -> BTreeMap<String, &'a [u8]> {
    let mut rest = all;
    let mut texts = BTreeMap::new();
    for line in sizes.lines() {
        let Some((size, path)) = line.split_once(' ') else {
            return BTreeMap::new();
        };
        let Some((own, behind)) = size.parse().ok().and_then(|n| rest.split_at_checked(n)) else {
            return BTreeMap::new();
        };
        texts.insert(path.to_owned(), own);
        rest = behind;
    }
    texts
}

/// `=` and the value, or `!` where there is no such key. The frame's first line has one letter for
/// each key; then come lines with the name of their file before them.
fn sysctl_value(queries: &[Query], body: &str, key: &str) -> String {
    let (mask, lines) = body.split_once('\n').unwrap_or((body, ""));
    let at = sysctls_of(queries).iter().position(|k| *k == key);
    if at.and_then(|at| mask.chars().nth(at)) != Some('=') {
        return "!".to_owned();
    }
    let head = format!("{}:", sysctl_file(key));
    let value = lines.lines().find_map(|line| line.strip_prefix(&head));
    format!("={}", value.unwrap_or("").trim_matches([' ', '\t']))
}

/// The line of `stat`'s output whose name field, the fifth and last, is `path`.
fn stat_line(stats: &str, path: &str) -> String {
    stats
        .lines()
        .find(|line| line.splitn(5, ' ').nth(4) == Some(path))
        .unwrap_or_default()
        .to_owned()
}

/// The part of `apt-cache policy`'s output about one package.
fn policy_of<'a>(policy: &'a str, name: &str) -> &'a str {
    let head = format!("{name}:\n");
    let start = if policy.starts_with(&head) {
        0
    } else {
        match policy.find(&format!("\n{head}")) {
            Some(at) => at + 1,
            None => return "",
        }
    };
    let body = &policy[start + head.len()..];
    let mut end = 0;
    for line in body.split_inclusive('\n') {
        if !line.starts_with(' ') {
            break;
        }
        end += line.len();
    }
    &body[..end]
}

impl Query {
    /// Reads the raw output for this question.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn parse(&self, raw: &Raw) -> Result<Answer, String> {
        let text = raw.text.as_str();
        match self {
            Self::Path(_) => parse_stat(text).map(Answer::Path),
            Self::Link(_) if raw.status != 0 => Err("readlink's lines do not add up".into()),
            Self::Link(_) => Ok(Answer::Link(
                Some(text.to_owned()).filter(|t| !t.is_empty()),
            )),
            Self::Content { .. } => Ok(Answer::Content(parse_content(text)?)),
            Self::Text(_) => Ok(Answer::Text((raw.status == 0).then(|| text.to_owned()))),
            Self::Secret(_) => Ok(Answer::Secret(
                (raw.status == 0).then(|| Secret::new(text.to_owned())),
            )),
            Self::Package { name, .. } => parse_package(name, text).map(Answer::Package),
            Self::Unit(_) => parse_unit(text).map(Answer::Unit),
            Self::Sysctl(_) => Ok(Answer::Sysctl(
                text.trim_end_matches('\n')
                    .strip_prefix('=')
                    .map(str::to_owned),
            )),
            Self::Account(_) => parse_account(text).map(Answer::Account),
            Self::Group(_) => parse_group(text).map(Answer::Group),
            Self::Fragment(_) => Ok(Answer::Fragment {
                status: raw.status,
                stdout: text.to_owned(),
            }),
        }
    }
}

fn parse_stat(text: &str) -> Result<Option<PathState>, String> {
    let line = text.trim_end_matches('\n');
    if line.is_empty() {
        return Ok(None);
    }
    let bad = || format!("stat printed {line:?}");
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().ok_or_else(bad);
    let bits = u32::from_str_radix(next()?, 16).map_err(|_| bad())?;
    let owner = next()?.to_owned();
    let group = next()?.to_owned();
    let size = next()?.parse().map_err(|_| bad())?;
    let kind = match bits & 0o170_000 {
        0o100_000 => PathKind::File,
        0o040_000 => PathKind::Directory,
        0o120_000 => PathKind::Link,
        _ => PathKind::Other,
    };
    Ok(Some(PathState {
        kind,
        mode: bits & 0o7777,
        owner,
        group,
        size,
    }))
}

fn parse_content(text: &str) -> Result<Option<ContentState>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (head, body) = match text.split_once('\n') {
        Some((head, body)) => (head, Some(body)),
        None => (text, None),
    };
    let sha256 = head.split(' ').next().unwrap_or("").to_owned();
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("sha256sum printed {head:?}"));
    }
    // A shell variable drops NUL: text that does not hash to the file is not the file's text.
    let text = body
        .filter(|body| sha256_hex(body.as_bytes()) == sha256)
        .map(str::to_owned);
    Ok(Some(ContentState { sha256, text }))
}

/// SHA-256 as 64 lower-case hex digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn parse_package(name: &str, text: &str) -> Result<PackageState, String> {
    let (line, policy) = text.split_once('\n').unwrap_or((text, ""));
    let mut state = PackageState::default();
    if !line.is_empty() {
        let rest = line
            .strip_prefix(name)
            .ok_or_else(|| format!("dpkg-query printed {line:?}"))?;
        let mut words = rest.split_whitespace();
        words.next().unwrap_or("").clone_into(&mut state.status);
        // A third letter (`iHR`) sticks to the first two; the version is always last.
        state.version = words.last().map(str::to_owned);
    }
    let mut in_table = false;
    for line in policy.lines() {
        let trimmed = line.trim();
        if let Some(candidate) = trimmed.strip_prefix("Candidate: ") {
            state.candidate = Some(candidate.to_owned()).filter(|c| c != "(none)");
        } else if trimmed.starts_with("Version table:") {
            in_table = true;
        } else if in_table {
            // ` *** 1.2 500` or `     1.2 500`; the lines of their sources are indented by 8 or more
            // and start with a priority.
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = trimmed.trim_start_matches("*** ").split(' ').collect();
            if indent <= 5 && words.len() == 2 {
                state.available.push(words[0].to_owned());
            }
        }
    }
    Ok(state)
}

fn parse_unit(text: &str) -> Result<UnitState, String> {
    let mut unit = UnitState::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.to_owned();
        match key {
            "LoadState" => unit.load = value,
            "ActiveState" => unit.active = value,
            "SubState" => unit.sub = value,
            "UnitFileState" => unit.file = value,
            "Result" => unit.result = value,
            "TriggeredBy" => {
                unit.triggered_by = value.split_whitespace().map(str::to_owned).collect();
            }
            "NeedDaemonReload" => unit.need_daemon_reload = value == "yes",
            "Pending" => unit.pending = Some(value).filter(|v| !v.is_empty()),
            _ => {}
        }
    }
    if unit.load.is_empty() {
        return Err("systemctl show gave no LoadState; is systemd running as PID 1?".into());
    }
    Ok(unit)
}

fn parse_account(text: &str) -> Result<Option<AccountState>, String> {
    let mut lines = text.lines();
    let Some(passwd) = lines.next().filter(|l| !l.is_empty()) else {
        return Ok(None);
    };
    let fields: Vec<&str> = passwd.split(':').collect();
    let [_, _, uid, _, gecos, home, shell] = fields[..] else {
        return Err(format!("getent passwd printed {passwd:?}"));
    };
    let group = lines.next().unwrap_or("").to_owned();
    let mut groups: Vec<String> = lines
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter(|g| *g != group)
        .map(str::to_owned)
        .collect();
    groups.sort();
    let password = match lines.next().unwrap_or("") {
        "empty" => PasswordState::Empty,
        "locked" => PasswordState::Locked,
        hash => PasswordState::Hash(hash.split(' ').next().unwrap_or("").to_owned()),
    };
    Ok(Some(AccountState {
        uid: uid.parse().map_err(|_| format!("uid {uid:?}"))?,
        group,
        groups,
        gecos: gecos.to_owned(),
        home: home.to_owned(),
        shell: shell.to_owned(),
        password,
    }))
}

fn parse_group(text: &str) -> Result<Option<GroupState>, String> {
    let line = text.trim_end_matches('\n');
    if line.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, gid, members] = fields[..] else {
        return Err(format!("getent group printed {line:?}"));
    };
    Ok(Some(GroupState {
        gid: gid.parse().map_err(|_| format!("gid {gid:?}"))?,
        members: members
            .split(',')
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect(),
    }))
}
