//! The data cases of all kinds: `tests/cases/<kind>/<case>.yaml` at the top of the repository.
//!
//! A case says what is desired, what the node's tools printed, and what must follow. Its keys:
//!
//! - `source`: where the printed text was recorded, or which upstream document describes it.
//! - `desired`: one resource, as in a role. `<<secret NAME>>` in a text stands for a secret.
//! - `secrets` (optional): the values, by name.
//! - `facts` (optional): a file of `tests/cases/facts`, without `.txt`.
//! - `probe`: raw output by the question's one-line name (`unit ssh.service`, `fragment …`); a text,
//!   or `{status, text}`.
//! - `files`: shorthand for questions about paths: `absent`, `directory`, `link TARGET`, or a mapping
//!   with `text`, `mode`, `owner`, `group` (and `kind: directory`).
//! - `expect`: `noop`, `{not_yet: TOKEN}`, `{diagnosis: WHAT, cure: …}`, `{invalid: [SENTENCE]}`, or
//!   `{change: {action, fields, text, effects, bytes}, operation, stdin, staged, timeout}`. With
//!   `PICLUSTER_BLESS=1` a case without `expect` gets what is computed, to be read and judged.
//!
//! An unknown key, a question without an answer and an answer without a question all fail.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use picluster_model::secret::SecretValues;
use picluster_model::yaml::parse;
use picluster_model::{Secret, SecretRef, SourceFile, Yaml};
use picluster_resource::program::{Raw, sha256_hex};
use picluster_resource::{
    Answers, Change, Ctx, Diff, Effect, Facts, Observation, Operation, Payload, Query, Resource,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    source: String,
    #[serde(default)]
    doc: String,
    desired: Value,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default = "usual")]
    facts: String,
    #[serde(default)]
    probe: BTreeMap<String, Value>,
    #[serde(default)]
    files: BTreeMap<String, Value>,
    expect: Option<Value>,
}

fn usual() -> String {
    "rpios-bookworm-arm64".into()
}

fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

/// A file given in the short form, as the node's tools would print it.
struct Node<'a> {
    path: &'a str,
    text: Option<String>,
    bits: u32,
    mode: u32,
    owner: String,
    group: String,
    target: Option<String>,
}

impl<'a> Node<'a> {
    fn new(path: &'a str, value: &Value) -> Result<Option<Self>, String> {
        let mut node = Self {
            path,
            text: None,
            bits: 0o100_000,
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            target: None,
        };
        match value {
            Value::String(word) if word == "absent" => return Ok(None),
            Value::String(word) if word == "directory" => {
                (node.bits, node.mode) = (0o040_000, 0o755);
            }
            Value::String(word) => {
                let target = word
                    .strip_prefix("link ")
                    .ok_or(format!("{path}: {word:?}?"))?;
                (node.bits, node.mode) = (0o120_000, 0o777);
                node.target = Some(target.to_owned());
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let text = value.as_str().ok_or(format!("{path}: {key} is not text"))?;
                    match (key.as_str(), text) {
                        ("text", text) => node.text = Some(text.to_owned()),
                        ("mode", text) => {
                            node.mode = u32::from_str_radix(text, 8).map_err(|e| e.to_string())?;
                        }
                        ("owner", text) => node.owner = text.to_owned(),
                        ("group", text) => node.group = text.to_owned(),
                        ("kind", "directory") => node.bits = 0o040_000,
                        ("kind", "pipe") => node.bits = 0o010_000,
                        _ => return Err(format!("{path}: unknown key {key}: {text}")),
                    }
                }
            }
            _ => return Err(format!("{path}: not a file description")),
        }
        Ok(Some(node))
    }

    fn answer(&self, query: &Query) -> Raw {
        let text = self.text.clone().unwrap_or_default();
        let file = self.bits == 0o100_000;
        let printed = match query {
            Query::Path(_) => format!(
                "{:x} {} {} {} {}",
                self.bits | self.mode,
                self.owner,
                self.group,
                text.len(),
                self.path
            ),
            Query::Link(_) => self.target.clone().unwrap_or_default(),
            Query::Content { expect, secret, .. } if file => {
                let sum = sha256_hex(text.as_bytes());
                let mut printed = format!("{sum}  {}", self.path);
                if expect.as_ref() != Some(&sum) && !secret {
                    printed.push('\n');
                    printed.push_str(&text);
                }
                printed
            }
            Query::Text(_) => text,
            _ => String::new(),
        };
        Raw {
            status: u32::from(!file && matches!(query, Query::Text(_))),
            text: printed,
        }
    }
}

