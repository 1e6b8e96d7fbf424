//! `validate`: the documents alone.

use picluster_engine::ExitCode;

use crate::cli::ValidateArgs;
use crate::error::Failure;
use crate::term::{Style, count};
use crate::{project, verbs};

/// Loads everything and says what it found.
///
/// # Errors
/// All errors in all documents.
pub fn run(args: &ValidateArgs, style: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let roles: Vec<&str> = project.roles.keys().map(|r| r.as_str()).collect();
    verbs::print(&format!(
        "{} {}: {}, {}: {}\n",
        style.green("valid"),
        project.inventory.cluster,
        count(project.inventory.nodes.len(), "node"),
        count(roles.len(), "role"),
        if roles.is_empty() {
            "none".to_owned()
        } else {
            roles.join(", ")
        },
    ));
    for note in project::notes(&project) {
        verbs::say(&format!("note: {note}\n"));
    }
    Ok(ExitCode::Done)
}
