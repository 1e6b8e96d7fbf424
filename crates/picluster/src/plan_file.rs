//! Plan files: written whole or not at all, read with suspicion.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use picluster_engine::ExitCode;
use picluster_model::NodeName;
use picluster_model::inventory::{Node, Project};
use picluster_plan::{Plan, fingerprint, plan};

use crate::error::Failure;

/// A plan that was read from a file.
#[derive(Debug)]
pub struct PlanFile {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub plan: Plan,
}

/// The inventory a plan file was made from; `None` when the file is no plan.
#[must_use]
pub fn inventory_of(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let plan: Plan = serde_json::from_str(&text).ok()?;
    Some(plan.inventory)
}

impl PlanFile {
    /// Reads a file as a plan when it is one: plans are JSON objects, inventories are not.
    ///
    /// # Errors
    /// JSON that is no plan, or one of another format.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let Ok(text) = std::fs::read_to_string(path) else {
            // The document reader says what is wrong with it.
            return Ok(None);
        };
        if !text.trim_start().starts_with('{') {
            return Ok(None);
        }
        let bad =
            |why: String| Failure::usage(format!("{}: {why}", path.display())).hint(new_plan());
        let plan: Plan =
            serde_json::from_str(&text).map_err(|e| bad(format!("this is no plan: {e}")))?;
        if plan.format != plan::FORMAT {
            return Err(bad(format!(
                "this plan has format {}; this picluster reads format {}",
                plan.format,
                plan::FORMAT
            )));
        }
        if !Path::new(&plan.inventory).exists() {
            return Err(bad(format!(
                "it is a plan for {}, which is not there: a plan is applied on the machine it was made on",
                plan.inventory
            )));
        }
        Ok(Some(Self {
            path: path.to_owned(),
            plan,
        }))
    }

    /// The inventory it was made from.
    #[must_use]
    pub fn inventory(&self) -> PathBuf {
        PathBuf::from(&self.plan.inventory)
    }

    /// The nodes that left the inventory and that it takes out of the cluster: each with where it is logged in to, and a
    /// server that is reached in the same way.
    pub fn leaving(&self) -> impl Iterator<Item = (&NodeName, &str, &NodeName)> {
        let like = self.plan.members.keys().next();
        let removed = self.plan.leaving.iter().filter(|(_, n)| n.removed);
        removed.filter_map(move |(name, node)| Some((name, node.login.as_str(), like?)))
    }

    /// Whether it is a plan for this rack, as far as documents can say.
    ///
    /// # Errors
    /// Another cluster (1), or other places of nodes (5), with every difference.
    pub fn fits(&self, project: &Project) -> Result<(), Failure> {
        if self.plan.cluster != project.inventory.cluster {
            return Err(Failure::usage(format!(
                "{} is a plan for cluster {}, and {} describes cluster {}",
                self.path.display(),
                self.plan.cluster,
                self.plan.inventory,
                project.inventory.cluster
            ))
            .hint(new_plan()));
        }
        let now = addresses(project);
        let moved: Vec<String> = self
            .plan
            .addresses
            .iter()
            .filter_map(|(name, before)| match now.get(name) {
                Some(after) if after == before => None,
                Some(after) => Some(format!("{name} was at {before}, now it is at {after}")),
                None => Some(format!(
                    "{name}, at {before}, is no longer in the inventory"
                )),
            })
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        Err(Failure::with(
            ExitCode::Stale,
            format!(
                "{} was made for other nodes than {} describes:\n  {}",
                self.path.display(),
                self.plan.inventory,
                moved.join("\n  ")
            ),
        )
        .hint(new_plan()))
    }

    /// Whether its digests can be compared with this store's key.
    ///
    /// # Errors
    /// A plan that another store's key made (5): every step would be refused, one by one.
    pub fn sealed_with(&self, key: &[u8]) -> Result<(), Failure> {
        match &self.plan.key_id {
            Some(id) if *id != fingerprint::key_id(key) => Err(Failure::with(
                ExitCode::Stale,
                format!(
                    "{} was made with another store than the one here: on another machine, or before the store was lost",
                    self.path.display()
                ),
            )
            .hint(new_plan())),
            _ => Ok(()),
        }
    }
}

fn new_plan() -> &'static str {
    "nothing was changed and no node was contacted; make a new plan: picluster plan --out FILE"
}

/// The inventory's file, absolute: a plan file is applied from any directory.
#[must_use]
pub fn inventory(project: &Project) -> String {
    let path = &project.inventory.path;
    std::path::absolute(path)
        .unwrap_or_else(|_| path.clone())
        .display()
        .to_string()
}

/// Where the nodes are looked for.
#[must_use]
pub fn addresses(project: &Project) -> BTreeMap<NodeName, String> {
    let address = |node: &Node| match node.ssh.port {
        Some(port) if node.address.contains(':') => format!("[{}]:{port}", node.address),
        Some(port) => format!("{}:{port}", node.address),
        None => node.address.clone(),
    };
    project
        .inventory
        .nodes
        .values()
        .map(|node| (node.name.clone(), address(node)))
        .collect()
}

/// Writes the plan file: whole or not at all, and over nothing but an older plan.
///
/// # Errors
/// Something else that stands there, or the system's reasons.
pub fn write(path: &Path, plan: &Plan) -> Result<(), Failure> {
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

fn is_plan(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|text| serde_json::from_slice::<Plan>(&text).is_ok())
}
