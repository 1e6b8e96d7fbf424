//! What runs the tests: cargo-nextest, or cargo itself where that cannot be had.

use std::process::Command;

use crate::process;

/// Installed where there is none. A fixed version: what a newer one needs of the compiler is not known.
const NEXTEST: &str = "0.9.143";

/// The runner.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner {
    /// One process a test, groups, time limits (`.config/nextest.toml`).
    Nextest { profile: &'static str },
    /// `cargo test`.
    Cargo,
}

impl Runner {
    /// Nextest, which is installed for this user if need be.
    pub(crate) fn find(full: bool) -> Self {
        let profile = match (full, std::env::var_os("CI").is_some()) {
            (true, _) => "full",
            (false, true) => "ci",
            (false, false) => "default",
        };
        let there = || process::succeeds(process::cargo().args(["nextest", "--version"]));
        if there() {
            return Self::Nextest { profile };
        }
        let mut install = process::cargo();
        install.args(["install", "--locked", "cargo-nextest", "--version", NEXTEST]);
        match process::run(&mut install) {
            Ok(()) if there() => Self::Nextest { profile },
            _ => {
                println!(
                    "cargo-nextest cannot be installed; going on with cargo test, which is slower"
                );
                Self::Cargo
            }
        }
    }

    /// Builds all tests, and what they start.
    pub(crate) fn build(self) -> Command {
        let mut command = self.start();
        command.arg("--no-run");
        command
    }

    /// Runs them; filters may be added.
    pub(crate) fn run(self) -> Command {
        let mut command = self.start();
        if let Self::Cargo = self {
            // Of tests that start labs, more at once are slower than one after the other.
            command.arg("--no-fail-fast").env("RUST_TEST_THREADS", "2");
        }
        command
    }

    /// Runs those that a real Kubernetes can stand behind; filters may be added.
    pub(crate) fn run_on_kubernetes(self) -> Vec<Command> {
        match self {
            // Which tests these are is said in `.config/nextest.toml`. Added filters may leave none of them.
            Self::Nextest { .. } => {
                let runner = Self::Nextest {
                    profile: "kubernetes",
                };
                let mut command = runner.run();
                command.arg("--no-tests=pass");
                vec![command]
            }
            Self::Cargo => ["refusals", "it"]
                .map(|tests| {
                    let mut command = self.run();
                    command.args(["--test", tests]);
                    if tests == "it" {
                        command.args(["--", "k3s", "examples::", "uninstall::"]);
                    }
                    command
                })
                .into(),
        }
    }

    fn start(self) -> Command {
        let mut command = process::cargo();
        match self {
            Self::Nextest { profile } => command.args(["nextest", "run", "--profile", profile]),
            Self::Cargo => command.arg("test"),
        };
        // The feature brings the tests of `xtask-product`; with it, all is built once and for all.
        command.args(["--workspace", "--features", "xtask/product", "--locked"]);
        command
    }
}
