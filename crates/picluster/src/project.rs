//! Reads the documents.

use std::path::Path;

use picluster_model::inventory::{Node, Project};
use picluster_model::library::RoleLibrary;
use picluster_model::load::{Everything, Local};
use picluster_plan::addr::glob;
use picluster_resource::Vocabulary;

use crate::error::Failure;
use crate::plan_file;
use crate::releases::at_home;

/// Loads an inventory with the built-in roles behind the user's.
///
/// # Errors
/// Every diagnostic of every document.
pub fn load(path: &Path) -> Result<Project, Failure> {
    load_with(path, &ThisMachine)
}

/// Loads an inventory and takes the files it names for given, whether or not they are on this machine.
///
/// # Errors
/// Every diagnostic of every document.
pub fn load_as_written(path: &Path) -> Result<Project, Failure> {
    load_with(path, &Everything)
}

fn load_with(path: &Path, local: &dyn Local) -> Result<Project, Failure> {
    let file = path.display();
    if !path.exists() {
        return Err(Failure::usage(format!("{file} does not exist"))
            .hint("no node was contacted; nothing was changed")
            .hint("name the inventory on the command line, or write one; the smallest is `{ cluster: home, nodes: { pi-1: { address: 192.168.2.1 } } }`, commented ones to copy are inventories/one.yaml, three.yaml and six.yaml"));
    }
    if let Some(inventory) = plan_file::inventory_of(path) {
        return Err(
            Failure::usage(format!("{file} is a plan file, not an inventory"))
                .hint("no node was contacted; nothing was changed")
                .hint(format!(
                    "carry it out: picluster apply {file}; the inventory it was made from is {inventory}"
                )),
        );
    }
    let library = RoleLibrary::builtin(crate::builtin::ROLES);
    picluster_model::load::load(path, &library, &Vocabulary, local).map_err(Failure::documents)
}

/// The machine picluster runs on.
struct ThisMachine;

impl Local for ThisMachine {
    fn exists(&self, path: &Path) -> bool {
        at_home(path).exists()
    }

    fn list(&self, folder: &Path) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(at_home(folder)).ok()?;
        let names = entries.flatten().map(|e| e.file_name());
        Some(names.filter_map(|n| n.into_string().ok()).collect())
    }

    /// `SSH_AUTH_SOCK`, or an `IdentityAgent` that ~/.ssh/config names for some host.
    fn has_agent(&self) -> bool {
        let socket = std::env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| !socket.is_empty());
        socket
            || std::env::home_dir()
                .and_then(|home| std::fs::read_to_string(home.join(".ssh/config")).ok())
                .is_some_and(|config| config.to_ascii_lowercase().contains("identityagent"))
    }
}

/// The nodes that a pattern names: node or group names, comma separated, with `*` and `?`.
///
/// # Errors
/// When it names none.
pub fn nodes_matching<'a>(project: &'a Project, pattern: &str) -> Result<Vec<&'a Node>, Failure> {
    let wanted = |node: &Node| {
        pattern
            .split(',')
            .map(str::trim)
            .any(|p| glob(p, node.name.as_str()) || node.groups.iter().any(|g| glob(p, g.as_str())))
    };
    let nodes: Vec<&Node> = project
        .inventory
        .nodes
        .values()
        .filter(|n| wanted(n))
        .collect();
    if nodes.is_empty() {
        let names: Vec<&str> = project
            .inventory
            .nodes
            .keys()
            .take(8)
            .map(picluster_model::NodeName::as_str)
            .collect();
        return Err(
            Failure::usage(format!("{pattern:?} names no node and no group")).hint(format!(
                "the inventory has {}{}",
                names.join(", "),
                if project.inventory.nodes.len() > 8 {
                    ", …"
                } else {
                    ""
                }
            )),
        );
    }
    Ok(nodes)
}

/// What is valid and still probably not meant.
#[must_use]
pub fn notes(project: &Project) -> Vec<String> {
    let mut notes = Vec::new();
    if project.inventory.nodes.values().all(|n| n.roles.is_empty()) {
        notes.push(
            "no node has a role, so there is nothing to do on any of them; a start is `roles: [base, swap-off, cgroups]`"
                .to_owned(),
        );
    }
    notes
}
