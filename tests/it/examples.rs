//! Every example is rehearsed from blank, and its second apply is empty.

use std::fs;
use std::path::Path;

use crate::k3s;
use crate::rig::{Desk, Rig};

fn rehearse(example: &str, os: &[&str]) {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/{example}/inventory.yaml"));
    let mut text = fs::read_to_string(file).unwrap();
    let named = text
        .split_whitespace()
        .map(|word| word.trim_matches([',', '}']))
        .find(|word| word.contains("+k3s"))
        .map(str::to_owned);
    if let Some(named) = &named {
        text = text.replace(named, k3s::release());
    }
    let rig = Rig::up_from(Desk::new(&text), os);
    if named.is_some() {
        rig.lend_k3s(&k3s::artifact(k3s::release()).path);
    }
    rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    rig.run(&["apply", "--yes"]).expect(0);
    let second = rig.run(&["apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
}

#[test]
fn quickstart() {
    rehearse("quickstart", &[]);
}

#[test]
fn kraken_with_eleven_mixed_nodes() {
    rehearse(
        "kraken",
        &[
            "kraken01=rpi-os-bookworm",
            "kraken02=rpi-os-bookworm",
            "kraken03=debian",
            "kraken09=ubuntu-24.04",
            "kraken10=ubuntu-24.04",
        ],
    );
}
