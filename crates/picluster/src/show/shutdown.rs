//! Behind a shutdown: who is off now, and how all of it is started again.

use std::fmt::Write as _;

use picluster_engine::{Outcome, Report};
use picluster_model::NodeName;
use picluster_plan::{Plan, Work};

use crate::show::names::names;
use crate::term::Style;

/// What to do to start again the nodes that were switched off; empty where none was.
#[must_use]
pub fn again(plan: &Plan, report: &Report, servers: &[NodeName], style: Style) -> String {
    let off = |name: &NodeName| {
        let steps = report.nodes.get(name).into_iter().flat_map(|n| &n.steps);
        let mut done = steps.filter(|s| s.outcome == Outcome::Changed);
        done.any(|s| plan.step(&s.addr).is_some_and(|s| s.work == Work::PowerOff))
    };
    let gone: Vec<&NodeName> = report.nodes.keys().filter(|n| off(n)).collect();
    if gone.is_empty() {
        return String::new();
    }
    // The other way round than they went: what others need went last.
    let mut order: Vec<&NodeName> = (plan.steps.iter())
        .filter(|s| s.work == Work::PowerOff && gone.contains(&&s.addr.node))
        .map(|s| &s.addr.node)
        .collect();
    order.reverse();
    let is_server = |n: &&NodeName| servers.contains(n);
    let from = order.iter().position(is_server).unwrap_or(0);
    let needed: Vec<&NodeName> = order[..from].to_vec();
    let first: Vec<&NodeName> = servers.iter().filter(|n| order.contains(n)).collect();
    let then: Vec<&NodeName> = (order[from..].iter().copied())
        .filter(|n| !is_server(n))
        .collect();
    let mut out = format!("{}\n", style.bold("To start again"));
    let mut n = 0;
    let mut line = |text: String| {
        n += 1;
        let _ = writeln!(out, "  {n}. {text}");
    };
    let width = style.width.saturating_sub(40).max(20);
    if !needed.is_empty() {
        line(format!("{}, which others need", names(&needed, width)));
    }
    match first.len() {
        0 => {}
        1 => line(format!("{}, the server", names(&first, width))),
        _ => line(format!(
            "{}: the servers, all of them, before what follows",
            names(&first, width)
        )),
    }
    if !then.is_empty() {
        line(names(&then, width));
    }
    line(
        "picluster apply: what was moved away comes back, and what does not come up is named"
            .into(),
    );
    let _ = writeln!(
        out,
        "  A Raspberry Pi starts when it is given power anew, a Pi 5 also by its button."
    );
    out
}
