//! `plan`: what differs, why, and what would follow.

use std::collections::BTreeSet;

use picluster_engine::ExitCode;
use picluster_model::NodeName;
use picluster_plan::{AddrPattern, NodeState, Plan};

use crate::cli::{Part, PlanArgs};
use crate::error::Failure;
use crate::kubeconfig::Merge;
use crate::opening::Opening;
use crate::show::closed::exit_code as exit_code_of;
use crate::term::Style;
use crate::{plan_file, show, verbs};

/// Looks at all nodes and shows the plan.
///
/// # Errors
/// Documents, secrets, or a pattern that matches nothing.
pub fn run(args: &PlanArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = verbs::load(&args.source.inventory, err)?;
    let mut opening = Opening::of(project, &args.source.inventory, &args.meeting)?
        .bootstrap(args.bootstrap.as_deref())?;
    opening.departures.remove = args.remove_nodes;
    let found = verbs::block_on(verbs::until_ctrl_c(async {
        opening.meet_leaving().await?;
        opening.look().await
    }))??;
    let mut plan = found.plan;
    let kubeconfig = Merge::foresee(&opening.project, Some(found.credentials), &args.part);
    let left_out = cut(&mut plan, &args.part)?;
    if let Some(path) = &args.out {
        plan_file::write(path, &plan)?;
    }
    if args.json {
        let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
        verbs::print(&format!("{text}\n"));
        // Machines read stdout; people still see what stands in the way.
        for reason in obstacles(&plan) {
            verbs::say(&format!("{} {reason}\n", err.red("not planned:")));
        }
    } else {
        verbs::print(&show::plan::plan(&plan, left_out.steps, out));
        verbs::print(&kubeconfig.shown(out));
    }
    let mut codes = vec![exit_code(&plan, args.detailed_exitcode)];
    if args.detailed_exitcode && kubeconfig.is_due() {
        codes.push(ExitCode::Changes);
    }
    Ok(ExitCode::worst(codes))
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

/// What was not selected.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// How many steps.
    pub steps: usize,
    /// Nodes that had steps and have none left.
    pub nodes: BTreeSet<NodeName>,
}

/// Keeps the part of the plan that was asked for, and says what was left out.
///
/// # Errors
/// A pattern that matches no step, when there are steps: a typing error must not look like
/// nothing to do.
pub fn cut(plan: &mut Plan, part: &Part) -> Result<LeftOut, Failure> {
    let patterns =
        |texts: &[String]| -> Vec<AddrPattern> { texts.iter().map(AddrPattern::new).collect() };
    let (only, except) = (patterns(&part.only), patterns(&part.except));
    let all = plan.steps.len();
    let busy = |plan: &Plan| -> BTreeSet<NodeName> {
        plan.steps.iter().map(|s| s.addr.node.clone()).collect()
    };
    let before = busy(plan);
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
    Ok(LeftOut {
        steps: all - plan.steps.len(),
        nodes: &before - &busy(plan),
    })
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

/// Whether a node is away and all that is asked for is that its cluster forgets it: that is done whole without it, and the plan
/// says what stays on its card.
pub(crate) fn only_deleted(plan: &Plan, name: &NodeName) -> bool {
    let away = plan
        .nodes
        .get(name)
        .is_some_and(|n| matches!(n.state, NodeState::Unreachable { .. }));
    away && plan.leaving.get(name).is_some_and(|n| n.removed)
}

/// What the nodes' states alone mean for the exit code.
pub fn node_codes(plan: &Plan) -> Vec<ExitCode> {
    let mut codes = Vec::new();
    for (name, node) in &plan.nodes {
        if !only_deleted(plan, name) {
            codes.extend(exit_code_of(&node.state));
        }
        if !node.problems.is_empty() {
            codes.push(ExitCode::NodeFailed);
        }
    }
    codes
}
