//! `sysctl`: a kernel parameter, now and after every boot.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, EditSeen};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// A kernel parameter. Written to a file for every boot to come and to the kernel at once. When it
/// leaves the documents, its line goes and the running value stays until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// Its name with dots: `net.ipv4.ip_forward`.
    pub key: String,
    /// Its value. Quote it: `"1"`.
    #[serde(default)]
    pub value: String,
    /// The file that sets it at boot; `/etc/sysctl.d/90-picluster.conf` when left out. Several
    /// parameters may share a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<NodePath>,
    /// `present`, or `absent`: not set by this file.
    #[serde(default)]
    pub state: Presence,
}

const DEFAULT_FILE: &str = "/etc/sysctl.d/90-picluster.conf";

/// Every assignment that counts at boot. One for all parameters of a node.
const PROBE_SH: &str = include_str!("sysctl.sh");

/// What was seen of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlSeen {
    /// Its value now; `None`: the kernel has no such parameter.
    pub value: Option<String>,
    /// The file that should set it.
    pub file: EditSeen,
    /// What the configuration as a whole sets it to at boot.
    pub at_boot: Option<String>,
}

/// Values compare by their words: the kernel prints tabs where people write blanks.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An assignment of sysctl.d(5): `key = value`, `/` for `.` allowed, `-` in front means "errors do
/// not matter".
fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let key = key.trim().trim_start_matches('-').replace('/', ".");
    Some((key, normal(value)))
}

/// Assignments of `key` in the order of systemd-sysctl.service(8): files by name, each name from the
/// first directory that has it. `/run` does not survive a boot and is not asked.
fn at_boot(printed: &str, key: &str) -> Vec<(String, String)> {
    let mut files: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::new();
    let mut current = None;
    for line in printed.lines() {
        if let Some(path) = line.strip_prefix("file ") {
            let name = path.rsplit('/').next().unwrap_or(path);
            // Directories come in the order of precedence.
            current = (!files.contains_key(name)).then_some(name);
            if current.is_some() {
                files.insert(name, (path, Vec::new()));
            }
        } else if let (Some(name), Some(body)) = (current, line.strip_prefix('|'))
            && let Some((found, value)) = assignment(body)
            && found == key
            && let Some((_, values)) = files.get_mut(name)
        {
            values.push(value);
        }
    }
    files
        .into_values()
        .flat_map(|(path, values)| values.into_iter().map(move |v| (path.to_owned(), v)))
        .collect()
}

/// The module that brings a parameter into being.
fn module_of(key: &str) -> Option<&'static str> {
    const MODULES: &[(&str, &str)] = &[
        ("net.bridge.", "br_netfilter"),
        ("net.netfilter.nf_conntrack", "nf_conntrack"),
        ("net.nf_conntrack", "nf_conntrack"),
        ("net.ipv4.vs.", "ip_vs"),
    ];
    MODULES
        .iter()
        .find(|(beginning, _)| key.starts_with(beginning))
        .map(|(_, module)| *module)
}

impl Sysctl {
    fn path(&self) -> Result<NodePath, Diagnosis> {
        match &self.file {
            Some(path) => Ok(path.clone()),
            None => NodePath::new(DEFAULT_FILE).map_err(|e| Diagnosis::new(e.to_string())),
        }
    }

    fn line(&self) -> String {
        format!("{} = {}", self.key, normal(&self.value))
    }

    /// The file's text with this parameter set once, or not at all; everything else stays.
    fn edited(&self, text: &str) -> String {
        let mut lines = edit::lines(text);
        let mine =
            |line: &edit::Line<'_>| assignment(line.text).is_some_and(|(k, _)| k == self.key);
        let first = lines.iter().position(mine);
        let wanted = self.line();
        let right = |line: &edit::Line<'_>| assignment(line.text) == assignment(&wanted);
        match (self.state, first) {
            (Presence::Absent, _) => lines.retain(|line| !mine(line)),
            (Presence::Present, Some(at)) => {
                if !right(&lines[at]) {
                    lines[at].text = &wanted;
                }
                let mut seen = 0;
                lines.retain(|line| {
                    seen += usize::from(mine(line));
                    !mine(line) || seen == 1
                });
            }
            (Presence::Present, None) => {
                let end = lines.len();
                edit::insert(&mut lines, end, &[&wanted]);
            }
        }
        edit::join(&lines)
    }
}

impl Kind for Sysctl {
    const NAME: &'static str = "sysctl";
    type Observation = SysctlSeen;

