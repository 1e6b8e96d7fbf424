//! `status`: how every node is, in one question.

use picluster_engine::ExitCode;
use picluster_engine::clock::Clock as _;

use crate::cli::StatusArgs;
use crate::error::Failure;
use crate::opening::Opening;
use crate::status::{Seen, Status, last};
use crate::survey::Beside;
use crate::term::Style;
use crate::{project, show, verbs};

/// Looks at all nodes as a plan does and shows how they are.
///
/// # Errors
/// Documents, secrets, or a pattern that names nothing; and, once everything else has been shown, why nothing could be planned.
pub fn run(args: &StatusArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = verbs::load(&args.source.inventory, err)?;
    let opening = Opening::of(project, &args.source.inventory, &args.meeting)?;
    let mut nodes: Vec<_> = opening.project.inventory.nodes.values().collect();
    if !args.only.is_empty() {
        let mut wanted = Vec::new();
        // Each by itself: one that names nothing is a typing error.
        for pattern in &args.only {
            wanted.extend(project::nodes_matching(&opening.project, pattern)?);
        }
        nodes.retain(|node| wanted.iter().any(|w| w.name == node.name));
    }
    let mut found = verbs::block_on(verbs::until_ctrl_c(opening.look_and(Beside::Readings)))??;
    let status = Status::of(&Seen {
        project: &opening.project,
        nodes,
        plan: &found.plan,
        planned: found.unplanned.is_none(),
        readings: &found.readings,
        applied: last::applied(&opening.store.runs()),
        at: verbs::SystemClock::new().epoch_ms().div_euclid(1000),
    });
    if args.json {
        let text = serde_json::to_string_pretty(&status).unwrap_or_default();
        verbs::print(&format!("{text}\n"));
    } else {
        verbs::print(&show::status::status(&status, out));
    }
    if let Some(failure) = found.unplanned {
        return Err(failure);
    }
    let plan = &mut found.plan;
    plan.nodes.retain(|name, _| status.nodes.contains_key(name));
    Ok(ExitCode::worst(verbs::plan::node_codes(plan)))
}
