//! The k3s simulator, as a file that stands for a release (docs/simulator.md).

use std::path::PathBuf;
use std::process::Command;

use crate::{machine, process};

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
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = machine::workspace().join("target/simulator");
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        host.to_uppercase().replace('-', "_")
    );
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--locked", "--package", "picluster-k3s-simulator"])
        .args(["--bin", "k3s-simulator", "--profile", "simulator"])
        .args(["--target", &host, "--target-dir"])
        .arg(&folder)
        .env(variable, "-C target-feature=+crt-static");
    // What cargo set for this program would look to that build like a change of its environment.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    process::run(&mut cargo)?;
    Ok(folder.join(host).join("simulator/k3s-simulator"))
}
