//! The k3s simulator, as a file that stands for a release (docs/simulator.md).

use std::path::PathBuf;
use std::process::Command;

use crate::{machine, process};

// The simulator's own way: a build with other flags would be another file.
#[path = "../../crates/picluster-lab/simulator/src/cargo.rs"]
mod cargo;

/// Builds it as one static file, as the tests do, which then find it built; stamps it with the release that the inventory
/// names.
///
/// # Errors
/// When cargo fails, or the inventory names no release.
pub(crate) fn for_inventory(inventory: &str) -> Result<PathBuf, String> {
    let text = std::fs::read_to_string(machine::workspace().join(inventory))
        .map_err(|e| format!("cannot read {inventory}: {e}"))?;
    let release = text
        .split_whitespace()
        .map(|word| word.trim_matches([',', '}', '"']))
        .find(|word| word.starts_with('v') && word.contains("+k3s"))
        .ok_or_else(|| format!("{inventory} names no release of k3s"))?;
    let program = build()?;
    let folder = machine::workspace().join("target/simulator/artifacts");
    process::run(
        Command::new(&program)
            .arg("stamp")
            .arg(release)
            .arg(&folder),
    )?;
    Ok(folder.join(format!("k3s-simulator-{release}")))
}

/// Builds it.
///
/// # Errors
/// When cargo fails.
pub(crate) fn build() -> Result<PathBuf, String> {
    let (mut command, program) = cargo::static_build(&machine::workspace());
    process::run(&mut command)?;
    Ok(program)
}
