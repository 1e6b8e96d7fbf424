//! The kubeconfig for people: a line of its own, for it is on this machine and no node's.

use crate::kubeconfig::{Foreseen, Obstacle, Target, Written};
use crate::term::Style;

/// What an apply will do with it; nothing when nothing.
#[must_use]
pub fn foreseen(foreseen: &Foreseen, context: &str, style: Style) -> String {
    let line = |sign: String, path: &std::path::Path, what: &str| {
        format!("{sign} {} on this machine: {what}\n\n", path.display())
    };
    match foreseen {
        Foreseen::Nothing => String::new(),
        Foreseen::Known(Written::Unchanged) => String::new(),
        Foreseen::Known(Written::Added(path)) => line(
            style.green("+"),
            path,
            &format!("context {context} will be added"),
        ),
        Foreseen::Known(Written::Updated(path)) => line(
            style.yellow("~"),
            path,
            &format!("context {context} will get the server's present address and credentials"),
        ),
        Foreseen::Known(Written::Beside { path, why, .. }) => line(
            style.green("+"),
            path,
            &format!(
                "context {context} will be written there, because your kubeconfig cannot be edited: {why}"
            ),
        ),
        Foreseen::Later(Target { path, context }) => line(
            style.green("+"),
            path,
            &format!("context {context} will be written once the server has its credentials"),
        ),
        Foreseen::Refused(obstacle) => format!("{}\n", refused(obstacle, style)),
        Foreseen::Unreadable { node, place, why } => format!(
            "{} {node}: {place} makes no sense: {why}; your kubeconfig will not be changed\n\n",
            style.red("kubeconfig:"),
        ),
    }
}

/// Why it is not written, and what to do.
#[must_use]
pub fn refused(obstacle: &Obstacle, style: Style) -> String {
    format!(
        "{} {obstacle}\n  {} {}\n",
        style.red("kubeconfig:"),
        style.cyan("hint:"),
        obstacle.hint()
    )
}

/// What was done with it; nothing when nothing.
#[must_use]
pub fn written(written: &Written, context: &str, style: Style) -> String {
    match written {
        Written::Unchanged | Written::Beside { changed: false, .. } => String::new(),
        Written::Added(path) => format!(
            "{} {}: context {context} added; try: kubectl --context {context} get nodes\n",
            style.green("kubeconfig:"),
            path.display()
        ),
        Written::Updated(path) => format!(
            "{} {}: context {context} updated\n",
            style.green("kubeconfig:"),
            path.display()
        ),
        Written::Beside { path, why, .. } => format!(
            "{} your kubeconfig cannot be edited ({why}), so context {context} is in a file of its own: export KUBECONFIG={}\n",
            style.yellow("kubeconfig:"),
            path.display()
        ),
    }
}
