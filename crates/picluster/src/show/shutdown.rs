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
    let first: Vec<&NodeName> = servers.iter().filter(|n| gone.contains(n)).collect();
    let then: Vec<&NodeName> = gone.into_iter().filter(|n| !first.contains(n)).collect();
    let mut out = format!("{}\n", style.bold("To start again"));
    let mut n = 0;
    let mut line = |text: String| {
        n += 1;
        let _ = writeln!(out, "  {n}. {text}");
    };
    let width = style.width.saturating_sub(40).max(20);
    match first.len() {
        0 => {}
        1 => line(format!("{}, the server", names(&first, width))),
        _ => line(format!(
            "{}: the servers, all of them, before anything else",
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
