//! What a run could not have been shorter than, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use picluster_engine::Report;
use picluster_plan::critical::{Leg, critical_path};
use picluster_plan::{Plan, StepAddr};

use crate::term::{Style, count};

/// Runs that are over sooner leave nobody wondering what took so long, in seconds.
const WORTH_TELLING: f64 = 2.0;

/// Steps named of each stretch.
const NAMED: usize = 2;

/// Legs that follow one another on one node.
struct Stretch<'a> {
    node: &'a str,
    legs: Vec<&'a Leg>,
}

impl Stretch<'_> {
    fn seconds(&self) -> f64 {
        self.legs.iter().map(|leg| leg.seconds).sum()
    }
}

/// The longest chain of steps that had to wait for each other, a line for each node it comes past; `None` for a short run.
#[must_use]
pub fn critical(plan: &Plan, report: &Report, style: Style) -> Option<String> {
    let took: BTreeMap<&StepAddr, f64> = report
        .nodes
        .values()
        .flat_map(|node| &node.steps)
        .map(|step| (&step.addr, step.seconds))
        .collect();
    let path = critical_path(&plan.steps, |addr| took.get(addr).copied().unwrap_or(0.0));
    let whole: f64 = path.iter().map(|leg| leg.seconds).sum();
    if whole < WORTH_TELLING {
        return None;
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    for leg in &path {
        match stretches.last_mut() {
            Some(stretch) if stretch.node == leg.addr.node.as_str() => stretch.legs.push(leg),
            _ => stretches.push(Stretch {
                node: leg.addr.node.as_str(),
                legs: vec![leg],
            }),
        }
    }
    // A hop of a few milliseconds explains nothing.
    stretches.retain(|stretch| stretch.seconds() >= whole / 50.0);
    let mut out = format!(
        "{} {whole:.1} s of {:.1} s, {} of {} that had to wait for each other:\n",
        style.bold("Critical path:"),
        report.seconds,
        path.len(),
        count(plan.steps.len(), "step"),
    );
    let widest = stretches.iter().map(|s| s.node.len()).max().unwrap_or(0);
    for stretch in &stretches {
        let _ = writeln!(
            out,
            "  {}  {:>6.1} s  {}",
            style.bold(&format!("{:widest$}", stretch.node)),
            stretch.seconds(),
            style.dim(&longest(stretch, whole).join(", ")),
        );
    }
    Some(out)
}

/// The longest steps, in the order they ran in.
fn longest(stretch: &Stretch, whole: f64) -> Vec<String> {
    let mut by_length: Vec<(usize, &&Leg)> = stretch.legs.iter().enumerate().collect();
    by_length.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    // The longest in any case.
    let more = by_length.iter().skip(1);
    let worth = more.filter(|(_, leg)| leg.seconds >= whole / 20.0).count();
    by_length.truncate((1 + worth).min(NAMED));
    by_length.sort_by_key(|(place, _)| *place);
    by_length
        .iter()
        .map(|(_, leg)| format!("{} {:.1} s", name(&leg.addr), leg.seconds))
        .collect()
}

/// As the plan calls it.
fn name(addr: &StepAddr) -> String {
    if addr.kind == "reboot" {
        addr.kind.clone()
    } else {
        addr.local()
    }
}
