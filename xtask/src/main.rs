//! The chores of this repository, as `cargo xtask CHORE`.
//!
//! This program depends on nothing, so that it is there within seconds. What needs the product's own
//! code lives in `xtask-product`, which it builds and runs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person at the terminal is what it is for"
)]

mod consent;
mod demo;
mod kubeadm;
mod machine;
mod process;
mod product;
mod red;
mod runner;
mod setup;
mod simulator;
mod test;

use std::process::ExitCode;

use crate::consent::Consent;

const USAGE: &str = "\
cargo xtask CHORE

  demo [--yes] [--keep]      install what the lab needs, build, and rehearse examples/quickstart
  test [--full] [--seed N] [--yes] [-- RUNNER-ARGS]
                             install what the tests need, build, and run them; --full: the long sweeps, virtual machines,
                             and the tests of clusters a second time with a real Kubernetes behind the k3s simulator; as
                             root, where its tools are there, clusters of a real kubeadm as well
  setup [--yes]              only install what the lab needs
  kubernetes [--yes]         build the Kubernetes that can stand behind the k3s simulator, once, and print its folder
  docs [--check]             write docs/reference and docs/schema; --check: fail where they are out of date
  red [--committed] [--lab] [--table] [N...]
                             break each invariant on purpose in a copy, and insist that its test fails; --lab: also
                             where that takes lab nodes; --table: only write the table in docs/ARCHITECTURE.md
  bench [--nodes 10,50,100] [--runs 3] [--yes]
                             release build, and figures from lab nodes as a table, with a line for each budget
  bench --cluster EXAMPLE [--runs 3]
                             an example, for instance kraken with eleven mixed machines or edge-100, becomes a cluster of the
                             k3s simulator: from blank and unchanged, with the sum of all steps and the critical path
                             beside the wall time
  bench --push               only the large file beside `ssh node 'cat > file'`
  bench --peers [--nodes 10] [--runs 1] [--yes]
                             the same work by Ansible, Ansible with Mitogen, and pyinfra beside us, on the same nodes;
                             pip installs them below target/

What is to be installed is shown and asked first. --yes does not ask; nor does root without a terminal.
";

/// What went wrong, in words for the person at the terminal.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match perform(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
    }
}

fn perform(words: &[String]) -> Outcome {
    let Some((chore, rest)) = words.split_first() else {
        print!("{USAGE}");
        return Err("which chore?".into());
    };
    let mut words = Words::new(rest);
    match chore.as_str() {
        "demo" => {
            let (consent, keep) = (words.consent(), words.flag("--keep"));
            words.end()?;
            demo::run(consent, keep)
        }
        "test" => {
            let options = test::Options {
                consent: words.consent(),
                full: words.flag("--full"),
                seed: words.value("--seed")?,
                runner: words.behind_dashes(),
            };
            words.end()?;
            test::run(&options)
        }
        "setup" => {
            let consent = words.consent();
            words.end()?;
            setup::run(consent, setup::Purpose::Lab)
        }
        "docs" => product::run("docs", &words.left),
        "kubernetes" => {
            setup::run(words.consent(), setup::Purpose::Lab)?;
            words.end()?;
            product::run("kubernetes", &[])
        }
        "red" => {
            let (committed, lab) = (words.flag("--committed"), words.flag("--lab"));
            let table = words.flag("--table");
            let numbers = words.numbers()?;
            red::run(&red::Options {
                numbers,
                committed,
                lab,
                table,
            })
        }
        "bench" => {
            setup::run(words.consent(), setup::Purpose::Lab)?;
            // Only what is measured is a release build; what measures it has time.
            process::run(process::cargo().args([
                "build",
                "--release",
                "--locked",
                "--package",
                "picluster",
            ]))?;
            if let Some(example) = words.value("--cluster")? {
                let k3s = simulator::for_inventory(&format!("examples/{example}/inventory.yaml"))?;
                words.left.splice(0..0, ["--cluster".into(), example]);
                words
                    .left
                    .extend(["--k3s".into(), k3s.display().to_string()]);
            }
            product::run("bench", &words.left)
        }
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => {
            print!("{USAGE}");
            Err(format!("there is no chore {other:?}"))
        }
    }
}

/// The words behind the chore, taken one by one.
struct Words {
    left: Vec<String>,
}

impl Words {
    fn new(words: &[String]) -> Self {
        Self {
            left: words.to_vec(),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|w| w != name);
        self.left.len() < before
    }

    fn consent(&mut self) -> Consent {
        Consent::from_flag(self.flag("--yes"))
    }

    fn value(&mut self, name: &str) -> Outcome<Option<String>> {
        let Some(at) = self.left.iter().position(|w| w == name) else {
            return Ok(None);
        };
        self.left.remove(at);
        if at < self.left.len() {
            Ok(Some(self.left.remove(at)))
        } else {
            Err(format!("{name} needs a value"))
        }
    }

    /// All that is left, as numbers.
    fn numbers(&mut self) -> Outcome<Vec<u32>> {
        std::mem::take(&mut self.left)
            .iter()
            .map(|w| {
                w.parse()
                    .map_err(|_| format!("{w:?} is not the number of an invariant"))
            })
            .collect()
    }

    /// Everything behind `--`.
    fn behind_dashes(&mut self) -> Vec<String> {
        match self.left.iter().position(|w| w == "--") {
            Some(at) => {
                let behind = self.left.split_off(at + 1);
                self.left.truncate(at);
                behind
            }
            None => Vec::new(),
        }
    }

    fn end(self) -> Outcome {
        match self.left.first() {
            None => Ok(()),
            Some(word) => Err(format!("{word:?} is not understood; see cargo xtask help")),
        }
    }
}
