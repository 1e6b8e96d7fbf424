//! `picluster lab` as it is typed: one lab a document, met as its nodes are met for the first time.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{Desk, PROGRAM, Ran, ran};

/// Two checkouts of one cluster, and a state directory of their own. Ends what was started.
struct Bench {
    state: tempfile::TempDir,
    desks: [Desk; 2],
}

impl Bench {
    fn new(cluster: &str) -> Self {
        let desk = || {
            let desk = Desk::new(&format!(
                "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
            ));
            desk.write(
                "roles/small/role.yaml",
                "doc: One file.\nresources:\n  - file: { path: /srv/a, content: \"a\\n\" }\n",
            );
            desk
        };
        Self {
            state: tempfile::Builder::new().prefix("pcl").tempdir().unwrap(),
            desks: [desk(), desk()],
        }
    }

    fn run_in(&self, folder: &Path, args: &[&str]) -> Ran {
        let output = Command::new(PROGRAM)
            .args(args)
            .current_dir(folder)
            .env("XDG_STATE_HOME", self.state.path())
            .env("PICLUSTER_NO_TTY", "1")
            .env_remove("PICLUSTER_ACCEPT_NEW")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ran(&output)
    }

    fn run(&self, desk: usize, args: &[&str]) -> Ran {
        self.run_in(self.desks[desk].path(), args)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for desk in 0..2 {
            self.run(desk, &["lab", "down"]);
        }
    }
}

#[test]
fn two_inventories_of_one_cluster_name_have_a_lab_each() {
    let bench = Bench::new("twins");
    let none = bench.run(0, &["lab", "status"]).expect(0);
    assert!(none.out.contains("no lab is running"), "{}", none.out);
    bench.run(0, &["lab", "up"]).expect(0);
    let other = bench.run(1, &["lab", "status", "inventory.yaml"]).expect(1);
    assert!(
        other.err.contains(
            "no lab of inventory.yaml is running\n  start it: picluster lab up inventory.yaml"
        ),
        "{}",
        other.err
    );
    bench.run(1, &["lab", "up"]).expect(0);

    // What is done in one is not done in the other.
    bench
        .run(0, &["lab", "run", "--", "apply", "--yes"])
        .expect(0);
    let there = ["lab", "ssh", "rpi01", "--", "test", "-e", "/srv/a"];
    bench.run(0, &there).expect(0);
    bench.run(1, &there).expect(3);

    // From anywhere, all labs are listed with their inventories, and one is stopped by its name.
    let elsewhere = tempfile::tempdir().unwrap();
    let listed = bench.run_in(elsewhere.path(), &["lab", "status"]).expect(0);
    let lines: Vec<&str> = listed
        .out
        .lines()
        .filter(|l| l.starts_with("twins-"))
        .collect();
    assert_eq!(lines.len(), 2, "{}", listed.out);
    for desk in &bench.desks {
        let path = desk.inventory().canonicalize().unwrap();
        let shown = format!("1 of 1 node on  {}", path.display());
        assert!(
            lines.iter().any(|l| l.ends_with(&shown)),
            "{shown}: {lines:?}"
        );
    }
    let lost = bench.run_in(elsewhere.path(), &["lab", "down"]).expect(1);
    assert!(
        lost.err.contains("there is no file inventory.yaml here")
            && lost.err.contains("running: twins-"),
        "{}",
        lost.err
    );
    // A document that is broken, or gone, keeps nobody from stopping its lab.
    bench.desks[0].write("inventory.yaml", "nodes: [");
    bench.run(0, &["lab", "down"]).expect(0);
    std::fs::remove_file(bench.desks[1].inventory()).unwrap();
    let name = lines
        .iter()
        .map(|l| l.split_whitespace().next().unwrap())
        .find(|n| bench.run_in(elsewhere.path(), &["lab", "status", n]).code == 0)
        .unwrap();
    bench
        .run_in(elsewhere.path(), &["lab", "down", name])
        .expect(0);
    let none = bench.run_in(elsewhere.path(), &["lab", "status"]).expect(0);
    assert!(none.out.contains("no lab is running"), "{}", none.out);
    let left: Vec<_> = std::fs::read_dir(bench.state.path().join("picluster/lab"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_lab_pins_what_it_knows_and_first_contact_can_be_rehearsed() {
    let bench = Bench::new("meet");
    bench.run(0, &["lab", "up"]).expect(0);
    bench.run(0, &["lab", "run", "--", "plan"]).expect(0);
    // As with hardware: another card is another key, and a forgotten one asks again.
    bench.run(0, &["lab", "wipe", "rpi01"]).expect(0);
    let changed = bench.run(0, &["lab", "run", "--", "plan"]).expect(8);
    assert!(
        changed.out.contains("picluster forget-key rpi01"),
        "{}",
        changed.out
    );
    let forget = ["lab", "run", "--", "forget-key", "--yes", "rpi01"];
    bench.run(0, &forget).expect(0);
    let strange = bench.run(0, &["lab", "run", "--", "plan"]).expect(3);
    assert!(
        strange.out.contains("--accept-new"),
        "{}{}",
        strange.out,
        strange.err
    );
    bench
        .run(0, &["lab", "run", "--", "plan", "--accept-new"])
        .expect(0);
    bench.run(0, &["lab", "down"]).expect(0);

    bench.run(0, &["lab", "up", "--ask"]).expect(0);
    let strange = bench.run(0, &["lab", "run", "--", "plan"]).expect(3);
    assert!(
        strange.out.contains("SHA256:") && strange.out.contains("not known yet"),
        "{}{}",
        strange.out,
        strange.err
    );
}
