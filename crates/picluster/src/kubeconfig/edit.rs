//! Edits a kubeconfig as text: what is not ours stays as it is, to the byte.
//!
//! The YAML reader says where things stand; lines are put in, taken out, or single values replaced. Nothing is
//! ever written from a parsed document. After an edit the result is read again and compared with
//! what was there before; whatever does not fit is refused, so that unusual YAML costs a separate
//! file and never a kubeconfig.
//!
//! Our context carries an extension (`provider: picluster`), as other tools mark theirs: kubectl keeps it. It
//! also says what stood in the place of lists that were empty, so that they can be put back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use picluster_model::span::SourceFile;
use picluster_model::yaml::{Yaml, YamlKind, parse};

use super::credentials::Credentials;

/// The mark of ours: name of the extension, and its provider.
const OURS: &str = "picluster";
/// What `was` says of a key that was not there.
const ABSENT: &str = "absent";

/// The three lists: key, and the key inside of its items.
const LISTS: [(&str, &str); 3] = [
    ("clusters", "cluster"),
    ("contexts", "context"),
    ("users", "user"),
];

/// Why a kubeconfig is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its form is one that is not edited.
    Strange(String),
    /// A context (or cluster, or user) of this name is somebody else's.
    Foreign(String),
}

type Edited<T> = Result<T, Refusal>;

/// Puts the credentials into a kubeconfig under a name. The result is `text` itself when all is as
/// it should be.
///
/// # Errors
/// Why the text was left alone.
pub fn merge(text: &str, name: &str, wanted: &Credentials) -> Edited<String> {
    let mut work = Work::new(text)?;
    if work.text.trim().is_empty() || work.root.is_none() {
        work.append(&["apiVersion: v1".to_owned(), "kind: Config".to_owned()])?;
    }
    if let Some(kind) = work.get("kind").and_then(Yaml::as_str)
        && kind != "Config"
    {
        return Err(strange(format!("it is of kind {kind}, not Config")));
    }
    work.whose(name, wanted)?;
    let before = work.root.clone();
    let was = work.was()?;
    for (list, inner) in LISTS {
        let fields: Vec<(&str, &str)> = match list {
            "clusters" => wanted.cluster(),
            "users" => wanted.user(),
            _ => vec![("cluster", name), ("user", name)],
        };
        match work.item(list, name)? {
            Some(_) => work.mend(list, inner, name, &fields)?,
            None => work.add(list, &item(inner, name, &fields, &was))?,
        }
    }
    work.choose(name)?;
    work.compare(before.as_ref(), name, Some(wanted))?;
    Ok(work.whole())
}

