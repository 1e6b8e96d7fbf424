//! Two runs never work on the same node at once, and what a killed run left behind is waited for by name.

use std::process::Stdio;

use picluster_engine::{EventKind, Outcome};

use crate::rig::{Desk, Rig, Running, ran};

const ROLE: &str = r#"
doc: One slow step that counts how often it ran.
resources:
  - command: { name: slow, run: "echo x >> /srv/count; sleep {{ vars.slow }}; touch /srv/done", creates: /srv/done }
  - file: { path: /srv/last, content: "last\n" }
    needs: ["command[slow]"]
"#;

fn rig(cluster: &str, slow: u32) -> Rig {
    let desk = Desk::new(&format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nvars: {{ slow: {slow} }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    ));
    desk.write("roles/small/role.yaml", ROLE);
    Rig::up_from(desk, &[])
}

#[test]
fn two_applies_at_once_end_with_one_that_names_the_other() {
    let rig = rig("twice", 5);
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
        command.env("PICLUSTER_STORE", elsewhere.path()).env("USER", "bob").stdin(Stdio::null());
        if json {
            command.arg("--json");
        }
        ran(&command.output().unwrap()).expect(6)
    };
    let words = second(false);
    let all = words.out + &words.err;
    assert!(all.contains("alice@") && all.contains(&format!("process {pid}")), "{all}");
    let events = second(true);
    assert!(matches!(events.outcome("rpi01/small/command[slow]"), Outcome::Skipped(_)));

    // The same store: this controller's own lock says no, before any connection.
    let same = rig.run(&["apply", "--yes"]).expect(6);
    assert!(same.err.contains("alice@") && same.err.contains(&format!("process {pid}")), "{}", same.err);
    assert_eq!(same.out, "");

    assert_eq!(first.end().expect(0).outcome("rpi01/small/file[/srv/last]"), Outcome::Changed);
    assert_eq!(rig.on("rpi01", "cat /srv/count").out, "x\n", "the step ran in one run only");
}

#[test]
fn what_a_killed_run_left_running_is_waited_for_by_name_and_not_done_twice() {
    let rig = rig("orphan", 5);
    let mut first = rig.start(&["apply", "--yes", "--json"]);
    first.until_started("rpi01/small/command[slow]");
    // Started by the scheduler is not yet started on the node.
    rig.until("rpi01", "[ -e /srv/count ]");
    first.kill();
    assert_eq!(first.end().code, -1);

    let next = rig.run(&["apply", "--yes", "--json"]).expect(0);
    let waited: Vec<String> = next
        .events()
        .into_iter()
        .filter_map(|e| match e {
            EventKind::NodeWaiting { processes, .. } => Some(processes),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(waited.iter().any(|p| p.starts_with("sleep (")), "{waited:?}");
    assert_eq!(next.outcome("rpi01/small/command[slow]"), Outcome::Unchanged);
    assert_eq!(next.outcome("rpi01/small/file[/srv/last]"), Outcome::Changed);
    assert_eq!(rig.on("rpi01", "cat /srv/count").out, "x\n");
    // For people, the name stands on the screen as well.
    assert!(rig.run(&["apply", "--yes"]).expect(0).out.contains("Nothing to do"));
}
