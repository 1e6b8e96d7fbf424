//! A plan for people.
//!
//! One block for each set of nodes that share changes; the same change on many nodes is one row.
//! Field before → after with its reason, text diffs, drift told from intent, effects in a block of
//! their own, and what stands in the way.

pub mod fold;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use picluster_model::NodeName;
use picluster_plan::{Cause, NodeState, Plan, Step};
use picluster_resource::{Action, Effect, FieldChange, Shown};

use crate::show::closed::{closed, problem};
use crate::show::names::names;
use crate::show::plan::fold::Row;
use crate::term::{Style, bytes, count, day};

/// Lines of a text diff that are shown before it is cut.
const DIFF_LINES: usize = 24;

/// The whole plan. `left_out` steps were not selected.
#[must_use]
pub fn plan(plan: &Plan, left_out: usize, style: Style) -> String {
    let mut out = String::new();
    let rows = fold::rows(plan);
    legend(&mut out, &rows, style);
    for block in blocks(rows) {
        let nodes: Vec<&NodeName> = block.nodes.into_iter().collect();
        let _ = writeln!(out, "{}", style.bold(&names(&nodes, style.width)));
        for shared in block.rows {
            row(&mut out, &shared, style);
        }
        out.push('\n');
    }
    effects(&mut out, plan, style);
    rollbacks(&mut out, plan, style);
    leaving(&mut out, plan, style);
    obstacles(&mut out, plan, style);
    warnings(&mut out, plan, style);
    summary(&mut out, plan, left_out, style);
    out
}

/// Rows shared by a set of nodes.
struct Block<'a> {
    nodes: BTreeSet<&'a NodeName>,
    rows: Vec<Row<'a>>,
}

/// Rows with the same set of nodes together.
fn blocks(rows: Vec<Row<'_>>) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for row in rows {
        match blocks.iter_mut().find(|b| b.nodes == row.nodes) {
            Some(block) => block.rows.push(row),
            None => blocks.push(Block {
                nodes: row.nodes.clone(),
                rows: vec![row],
            }),
        }
    }
    // What many nodes share comes first.
    blocks.sort_by_key(|b| std::cmp::Reverse(b.nodes.len()));
    blocks
}

fn symbol(action: Action, style: Style) -> String {
    match action {
        Action::Create => style.green("+"),
        Action::Update => style.yellow("~"),
        Action::Delete => style.red("-"),
        Action::Run => style.cyan(">"),
    }
}

fn legend(out: &mut String, rows: &[Row<'_>], style: Style) {
    let words = [
        (Action::Create, "create"),
        (Action::Update, "change"),
        (Action::Delete, "remove"),
        (Action::Run, "run"),
    ];
    let mut used: Vec<String> = words
        .iter()
        .filter(|(action, _)| rows.iter().any(|row| row.change.action == *action))
        .map(|(action, word)| format!("{} {word}", symbol(*action, style)))
        .collect();
    for (placeholder, words) in [
        (fold::NODE, "each node's own name"),
        (fold::ADDRESS, "its own address"),
    ] {
        if rows.iter().any(|row| row.stands_for_many(placeholder)) {
            used.push(format!("{} {words}", style.bold(placeholder)));
        }
    }
    if !used.is_empty() {
        let _ = writeln!(out, "{}\n", used.join("   "));
    }
}

fn row(out: &mut String, row: &Row<'_>, style: Style) {
    let why = match row.cause {
        Cause::New | Cause::Follows => "",
        Cause::Intent => "  you changed the documents",
        Cause::Drift => "  drift: changed on the node",
        Cause::Unfinished => &unfinished(row.begun),
        Cause::Removed => "  no longer in the documents",
    };
    let why = match row.cause {
        Cause::Drift | Cause::Unfinished => style.yellow(why),
        _ => style.dim(why),
    };
    let _ = writeln!(
        out,
        "  {} {}{why}",
        symbol(row.change.action, style),
        style.bold(&row.name())
    );
    let fields = &row.change.fields;
    if row.change.action == Action::Create && fields.iter().all(is_short) {
        let line: Vec<String> = fields
            .iter()
            .map(|f| format!("{} {}", f.field, f.after))
            .collect();
        if !line.is_empty() {
            let _ = writeln!(out, "      {}", style.dim(&line.join(", ")));
        }
    } else {
        let widest = fields
            .iter()
            .map(|f| f.field.chars().count())
            .max()
            .unwrap_or(0);
        for field in fields {
            let values = match (&field.before, &field.after) {
                (Shown::Absent, after) => after.to_string(),
                (before, after) => format!("{before} → {after}"),
            };
            let reason = field
                .reason
                .as_ref()
                .map(|r| style.dim(&format!("  ({r})")))
                .unwrap_or_default();
            let _ = writeln!(out, "      {:widest$}  {values}{reason}", field.field);
        }
    }
    if let Some(text) = &row.change.text {
        diff(out, text, style);
    }
}

/// What became of an earlier try.
fn unfinished(begun: Option<i64>) -> String {
    match begun {
        Some(at) => format!("  unfinished: begun on {} and not finished", day(at)),
        None => "  unfinished: begun and not finished".into(),
    }
}

/// Made from nothing, with a value that needs no line of its own.
fn is_short(field: &FieldChange) -> bool {
    field.before == Shown::Absent && field.reason.is_none() && field.after.to_string().len() <= 24
}

fn diff(out: &mut String, text: &str, style: Style) {
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with("\\ No newline"))
        .collect();
    // A new file has one hunk that starts at nothing: its header says nothing.
    let body: Vec<&&str> = lines.iter().filter(|l| !l.starts_with("@@ -0,0")).collect();
    for line in body.iter().take(DIFF_LINES) {
        let line = match line.as_bytes().first() {
            Some(b'+') => style.green(line),
            Some(b'-') => style.red(line),
            Some(b'@') => style.dim(line),
            _ => (**line).to_string(),
        };
        let _ = writeln!(out, "      {line}");
    }
    if body.len() > DIFF_LINES {
        let _ = writeln!(
            out,
            "      {}",
            style.dim(&format!(
                "… {}",
                count(body.len() - DIFF_LINES, "more line")
            ))
        );
    }
}

