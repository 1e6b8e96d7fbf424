//! The demo: the quickstart inventory, from blank nodes to an empty second apply.

use std::process::Command;

use crate::consent::Consent;
use crate::{Outcome, machine, process, setup, simulator};

const INVENTORY: &str = "examples/quickstart/inventory.yaml";

/// Sets up, builds, rehearses.
pub(crate) fn run(consent: Consent, keep: bool) -> Outcome {
    setup::run(consent, setup::Purpose::Lab)?;
    // A debug build: it is there in half the time, and the demo waits for nodes, not for the program.
    process::run(process::cargo().args(["build", "--locked", "--package", "picluster"]))?;
    let mut rehearse = Command::new(process::built("picluster")?);
    rehearse
        .current_dir(machine::workspace())
        .args(["lab", "rehearse", INVENTORY, "--k3s"])
        .arg(simulator::for_inventory(INVENTORY)?);
    if keep {
        rehearse.arg("--keep");
    }
    process::run(&mut rehearse)
}