fn path_of(query: &Query) -> Option<&str> {
    match query {
        Query::Path(path) | Query::Link(path) | Query::Text(path) | Query::Content { path, .. } => {
            Some(path.as_str())
        }
        _ => None,
    }
}

/// Answers every question from the case, and says which entries nobody asked for.
fn answers(case: &Case, queries: &[Query]) -> Result<Answers, String> {
    let mut unused: BTreeSet<&str> = case
        .probe
        .keys()
        .chain(case.files.keys())
        .map(|k| k.as_str())
        .collect();
    let mut answers = Answers::default();
    for query in queries {
        let name = query.to_string();
        let raw = if let Some(value) = case.probe.get(&name) {
            unused.remove(name.as_str());
            match value {
                Value::String(text) => Raw {
                    status: 0,
                    text: text.clone(),
                },
                Value::Object(map) if map.keys().all(|k| k == "status" || k == "text") => Raw {
                    status: map.get("status").and_then(Value::as_u64).unwrap_or(0) as u32,
                    text: map
                        .get("text")
                        .and_then(Value::as_str)
                        .unwrap_or("")
                        .to_owned(),
                },
                _ => {
                    return Err(format!(
                        "probe `{name}` is neither text nor {{status, text}}"
                    ));
                }
            }
        } else if let Some((path, value)) = path_of(query).and_then(|p| case.files.get_key_value(p))
        {
            unused.remove(path.as_str());
            match Node::new(path, value)? {
                Some(node) => node.answer(query),
                None => Raw {
                    status: u32::from(matches!(query, Query::Text(_))),
                    text: String::new(),
                },
            }
        } else {
            return Err(format!("the question `{name}` has no answer in the case"));
        };
        let answer = query.parse(&raw).map_err(|e| format!("`{name}`: {e}"))?;
        answers.0.insert(query.clone(), answer);
    }
    if unused.is_empty() {
        Ok(answers)
    } else {
        Err(format!(
            "nobody asks for {unused:?}; asked is {:?}",
            queries.iter().map(ToString::to_string).collect::<Vec<_>>()
        ))
    }
}

fn change_json(change: &Change) -> Value {
    let fields: Vec<String> = change
        .fields
        .iter()
        .map(|f| {
            let why = f
                .reason
                .as_ref()
                .map_or(String::new(), |r| format!(" ({r})"));
            format!("{}: {} -> {}{why}", f.field, f.before, f.after)
        })
        .collect();
    let mut out = json!({ "action": change.action, "fields": fields });
    if let Some(text) = &change.text {
        out["text"] = json!(text);
    }
    let effects: Vec<String> = change
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Restart(unit) => format!("restart {unit}"),
            Effect::Reload(unit) => format!("reload {unit}"),
            Effect::Reboot(why) => format!("reboot: {why}"),
            Effect::Access(why) => format!("access: {why}"),
            Effect::Guarded => "guarded".into(),
            Effect::BootTried => "boot tried".into(),
            Effect::BootUnproven => "boot unproven".into(),
            Effect::Drain(what) => what.clone(),
            Effect::ServerDown(_) => "server down".into(),
            Effect::Off(_) => "off".into(),
        })
        .collect();
    if !effects.is_empty() {
        out["effects"] = json!(effects);
    }
    if change.bytes > 0 {
        out["bytes"] = json!(change.bytes);
    }
    out
}

fn diagnosis_json(key: &str, d: &picluster_resource::Diagnosis) -> Value {
    let mut out = json!({ key: d.what });
    if let Some(cure) = &d.cure {
        out["cure"] = json!(cure);
    }
    out
}

/// Shell functions that stand before every script of a kind, by the name they go by in cases.
const LIBRARIES: &[(&str, &str)] = &[
    ("package.sh", include_str!("../src/kinds/package.sh")),
    ("swap/off.sh", include_str!("../src/kinds/swap/off.sh")),
    ("unit.sh", include_str!("../src/kinds/unit.sh")),
    ("wait.sh", include_str!("../src/kinds/cluster_node/wait.sh")),
    (
        "manifest/amiss.sh",
        include_str!("../src/kinds/manifest/amiss.sh"),
    ),
    (
        "manifest/deployed.sh",
        include_str!("../src/kinds/manifest/deployed.sh"),
    ),
    (
        "manifest/kubectl.sh",
        include_str!("../src/kinds/manifest/kubectl.sh"),
    ),
    (
        "kubeadm/run.sh",
        include_str!("../src/kinds/kubeadm/run.sh"),
    ),
    (
        "join_token/mint.sh",
        include_str!("../src/kinds/join_token/mint.sh"),
    ),
    (
        "join_token/revoke.sh",
        include_str!("../src/kinds/join_token/revoke.sh"),
    ),
    (
        "first_boot/probe.sh",
        include_str!("../src/kinds/first_boot/probe.sh"),
    ),
    (
        "first_boot/wait.sh",
        include_str!("../src/kinds/first_boot/wait.sh"),
    ),
    (
        "clock/probe.sh",
        include_str!("../src/kinds/clock/probe.sh"),
    ),
    ("clock/wait.sh", include_str!("../src/kinds/clock/wait.sh")),
    (
        "partition/create.sh",
        include_str!("../src/kinds/partition/create.sh"),
    ),
];

