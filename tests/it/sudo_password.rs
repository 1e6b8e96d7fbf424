//! A node whose sudo wants a password: given from the environment, sent on stdin, seen nowhere.

use std::fs;

use picluster_lab::SudoMode;

use crate::rig::{Desk, Rig, Running, ran};
use crate::secrets::{command_lines, everything_below};

const PASSWORD: &str = "hunter2-and-a-Half";
const WRONG: &str = "trustno1-or-Two";

const ROLE: &str = r#"
doc: A slow step, and a file.
resources:
  - command: { name: slow, run: "touch /run/begun; until [ -e /run/go ]; do sleep 0.1; done; touch /srv/done", creates: /srv/done }
  - file: { path: /srv/a, content: "a\n" }
    needs: ["command[slow]"]
"#;

#[test]
fn a_sudo_password_works_is_tried_once_and_shows_up_nowhere() {
    let inventory = |sudo: &str| {
        format!(
            "cluster: sudo\nssh: {{ user: pi{sudo} }}\nroles: [small]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
        )
    };
    let desk = Desk::new(&inventory(""));
    desk.write("roles/small/role.yaml", ROLE);
    let rig = Rig::up_with(desk, &[], |spec| {
        spec.nodes[0].sudo = SudoMode::Password(PASSWORD.into())
    });
    rig.desk.write(
        "inventory.yaml",
        &inventory(", sudo: { password: { env: PI_SUDO } }"),
    );
    let command = |password: &str, args: &[&str]| {
        let mut command = rig.command(args);
        command.env("PI_SUDO", password);
        command
    };
    let as_root = |script: &str| {
        rig.on_with_password("rpi01", script, PASSWORD)
            .expect(0)
            .out
    };

    // Without a value nothing is dialled.
    let unset = ran(&rig
        .command(&["apply", "--yes"])
        .env_remove("PI_SUDO")
        .output()
        .unwrap())
    .expect(1);
    assert!(unset.err.contains("PI_SUDO"), "{}", unset.err);

    // A wrong one: said clearly, tried once.
    let wrong = ran(&command(WRONG, &["-vv", "apply", "--yes"]).output().unwrap()).expect(3);
    let all = format!("{}{}", wrong.out, wrong.err);
    assert!(all.contains("sudo refused the password"), "{all}");
    assert!(!all.contains(WRONG));
    let log = as_root("journalctl --sync; journalctl -b -o cat");
    assert_eq!(
        log.matches("pam_unix(sudo:auth): authentication failure")
            .count(),
        1,
        "{log}"
    );
    assert!(log.contains("1 incorrect password attempt"), "{log}");
    as_root("[ ! -e /srv/a ]");

    // The right one, watched while a step runs.
    let run = Running::of(command(PASSWORD, &["-vv", "apply", "--yes", "--json"]));
    rig_until(&rig, "[ -e /run/begun ]");
    let here = command_lines();
    assert!(
        here.contains("--json"),
        "the list was read while the run went on"
    );
    let there = as_root("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(there.contains("until [ -e /run/go ]"), "{there}");
    as_root("touch /run/go");
    let ended = run.end().expect(0);
    assert_eq!(as_root("cat /srv/a"), "a\n");
    let second = ran(&command(PASSWORD, &["-vv", "apply", "--yes"])
        .output()
        .unwrap())
    .expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    ran(&command(PASSWORD, &["plan", "--out", "today.plan"])
        .output()
        .unwrap())
    .expect(0);

    let node_log = as_root(
        "journalctl --sync; journalctl -b -o cat; cat /var/lib/picluster/owned/* /run/picluster/* 2>/dev/null; true",
    );
    let kept = everything_below(&rig.store())
        + &fs::read_to_string(rig.desk.path().join("today.plan")).unwrap();
    let places = [
        ("argv on the controller", &here),
        ("argv on the node", &there),
        ("stdout", &ended.out),
        ("stderr", &ended.err),
        ("stderr of the second", &second.err),
        ("journal of the node", &node_log),
        ("the store", &kept),
    ];
    for (place, text) in places {
        for secret in [PASSWORD, WRONG] {
            assert!(!text.contains(secret), "the password shows up in {place}");
        }
    }
    assert!(
        kept.contains("run_started") && ended.err.len() > 200,
        "these places were really looked at"
    );
}

fn rig_until(rig: &Rig, script: &str) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
    while !rig.ssh("rpi01", script).status().unwrap().success() {
        assert!(std::time::Instant::now() < end, "never came true: {script}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