    fn key(&self) -> String {
        self.key.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let part = |p: &str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if !self.key.contains('.') || !self.key.split('.').all(part) {
            wrong.push(format!(
                "key {:?} is not a kernel parameter such as net.ipv4.ip_forward",
                self.key
            ));
        }
        if self.state == Presence::Present
            && (normal(&self.value).is_empty() || self.value.contains(['\n', '\0']))
        {
            wrong.push("value is missing".into());
        }
        if let Some(file) = &self.file
            && (file.name().strip_suffix(".conf").is_none_or(str::is_empty)
                || file
                    .parent()
                    .is_none_or(|dir| dir.as_str() != "/etc/sysctl.d"))
        {
            wrong.push(format!("file {file} is not /etc/sysctl.d/NAME.conf"));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = edit::queries(&self.path()?);
        queries.push(Query::Sysctl(self.key.clone()));
        queries.push(Query::Fragment(PROBE_SH.to_owned()));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<SysctlSeen>, Diagnosis> {
        let path = self.path()?;
        let value = answers.sysctl(&self.key)?.map(normal);
        let file = match edit::observe(&path, edit::Missing::Create, answers)? {
            Seen::Now(file) => file,
            Seen::NotYet(token) => return Ok(Seen::NotYet(token)),
        };
        let (_, printed) = answers.fragment(PROBE_SH)?;
        let assignments = at_boot(printed, &self.key);
        if self.state == Presence::Present {
            if value.is_none() {
                return match module_of(&self.key) {
                    Some(module) => Ok(Seen::NotYet(Token::Module(module.into()))),
                    None => Err(Diagnosis::new(format!(
                        "the kernel of this node has no parameter {}",
                        self.key
                    ))
                    .cure("check the name: sysctl -a | grep …; a kernel module may have to be loaded first")),
                };
            }
            let wanted = normal(&self.value);
            let later = assignments.iter().find(|(other, value)| {
                other.rsplit('/').next() > Some(path.name()) && *value != wanted
            });
            if let Some((other, value)) = later {
                return Err(Diagnosis::new(format!(
                    "{other} is read after {path} and sets {} to {value} at every boot",
                    self.key
                ))
                .cure(format!(
                    "take that line out, or choose a `file` that sorts behind {}",
                    other.rsplit('/').next().unwrap_or(other)
                )));
            }
        }
        Ok(Seen::Now(SysctlSeen {
            value,
            file,
            at_boot: assignments.last().map(|(_, value)| value.clone()),
        }))
    }

    fn diff(&self, seen: &SysctlSeen, _ctx: Ctx<'_>) -> Diff {
        let Ok(path) = self.path() else {
            return Diff::NoOp;
        };
        let after = self.edited(&seen.file.text);
        let edited = after != seen.file.text;
        let mut change = if edited {
            edit::change(&path, &seen.file, &after)
        } else {
            Change::new(Action::Update)
        };
        match self.state {
            Presence::Present => {
                let wanted = normal(&self.value);
                let now = seen.value.clone().unwrap_or_default();
                change = change.field_if("now", &now, &wanted);
                if edited {
                    change = change
                        .field(
                            "at boot",
                            edit::shown(seen.at_boot.as_deref()),
                            Shown::text(wanted),
                        )
                        .because(format!("a line of {path}"));
                }
            }
            Presence::Absent => {
                change.action = Action::Delete;
                if edited {
                    change = change
                        .field(
                            "at boot",
                            edit::shown(seen.at_boot.as_deref()),
                            Shown::Absent,
                        )
                        .because(format!(
                            "its line in {path}; the running value stays until then"
                        ));
                }
            }
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Present => Change::new(Action::Create)
                .field("now", Shown::Later, Shown::text(normal(&self.value)))
                .field("at boot", Shown::Later, Shown::text(normal(&self.value))),
            Presence::Absent => {
                Change::new(Action::Delete).field("at boot", Shown::Later, Shown::Absent)
            }
        }
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &SysctlSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let path = self.path()?;
        let has = |field: &str| change.fields.iter().any(|f| f.field == field);
        let mut operation = if has("at boot") {
            edit::operation(&path, &seen.file, self.edited(&seen.file.text))
        } else {
            Operation::script("")
        };
        if has("now") {
            // Keys hold only letters, digits, `_`, `-` and dots.
            let live = format!("/proc/sys/{}", self.key.replace('.', "/"));
            operation.script.push_str(&format!(
                "\nprintf '%s\\n' {} > {live}",
                quote(&normal(&self.value))
            ));
        }
        Ok(operation)
    }

    /// Parameters share a file: one after the other, each knowing that the ones before changed it.
    fn provides(&self) -> Vec<Token> {
        self.path().ok().map(Token::Path).into_iter().collect()
    }

    fn requires(&self) -> Vec<Token> {
        let mut needs: Vec<Token> = self
            .path()
            .ok()
            .and_then(|path| path.parent())
            .map(Token::Path)
            .into_iter()
            .collect();
        needs.extend(module_of(&self.key).map(|m| Token::Module(m.into())));
        needs
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            value: String::new(),
            ..self.clone()
        })
    }
}
