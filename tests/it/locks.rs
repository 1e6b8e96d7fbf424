//! Two runs never work on the same node at once, and what a killed run left behind is waited for by name.

use std::process::Stdio;

use picluster_engine::{EventKind, Outcome};

use crate::rig::{Desk, Rig, Running, ran};

const ROLE: &str = r#"
doc: One step that counts how often it ran, and waits until somebody writes to its pipe.
resources:
  - command: { name: slow, run: "mkfifo /run/gate; echo x >> /srv/count; cat /run/gate; touch /srv/done", creates: /srv/done }
  - file: { path: /srv/last, content: "last\n" }
    needs: ["command[slow]"]
"#;

/// Lets the step go on.
const OPEN: &str = "echo go > /run/gate";

fn rig(cluster: &str) -> Rig {
    let desk = Desk::new(&format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    ));
    desk.write("roles/small/role.yaml", ROLE);
    Rig::up_from(desk, &[])
}

#[test]
fn two_applies_at_once_end_with_one_that_names_the_other() {
    let rig = rig("twice");
    let mut first = Running::of({
        let mut command = rig.command(&["apply", "--yes", "--json"]);
        command.env("USER", "alice");
        command
    });
    first.until_started("rpi01/small/command[slow]");
    let pid = first.pid().to_string();

    // Another controller has another store, so the node itself has to say no.
    let elsewhere = tempfile::tempdir().unwrap();
    let second = |json: bool| {
        let mut command = rig.command(&["apply", "--yes"]);
        command
            .env("PICLUSTER_STORE", elsewhere.path())
            .env("USER", "bob")
            .stdin(Stdio::null());
        if json {
            command.arg("--json");
        }
        ran(&command.output().unwrap()).expect(6)
    };
    let words = second(false);
    let all = words.out + &words.err;
    assert!(
        all.contains("alice@") && all.contains(&format!("process {pid}")),
        "{all}"
    );
    let events = second(true);
    assert!(matches!(
        events.outcome("rpi01/small/command[slow]"),
        Outcome::Skipped(_)
    ));

    // The same store: this controller's own lock says no, before any connection.
    let same = rig.run(&["apply", "--yes"]).expect(6);
    assert!(
        same.err.contains("alice@") && same.err.contains(&format!("process {pid}")),
        "{}",
        same.err
    );
    assert_eq!(same.out, "");

    rig.on("rpi01", OPEN).expect(0);
    assert_eq!(
        first.end().expect(0).outcome("rpi01/small/file[/srv/last]"),
        Outcome::Changed
    );
    assert_eq!(
        rig.on("rpi01", "cat /srv/count").out,
        "x\n",
        "the step ran in one run only"
    );
}

#[test]
fn what_a_killed_run_left_running_is_waited_for_by_name_and_not_done_twice() {
    let rig = rig("orphan");
    let mut first = rig.start(&["apply", "--yes", "--json"]);
    first.until_started("rpi01/small/command[slow]");
    // Started by the scheduler is not yet started on the node.
    rig.until("rpi01", "[ -e /srv/count ]");
    first.kill();
    assert_eq!(first.end().code, -1);

    let mut next = rig.start(&["apply", "--yes", "--json"]);
    let waiting = next.until(|e| matches!(e, EventKind::NodeWaiting { .. }));
    let EventKind::NodeWaiting { processes, .. } = &waiting else {
        unreachable!()
    };
    assert!(
        processes.iter().any(|p| p.starts_with("cat (")),
        "{processes:?}"
    );
    rig.on("rpi01", OPEN).expect(0);
    let next = next.end().expect(0);
    assert_eq!(
        next.outcome("rpi01/small/command[slow]"),
        Outcome::Unchanged
    );
    assert_eq!(
        next.outcome("rpi01/small/file[/srv/last]"),
        Outcome::Changed
    );
    assert_eq!(rig.on("rpi01", "cat /srv/count").out, "x\n");
    assert!(
        rig.run(&["apply", "--yes"])
            .expect(0)
            .out
            .contains("Nothing to do")
    );
}