fn operation_json(out: &mut Value, operation: &Operation) {
    let script = LIBRARIES
        .iter()
        .fold(operation.script.clone(), |script, (name, text)| {
            script.replace(text, &format!("# {name}\n"))
        });
    out["operation"] = json!(script);
    if let Payload::Bytes(bytes) = &operation.payload {
        out["stdin"] = json!(String::from_utf8_lossy(bytes.reveal()));
    }
    if let Some(staged) = &operation.staged {
        out["staged"] = json!(format!("{} bytes at {}", staged.size, staged.path));
    }
    if operation.timeout.as_secs() != 60 {
        out["timeout"] = json!(operation.timeout.as_secs());
    }
}

/// No value of a secret may be seen in `text`.
fn keeps(case: &Case, what: &str, text: &str) -> Result<(), String> {
    match case
        .secrets
        .values()
        .find(|value| text.contains(value.trim()))
    {
        Some(_) => Err(format!("a secret shows in the {what}")),
        None => Ok(()),
    }
}

/// What follows from a case.
fn outcome(case: &Case, kind: &str, body: &Yaml) -> Result<Value, String> {
    let facts = fs::read_to_string(cases_dir().join(format!("facts/{}.txt", case.facts)))
        .map_err(|e| format!("facts {}: {e}", case.facts))?;
    let facts = Facts::parse(&facts)?;
    let mut secrets = SecretValues::default();
    let mut body = body.clone();
    for (name, value) in &case.secrets {
        let reference = SecretRef::Env(name.clone());
        let mark = format!("<<secret {name}>>");
        body = body.map_strings(&mut |text| text.replace(&mark, &reference.placeholder()));
        secrets.0.insert(reference, Secret::new(value.clone()));
    }
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let resource = match Resource::from_yaml(kind, &body) {
        Ok(resource) => resource,
        Err(wrong) => {
            if !case.probe.is_empty() || !case.files.is_empty() {
                return Err("an invalid resource asks nothing; take probe and files out".into());
            }
            let wrong: Vec<&str> = wrong.iter().map(|d| d.message.as_str()).collect();
            return Ok(json!({ "invalid": wrong }));
        }
    };
    let stored = serde_json::to_string(&resource).map_err(|e| e.to_string())?;
    keeps(case, "resource", &stored)?;
    let again: Resource = serde_json::from_str(&stored).map_err(|e| e.to_string())?;
    if again != resource {
        return Err("the resource does not survive being stored".into());
    }

    let queries = resource
        .queries(ctx)
        .map_err(|d| format!("no questions: {d}"))?;
    for query in &queries {
        keeps(case, "questions", &format!("{query:?}"))?;
    }
    let answers = answers(case, &queries)?;
    let seen = match resource.observe(&answers, ctx) {
        Ok(seen) => seen,
        Err(diagnosis) => return Ok(diagnosis_json("diagnosis", &diagnosis)),
    };
    let stored = serde_json::to_string(&seen).map_err(|e| e.to_string())?;
    let again: Observation = serde_json::from_str(&stored).map_err(|e| e.to_string())?;
    if again != seen {
        return Err("the observation does not survive being stored".into());
    }
    if let Some(token) = seen.not_yet() {
        return Ok(json!({ "not_yet": token.to_string() }));
    }
    let change = match resource.diff(&seen, ctx) {
        Diff::NoOp => {
            return Ok(match resource.reboot_pending(&seen, ctx) {
                None => json!("noop"),
                Some(why) => json!({ "noop": { "reboot": why } }),
            });
        }
        Diff::Change(change) => change,
    };
    keeps(case, "change", &format!("{change:?}"))?;
    if change.fields.is_empty() {
        return Err("a change without a field".into());
    }
    if change.action == picluster_resource::Action::Create
        && !change.is_within(&resource.expected(ctx))
    {
        return Err(format!(
            "the plan of a blank node would not admit this change:\n{:#}\n{:#}",
            change_json(&change),
            change_json(&resource.expected(ctx))
        ));
    }
    let mut out = json!({ "change": change_json(&change) });
    match resource.operation(&seen, &change, ctx) {
        Ok(operation) => {
            keeps(case, "script", &operation.script)?;
            operation_json(&mut out, &operation);
        }
        Err(diagnosis) => out["refused"] = diagnosis_json("diagnosis", &diagnosis),
    }
    if let Some(why) = resource.reboot_pending(&seen, ctx) {
        out["reboot"] = json!(why);
    }
    Ok(out)
}

