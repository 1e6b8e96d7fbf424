//! `explain`: where a value comes from.

use picluster_engine::ExitCode;
use picluster_model::{Node, NodeName, Project, suggest};

use crate::cli::ExplainArgs;
use crate::error::Failure;
use crate::explain::{Explanation, FORMAT, find, unknown, values};
use crate::term::Style;
use crate::{project, show, verbs};

/// Shows a value of a node and every place that gave one, the winner first, or all values of the node.
///
/// # Errors
/// An unknown node or value, with the nearest known one.
pub fn run(args: &ExplainArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load_as_written(&args.source.inventory)?;
    let node = node(&project, &args.node)?;
    let (all, finding) = values(&project, node);
    if let Some(finding) = finding {
        verbs::say(&format!(
            "{} {}: {finding}; what ssh settings it gives is not shown\n",
            err.yellow("note:"),
            node.name
        ));
    }
    let wanted = match &args.var {
        None => all,
        Some(text) => {
            let found = find(&all, text);
            if found.is_empty() {
                return Err(unknown(&project, node, &all, text));
            }
            found
        }
    };
    let text = if args.json {
        let explanation = Explanation {
            format: FORMAT,
            node: node.name.clone(),
            values: wanted,
        };
        let json = serde_json::to_string_pretty(&explanation).unwrap_or_default();
        format!("{json}\n")
    } else if let ([only], Some(_)) = (wanted.as_slice(), &args.var) {
        show::explain::one(only, out)
    } else {
        show::explain::table(node, &wanted, out)
    };
    verbs::print(&text);
    Ok(ExitCode::Done)
}

fn node<'a>(project: &'a Project, text: &str) -> Result<&'a Node, Failure> {
    let nodes = &project.inventory.nodes;
    let known = NodeName::new(text).ok().and_then(|name| nodes.get(&name));
    known.ok_or_else(|| {
        let failure = Failure::usage(format!("there is no node {text:?}"));
        let names = nodes.keys().map(NodeName::as_str);
        match suggest::help("the inventory has", text, names) {
            Some(help) => failure.hint(help),
            None => failure,
        }
    })
}
