//! Builds and runs `xtask-product`, the chores that use the product's own code.

use std::process::{Command, Stdio};

use crate::{Outcome, machine, process};

/// Runs one of its chores.
pub(crate) fn run(chore: &str, words: &[String]) -> Outcome {
    process::run(command(chore)?.args(words))
}

/// Runs one of its chores that gives an answer: the only line on its standard output.
pub(crate) fn answer(chore: &str) -> Outcome<String> {
    let mut command = command(chore)?;
    println!("$ {}", process::shown(&command));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run {}: {e}", process::shown(&command)))?;
    if !output.status.success() {
        return Err(format!(
            "failed ({}): {}",
            output.status,
            process::shown(&command)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn command(chore: &str) -> Outcome<Command> {
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "xtask"]);
    build.args(["--features", "product", "--bin", "xtask-product"]);
    process::run(&mut build)?;
    let mut command = Command::new(process::built("xtask-product")?);
    command.arg(chore).current_dir(machine::workspace());
    Ok(command)
}
