//! `graph`: the plan's graph in DOT.

use std::sync::Arc;

use picluster_engine::ExitCode;

use crate::cli::GraphArgs;
use crate::error::Failure;
use crate::store::Store;
use crate::survey::survey;
use crate::{project, secrets, verbs};

/// Looks at all nodes and prints the graph of what would be done.
///
/// # Errors
/// As for `plan`.
pub fn run(args: &GraphArgs) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let secrets = Arc::new(secrets::resolve(&project, &project.secrets())?);
    let key = store.key()?;
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let plan = verbs::block_on(async {
        let found = survey(&project, &engine, &secrets, &store, &key).await;
        verbs::close(&engine).await;
        found.map(|s| s.plan)
    })??;
    verbs::print(&picluster_plan::dot::dot(&plan));
    for reason in verbs::plan::obstacles(&plan) {
        verbs::say(&format!("not in the graph: {reason}\n"));
    }
    Ok(verbs::plan::exit_code(&plan, false))
}
