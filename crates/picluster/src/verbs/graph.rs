//! `graph`: the plan's graph in DOT.

use picluster_engine::ExitCode;

use crate::cli::GraphArgs;
use crate::error::Failure;
use crate::opening::Opening;
use crate::{project, verbs};

/// Looks at all nodes and prints the graph of what would be done.
///
/// # Errors
/// As for `plan`.
pub fn run(args: &GraphArgs) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let opening = Opening::of(project, &args.source.inventory, &args.meeting)?;
    let plan = verbs::block_on(verbs::until_ctrl_c(opening.look()))??.plan;
    verbs::print(&picluster_plan::dot::dot(&plan));
    for reason in verbs::plan::obstacles(&plan) {
        verbs::say(&format!("not in the graph: {reason}\n"));
    }
    Ok(verbs::plan::exit_code(&plan, false))
}
