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
    for note in project::notes(&project) {
        verbs::say(&format!("{} {note}\n", err.yellow("note:")));
    }
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let secrets = Arc::new(secrets::resolve(&project, &project.secrets())?);
    let key = store.key()?;
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let mut plan = verbs::block_on(async {
        let found = survey(&project, &engine, &secrets, &store, &key).await;
        verbs::close(&engine).await;
        found.map(|s| s.plan)
    })??;
    let left_out = cut(&mut plan, &args.part)?;
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
        verbs::print(&show::plan::plan(&plan, left_out, out));
    }
    Ok(exit_code(&plan, args.detailed_exitcode))
}

/// Why nodes are not part of a plan, one sentence each.
#[must_use]
pub fn obstacles(plan: &Plan) -> Vec<String> {
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

/// Keeps the part of the plan that was asked for, and says how many steps were left out.
///
/// # Errors
/// A pattern that matches no step, when there are steps: a typing error must not look like
/// nothing to do.
pub fn cut(plan: &mut Plan, part: &Part) -> Result<usize, Failure> {
    let patterns =
        |texts: &[String]| -> Vec<AddrPattern> { texts.iter().map(AddrPattern::new).collect() };
    let (only, except) = (patterns(&part.only), patterns(&part.except));
    let all = plan.steps.len();
    // A node that needs nothing is still a good name.
    let idle = |p: &AddrPattern| {
        let names_nodes = !p.as_str().contains(['/', '['])
            && plan
                .nodes
                .keys()
                .any(|n| picluster_plan::addr::glob(p.as_str(), n.as_str()));
        !names_nodes && all > 0 && !plan.steps.iter().any(|s| p.matches(&s.addr))
    };
    if let Some(p) = only.iter().chain(&except).find(|p| idle(p)) {
        return Err(Failure::usage(format!(
            "{:?} matches no node and none of the {all} steps of this plan",
            p.as_str()
        ))
        .hint("nothing was changed; an address looks like rpi01/base/file[/etc/hosts], and `picluster plan` shows them all"));
    }
    picluster_plan::select::select(plan, &only, &except);
    Ok(all - plan.steps.len())
}

/// Writes the plan file: whole or not at all, and over nothing but an older plan.
fn write(path: &std::path::Path, plan: &Plan) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let refuse = |why: String| {
        Failure::usage(format!(
            "the plan was not written to {}: {why}",
            path.display()
        ))
        .hint("nothing was changed; name a new file with --out, or use --json for stdout")
    };
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() => return Err(refuse("it is no regular file".into())),
        Ok(_) if !is_plan(path) => {
            return Err(refuse("it holds something that is no plan".into()));
        }
        _ => {}
    }
    let text = serde_json::to_vec_pretty(plan).unwrap_or_default();
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temp = path.with_file_name(name);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)
        .and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()))
        .and_then(|()| std::fs::rename(&temp, path))
        .map_err(|e| refuse(e.to_string()))
}

fn is_plan(path: &std::path::Path) -> bool {
    std::fs::read(path).is_ok_and(|text| serde_json::from_slice::<Plan>(&text).is_ok())
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
