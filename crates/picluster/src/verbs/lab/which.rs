//! Which lab: one a document. Two inventories of the same cluster name (a checkout and its copy) have
//! a lab each, so a lab is named after the cluster and the place of its inventory.

use std::io;
use std::path::{Path, PathBuf};

use picluster_lab::{Lab, LabOptions};
use picluster_model::ClusterName;
use picluster_model::inventory::Project;
use sha2::{Digest as _, Sha256};

use crate::error::Failure;
use crate::verbs::lab::home::Home;
use crate::verbs::lab::{failure, options};

/// Names of labs are also names of folders, and have a bound.
const CLUSTER_CHARS: usize = 50;

/// The lab's name: the cluster's, and eight digits of a digest of the inventory's place.
///
/// # Errors
/// When the inventory's place cannot be told.
pub fn name(project: &Project) -> Result<String, Failure> {
    let path = &project.inventory.path;
    let place = place(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    Ok(of(&project.inventory.cluster, &place))
}

fn of(cluster: &ClusterName, place: &Path) -> String {
    let cluster: String = cluster.as_str().chars().take(CLUSTER_CHARS).collect();
    format!("{cluster}-{}", digest(place))
}

fn digest(place: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let sum = Sha256::digest(place.as_os_str().as_bytes());
    sum[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file without links and detours; of one that is gone, the name it had in its folder.
pub fn place(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = path
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            Ok(folder
                .canonicalize()?
                .join(path.file_name().unwrap_or_default()))
        }
        other => other,
    }
}

/// The running lab of an inventory, or of this name. The inventory need not be valid, nor be there
/// any more: a lab can always be looked at and stopped.
///
/// # Errors
/// None runs; with the ones that do.
pub fn open(which: &Path) -> Result<Lab, Failure> {
    let options = options()?;
    let running = Lab::running(&options);
    if let Ok(place) = place(which) {
        let ending = format!("-{}", digest(&place));
        if let Some(name) = running.iter().find(|n| n.ends_with(&ending)) {
            return Lab::open(name, &options).map_err(failure);
        }
    }
    if let Some(name) = which.to_str().filter(|n| running.iter().any(|r| r == n)) {
        return Lab::open(name, &options).map_err(failure);
    }
    let shown = which.display();
    let failure = if which.exists() {
        Failure::usage(format!("no lab of {shown} is running"))
            .hint(format!("start it: picluster lab up {shown}"))
    } else {
        Failure::usage(format!(
            "there is no file {shown} here, and no lab of that name is running"
        ))
        .hint("name the inventory a lab was made from, or the lab itself")
    };
    Err(if running.is_empty() {
        failure.hint("no lab is running")
    } else {
        failure.hint(format!("running: {}", others(&running, &options)))
    })
}

fn others(running: &[String], options: &LabOptions) -> String {
    running
        .iter()
        .map(|name| match Home::inventory_of(name, options) {
            Some(path) => format!("{name} ({})", path.display()),
            None => name.clone(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_one_cluster_are_two_labs_and_two_ways_to_one_file_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/deep")).unwrap();
        std::fs::write(root.join("a/inventory.yaml"), "").unwrap();
        std::os::unix::fs::symlink(root.join("a/inventory.yaml"), root.join("link.yaml")).unwrap();
        let cluster = ClusterName::new("homelab").unwrap();
        let name = |p: &str| of(&cluster, &place(&root.join(p)).unwrap());
        let here = name("a/inventory.yaml");
        assert_eq!(here, name("a/deep/../inventory.yaml"));
        assert_eq!(here, name("link.yaml"));
        assert_ne!(here, name("a/other.yaml"));
        assert!(here.starts_with("homelab-") && here.len() == "homelab-".len() + 8);
        // A file that is gone has the name it had.
        std::fs::remove_file(root.join("a/inventory.yaml")).unwrap();
        assert_eq!(here, name("a/inventory.yaml"));
        let long = ClusterName::new("c".repeat(63)).unwrap();
        assert!(of(&long, root).len() <= 64);
    }
}
