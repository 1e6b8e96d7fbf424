//! Builds and runs one guard in the copy.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::data::Guard;
use crate::{Outcome, machine, process};

/// As long as a test may take. One that waits for ever has not failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The test failed.
    Red,
    /// The test passed.
    Green,
    /// Nothing was tested: the compiler refused.
    NoBuild,
    /// There is no test of that name.
    NoTest,
    /// It did not end.
    Stuck,
    /// What was to be broken is not there.
    NoPlace(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Red => f.write_str("red"),
            Self::Green => f.write_str("green"),
            Self::NoBuild => f.write_str("does not compile"),
            Self::NoTest => f.write_str("no such test"),
            Self::Stuck => f.write_str("did not end"),
            Self::NoPlace(what) => write!(f, "cannot be broken: {what}"),
        }
    }
}

/// The copy, and what it is built into.
pub(crate) struct Bench {
    root: PathBuf,
    target: PathBuf,
    logs: PathBuf,
}

impl Bench {
    pub(crate) fn new(root: PathBuf) -> Self {
        let target = machine::workspace().join("target");
        Self {
            root,
            target: target.join("red-target"),
            logs: target.join("red-logs"),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Builds and runs a test; what is printed goes to a file named after `why`.
    pub(crate) fn try_guard(&self, guard: &Guard, why: &str) -> Verdict {
        let name: String = format!("{}-{}-{why}", guard.package, guard.test)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(120)
            .collect();
        let build = self.logs.join(format!("{name}.build"));
        let test = self.logs.join(format!("{name}.test"));
        if self.cargo(guard, &["--no-run"], &build) != Ok(true) {
            return Verdict::NoBuild;
        }
        let words = ["--", "--exact", &guard.test, "--nocapture"];
        if self.cargo(guard, &words, &test).is_err() {
            return Verdict::Stuck;
        }
        let said = fs::read(&test).unwrap_or_default();
        verdict(&String::from_utf8_lossy(&said))
    }

    /// Whether cargo says that all is well; an error where it does not end.
    fn cargo(&self, guard: &Guard, words: &[&str], log: &Path) -> Outcome<bool> {
        let mut command = process::cargo();
        command
            .args(["test", "--package", &guard.package])
            .args(match guard.target.as_str() {
                "lib" => vec!["--lib"],
                name => vec!["--test", name],
            })
            .args(words)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            // A change may be one of a manifest; what it then needs is here already.
            .env("CARGO_NET_OFFLINE", "true")
            .env("INSTA_UPDATE", "no");
        bounded(&mut command, log)
    }
}

fn bounded(command: &mut Command, log: &Path) -> Outcome<bool> {
    let said = |e: std::io::Error| format!("{}: {e}", log.display());
    fs::create_dir_all(log.parent().unwrap_or(log)).map_err(said)?;
    let out = File::create(log).map_err(said)?;
    let err = out.try_clone().map_err(said)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it did not end".into());
            }
        }
    }
}

/// What the test harness said in the end. Its exit status alone does not tell a failed test from a
/// program that could not be run.
fn verdict(said: &str) -> Verdict {
    let result = said
        .lines()
        .rev()
        .find_map(|line| line.split_once("test result: "));
    match result {
        Some((_, words)) if words.starts_with("ok. 1 passed") => Verdict::Green,
        Some((_, words)) if words.starts_with("FAILED. 0 passed; 1 failed") => Verdict::Red,
        Some(_) => Verdict::NoTest,
        // The harness itself was ended by the test: an abort, a signal.
        None if said.contains("running 1 test") => Verdict::Red,
        None => Verdict::NoTest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_test_that_ran_and_failed_is_red() {
        let of = |text: &str| verdict(&format!("running 1 test\n{text}\n\n"));
        assert_eq!(
            of("test result: ok. 1 passed; 0 failed; 0 ignored"),
            Verdict::Green
        );
        assert_eq!(
            of("test result: FAILED. 0 passed; 1 failed; 0 ignored"),
            Verdict::Red
        );
        assert_eq!(
            of("test result: ok. 0 passed; 0 failed; 1 ignored"),
            Verdict::NoTest
        );
        assert_eq!(
            of("test a ... process didn't exit successfully (signal: 6)"),
            Verdict::Red
        );
        assert_eq!(verdict("error: no test target named `x`"), Verdict::NoTest);
    }
}
