//! `plan`: what differs, why, and what would follow.

use std::sync::Arc;

use picluster_engine::ExitCode;
use picluster_plan::{AddrPattern, NodeState, Plan};

use crate::cli::{Part, PlanArgs};
use crate::error::Failure;
use crate::store::Store;
use crate::survey::survey;
use crate::term::Style;
use crate::{project, secrets, show, verbs};

/// Looks at all nodes and shows the plan.
///
/// # Errors
/// Documents, secrets, or a pattern that matches nothing.
pub fn run(args: &PlanArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let secrets = Arc::new(secrets::resolve(&project, &project.secrets())?);
    let key = store.key()?;
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let mut plan = verbs::block_on(async {
        let found = survey(&project, &engine, &secrets, &key).await;
        verbs::close(&engine).await;
        found.map(|s| s.plan)
    })??;
    cut(&mut plan, &args.part)?;
    if let Some(path) = &args.out {
        write(path, &plan)?;
    }
    if args.json {
        let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
        verbs::print(&format!("{text}\n"));
        // Machines read stdout; people still see what stands in the way.
        for reason in obstacles(&plan) {
            verbs::say(&format!("{} {reason}\n", err.red("not planned:")));
        }
    } else {
        verbs::print(&show::plan::plan(&plan, out));
    }
    Ok(exit_code(&plan, args.detailed_exitcode))
}

fn obstacles(plan: &Plan) -> Vec<String> {
    plan.nodes
        .iter()
        .filter_map(|(name, node)| match &node.state {
            NodeState::Unreachable { reason } | NodeState::HostKeyChanged { reason } => {
                Some(reason.clone())
            }
            NodeState::Blocked { problems } => {
                problems.first().map(|p| format!("{name}: {}", p.what))
            }
            NodeState::Observed { .. } | NodeState::Absent => None,
        })
        .collect()
}

/// Keeps the part of the plan that was asked for.
///
/// # Errors
/// A pattern that matches no step, when there are steps: a typing error must not look like
/// nothing to do.
pub fn cut(plan: &mut Plan, part: &Part) -> Result<(), Failure> {
    let patterns =
        |texts: &[String]| -> Vec<AddrPattern> { texts.iter().map(AddrPattern::new).collect() };
    let known = |p: &AddrPattern| {
        // A node that needs nothing is still a good name.
        plan.nodes.keys().any(|n| {
            picluster_plan::addr::glob(p.as_str().split('/').next().unwrap_or(""), n.as_str())
        })
    };
    let (only, except) = (patterns(&part.only), patterns(&part.except));
    if let Some(p) = only.iter().chain(&except).find(|p| !known(p)) {
        return Err(
            Failure::usage(format!("{:?} matches no node of the inventory", p.as_str()))
                .hint("nothing was changed; an address looks like rpi01/base/file[/etc/hosts]"),
        );
    }
    picluster_plan::select::select(plan, &only, &except);
    Ok(())
}

fn write(path: &std::path::Path, plan: &Plan) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let text = serde_json::to_vec_pretty(plan).unwrap_or_default();
    let temp = path.with_extension("new");
    let done = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)
        .and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&temp, path));
    done.map_err(|e| Failure::usage(format!("cannot write the plan to {}: {e}", path.display())))
}

/// The exit code of a plan.
#[must_use]
pub fn exit_code(plan: &Plan, detailed: bool) -> ExitCode {
    let mut codes = Vec::new();
    if detailed && !plan.steps.is_empty() {
        codes.push(ExitCode::Changes);
    }
    codes.extend(node_codes(plan));
    ExitCode::worst(codes)
}

/// What the nodes' states alone mean for the exit code.
pub fn node_codes(plan: &Plan) -> Vec<ExitCode> {
    let mut codes = Vec::new();
    for node in plan.nodes.values() {
        match &node.state {
            NodeState::Observed { .. } if node.problems.is_empty() => {}
            NodeState::Absent => {}
            NodeState::Observed { .. } | NodeState::Blocked { .. } => {
                codes.push(ExitCode::NodeFailed)
            }
            NodeState::Unreachable { .. } => codes.push(ExitCode::Unreachable),
            NodeState::HostKeyChanged { .. } => codes.push(ExitCode::IdentityChanged),
        }
    }
    codes
}
