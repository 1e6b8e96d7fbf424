//! A rack at a glance: one row a node, as many columns as fit, and below it what a person should look at.

use std::fmt::Write as _;

use picluster_model::NodeName;
use picluster_resource::facts::Os;
use picluster_resource::health::{Medium, Root};

use crate::show::closed::problem;
use crate::show::names::names;
use crate::status::warning::{Kind, Warning};
use crate::status::{NodeStatus, Standing, State, Status};
use crate::term::{Style, count, day};

/// What stands where nothing is known.
const NOTHING: &str = "-";
/// Columns between two columns.
const GAP: usize = 2;
/// The most a cell takes; the rest is in `--json`.
const CELL: usize = 30;

/// The most the name of a medium takes.
const NAME: usize = 22;

/// The whole screen.
#[must_use]
pub fn status(status: &Status, style: Style) -> String {
    let mut out = String::new();
    table(&mut out, status, style);
    obstacles(&mut out, status, style);
    warnings(&mut out, status, style);
    summary(&mut out, status, style);
    out
}

/// As much of a text as fits.
fn clipped(text: String, most: usize) -> String {
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).collect::<String>() + "…"
}

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Name,
    Good,
    Attention,
    Bad,
    Dim,
}

struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text: String = text.into();
        if text.is_empty() {
            return Self::new(NOTHING, Tone::Dim);
        }
        let text = clipped(text, CELL);
        Self { text, tone }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn nothing() -> Self {
        Self::plain("")
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn dressed(&self, width: usize, style: Style) -> String {
        let text = format!("{:width$}", self.text);
        match self.tone {
            Tone::Plain => text,
            Tone::Name => style.bold(&text),
            Tone::Good => style.green(&text),
            Tone::Attention => style.yellow(&text),
            Tone::Bad => style.red(&text),
            Tone::Dim => style.dim(&text),
        }
    }
}

/// A column: its head, its place in line when there is not room for all (the lowest first), its cells.
struct Column {
    head: &'static str,
    rank: u8,
    cells: Vec<Cell>,
    width: usize,
}

fn columns(status: &Status) -> Vec<Column> {
    type Make = fn(&NodeName, &NodeStatus, &Status) -> Cell;
    let all: [(&'static str, u8, Make); 13] = [
        ("NODE", 0, |name, _, _| Cell::new(name.as_str(), Tone::Name)),
        ("ROLE", 5, |_, node, _| {
            Cell::plain(node.role.map_or("", |r| r.as_str()))
        }),
        ("READY", 2, |_, node, _| ready(node)),
        ("PLAN", 1, |_, node, _| plan(node)),
        ("VERSION", 6, |_, node, status| version(node, status)),
        ("TEMP", 3, temperature),
        ("POWER", 4, |_, node, _| power(node)),
        ("ROOT", 8, root),
        ("UP", 7, |_, node, status| {
            Cell::plain(node.up_since.map_or(String::new(), |at| up(status.at - at)))
        }),
        ("APPLIED", 10, |_, node, _| {
            Cell::plain(
                node.last_apply
                    .as_ref()
                    .map_or(String::new(), |a| day(a.at)),
            )
        }),
        ("MODEL", 11, |_, node, _| model(node)),
        ("OS", 12, |_, node, _| {
            Cell::plain(node.facts.as_ref().map_or(String::new(), |f| os(&f.os)))
        }),
        ("TAINTS", 9, |_, node, _| {
            Cell::plain(
                node.kubernetes
                    .as_ref()
                    .map_or(String::new(), |k| taints(&k.taints)),
            )
        }),
    ];
    all.into_iter()
        .map(|(head, rank, make)| {
            let cells: Vec<Cell> = status
                .nodes
                .iter()
                .map(|(name, node)| make(name, node, status))
                .collect();
            let widest = cells.iter().map(Cell::width).max().unwrap_or(0);
            Column {
                head,
                rank,
                width: widest.max(head.len()),
                cells,
            }
        })
        // What nobody has needs no column.
        .filter(|column| column.cells.iter().any(|c| c.text != NOTHING))
        .collect()
}

fn table(out: &mut String, status: &Status, style: Style) {
    let columns = columns(status);
    let mut by_rank: Vec<&Column> = columns.iter().collect();
    by_rank.sort_by_key(|c| c.rank);
    let mut room = style.width + GAP;
    let mut shown = Vec::new();
    for column in by_rank {
        // A node without its name is none.
        if column.rank == 0 || column.width + GAP <= room {
            room = room.saturating_sub(column.width + GAP);
            shown.push(column.head);
        }
    }
    let (kept, left): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|c| shown.contains(&c.head));
    let line = |cells: Vec<String>| -> String {
        let joined = cells.join(&" ".repeat(GAP));
        joined.trim_end().to_owned() + "\n"
    };
    let last = kept.len().saturating_sub(1);
    let width = |at: usize, column: &Column| if at == last { 0 } else { column.width };
    let heads = kept.iter().enumerate();
    out.push_str(&line(
        heads
            .map(|(at, c)| style.dim(&format!("{:w$}", c.head, w = width(at, c))))
            .collect(),
    ));
    for row in 0..status.nodes.len() {
        let cells = kept.iter().enumerate();
        out.push_str(&line(
            cells
                .filter_map(|(at, c)| Some(c.cells.get(row)?.dressed(width(at, c), style)))
                .collect(),
        ));
    }
    if !left.is_empty() {
        let heads: Vec<&str> = left.iter().map(|c| c.head).collect();
        let text = format!(
            "No room for {}: a wider window, or --json.",
            heads.join(", ").to_lowercase()
        );
        let _ = writeln!(out, "{}", style.dim(&text));
    }
    out.push('\n');
}

