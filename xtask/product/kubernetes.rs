//! The programs of a real Kubernetes, for tests.

use std::path::Path;

use picluster_lab::{LabOptions, Progress};

use crate::Outcome;

/// Builds them unless the cache has them, and prints the folder that has them on standard output.
///
/// # Errors
/// When they cannot be built.
pub(crate) fn build() -> Outcome {
    let options = LabOptions::from_environment().map_err(|e| e.to_string())?;
    let mut show = |progress: Progress| match progress {
        Progress::ImageBuilding { .. } => {
            eprintln!("building Kubernetes from Debian's source package: once, about ten minutes");
        }
        Progress::ImageBuilt { seconds, .. } => eprintln!("built in {seconds:.0} s"),
        _ => {}
    };
    let image = picluster_lab::ensure_kubernetes(&options, &mut show).map_err(|e| e.to_string())?;
    let folder = image
        .directory
        .join("root")
        .join(Path::new(picluster_lab::kubernetes::DIRECTORY));
    println!("{}", folder.display());
    Ok(())
}
