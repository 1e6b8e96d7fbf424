//! A secret reaches the file it belongs into, and no other place.

use std::fs;
use std::path::Path;

use picluster_engine::Outcome;

use crate::rig::{Desk, Rig, Running, ran};

/// Has what shells, JSON and regular expressions treat in their own ways.
const TOKEN: &str = "k10'x\"y$z\\n::s3rv3r&Zw";

const ROLE: &str = r#"
doc: Secrets in a file, on a command's standard input, and in what a failing command prints.
resources:
  - file: { path: /srv/token, content: "token={{ vars.token }}\n", mode: "0600" }
  - command: { name: slow, run: "cat > /srv/taken; touch /run/begun; until [ -e /run/go ]; do sleep 0.1; done; touch /srv/done", creates: /srv/done, stdin: "{{ vars.token }}" }
  - command: { name: chatty, run: "cat; exit 3", creates: /srv/never, stdin: "{{ vars.token }}" }
    needs: ["command[slow]"]
"#;

/// The command lines of every process of this machine.
pub fn command_lines() -> String {
    let mut all = String::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = fs::read(process.path().join("cmdline")) {
            all.push_str(&String::from_utf8_lossy(&line).replace('\0', " "));
            all.push('\n');
        }
    }
    all
}

/// The text of every file below a folder.
pub fn everything_below(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.push_str(&everything_below(&path));
        } else {
            all.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
    all
}

#[test]
fn a_secret_is_written_where_it_belongs_and_shows_up_nowhere_else() {
    let inventory = |token: &str| {
        format!(
            "cluster: hush\nssh: {{ user: pi }}\nroles: [small]\nvars: {{ token: {token} }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
        )
    };
    let desk = Desk::new(&inventory("not yet"));
    desk.write("roles/small/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    rig.desk
        .write("inventory.yaml", &inventory("{ env: RACK_TOKEN }"));
    let command = |args: &[&str]| {
        let mut command = rig.command(args);
        command.env("RACK_TOKEN", TOKEN);
        command
    };
    let run = |args: &[&str]| ran(&command(args).output().unwrap());

    let mut seen: Vec<(&str, String)> = Vec::new();
    let plan = run(&["-vv", "plan", "--out", "today.plan"]).expect(0);
    seen.extend([("plan", plan.out), ("plan -vv", plan.err)]);
    seen.push(("plan --json", run(&["plan", "--json"]).expect(0).out));
    seen.push((
        "the plan file",
        fs::read_to_string(rig.desk.path().join("today.plan")).unwrap(),
    ));

    let apply = Running::of(command(&["-vv", "apply", "--yes", "--json"]));
    rig.until("rpi01", "[ -e /run/begun ]");
    seen.push(("argv here", command_lines()));
    seen.push((
        "argv there",
        rig.on("rpi01", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .expect(0)
            .out,
    ));
    assert!(
        seen.last().unwrap().1.contains("until [ -e /run/go ]"),
        "the step was running"
    );
    rig.on("rpi01", "touch /run/go").expect(0);
    let apply = apply.end().expect(3);
    let chatty = apply.outcome("rpi01/small/command[chatty]");
    assert!(
        matches!(&chatty, Outcome::Failed(f) if f.status == Some(3) && !f.output.is_empty()),
        "{chatty:?}"
    );
    seen.extend([("events", apply.out), ("apply -vv", apply.err)]);
    let words = run(&["apply", "--yes"]).expect(3);
    seen.extend([("apply", words.out), ("apply's stderr", words.err)]);

    assert_eq!(
        rig.on("rpi01", "cat /srv/token").out,
        format!("token={TOKEN}\n")
    );
    assert_eq!(rig.on("rpi01", "cat /srv/taken").out, TOKEN);
    assert_eq!(rig.on("rpi01", "stat -c %a /srv/token").out, "600\n");
    let role = ROLE.split("  - command: { name: chatty").next().unwrap();
    rig.desk.write("roles/small/role.yaml", role);
    let second = run(&["-vv", "apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    seen.extend([
        ("second apply", second.out),
        ("second apply -vv", second.err),
    ]);

    let records = rig
        .on("rpi01", "cat /var/lib/picluster/owned/*")
        .expect(0)
        .out;
    assert!(records.contains("/srv/token"), "{records}");
    seen.push(("ownership records", records));
    seen.push((
        "the node's journal",
        rig.on("rpi01", "journalctl --sync; journalctl -b -o cat")
            .expect(0)
            .out,
    ));
    seen.push((
        "what lies in /run",
        rig.on(
            "rpi01",
            "cat $(find /run/picluster /run/lock /tmp /var/tmp -type f) </dev/null",
        )
        .out,
    ));
    let kept = everything_below(&rig.store());
    assert!(kept.contains("run_started"));
    seen.push(("the store", kept));

    // Also as JSON, shells and Rust's Debug would spell it; the longest plain part catches the rest.
    let json = serde_json::to_string(TOKEN).unwrap();
    let spellings = [TOKEN, json.trim_matches('"'), "s3rv3r&Zw"];
    for (place, text) in &seen {
        for spelling in spellings {
            assert!(
                !text.contains(spelling),
                "the secret shows up in {place}:\n{text}"
            );
        }
    }
}
