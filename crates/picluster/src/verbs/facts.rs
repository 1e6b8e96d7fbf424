//! `facts`: who the nodes are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use picluster_engine::ExitCode;
use picluster_model::NodeName;
use picluster_plan::NodeState;
use picluster_resource::Facts;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::FactsArgs;
use crate::error::Failure;
use crate::show::closed::{closed, exit_code};
use crate::store::Store;
use crate::survey;
use crate::term::Style;
use crate::{project, verbs};

/// Asks every node and prints a table, or JSON.
///
/// # Errors
/// Documents, or a pattern that names nothing.
pub fn run(args: &FactsArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let nodes = project::nodes_matching(&project, &args.on)?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let found = verbs::block_on(verbs::until_ctrl_c(async {
        let found = survey::facts(&engine, nodes, true).await;
        verbs::close(&engine).await;
        Ok(found)
    }))??;
    let report = FactsReport::of(found);
    if args.json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        verbs::print(&format!("{text}\n"));
    } else {
        verbs::print(&table(&report, out));
    }
    // Data on stdout, what stands in the way on stderr.
    for (name, state) in &report.nodes {
        verbs::say(&closed(name, state, err));
    }
    Ok(ExitCode::worst(report.nodes.values().filter_map(exit_code)))
}

/// The version of what `facts --json` prints. Raised when a reader of the old form would misread the
/// new.
pub const FORMAT: u32 = 1;

/// What `facts --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FactsReport {
    /// See [`FORMAT`].
    pub format: u32,
    /// Every node that was asked for: its facts, or why there are none.
    pub nodes: BTreeMap<NodeName, NodeState>,
}

impl FactsReport {
    fn of(found: BTreeMap<NodeName, Result<(Facts, String), NodeState>>) -> Self {
        let state = |answer| match answer {
            Ok((facts, host_key)) => NodeState::Observed {
                facts: Box::new(facts),
                host_key,
            },
            Err(state) => state,
        };
        Self {
            format: FORMAT,
            nodes: found
                .into_iter()
                .map(|(name, answer)| (name, state(answer)))
                .collect(),
        }
    }
}

/// One line a node that answered.
fn table(report: &FactsReport, style: Style) -> String {
    let widest = report
        .nodes
        .keys()
        .map(|n| n.as_str().len())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for (name, state) in &report.nodes {
        let NodeState::Observed { facts, .. } = state else {
            continue;
        };
        let label = style.bold(&format!("{:widest$}", name.as_str()));
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
    out
}
