//! Node names on one line.

use picluster_model::{NodeName, range};

/// `rpi01`, `rpi01 rpi02`; when they would not fit into `width`, in the ranges of an inventory, `rpi[01:06] (6 nodes)`, and
/// when those do not fit either, `rpi01 … west9 (60 nodes)`.
#[must_use]
pub fn names(nodes: &[&NodeName], width: usize) -> String {
    let all: Vec<&str> = nodes.iter().map(|n| n.as_str()).collect();
    let line = all.join(" ");
    if line.chars().count() <= width || all.len() < 3 {
        return line;
    }
    let ranges = in_ranges(&all);
    if ranges.chars().count() <= width {
        return ranges;
    }
    match (all.first(), all.last()) {
        (Some(first), Some(last)) => format!("{first} … {last} ({} nodes)", all.len()),
        _ => line,
    }
}

/// All of them, in ranges where that is shorter, and none left out: for what somebody agrees to.
#[must_use]
pub fn each(nodes: &[&NodeName]) -> String {
    let all: Vec<&str> = nodes.iter().map(|n| n.as_str()).collect();
    let line = all.join(" ");
    match line.chars().count() <= BRACKETS || all.len() < 3 {
        true => line,
        false => in_ranges(&all),
    }
}

/// Columns that names may take before they are put into ranges.
const BRACKETS: usize = 60;

fn in_ranges(all: &[&str]) -> String {
    format!("{} ({} nodes)", range::compact(all).join(" "), all.len())
}
