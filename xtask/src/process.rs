//! Running other programs, said aloud.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())))
        .collect();
    words.push(program(command));
    words.extend(command.get_args().map(|a| {
        let a = a.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+".contains(c);
        if !a.is_empty() && a.chars().all(plain) {
            a
        } else {
            format!("'{}'", a.replace('\'', "'\\''"))
        }
    }));
    words.join(" ")
}

/// Short where a person would type it short: cargo comes to us with its whole path.
fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    if path.is_absolute() && path.file_stem().is_some_and(|stem| stem == "cargo") {
        return "cargo".into();
    }
    let here = path
        .strip_prefix(crate::machine::workspace())
        .unwrap_or(path);
    here.display().to_string()
}

/// Says what is run, runs it, and insists on success.
pub(crate) fn run(command: &mut Command) -> Outcome {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .map_err(|e| format!("cannot run {}: {e}", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("failed ({status}): {}", shown(command)))
    }
}

/// Whether a command succeeds; what it prints is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

/// Cargo, in the workspace: the one that runs us, so that a chosen toolchain stays chosen.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::machine::workspace());
    // Set for this program's own run; to a build they would look like a change of environment.
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION",
    ] {
        command.env_remove(name);
    }
    command
}

/// Where cargo put a program: beside this one.
pub(crate) fn built(program: &str) -> Outcome<PathBuf> {
    let own =
        std::env::current_exe().map_err(|e| format!("cannot find this program's own file: {e}"))?;
    Ok(own.with_file_name(program))
}
