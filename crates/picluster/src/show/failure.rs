//! A verb's failure, for people.

use std::fmt::Write as _;

use picluster_engine::ExitCode;

use crate::error::Failure;
use crate::term::Style;

/// Diagnostics with snippets, the message, what was not done and what next.
#[must_use]
pub fn failure(failure: &Failure, style: Style) -> String {
    let mut out = String::new();
    if !failure.diagnostics.is_empty() {
        let color = if style.color {
            picluster_model::diagnostic::Color::Styled
        } else {
            picluster_model::diagnostic::Color::Plain
        };
        out.push_str(&picluster_model::diagnostic::render(
            &failure.diagnostics,
            color,
        ));
        out.push('\n');
    }
    let _ = writeln!(out, "{} {}", style.red("error:"), failure.message);
    for hint in &failure.hints {
        let _ = writeln!(out, "  {hint}");
    }
    // That is what this exit code means; nobody has to remember to say it.
    if failure.hints.is_empty() && failure.exit == ExitCode::Usage {
        let _ = writeln!(out, "  nothing was changed on any node");
    }
    out
}