fn effects(out: &mut String, plan: &Plan, style: Style) {
    let mut rows: BTreeMap<String, Vec<&NodeName>> = BTreeMap::new();
    for step in &plan.steps {
        for effect in &step.change.effects {
            // A step that needs a reboot and the reboot that serves it are one effect.
            let text = match effect {
                Effect::Reboot(_) if step.addr.kind != "reboot" => continue,
                Effect::Reboot(why) => format!("reboot: {why}"),
                Effect::Restart(unit) => format!("restart {unit}"),
                Effect::Reload(unit) => format!("reload {unit}"),
                Effect::Access(what) => format!("the way in is touched: {what}"),
                Effect::Guarded => {
                    "guarded: taken back by the node itself unless a new connection confirms it"
                        .into()
                }
                Effect::BootTried => {
                    "boot files are tried: the firmware starts with them once, and they stay when the node has come up"
                        .into()
                }
                Effect::BootUnproven => {
                    "not guarded against a kernel that does not boot: the firmware there cannot try boot files once"
                        .into()
                }
                Effect::Drain(what) | Effect::ServerDown(what) | Effect::Off(what) => what.clone(),
            };
            let nodes = rows.entry(text).or_default();
            if !nodes.contains(&&step.addr.node) {
                nodes.push(&step.addr.node);
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.bold("Effects"));
    for (text, nodes) in rows {
        let _ = writeln!(out, "  {} {text}", style.cyan(&names(&nodes, 60)));
    }
    out.push('\n');
}

/// What earlier runs changed and nodes took back, as long as it is pending.
fn rollbacks(out: &mut String, plan: &Plan, style: Style) {
    for (node, back) in plan
        .nodes
        .iter()
        .filter_map(|(name, n)| Some((name, n.rolled_back.as_ref()?)))
    {
        let pending = |s: &Step| s.addr.node == *node && back.rolled_back.contains(&s.addr.local());
        if plan.steps.iter().any(pending) {
            let why = if back.tried {
                "it did not start with it".to_owned()
            } else {
                format!("nobody confirmed it within {} s", back.within)
            };
            let _ = writeln!(
                out,
                "{} {node} took this back by itself on {}, because {why}: {}\n",
                style.yellow("Rolled back:"),
                day(back.at),
                back.rolled_back.join(", ")
            );
        }
    }
}

/// Nodes of the cluster that the inventory no longer has there.
fn leaving(out: &mut String, plan: &Plan, style: Style) {
    if plan.leaving.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style.bold("Left the inventory"));
    for (name, node) in &plan.leaving {
        let met = |n: &picluster_plan::NodePlan| matches!(n.state, NodeState::Observed { .. });
        let what = match (node.removed, node.registered, plan.nodes.get(name)) {
            (false, true, _) => "still a node of the cluster; it stays one until you take it out",
            (false, false, _) => {
                "deleted in the cluster, and its machine is not cleaned of what is ours yet"
            }
            (true, true, Some(n)) if met(n) => {
                "drained, deleted in the cluster, and cleaned of what is ours"
            }
            (true, false, Some(n)) if met(n) => "cleaned of what is ours",
            (true, false, _) => {
                "was not reached, and is deleted in the cluster already: it is forgotten"
            }
            (true, true, _) => {
                "deleted in the cluster; it was not reached, so all that is on its card stays, and with that it joins again when it is switched on: wipe the card first"
            }
        };
        let _ = writeln!(
            out,
            "  {} ({}): {what}",
            style.red(name.as_str()),
            node.login
        );
    }
    if plan.leaving.values().any(|n| !n.removed) {
        let _ = writeln!(
            out,
            "    {} picluster apply --remove-nodes; or put them back into the inventory",
            style.cyan("next:")
        );
    }
    out.push('\n');
}

/// What a person should know of nodes, whatever is done on them.
fn warnings(out: &mut String, plan: &Plan, style: Style) {
    let mut body = String::new();
    for (name, node) in &plan.nodes {
        for p in &node.warnings {
            let _ = writeln!(body, "  {}: {}", style.yellow(name.as_str()), p.what);
            if let Some(cure) = &p.cure {
                let _ = writeln!(body, "    {} {cure}", style.cyan("next:"));
            }
        }
    }
    if !body.is_empty() {
        let _ = writeln!(out, "{}\n{body}", style.bold("Worth a look"));
    }
}

fn obstacles(out: &mut String, plan: &Plan, style: Style) {
    let mut body = String::new();
    for (name, node) in &plan.nodes {
        body.push_str(&closed(name, &node.state, style));
        for p in &node.problems {
            problem(&mut body, name, p, style);
        }
    }
    if !body.is_empty() {
        let _ = writeln!(out, "{}\n{body}", style.bold("Not planned"));
    }
}

fn summary(out: &mut String, plan: &Plan, left_out: usize, style: Style) {
    if left_out > 0 {
        let _ = writeln!(
            out,
            "{}",
            style.yellow(&format!("Not selected: {}.", count(left_out, "step")))
        );
        if plan.steps.is_empty() {
            return;
        }
    }
    let unchanged: usize = plan.nodes.values().map(|n| n.unchanged as usize).sum();
    let seen = plan
        .nodes
        .values()
        .filter(|n| matches!(n.state, NodeState::Observed { .. }))
        .count();
    if plan.steps.is_empty() && seen == 0 {
        let _ = writeln!(
            out,
            "No node could be looked at; nothing is known about any of them."
        );
        return;
    }
    if plan.steps.is_empty() {
        // Whoever is declared absent stands in nobody's way.
        let broken = plan
            .nodes
            .values()
            .filter(|n| match n.state {
                NodeState::Observed { .. } => !n.problems.is_empty(),
                NodeState::Absent => false,
                _ => true,
            })
            .count();
        let text = format!(
            "{}: {} on {} {} as desired.",
            if broken == 0 {
                "Nothing to do"
            } else {
                "Nothing else to do"
            },
            count(unchanged, "resource"),
            count(seen, "node"),
            if unchanged == 1 { "is" } else { "are" },
        );
        let _ = writeln!(
            out,
            "{}",
            if broken == 0 {
                style.green(&text)
            } else {
                text
            }
        );
        return;
    }
    let of = |action| {
        plan.steps
            .iter()
            .filter(|s| s.change.action == action)
            .count()
    };
    let mut parts = Vec::new();
    for (action, word) in [
        (Action::Create, "to create"),
        (Action::Update, "to change"),
        (Action::Delete, "to remove"),
        (Action::Run, "to run"),
    ] {
        if of(action) > 0 {
            parts.push(format!("{} {word}", of(action)));
        }
    }
    let mut touched: Vec<&NodeName> = plan.steps.iter().map(|s| &s.addr.node).collect();
    touched.sort();
    touched.dedup();
    let payload: u64 = plan.steps.iter().map(|s| s.change.bytes).sum();
    let reboots = plan
        .steps
        .iter()
        .filter(|s| s.addr.kind == "reboot")
        .count();
    let _ = writeln!(
        out,
        "{} {} on {}{}; {} to write; {unchanged} unchanged.",
        style.bold("Plan:"),
        parts.join(", "),
        count(touched.len(), "node"),
        if reboots == 0 {
            String::new()
        } else {
            format!(", {}", count(reboots, "reboot"))
        },
        bytes(payload),
    );
}
