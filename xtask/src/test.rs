//! The tests: set-up, build, images, run.

use std::fs;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::consent::Consent;
use crate::runner::Runner;
use crate::setup::Purpose;
use crate::{Outcome, machine, process, setup};

/// How to test.
#[derive(Debug)]
pub(crate) struct Options {
    /// May the set-up install?
    pub consent: Consent,
    /// Everything, instead of a sample of the long sweeps.
    pub full: bool,
    /// What samples and generators start from.
    pub seed: Option<String>,
    /// Words for the runner: filters.
    pub runner: Vec<String>,
}

/// Runs the tests.
pub(crate) fn run(options: &Options) -> Outcome {
    let seed = seed(options.seed.as_deref())?;
    let purpose = if options.full {
        Purpose::AllTests
    } else {
        Purpose::Tests
    };
    setup::run(options.consent, purpose)?;
    let runner = Runner::find(options.full);
    let mut laps = Laps::new();
    process::run(&mut runner.build())?;
    crate::simulator::build()?;
    laps.lap("build");
    images()?;
    laps.lap("images");
    let kubernetes = match options.full {
        true => kubernetes(&mut laps)?,
        false => None,
    };
    println!("{}", laps.said);
    let full = if options.full { " --full" } else { "" };
    println!("Seed {seed}. The same again: cargo xtask test{full} --seed {seed}");
    let mut tests = runner.run();
    surround(&mut tests, options, seed);
    let mut done = process::run(&mut tests);
    if let Some(folder) = kubernetes {
        println!("The tests of clusters again, with a real Kubernetes behind the k3s simulator:");
        for mut tests in runner.run_on_kubernetes() {
            surround(&mut tests, options, seed);
            tests.env("PICLUSTER_TEST_KUBERNETES", &folder);
            // What failed before is said at the end, too: nobody would scroll up for it.
            done = done.and(process::run(&mut tests));
        }
    }
    let not_tested = match options.full && options.runner.is_empty() {
        true => crate::kubeadm::rehearse().unwrap_or_else(|e| {
            done = done.clone().and(Err(e));
            None
        }),
        false => None,
    };
    // The runner speaks last, its summary says how many tests ran; but what was not tested at all is said behind it.
    if let Some(words) = not_tested {
        println!("{words}");
    }
    done
}

/// What all tests are given.
fn surround(tests: &mut Command, options: &Options, seed: u64) {
    tests
        .args(&options.runner)
        .env("PICLUSTER_SEED", seed.to_string())
        .env("PROPTEST_RNG_SEED", seed.to_string())
        // A snapshot that differs is a failure, never a new file.
        .env("INSTA_UPDATE", "no");
    if options.full {
        tests
            .env("PICLUSTER_FULL", "1")
            .env("PROPTEST_CASES", "4096");
    }
}

/// The folder with the programs of a real Kubernetes. None when tests run on real k3s, which has its own.
fn kubernetes(laps: &mut Laps) -> Outcome<Option<String>> {
    if std::env::var_os("PICLUSTER_K3S_DIR").is_some_and(|d| !d.is_empty()) {
        return Ok(None);
    }
    let folder = crate::product::answer("kubernetes")?;
    laps.lap("Kubernetes");
    Ok(Some(folder))
}

fn seed(given: Option<&str>) -> Outcome<u64> {
    let Some(text) = given else {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Short enough to be typed.
        return Ok(now.as_secs() % 1_000_000);
    };
    text.parse()
        .map_err(|_| format!("--seed {text}: a seed is a whole number"))
}

/// A node of each system that tests use.
const LAB: &str = "\
cluster: xtask-images
nodes:
  trixie: { address: 192.0.2.1 }
  bookworm: { address: 192.0.2.2 }
";

/// Builds the lab's images before the tests want them: a test that waits a minute for an image would
/// look as if it hung. Two nodes boot on the way, so a machine that cannot host a lab is told so once,
/// and not by every test.
fn images() -> Outcome {
    let folder = machine::workspace().join("target/xtask-images");
    let inventory = folder.join("inventory.yaml");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&inventory, LAB))
        .map_err(|e| format!("cannot write {}: {e}", inventory.display()))?;
    let program = process::built("picluster-under-test")?;
    let lab = |verb: &str| {
        let mut command = Command::new(&program);
        command.args(["lab", verb]).arg(&inventory);
        command
    };
    // One that an earlier run left behind, if it was killed at the wrong moment.
    process::succeeds(&mut lab("down"));
    process::run(lab("up").args(["--os", "bookworm=rpi-os-bookworm"]))?;
    process::run(&mut lab("down"))
}

/// How long each part took.
struct Laps {
    last: Instant,
    said: String,
}

impl Laps {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            said: String::new(),
        }
    }

    fn lap(&mut self, part: &str) {
        let seconds = self.last.elapsed().as_secs_f64();
        let comma = if self.said.is_empty() { "" } else { ", " };
        self.said.push_str(&format!("{comma}{part} {seconds:.0} s"));
        self.last = Instant::now();
    }
}