/// Takes what [`merge`] has put under a name out again. The result is `text` itself when there is
/// nothing of ours.
///
/// # Errors
/// Why the text was left alone.
pub fn remove(text: &str, name: &str) -> Edited<String> {
    let mut work = Work::new(text)?;
    let Some(context) = work.item("contexts", name)? else {
        return Ok(text.to_owned());
    };
    if mark(context).is_none() {
        return Err(Refusal::Foreign(format!(
            "context {name} was not made by picluster"
        )));
    }
    let was: BTreeMap<String, String> = mark(context)
        .and_then(|m| m.get("was"))
        .map(|w| {
            w.entries()
                .iter()
                .filter_map(|(k, _, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect()
        })
        .unwrap_or_default();
    let before = work.root.clone();
    // From the end, so that what was appended goes in the order it came.
    if work.get("current-context").and_then(Yaml::as_str) == Some(name) {
        work.unchoose(was.get("current-context").map_or(" \"\"", String::as_str))?;
    }
    for (list, _) in LISTS.into_iter().rev() {
        work.take(list, name, was.get(list).map_or(" []", String::as_str))?;
    }
    work.compare(before.as_ref(), name, None)?;
    Ok(work.whole())
}

/// Whether there is a context of this name, whoever made it.
#[must_use]
pub fn has(text: &str, name: &str) -> bool {
    Work::new(text)
        .ok()
        .and_then(|work| work.item("contexts", name).ok().map(|i| i.is_some()))
        .unwrap_or(false)
}

/// The lines of a new item, without the indentation of its list.
fn item(
    inner: &str,
    name: &str,
    fields: &[(&str, &str)],
    was: &BTreeMap<&str, String>,
) -> Vec<String> {
    let mut lines = vec![format!("- {inner}:")];
    for (key, value) in fields {
        if inner == "context" && *key == "user" {
            lines.push("    extensions:".into());
            lines.push("    - extension:".into());
            lines.push(format!("        provider: {OURS}"));
            if !was.is_empty() {
                lines.push("        was:".into());
                for (key, text) in was {
                    lines.push(format!("          {key}: {}", quoted(text)));
                }
            }
            lines.push(format!("      name: {OURS}"));
        }
        lines.push(format!("    {key}: {}", scalar(value)));
    }
    lines.push(format!("  name: {}", scalar(name)));
    lines
}

/// A value as YAML: plain where every reader takes it for text.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(':')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+/=_.:@-".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// Double quotation marks: JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn strange(why: impl Into<String>) -> Refusal {
    Refusal::Strange(why.into())
}

/// The extension of ours in an item of `contexts`.
fn mark(item: &Yaml) -> Option<&Yaml> {
    item.get("context")?
        .get("extensions")?
        .items()
        .iter()
        .find(|e| e.get("name").and_then(Yaml::as_str) == Some(OURS))?
        .get("extension")
}

/// A document between two edits.
struct Work {
    bom: bool,
    /// How its lines end.
    nl: &'static str,
    text: String,
    root: Option<Yaml>,
}

impl Work {
    fn new(text: &str) -> Edited<Self> {
        let (bom, text) = match text.strip_prefix('\u{feff}') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let nl = match text.find('\n') {
            Some(at) if text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let mut work = Self {
            bom,
            nl,
            text: text.to_owned(),
            root: None,
        };
        work.read()?;
        Ok(work)
    }

    fn whole(self) -> String {
        let bom = if self.bom { "\u{feff}" } else { "" };
        format!("{bom}{}", self.text)
    }

    fn read(&mut self) -> Edited<()> {
        let nothing = self.text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        self.root = None;
        if nothing {
            return Ok(());
        }
        let file = Arc::new(SourceFile {
            name: String::from("kubeconfig"),
            text: self.text.clone(),
        });
        let root = parse::parse(&file).map_err(|found| {
            strange(found.first().map_or_else(
                || "it cannot be read".to_owned(),
                // The message alone: a snippet could show a key.
                |d| match &d.span {
                    Some(span) => format!("line {}: {}", span.line, d.message),
                    None => d.message.clone(),
                },
            ))
        })?;
        if !matches!(root.kind, YamlKind::Map(_)) {
            return Err(strange("it is no mapping"));
        }
        if self.text.as_bytes().get(root.span.start as usize) == Some(&b'{') {
            return Err(strange("it is written in flow style, as JSON is"));
        }
        self.root = Some(root);
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&Yaml> {
        self.root.as_ref()?.get(key)
    }

    fn edit(&mut self, range: Range<usize>, with: &str) -> Edited<()> {
        self.text.replace_range(range, with);
        self.read()
    }

    /// The items of a list; `None` when there is no list, or an empty one.
    fn items(&self, list: &str) -> Edited<&[Yaml]> {
        match self.get(list).map(|v| (&v.kind, v)) {
            None | Some((YamlKind::Null, _)) => Ok(&[]),
            Some((YamlKind::Seq(items), value)) => {
                if !items.is_empty() && value.span.text().starts_with(['[', '*']) {
                    return Err(strange(format!("its {list} are written in flow style")));
                }
                Ok(items)
            }
            Some(_) => Err(strange(format!("its {list} are no list"))),
        }
    }

    fn item(&self, list: &str, name: &str) -> Edited<Option<&Yaml>> {
        let mut found = self
            .items(list)?
            .iter()
            .filter(|i| i.get("name").and_then(Yaml::as_str) == Some(name));
        let first = found.next();
        if found.next().is_some() {
            return Err(strange(format!("its {list} hold {name} twice")));
        }
        Ok(first)
    }

    /// Refuses what is somebody else's.
    fn whose(&self, name: &str, wanted: &Credentials) -> Edited<()> {
        let (cluster, context, user) = (
            self.item("clusters", name)?,
            self.item("contexts", name)?,
            self.item("users", name)?,
        );
        let marked = context.and_then(mark).is_some();
        let field = |key: &str| cluster?.get("cluster")?.get(key)?.as_str();
        let ours = |key: &str| {
            let wanted = wanted.cluster().into_iter().find(|(k, _)| *k == key);
            field(key).is_some() && field(key) == wanted.map(|(_, v)| v)
        };
        let same_authority = ours("certificate-authority-data");
        if marked && (cluster.is_none() || same_authority || ours("server")) {
            return Ok(());
        }
        // Not ours, but copied from our server by hand: then there is nothing to change but, perhaps, the address.
        let says = |item: Option<&Yaml>, inner: &str, fields: &[(&str, &str)]| {
            item.is_none_or(|i| {
                let body = i.get(inner);
                fields
                    .iter()
                    .all(|(k, v)| body.and_then(|b| b.get(k)).and_then(Yaml::as_str) == Some(v))
            })
        };
        if same_authority
            && says(user, "user", &wanted.user())
            && says(context, "context", &[("cluster", name), ("user", name)])
        {
            return Ok(());
        }
        match (cluster, context, user) {
            (None, None, None) => Ok(()),
            (Some(_), _, _) if same_authority => Err(Refusal::Foreign(format!(
                "context {name} there is of this cluster, and was not made by picluster"
            ))),
            (Some(_), _, _) => Err(Refusal::Foreign(format!(
                "cluster {name} there is another one, at {}",
                field("server").unwrap_or("an unknown address")
            ))),
            (None, Some(_), _) => Err(Refusal::Foreign(format!(
                "context {name} there was not made by picluster"
            ))),
            (None, None, Some(_)) => Err(Refusal::Foreign(format!(
                "user {name} there was not made by picluster"
            ))),
        }
    }

    /// Where a key's value may be written: behind the colon, and the end of the (empty) value that
    /// stands there.
    fn empty_value(&self, key: &str) -> Edited<Option<Range<usize>>> {
        let Some(span) = self.root.as_ref().and_then(|r| r.key_span(key)) else {
            return Ok(None);
        };
        let rest = &self.text[span.bytes().end..];
        let colon = rest
            .find(':')
            .filter(|at| rest[..*at].trim().is_empty())
            .ok_or_else(|| strange(format!("{key} is written in an unusual way")))?;
        let start = span.bytes().end + colon + 1;
        let value = self.get(key).map_or(0..0, |v| v.span.bytes());
        let end = if value.is_empty() || value.start < start {
            start
        } else {
            value.end
        };
        Ok(Some(start..end))
    }

    /// What stands where something of ours will: what cannot be guessed when it is taken out.
    fn was(&self) -> Edited<BTreeMap<&'static str, String>> {
        let mut was = BTreeMap::new();
        let mut note = |key: &'static str| -> Edited<()> {
            let text = match self.empty_value(key)? {
                None => ABSENT.to_owned(),
                Some(range) => self.text[range].to_owned(),
            };
            was.insert(key, text);
            Ok(())
        };
        for (list, _) in LISTS {
            if self.items(list)?.is_empty() {
                note(list)?;
            }
        }
        if self.nothing_chosen()? {
            note("current-context")?;
        }
        Ok(was)
    }

    fn nothing_chosen(&self) -> Edited<bool> {
        match self.get("current-context").map(|v| &v.kind) {
            None | Some(YamlKind::Null) => Ok(true),
            Some(YamlKind::String(name)) => Ok(name.is_empty()),
            Some(_) => Err(strange("its current-context is no text")),
        }
    }

    /// The lines of an item: from that of its dash to its last one, without the line break; and the white space before the
    /// dash.
    fn lines_of(&self, item: &Yaml) -> Edited<(Range<usize>, String)> {
        let span = item.span.bytes();
        let start = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let before = &self.text[start..span.start];
        let indent = &before[..before.len() - before.trim_start_matches(' ').len()];
        let dash = before[indent.len()..].trim_end_matches(' ');
        if dash != "-" {
            return Err(strange(
                "the items of its lists do not begin with a dash on their own line",
            ));
        }
        Ok((start..self.line_end(span.end), indent.to_owned()))
    }

    /// The end of the line that `at` is on, before its line break.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |n| at + n)
    }

    /// Puts lines behind the line that ends at `end`.
    fn insert(&mut self, end: usize, indent: &str, lines: &[String]) -> Edited<()> {
        let lines: Vec<String> = lines.iter().map(|l| format!("{indent}{l}")).collect();
        let lines = lines.join(self.nl);
        if end < self.text.len() {
            self.edit(end + 1..end + 1, &format!("{lines}{}", self.nl))
        } else {
            self.edit(end..end, &format!("{}{lines}", self.nl))
        }
    }

    /// Puts lines at the end.
    fn append(&mut self, lines: &[String]) -> Edited<()> {
        let end = self.text.len();
        if self.text.is_empty() || self.text.ends_with('\n') {
            let lines = lines.join(self.nl);
            self.edit(end..end, &format!("{lines}{}", self.nl))
        } else {
            self.insert(end, "", lines)
        }
    }

    /// Takes out whole lines.
    fn delete(&mut self, lines: Range<usize>) -> Edited<()> {
        if lines.end < self.text.len() {
            return self.edit(lines.start..lines.end + 1, "");
        }
        // The last line has no line break: the one before it goes.
        let before = &self.text[..lines.start];
        let before = before.strip_suffix('\n').unwrap_or(before);
        let start = before.strip_suffix('\r').unwrap_or(before).len();
        self.edit(start..lines.end, "")
    }

    /// Adds an item to a list, behind its last one.
    fn add(&mut self, list: &str, item: &[String]) -> Edited<()> {
        if let Some(last) = self.items(list)?.last() {
            let (lines, indent) = self.lines_of(last)?;
            return self.insert(lines.end, &indent, item);
        }
        match self.empty_value(list)? {
            Some(value) => {
                let start = value.start;
                self.text.replace_range(value, "");
                let end = self.line_end(start);
                self.insert(end, "", item)
            }
            None => {
                let mut lines = vec![format!("{list}:")];
                lines.extend_from_slice(item);
                self.append(&lines)
            }
        }
    }

    /// Gives the fields of an item of ours their values; what else stands in it stays.
    fn mend(&mut self, list: &str, inner: &str, name: &str, fields: &[(&str, &str)]) -> Edited<()> {
        for (key, value) in fields {
            let Some(body) = self.item(list, name)?.and_then(|i| i.get(inner)) else {
                return Err(strange(format!("{name} in its {list} has no {inner}")));
            };
            if let Some(found) = body.get(key) {
                if found.as_str() == Some(value) {
                    continue;
                }
                let range = found.span.bytes();
                let written = &self.text[range.clone()];
                if written.is_empty() || written.contains('\n') || written.starts_with(['*', '&']) {
                    return Err(strange(format!(
                        "{key} of {name} in its {list} is written in an unusual way"
                    )));
                }
                self.edit(range, &scalar(value))?;
            } else {
                let Some((_, first, _)) = body.entries().first() else {
                    return Err(strange(format!(
                        "{name} in its {list} has an empty {inner}"
                    )));
                };
                let start = first.bytes().start;
                let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
                let indent = self.text[line..start].to_owned();
                if !indent.trim_matches(' ').is_empty() {
                    return Err(strange(format!(
                        "{name} in its {list} is written in flow style"
                    )));
                }
                let text = format!("{indent}{key}: {}{}", scalar(value), self.nl);
                self.edit(line..line, &text)?;
            }
        }
        Ok(())
    }

    /// Takes an item out of a list, and the list with it when it was not there.
    fn take(&mut self, list: &str, name: &str, was: &str) -> Edited<()> {
        let Some(item) = self.item(list, name)? else {
            return Ok(());
        };
        let (mut lines, _) = self.lines_of(item)?;
        let alone = self.items(list)?.len() == 1;
        if !alone {
            return self.delete(lines);
        }
        let key = self.root.as_ref().and_then(|r| r.key_span(list));
        let key = key.map_or(lines.start, |s| s.bytes().start);
        if was == ABSENT {
            let between = self.text[key..lines.start].trim_end();
            if between == format!("{list}:") {
                lines.start = self.text[..key].rfind('\n').map_or(0, |at| at + 1);
                return self.delete(lines);
            }
        }
        self.delete(lines)?;
        let empty = if was == ABSENT { " []" } else { was };
        match self.empty_value(list)? {
            Some(at) => self.edit(at.start..at.start, empty),
            None => Ok(()),
        }
    }

    /// Makes the context the current one, when none is.
    fn choose(&mut self, name: &str) -> Edited<()> {
        if !self.nothing_chosen()? {
            return Ok(());
        }
        match self.empty_value("current-context")? {
            Some(range) => self.edit(range, &format!(" {}", scalar(name))),
            None => self.append(&[format!("current-context: {}", scalar(name))]),
        }
    }

    fn unchoose(&mut self, was: &str) -> Edited<()> {
        let Some(range) = self.empty_value("current-context")? else {
            return Ok(());
        };
        if was != ABSENT {
            return self.edit(range, was);
        }
        let start = self.text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.line_end(range.end);
        self.delete(start..end)
    }

    /// Whether the edit did what it should and nothing else.
    fn compare(
        &self,
        before: Option<&Yaml>,
        name: &str,
        wanted: Option<&Credentials>,
    ) -> Edited<()> {
        let moved = |what: &str| strange(format!("{what} could not be kept as they are"));
        let is_list = |key: &str| LISTS.iter().any(|(list, _)| *list == key);
        let others = |root: Option<&Yaml>| -> Vec<(String, serde_json::Value)> {
            root.map(|r| {
                r.entries()
                    .iter()
                    .filter(|(k, _, _)| !is_list(k) && k != "current-context")
                    .map(|(k, _, v)| (k.clone(), v.to_json()))
                    .collect()
            })
            .unwrap_or_default()
        };
        if others(before) != others(self.root.as_ref()) {
            return Err(moved("other settings"));
        }
        for (list, inner) in LISTS {
            let foreign = |root: Option<&Yaml>| -> Vec<serde_json::Value> {
                root.and_then(|r| r.get(list))
                    .map(|v| {
                        v.items()
                            .iter()
                            .filter(|i| i.get("name").and_then(Yaml::as_str) != Some(name))
                            .map(Yaml::to_json)
                            .collect()
                    })
                    .unwrap_or_default()
            };
            if foreign(before) != foreign(self.root.as_ref()) {
                return Err(moved(&format!("other {list}")));
            }
            let item = self.item(list, name)?;
            let Some(wanted) = wanted else {
                if item.is_some() {
                    return Err(strange(format!(
                        "{name} could not be taken out of its {list}"
                    )));
                }
                continue;
            };
            let fields = match list {
                "clusters" => wanted.cluster(),
                "users" => wanted.user(),
                _ => vec![("cluster", name), ("user", name)],
            };
            let body = item.and_then(|i| i.get(inner));
            let right = fields
                .iter()
                .all(|(k, v)| body.and_then(|b| b.get(k)).and_then(Yaml::as_str) == Some(v));
            if !right {
                return Err(strange(format!("{name} could not be put into its {list}")));
            }
        }
        let chosen = |root: Option<&Yaml>| {
            root.and_then(|r| r.get("current-context"))
                .and_then(Yaml::as_str)
                .filter(|c| !c.is_empty())
                .map(str::to_owned)
        };
        let (was, is) = (chosen(before), chosen(self.root.as_ref()));
        let right = match (wanted, was.as_deref()) {
            (Some(_), None) => is.as_deref() == Some(name),
            (None, Some(one)) if one == name => is.is_none(),
            _ => is == was,
        };
        if right {
            Ok(())
        } else {
            Err(moved("its current-context"))
        }
    }
}
