//! What a lab's controller has of a release: a lab reaches no network.

use std::fs;
use std::path::Path;

use picluster_model::inventory::Project;

use crate::error::Failure;
use crate::releases::{self, Releases};
use crate::verbs::lab::home::Home;

/// Fills the cache inside with what the user's own cache has; a file that is named stands for the release of k3s.
///
/// # Errors
/// A file that is no program, or a disk that takes nothing.
pub(super) fn k3s(project: &Project, home: &Home, file: Option<&Path>) -> Result<(), Failure> {
    let Some(kubernetes) = releases::k3s(project) else {
        return Ok(());
    };
    let inside = home.cache().join("picluster/artifacts");
    let own = Releases::of_user()?;
    lend(own.store().root(), &inside).map_err(|e| {
        Failure::usage(format!("cannot fill {}: {e}", inside.display()))
            .hint("the lab was not started; name another place with XDG_STATE_HOME=DIR")
    })?;
    if let Some(file) = file {
        Releases::at(inside).adopt(kubernetes, file)?;
    }
    Ok(())
}

/// The files themselves are shared where the file system can; they never change.
fn lend(from: &Path, to: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let whole = !name.to_string_lossy().starts_with('.');
        let target = to.join(&name);
        if !whole || !entry.file_type()?.is_file() {
            continue;
        }
        // What is written to is copied, whole files are shared; one that is there already is the same.
        let is_index = target.extension().is_some_and(|e| e == "json");
        let shared = !is_index && (target.exists() || fs::hard_link(entry.path(), &target).is_ok());
        if !shared {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
