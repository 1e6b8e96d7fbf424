//! `events.md`: the stream of `--json`. Events have no schema, so their comments are read from the source; the
//! example beside each is a real one, written by the code that writes them.

use std::fmt::Write as _;
use std::fs;

use picluster_engine::event::VERSION;
use picluster_engine::report::Counts;
use picluster_engine::{Event, EventKind, ExitCode, Failure, NodeEnd, Outcome as Step};
use picluster_model::{ClusterName, NodeName};
use picluster_plan::StepAddr;
use picluster_resource::{Action, Change, Shown};

use super::source::{Item, declared, snake};
use super::{cell, paragraphs, table};
use crate::Outcome;

const ENGINE: &str = "crates/picluster-engine/src";
const RESOURCE: &str = "crates/picluster-resource/src";

/// The types that events hold, and the file of each.
const TYPES: &[(&str, &str, &str)] = &[
    ("Outcome", ENGINE, "report.rs"),
    ("SkipReason", ENGINE, "report.rs"),
    ("Failure", ENGINE, "report.rs"),
    ("NodeEnd", ENGINE, "report.rs"),
    ("Owner", ENGINE, "lock.rs"),
    ("Counts", ENGINE, "report.rs"),
    ("Change", RESOURCE, "change.rs"),
    ("Action", RESOURCE, "change.rs"),
    ("FieldChange", RESOURCE, "change.rs"),
    ("Shown", RESOURCE, "change.rs"),
    ("Effect", RESOURCE, "change.rs"),
];

/// The page.
pub(super) fn page() -> Outcome<String> {
    let mut page = format!(
        "# Events\n\n`picluster apply --json` prints one JSON object a line, version {VERSION}:\n\n\
         ```json\n{}\n```\n\n\
         Everything that starts ends: each `step_started` is followed by one `step_finished` of the same address, \
         every step gets a `step_finished` whether it started or not, every node one `node_finished`, and the last \
         line is `run_finished`. New events and fields may be added within a version; readers skip what they do not know.\n\n",
        line(EventKind::Cancelling { now: false })?
    );
    let events = read(ENGINE, "event.rs", "EventKind")?;
    for event in &events.items {
        let name = snake(&event.name);
        let _ = write!(page, "## {name}\n\n");
        page.push_str(&paragraphs(&event.doc));
        page.push_str(&fields(&event.fields));
        for sample in samples()? {
            let line = line(sample)?;
            if line.contains(&format!("\"event\":{{\"{name}\":")) {
                let _ = write!(page, "```json\n{line}\n```\n\n");
            }
        }
    }
    for (name, folder, file) in TYPES {
        let this = read(folder, file, name)?;
        let _ = write!(page, "## {name}\n\n");
        page.push_str(&paragraphs(&this.doc));
        let is_struct = this.items.iter().all(|i| i.kind.is_some())
            && this.items.iter().all(|i| snake(&i.name) == i.name);
        page.push_str(&if is_struct {
            fields(&this.items)
        } else {
            variants(&this.items)
        });
    }
    Ok(page)
}

fn read(folder: &str, file: &str, name: &str) -> Outcome<super::source::Declared> {
    let path = format!("{folder}/{file}");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))?;
    declared(&text, name).ok_or_else(|| format!("{path} declares no {name}"))
}

fn fields(items: &[Item]) -> String {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|i| {
            vec![
                format!("`{}`", i.name),
                kind(i.kind.as_deref().unwrap_or_default()),
                cell(&plain(&i.doc)),
            ]
        })
        .collect();
    table(&["field", "type", "meaning"], &rows)
}

/// `"name"` for a plain variant, `{"name": …}` for one that holds something.
fn variants(items: &[Item]) -> String {
    let mut rows = Vec::new();
    for item in items {
        let name = snake(&item.name);
        let written = match &item.kind {
            Some(inner) => format!("`{{\"{name}\":` {} `}}`", kind(inner)),
            None if item.fields.is_empty() => format!("`\"{name}\"`"),
            None => {
                let inner: Vec<String> = item
                    .fields
                    .iter()
                    .map(|f| format!("\"{}\": …", f.name))
                    .collect();
                format!("`{{\"{name}\": {{{}}}}}`", inner.join(", "))
            }
        };
        let inner: Vec<String> = item
            .fields
            .iter()
            .map(|f| {
                format!(
                    " `{}` ({}): {}",
                    f.name,
                    kind(f.kind.as_deref().unwrap_or_default()),
                    cell(&plain(&f.doc))
                )
            })
            .collect();
        rows.push(vec![written, cell(&plain(&item.doc)) + &inner.concat()]);
    }
    table(&["written as", "meaning"], &rows)
}

