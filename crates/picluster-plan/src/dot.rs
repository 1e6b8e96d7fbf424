//! The plan's graph in Graphviz' DOT language.

use std::fmt::Write as _;

use crate::plan::Plan;

/// One cluster a node, one box a step, one arrow a direct need.
#[must_use]
pub fn dot(plan: &Plan) -> String {
    let mut out = String::from(
        "digraph plan {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n",
    );
    for name in plan.nodes.keys() {
        let _ = writeln!(
            out,
            "  subgraph \"cluster_{name}\" {{\n    label=\"{name}\";"
        );
        for step in plan.steps.iter().filter(|s| &s.addr.node == name) {
            let _ = writeln!(
                out,
                "    {} [label={}];",
                quoted(&step.addr.to_string()),
                quoted(&step.addr.local())
            );
        }
        out.push_str("  }\n");
    }
    for step in &plan.steps {
        for need in &step.needs {
            // Only direct arrows: what another need already needs is left out.
            let through = step.needs.iter().any(|other| {
                other != need && plan.step(other).is_some_and(|s| s.needs.contains(need))
            });
            if !through {
                let _ = writeln!(
                    out,
                    "  {} -> {};",
                    quoted(&need.to_string()),
                    quoted(&step.addr.to_string())
                );
            }
        }
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
