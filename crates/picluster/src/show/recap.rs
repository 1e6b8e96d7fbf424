//! How a run ended, for people: one row a node, then every failure in at most fifteen lines.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use picluster_engine::report::SkipReason;
use picluster_engine::{Failure, NodeEnd, NodeReport, Outcome, Report};
use picluster_model::NodeName;
use picluster_plan::StepAddr;

use crate::term::{Style, count};

/// Lines a failure may take, its heading included.
const FAILURE_LINES: usize = 15;

/// The whole recap. `left_out` had work that was not selected; `again` is the command that carries on.
#[must_use]
pub fn recap(report: &Report, left_out: &BTreeSet<NodeName>, again: &str, style: Style) -> String {
    recap_of("Apply:", report, left_out, again, style)
}

/// The same of a run that is called otherwise.
#[must_use]
pub fn recap_of(
    called: &str,
    report: &Report,
    left_out: &BTreeSet<NodeName>,
    again: &str,
    style: Style,
) -> String {
    let mut out = String::new();
    for (node, end) in &report.nodes {
        for step in &end.steps {
            if let Some(text) = step_failure(&step.addr, &step.outcome, end, again, style) {
                out.push_str(&text);
                out.push('\n');
            }
        }
        if let Some(text) = node_failure(node, end, again, style) {
            out.push_str(&text);
            out.push('\n');
        }
    }
    let widest = report
        .nodes
        .keys()
        .map(|n| n.as_str().len())
        .max()
        .unwrap_or(4);
    for (node, end) in &report.nodes {
        let _ = writeln!(
            out,
            "{}",
            row(node, end, left_out.contains(node), widest, style)
        );
    }
    let reached = report
        .nodes
        .values()
        .filter(|n| {
            n.steps
                .iter()
                .any(|s| !matches!(s.outcome, Outcome::Skipped(_)))
        })
        .count();
    let counts = report.counts();
    let mut words = vec![format!("{} changed", counts.changed)];
    for (n, word) in [
        (counts.unchanged, "unchanged"),
        (counts.failed, "failed"),
        (counts.lost, "lost"),
        (counts.stale, "refused as stale"),
        (counts.rolled_back, "rolled back"),
        (counts.skipped, "skipped"),
    ] {
        if n > 0 {
            words.push(format!("{n} {word}"));
        }
    }
    let _ = writeln!(
        out,
        "\n{} {} on {} in {:.1} s.",
        style.bold(called),
        words.join(", "),
        count(reached, "node"),
        report.seconds
    );
    if report.interrupted {
        let _ = writeln!(
            out,
            "Interrupted at a step boundary; nothing is half done. Carry on with: {again}"
        );
    }
    out
}

fn row(node: &NodeName, end: &NodeReport, left_out: bool, widest: usize, style: Style) -> String {
    let of = |want: fn(&Outcome) -> bool| end.steps.iter().filter(|s| want(&s.outcome)).count();
    let changed = of(|o| matches!(o, Outcome::Changed));
    let failed = of(|o| {
        matches!(
            o,
            Outcome::Failed(_) | Outcome::Lost { .. } | Outcome::Stale { .. }
        )
    });
    let skipped = of(|o| matches!(o, Outcome::Skipped(_)));
    let seconds: f64 = end.steps.iter().map(|s| s.seconds).sum();
    let state = match &end.end {
        NodeEnd::Idle if left_out => style.dim("not selected"),
        NodeEnd::Idle => style.dim("nothing to do"),
        NodeEnd::Done => style.green("done"),
        NodeEnd::Incomplete => style.red("incomplete"),
        NodeEnd::Unreachable { .. } => style.red("unreachable"),
        NodeEnd::IdentityChanged { .. } => style.red("identity changed"),
        NodeEnd::Locked { .. } => style.yellow("locked"),
        NodeEnd::Failed { .. } => style.red("failed"),
        NodeEnd::Interrupted => style.yellow("interrupted"),
    };
    let mut parts = Vec::new();
    if changed > 0 {
        parts.push(format!("{changed} changed"));
    }
    if failed > 0 {
        parts.push(style.red(&format!("{failed} failed")));
    }
    let rolled_back = of(|o| matches!(o, Outcome::RolledBack { .. }));
    if rolled_back > 0 {
        parts.push(style.red(&format!("{rolled_back} rolled back")));
    }
    if skipped > 0 {
        parts.push(style.yellow(&format!("{skipped} skipped")));
    }
    if seconds >= 0.05 {
        parts.push(style.dim(&format!("{seconds:.1} s")));
    }
    let name = style.bold(&format!("{:widest$}", node.as_str()));
    if parts.is_empty() {
        format!("  {name}  {state}")
    } else {
        format!("  {name}  {state}  {}", parts.join(", "))
    }
}

fn heading(addr: &str, word: &str, style: Style) -> String {
    format!("{} {}: {word}\n", style.red("✗"), style.bold(addr))
}