/// References between types in comments are of use to readers of the source only.
fn plain(doc: &str) -> String {
    doc.replace("See [`Outcome::", "Steps with the outcome `")
        .replace("[`", "`")
        .replace("`]", "`")
}

/// A Rust type in the words of JSON.
fn kind(rust: &str) -> String {
    let inner = |outer: &str| rust.strip_prefix(outer)?.strip_suffix('>');
    if let Some(inner) = inner("Option<") {
        return format!("{}, if any", kind(inner));
    }
    if let Some(inner) = inner("Vec<").or_else(|| inner("BTreeSet<")) {
        return format!("list of {}", kind(inner));
    }
    if let Some(inner) = inner("Box<") {
        return kind(inner);
    }
    match rust {
        "String" => "text".into(),
        "NodeName" => "a node's name".into(),
        "ClusterName" => "the cluster's name".into(),
        "StepAddr" => "`node/role/kind[key]`".into(),
        "ExitCode" => "a [code](exit-codes.md) by name".into(),
        "bool" => "`true` or `false`".into(),
        "u8" | "u32" | "u64" | "i64" => "whole number".into(),
        "f64" => "number".into(),
        other => format!("[{other}](#{})", other.to_lowercase()),
    }
}

fn line(event: EventKind) -> Outcome<String> {
    serde_json::to_string(&Event::new(1_767_225_600_000, event)).map_err(|e| e.to_string())
}

/// One of each.
fn samples() -> Outcome<Vec<EventKind>> {
    let node = NodeName::new("rpi01").map_err(|e| e.to_string())?;
    let cluster = ClusterName::new("home").map_err(|e| e.to_string())?;
    let addr: StepAddr = "rpi01/base/hostname[hostname]"
        .parse()
        .map_err(|e| format!("{e}"))?;
    let change =
        Change::new(Action::Update).field("name", Shown::text("raspberrypi"), Shown::text("rpi01"));
    let failure = Failure {
        status: Some(1),
        output: "Could not resolve host".into(),
        ..Failure::new("the command failed")
    };
    let counts = Counts {
        unchanged: 11,
        changed: 1,
        ..Counts::default()
    };
    let samples = vec![
        EventKind::RunStarted {
            run: "1795255779673-14946".into(),
            cluster,
            nodes: vec![node.clone()],
            steps: 12,
        },
        EventKind::NodeConnecting { node: node.clone() },
        EventKind::NodeConnected {
            node: node.clone(),
            address: "192.168.2.1:22".into(),
        },
        EventKind::NodeUnreachable {
            node: node.clone(),
            reason: "no answer from 192.168.2.1:22 within 10 s".into(),
        },
        EventKind::NodeWaiting {
            node: node.clone(),
            processes: vec!["apt-get (812)".into()],
        },
        EventKind::StepStarted { addr: addr.clone() },
        EventKind::StepUploading {
            addr: addr.clone(),
            sent: 4_194_304,
            total: 73_400_320,
        },
        EventKind::StepFinished {
            addr: addr.clone(),
            outcome: Step::Changed,
            seconds: 0.08,
            change: Some(change),
        },
        EventKind::StepFinished {
            addr,
            outcome: Step::Failed(Box::new(failure)),
            seconds: 0.08,
            change: None,
        },
        EventKind::NodeTakingBack {
            node: node.clone(),
            seconds: 90,
        },
        EventKind::NodeRebooting { node: node.clone() },
        EventKind::NodePoweringOff { node: node.clone() },
        EventKind::NodeOff {
            node: node.clone(),
            seconds: 4.2,
        },
        EventKind::NodeBack {
            node: node.clone(),
            seconds: 31.5,
        },
        EventKind::NodeProving { node: node.clone() },
        EventKind::NodeProved {
            node: node.clone(),
            serves: true,
            reason: None,
        },
        EventKind::NodeFinished {
            node,
            end: NodeEnd::Done,
            counts,
        },
        EventKind::Cancelling { now: false },
        EventKind::RunFinished {
            counts,
            exit: ExitCode::Done,
            code: 0,
            codes: Vec::new(),
            seconds: 40.2,
        },
    ];
    Ok(samples)
}
