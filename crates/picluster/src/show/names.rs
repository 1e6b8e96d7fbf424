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
    let ranges = format!("{} ({} nodes)", range::compact(&all).join(" "), all.len());
    if ranges.chars().count() <= width {
        return ranges;
    }
    match (all.first(), all.last()) {
        (Some(first), Some(last)) => format!("{first} … {last} ({} nodes)", all.len()),
        _ => line,
    }
}