fn dependents<'a>(end: &'a NodeReport, of: &StepAddr) -> Vec<&'a StepAddr> {
    end.steps
        .iter()
        .filter(|s| matches!(&s.outcome, Outcome::Skipped(SkipReason::Needs(a)) if a == of))
        .map(|s| &s.addr)
        .collect()
}

/// One failed step; `None` for steps that did not fail.
#[must_use]
pub fn step_failure(
    addr: &StepAddr,
    outcome: &Outcome,
    end: &NodeReport,
    again: &str,
    style: Style,
) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    let word = match outcome {
        Outcome::Failed(failure) => {
            details(failure, &mut lines, style);
            failure.what.clone()
        }
        Outcome::Lost { what } => {
            lines.push(
                "it is not known how the step ended; the next apply looks and carries on".into(),
            );
            format!("connection lost: {what}")
        }
        Outcome::Stale { what } => {
            lines.push("what the plan saw is no longer so; this step was not run".into());
            format!("stale: {what}")
        }
        Outcome::RolledBack { what } => {
            lines.push("the node is as it was before this change and can be reached".into());
            format!("rolled back: {what}")
        }
        Outcome::Skipped(SkipReason::Guard(why)) => {
            lines.push("this step was not begun: two servers must never be down together".into());
            lines.push("see to it that the servers it names serve, or wait until they do".into());
            format!("held back: {why}")
        }
        Outcome::Unchanged | Outcome::Changed | Outcome::Skipped(_) => return None,
    };
    let skipped = dependents(end, addr);
    if !skipped.is_empty() {
        let names: Vec<String> = skipped.iter().take(3).map(|a| a.local()).collect();
        let more = skipped.len().saturating_sub(3);
        lines.push(format!(
            "not done because of it: {}{}",
            names.join(", "),
            if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            }
        ));
    }
    let cure = match outcome {
        Outcome::Failed(failure) => failure.cure.clone(),
        // The same plan would be refused again.
        Outcome::Stale { .. } => {
            Some("make a new plan of it: picluster plan, or picluster apply INVENTORY".into())
        }
        Outcome::RolledBack { .. } => Some(format!("mend it in the documents, then {again}")),
        _ => None,
    };
    lines.push(format!(
        "{} {}",
        style.cyan("next:"),
        cure.unwrap_or_else(|| again.to_owned())
    ));
    let mut out = heading(&addr.to_string(), &word, style);
    for line in lines.iter().take(FAILURE_LINES - 1) {
        let _ = writeln!(out, "    {line}");
    }
    Some(out)
}

fn details(failure: &Failure, lines: &mut Vec<String>, style: Style) {
    if let Some(command) = &failure.command {
        let first = command.lines().next().unwrap_or("");
        let status = failure
            .status
            .map(|s| format!(" (exit {s})"))
            .unwrap_or_default();
        lines.push(style.dim(&format!("$ {first}{status}")));
    }
    let output: Vec<&str> = failure
        .output
        .lines()
        .filter(|l| !l.trim().is_empty())
        .collect();
    let from = output.len().saturating_sub(7);
    for line in &output[from..] {
        lines.push(format!("| {line}"));
    }
    if let Some(change) = &failure.remaining {
        for field in change.fields.iter().take(4) {
            lines.push(format!(
                "still {}: {} → {}",
                field.field, field.before, field.after
            ));
        }
    }
}

fn node_failure(node: &NodeName, end: &NodeReport, again: &str, style: Style) -> Option<String> {
    let (word, next) = match &end.end {
        NodeEnd::Unreachable { reason } => (reason.clone(), again.to_owned()),
        NodeEnd::Failed { reason } => (reason.clone(), again.to_owned()),
        NodeEnd::Locked { reason, .. } => (
            reason.clone(),
            format!("wait for that run to end, then {again}"),
        ),
        NodeEnd::IdentityChanged {
            reason,
            since_plan: true,
        } => (
            reason.clone(),
            "make a new plan; it says whether this is a machine to be trusted: picluster plan"
                .into(),
        ),
        NodeEnd::IdentityChanged { reason, .. } => {
            (reason.clone(), crate::show::closed::changed_key(node))
        }
        NodeEnd::Idle | NodeEnd::Done | NodeEnd::Incomplete | NodeEnd::Interrupted => return None,
    };
    let word = word
        .strip_prefix(&format!("{node}: "))
        .unwrap_or(&word)
        .to_owned();
    let mut out = heading(node.as_str(), &word, style);
    let skipped = end
        .steps
        .iter()
        .filter(|s| matches!(s.outcome, Outcome::Skipped(_)))
        .count();
    if skipped > 0 {
        let _ = writeln!(out, "    not done: {}", count(skipped, "step"));
    }
    let _ = writeln!(out, "    {} {next}", style.cyan("next:"));
    Some(out)
}
