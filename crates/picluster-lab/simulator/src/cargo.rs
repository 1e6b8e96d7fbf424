//! How cargo makes one static file of the simulator. Only the standard library is named here: `xtask`, which depends on
//! nothing, compiles this file as well.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The command, and where it leaves the program.
///
/// Static, because it runs on nodes whose C library may be older than this machine's. A target directory of its own
/// keeps the other flags from invalidating the ordinary builds.
pub fn static_build(workspace: &Path) -> (Command, PathBuf) {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = workspace.join("target/simulator");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args(["build", "--locked", "--package", "picluster-k3s-simulator"])
        .args(["--bin", "k3s-simulator", "--profile", "simulator"])
        .args(["--target", &host, "--target-dir"])
        .arg(&folder);
    // What cargo sets for the program that calls us would look to this build like a change of its environment.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text == "RUSTFLAGS" {
            command.env_remove(&name);
        }
    }
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        host.to_uppercase().replace('-', "_")
    );
    command.env(variable, "-C target-feature=+crt-static");
    let program = folder.join(host).join("simulator/k3s-simulator");
    (command, program)
}
