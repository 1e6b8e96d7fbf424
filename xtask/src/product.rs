//! Builds and runs `xtask-product`, the chores that use the product's own code.

use std::process::Command;

use crate::{Outcome, machine, process};

/// Runs one of its chores, built with `profile`.
pub(crate) fn run(profile: &str, words: &[String]) -> Outcome {
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--profile", profile]);
    build.args([
        "--package",
        "xtask",
        "--features",
        "product",
        "--bin",
        "xtask-product",
    ]);
    process::run(&mut build)?;
    let mut chore = Command::new(process::built(profile, "xtask-product")?);
    chore.args(words).current_dir(machine::workspace());
    process::run(&mut chore)
}