fn plan(node: &NodeStatus) -> Cell {
    let word = match node.state {
        State::Observed => None,
        State::Absent => Some(("absent", Tone::Dim)),
        State::Unreachable => Some(("unreachable", Tone::Bad)),
        State::HostKeyChanged => Some(("another key", Tone::Bad)),
        State::Blocked => Some(("blocked", Tone::Bad)),
    };
    if let Some((word, tone)) = word {
        return Cell::new(word, tone);
    }
    let Some(changes) = node.changes else {
        return Cell::new("unknown", Tone::Attention);
    };
    match (changes, node.problems.len()) {
        (0, 0) => Cell::new("as desired", Tone::Good),
        (n, 0) => Cell::new(count(n, "change"), Tone::Attention),
        (0, n) => Cell::new(count(n, "problem"), Tone::Bad),
        (n, m) => Cell::new(
            format!("{}, {}", count(n, "change"), count(m, "problem")),
            Tone::Bad,
        ),
    }
}

fn ready(node: &NodeStatus) -> Cell {
    let Some(says) = &node.kubernetes else {
        return Cell::nothing();
    };
    let tone = if node.state == State::Absent {
        Tone::Dim
    } else {
        Tone::Bad
    };
    match says.standing {
        Standing::Ready => Cell::new("yes", Tone::Good),
        Standing::NotReady => Cell::new("no", tone),
        Standing::Unknown => Cell::new("unknown", tone),
        Standing::NotRegistered => Cell::new("not joined", tone),
        Standing::AnotherMachine => Cell::new("another", tone),
    }
}

fn version(node: &NodeStatus, status: &Status) -> Cell {
    let (Some(says), Some(kubernetes)) = (&node.kubernetes, &status.kubernetes) else {
        return Cell::nothing();
    };
    let (runs, wanted) = (says.version.as_str(), kubernetes.version.as_str());
    if runs == wanted || runs.is_empty() {
        return Cell::plain(runs);
    }
    // What both end in need not be read twice: `v1.32.9 → v1.33.5+k3s1`.
    let (release, packaging) = runs.split_once('+').unwrap_or((runs, ""));
    let same = wanted.split_once('+').is_some_and(|(_, p)| p == packaging);
    let brief = if same { release } else { runs };
    Cell::new(format!("{brief} → {wanted}"), Tone::Attention)
}

fn warned(status: &Status, node: &NodeName, kinds: &[Kind]) -> bool {
    let mut all = status.warnings.iter();
    all.any(|w| kinds.contains(&w.kind) && w.node == *node)
}

fn temperature(name: &NodeName, node: &NodeStatus, status: &Status) -> Cell {
    let Some(degrees) = node.health.as_ref().and_then(|h| h.temperature_c) else {
        return Cell::nothing();
    };
    let tone = if warned(status, name, &[Kind::Hot]) {
        Tone::Bad
    } else {
        Tone::Plain
    };
    Cell::new(format!("{degrees:.0} °C"), tone)
}

fn power(node: &NodeStatus) -> Cell {
    let Some(power) = node.health.as_ref().and_then(|h| h.power.as_ref()) else {
        return Cell::nothing();
    };
    let throttled = power.throttled.unwrap_or_default();
    match () {
        () if power.under_voltage.now => Cell::new("low", Tone::Bad),
        () if throttled.now => Cell::new("throttled", Tone::Bad),
        () if power.under_voltage.since_boot => Cell::new("was low", Tone::Attention),
        () if throttled.since_boot => Cell::new("was throttled", Tone::Attention),
        () => Cell::new("good", Tone::Good),
    }
}

fn root(name: &NodeName, node: &NodeStatus, status: &Status) -> Cell {
    let Some(root) = node.health.as_ref().map(|h| &h.root) else {
        return Cell::nothing();
    };
    let mut text = medium(root);
    if !root.name.is_empty() {
        let _ = write!(text, " {}", root.name);
    }
    if !root.made.is_empty() {
        let _ = write!(text, " {}", root.made);
    }
    let bad = [Kind::RootReadOnly, Kind::CardWear, Kind::DiskErrors];
    if warned(status, name, &[Kind::RootReadOnly]) {
        text = format!("read-only {text}");
    }
    let tone = if warned(status, name, &bad) {
        Tone::Bad
    } else {
        Tone::Plain
    };
    Cell::new(clipped(text, NAME), tone)
}

