//! Builds and runs `xtask-product`, the chores that use the product's own code.

use std::process::Command;

use crate::{Outcome, machine, process};

/// Runs one of its chores.
pub(crate) fn run(chore: &str, words: &[String]) -> Outcome {
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "xtask"]);
    build.args(["--features", "product", "--bin", "xtask-product"]);
    process::run(&mut build)?;
    let mut command = Command::new(process::built("xtask-product")?);
    command
        .arg(chore)
        .args(words)
        .current_dir(machine::workspace());
    process::run(&mut command)
}
