//! Node names on one line.

use picluster_model::NodeName;

/// `rpi01`, `rpi01 rpi02`, or `rpi01 … rpi06 (6 nodes)` when they would not fit into `width`.
#[must_use]
pub fn names(nodes: &[&NodeName], width: usize) -> String {
    let all: Vec<&str> = nodes.iter().map(|n| n.as_str()).collect();
    let line = all.join(" ");
    if line.chars().count() <= width || all.len() < 3 {
        return line;
    }
    match (all.first(), all.last()) {
        (Some(first), Some(last)) => format!("{first} … {last} ({} nodes)", all.len()),
        _ => line,
    }
}