fn medium(root: &Root) -> String {
    match root.medium {
        Medium::Sd => "SD".into(),
        Medium::Emmc => "eMMC".into(),
        Medium::Nvme => "NVMe".into(),
        Medium::Usb => "USB".into(),
        Medium::Disk => root.disk.clone(),
        Medium::Unknown => root.filesystem.clone(),
    }
}

/// `12d 3h`, `3h 20m`, `4m`: two units at most.
fn up(seconds: i64) -> String {
    let minutes = seconds.max(0) / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, _) => format!("{hours}h {minutes}m"),
        (1..=99, _) => format!("{days}d {hours}h"),
        _ => format!("{days}d"),
    }
}

/// What everybody calls it: `Pi 4 B`, `Pi 5 B`, `CM 4`.
fn model(node: &NodeStatus) -> Cell {
    let full = node.facts.as_ref().map_or("", |f| &f.board.model);
    let short = full.split(" Rev ").next().unwrap_or(full);
    let short = short
        .replace("Raspberry Pi ", "Pi ")
        .replace("Pi Compute Module", "CM")
        .replace(" Model ", " ")
        .replace(" Plus", "+");
    Cell::plain(short)
}

/// Their keys, without the domain: `control-plane unreachable`.
fn taints(all: &[String]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for taint in all {
        let key = taint.split(['=', ':']).next().unwrap_or(taint);
        let key = key.rsplit('/').next().unwrap_or(key);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.join(" ")
}

fn os(os: &Os) -> String {
    let name = match os.id.as_str() {
        _ if os.raspberry_pi_os => "RPi OS",
        "debian" => "Debian",
        "ubuntu" => "Ubuntu",
        "raspbian" => "Raspbian",
        other => other,
    };
    format!("{name} {}", os.version).trim_end().to_owned()
}

/// Nodes that were not looked at, and resources that something stands in the way of.
fn obstacles(out: &mut String, status: &Status, style: Style) {
    let mut body = String::new();
    for (name, node) in &status.nodes {
        for p in &node.problems {
            problem(&mut body, name, p, style);
        }
    }
    if !body.is_empty() {
        let _ = writeln!(out, "{}\n{body}", style.bold("Problems"));
    }
}

/// The same on several nodes is one entry.
fn warnings(out: &mut String, status: &Status, style: Style) {
    let mut entries: Vec<(&Warning, Vec<&NodeName>)> = Vec::new();
    // Why nothing can be planned for a node stands above, with the same cure.
    let told = |w: &Warning| {
        let state = status.nodes.get(&w.node).map(|n| n.state);
        w.kind == Kind::RootReadOnly && state == Some(State::Blocked)
    };
    for warning in status.warnings.iter().filter(|w| !told(w)) {
        let same = |w: &Warning| w.what == warning.what && w.cure == warning.cure;
        match entries.iter_mut().find(|(w, _)| same(w)) {
            Some((_, nodes)) => nodes.push(&warning.node),
            None => entries.push((warning, vec![&warning.node])),
        }
    }
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.bold("Warnings"));
    for (warning, nodes) in entries {
        let _ = writeln!(
            out,
            "  {} {}",
            style.yellow(&names(&nodes, 40)),
            warning.what
        );
        let _ = writeln!(out, "    {} {}", style.cyan("next:"), warning.cure);
    }
    out.push('\n');
}

fn summary(out: &mut String, status: &Status, style: Style) {
    let of = |wanted: fn(&NodeStatus) -> bool| status.nodes.values().filter(|n| wanted(n)).count();
    let seen = of(|n| n.state == State::Observed);
    let right = of(|n| n.changes == Some(0) && n.problems.is_empty());
    let changed = of(|n| n.changes.is_some_and(|c| c > 0));
    let away = of(|n| !matches!(n.state, State::Observed | State::Absent));
    let members = of(|n| n.role.is_some());
    let mut parts = vec![format!("{right} as desired")];
    if changed > 0 {
        parts.push(format!("{changed} with changes (picluster plan)"));
    }
    let stuck = of(|n| n.changes == Some(0) && !n.problems.is_empty());
    if stuck > 0 {
        parts.push(format!("{stuck} with problems"));
    }
    let unknown = of(|n| n.state == State::Observed && n.changes.is_none());
    if unknown > 0 {
        parts.push(format!("{unknown} not planned"));
    }
    if away > 0 {
        parts.push(format!("{away} not looked at"));
    }
    let absent = of(|n| n.state == State::Absent);
    if absent > 0 {
        parts.push(format!("{absent} absent"));
    }
    let text = format!(
        "{}: {}.",
        count(status.nodes.len(), "node"),
        parts.join(", ")
    );
    let fine = right == seen && away == 0 && status.warnings.is_empty();
    let text = if fine { style.green(&text) } else { text };
    let _ = writeln!(out, "{text}");
    let nobody = status
        .kubernetes
        .as_ref()
        .is_some_and(|k| k.told_by.is_none());
    if nobody && members > 0 {
        let _ = writeln!(
            out,
            "No server told about the cluster: who is Ready, and at which version, is not known."
        );
    }
}