/// A value as YAML, texts of several lines as blocks.
fn emit(out: &mut String, value: &Value, indent: usize) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in map {
                let _ = write!(out, "{pad}{key}:");
                emit(out, value, indent + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{pad}-");
                emit(out, item, indent + 1);
            }
        }
        Value::String(text) if is_block(text) => {
            let keep = if text.ends_with('\n') { "" } else { "-" };
            let _ = writeln!(out, " |{keep}");
            for line in text.lines() {
                let _ = writeln!(
                    out,
                    "{}",
                    if line.is_empty() {
                        String::new()
                    } else {
                        format!("{pad}{line}")
                    }
                );
            }
        }
        Value::String(text) if is_plain(text) => {
            let _ = writeln!(out, " {text}");
        }
        other => {
            let _ = writeln!(out, " {other}");
        }
    }
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " _-./".contains(c))
        && !text.ends_with(' ')
        && !matches!(text, "true" | "false" | "null" | "yes" | "no")
}

fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text.ends_with("\n\n")
        && !text.contains(['\t', '\r', '\u{FEFF}'])
        && !text.lines().any(|line| line.ends_with(' '))
        && text.chars().all(|c| c == '\n' || !c.is_control())
}

fn run(path: &Path, kind: &str, bless: bool) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let file = Arc::new(SourceFile {
        name: path.display().to_string(),
        text: text.clone(),
    });
    let show = |wrong: Vec<picluster_model::Diagnostic>| {
        picluster_model::render(&wrong, picluster_model::Color::Plain)
    };
    let yaml = parse::parse(&file).map_err(show)?;
    let case: Case = yaml.decode().map_err(|d| show(vec![d]))?;
    if case.source.trim().is_empty() {
        return Err("source is empty".into());
    }
    let _ = &case.doc;
    let [(name, _, body)] = yaml.get("desired").ok_or("no desired")?.entries() else {
        return Err("desired is one resource".into());
    };
    let named = case.desired.as_object().is_some_and(|map| map.len() == 1);
    if name != kind || !named {
        return Err(format!("a case of `{name}` in the folder of `{kind}`"));
    }
    let got = outcome(&case, kind, body)?;
    match &case.expect {
        Some(wanted) if *wanted == got => Ok(()),
        None if bless => {
            let mut text = text;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("expect:");
            emit(&mut text, &got, 1);
            fs::write(path, text).map_err(|e| e.to_string())
        }
        None => {
            let mut text = String::new();
            emit(&mut text, &got, 1);
            Err(format!("no expect; computed is:{text}"))
        }
        Some(wanted) => {
            let (mut a, mut b) = (String::new(), String::new());
            emit(&mut a, wanted, 1);
            emit(&mut b, &got, 1);
            let diff = similar::TextDiff::from_lines(&a, &b);
            Err(format!(
                "wanted (-) and computed (+) differ:\n{}",
                diff.unified_diff().context_radius(20)
            ))
        }
    }
}

#[test]
fn data_cases() {
    let bless = std::env::var_os("PICLUSTER_BLESS").is_some();
    let mut failures = String::new();
    let mut count = BTreeMap::new();
    let mut kinds: Vec<_> = fs::read_dir(cases_dir())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    kinds.sort();
    for folder in kinds {
        let kind = folder.file_name().unwrap().to_string_lossy().into_owned();
        if kind == "facts" {
            continue;
        }
        assert!(
            Resource::KINDS.contains(&kind.as_str()),
            "there is no kind `{kind}`"
        );
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            assert!(
                file.extension().is_some_and(|e| e == "yaml"),
                "{} is no case",
                file.display()
            );
            *count.entry(kind.clone()).or_insert(0u32) += 1;
            if let Err(why) = run(&file, &kind, bless) {
                let name = file.file_name().unwrap().to_string_lossy();
                let _ = writeln!(failures, "== {kind}/{name}\n{why}\n");
            }
        }
    }
    println!("{} cases: {count:?}", count.values().sum::<u32>());
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn facts_fixtures_parse() {
    for entry in fs::read_dir(cases_dir().join("facts")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let facts = Facts::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            !facts.os.id.is_empty() && facts.memory_mib > 0,
            "{}",
            path.display()
        );
    }
}
