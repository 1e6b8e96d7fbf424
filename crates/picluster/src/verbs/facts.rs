//! `facts`: who the nodes are.

use std::fmt::Write as _;

use picluster_engine::ExitCode;
use picluster_plan::NodeState;

use crate::cli::FactsArgs;
use crate::error::Failure;
use crate::store::Store;
use crate::survey;
use crate::term::Style;
use crate::{project, verbs};

/// Asks every node and prints a table, or JSON.
///
/// # Errors
/// Documents, or a pattern that names nothing.
pub fn run(args: &FactsArgs, style: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let nodes = project::nodes_matching(&project, &args.on)?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let found = verbs::block_on(async {
        let found = survey::facts(&engine, nodes, true).await;
        verbs::close(&engine).await;
        found
    })?;
    let mut codes = Vec::new();
    let mut out = String::new();
    let mut json = serde_json::Map::new();
    let widest = found.keys().map(|n| n.as_str().len()).max().unwrap_or(0);
    for (name, answer) in &found {
        let label = style.bold(&format!("{:widest$}", name.as_str()));
        match answer {
            Ok((facts, _)) => {
                json.insert(
                    name.to_string(),
                    serde_json::to_value(facts).unwrap_or_default(),
                );
                let board = if facts.board.model.is_empty() {
                    "no device tree"
                } else {
                    &facts.board.model
                };
                let _ = writeln!(
                    out,
                    "{label}  {}  {}  {} MiB  {}/{}  {}",
                    board,
                    facts.os.pretty,
                    facts.memory_mib,
                    facts.arch.kernel,
                    facts.arch.userland,
                    facts.now.system_state
                );
            }
            Err(state) => {
                let (text, code) = match state {
                    NodeState::Absent => ("declared absent".to_owned(), ExitCode::Done),
                    NodeState::Unreachable { reason } => (reason.clone(), ExitCode::Unreachable),
                    NodeState::HostKeyChanged { reason } => {
                        (reason.clone(), ExitCode::IdentityChanged)
                    }
                    NodeState::Blocked { problems } => (
                        problems
                            .iter()
                            .map(|p| p.what.as_str())
                            .collect::<Vec<_>>()
                            .join("; "),
                        ExitCode::NodeFailed,
                    ),
                    NodeState::Observed { .. } => (String::new(), ExitCode::Done),
                };
                codes.push(code);
                json.insert(name.to_string(), serde_json::json!({ "error": text }));
                let _ = writeln!(out, "{label}  {}", style.red(&text));
            }
        }
    }
    if args.json {
        out = format!(
            "{}\n",
            serde_json::to_string_pretty(&json).unwrap_or_default()
        );
    }
    verbs::print(&out);
    Ok(ExitCode::worst(codes))
}
