//! Ctrl-C: the first lets running steps finish, the second closes connections; the node stops at a
//! step boundary either way, and the next apply carries on.

use std::time::{Duration, Instant};

use picluster_engine::report::SkipReason;
use picluster_engine::{EventKind, Outcome};

use crate::rig::{Desk, Rig};

const ROLE: &str = r#"
doc: A step that waits to be let go, between two quick ones.
resources:
  - file: { path: /srv/first, content: "1\n" }
  - command: { name: slow, run: "touch /srv/begun; until [ -e /run/go ]; do sleep 0.1; done; touch /srv/done", creates: /srv/done }
    needs: ["file[/srv/first]"]
  - file: { path: /srv/last, content: "3\n" }
    needs: ["command[slow]"]
"#;

const SLOW: &str = "rpi01/small/command[slow]";
const LAST: &str = "rpi01/small/file[/srv/last]";

fn rig(cluster: &str) -> Rig {
    let desk = Desk::new(&format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    ));
    desk.write("roles/small/role.yaml", ROLE);
    Rig::up_from(desk, &[])
}

fn carries_on(rig: &Rig) {
    let next = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert_eq!(next.outcome(LAST), Outcome::Changed);
    let steps = next
        .events()
        .iter()
        .filter(|e| matches!(e, EventKind::StepFinished { .. }))
        .count();
    assert_eq!(
        steps, 1,
        "the step that was running is done and not planned again:\n{}",
        next.out
    );
}

#[test]
fn the_first_ctrl_c_lets_the_running_step_finish_and_starts_nothing_new() {
    let rig = rig("once");
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until_started(SLOW);
    run.signal("INT");
    run.until(|e| matches!(e, EventKind::Cancelling { now: false }));
    rig.on("rpi01", "touch /run/go").expect(0);
    let ended = run.end().expect(130);
    assert_eq!(ended.outcome(SLOW), Outcome::Changed);
    assert_eq!(ended.outcome(LAST), Outcome::Skipped(SkipReason::Cancelled));
    rig.on("rpi01", "[ -e /srv/done ] && [ ! -e /srv/last ]")
        .expect(0);
    carries_on(&rig);
}

#[test]
fn the_second_ctrl_c_leaves_at_once_and_the_node_stops_at_the_step_boundary() {
    let rig = rig("again");
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until_started(SLOW);
    rig.until("rpi01", "[ -e /srv/begun ]");
    run.signal("INT");
    run.until(|e| matches!(e, EventKind::Cancelling { now: false }));
    let begun = Instant::now();
    run.signal("INT");
    let ended = run.end().expect(130);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it left after {:?}",
        begun.elapsed()
    );
    assert!(
        matches!(ended.outcome(SLOW), Outcome::Lost { .. }),
        "{}",
        ended.out
    );
    assert_eq!(ended.outcome(LAST), Outcome::Skipped(SkipReason::Cancelled));
    // Nobody listens any more; the step reaches its end all the same, and nothing follows it.
    rig.on("rpi01", "[ ! -e /srv/done ]").expect(0);
    rig.on("rpi01", "touch /run/go").expect(0);
    rig.until("rpi01", "[ -e /srv/done ]");
    rig.until_quiet("rpi01");
    rig.on("rpi01", "[ ! -e /srv/last ]").expect(0);
    carries_on(&rig);
}

/// On a terminal: `script` makes one, and what is typed at it is what it is given.
#[test]
fn ctrl_c_at_the_question_says_that_nothing_was_changed() {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    let rig = rig("asked");
    let apply = rig.command(&["--color=never", "apply"]);
    let words = std::iter::once(apply.get_program()).chain(apply.get_args());
    let line = picluster_resource::shell::words(words.map(|w| w.to_str().unwrap()));
    let mut command = Command::new("script");
    command
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(rig.desk.path());
    for (name, value) in apply.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command
        .env_remove("PICLUSTER_NO_TTY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut typed, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("Apply this plan? [y/N] ") {
        let n = screen.read(&mut part).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&part[..n]);
    }
    typed.write_all(b"\x03").unwrap();
    screen.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    let code = child.wait().unwrap().code();
    assert!(
        said.contains("error: interrupted") && said.contains("nothing was changed on any node"),
        "{said}"
    );
    assert_eq!(code, Some(130), "{said}");
    rig.on("rpi01", "[ ! -e /srv/first ]").expect(0);
}
