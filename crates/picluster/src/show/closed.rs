//! A node that cannot be worked on, for people: why, and what to do about it. The same words wherever
//! it is met.

use std::fmt::Write as _;

use picluster_engine::ExitCode;
use picluster_model::NodeName;
use picluster_plan::{NodeState, Problem};

use crate::term::{Style, count};

/// What to do about a node that nobody answers at.
pub const UNREACHABLE: &str = "look at its power and cable, then run the same command again; `expected: absent` if it is to stay off";

/// What to do about a host key that is not the pinned one.
#[must_use]
pub fn changed_key(node: &NodeName) -> String {
    format!(
        "if its card or board was changed on purpose: picluster forget-key {node}; else somebody else answers at its address"
    )
}

/// Lines about one node, indented by two; empty for one that was looked at.
#[must_use]
pub fn closed(name: &NodeName, state: &NodeState, style: Style) -> String {
    let mut out = String::new();
    let next = style.cyan("next:");
    match state {
        NodeState::Observed { .. } => {}
        NodeState::Absent => {
            let _ = writeln!(
                out,
                "  {} is declared absent: not dialled",
                style.dim(name.as_str())
            );
        }
        NodeState::Unreachable { reason } => {
            let _ = writeln!(out, "  {}", style.red(reason));
            let _ = writeln!(out, "    {next} {UNREACHABLE}");
        }
        NodeState::HostKeyChanged { reason } => {
            let _ = writeln!(out, "  {}", style.red(reason));
            let _ = writeln!(out, "    {next} {}", changed_key(name));
        }
        NodeState::Blocked { problems } => {
            for p in problems {
                problem(&mut out, name, p, style);
            }
        }
    }
    out
}

/// Lines about one obstacle.
pub fn problem(out: &mut String, node: &NodeName, problem: &Problem, style: Style) {
    let about = problem
        .addr
        .as_ref()
        .map(|a| format!("{}: ", a.local()))
        .unwrap_or_default();
    let _ = writeln!(
        out,
        "  {} {about}{}",
        style.red(node.as_str()),
        problem.what
    );
    if !problem.skipped.is_empty() {
        let _ = writeln!(
            out,
            "    not planned because of it: {}",
            count(problem.skipped.len(), "step")
        );
    }
    if let Some(cure) = &problem.cure {
        let _ = writeln!(out, "    {} {cure}", style.cyan("next:"));
    }
}

/// What a node's state alone means for the exit code; `None`: nothing.
#[must_use]
pub fn exit_code(state: &NodeState) -> Option<ExitCode> {
    match state {
        NodeState::Observed { .. } | NodeState::Absent => None,
        NodeState::Blocked { .. } => Some(ExitCode::NodeFailed),
        NodeState::Unreachable { .. } => Some(ExitCode::Unreachable),
        NodeState::HostKeyChanged { .. } => Some(ExitCode::IdentityChanged),
    }
}
