//! How root is had, with a sudo of our own first in `PATH`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use picluster_model::secret::Secret;
use picluster_resource::facts::RootAccess;
use picluster_resource::{Answer, Query};

use super::kit::{Rig, node};
use crate::error::NodeError;
use crate::host::Exit;
use crate::run::{Access, Line, Stream};

/// Takes the options and the prompt as sudo does, then does what the test wants.
fn fake(dir: &Path, body: &str) {
    let script = format!(
        r#"#!/bin/sh
p='Password:'
while :; do case $1 in
  -n) n=1; shift;; -S) shift;; -p) p=$2; shift 2;; --) shift; break;; *) break;;
esac; done
ask() {{ printf '%s' "$p" >&2; IFS= read -r answer; [ "$answer" = 'open sesame' ]; }}
{body}
"#
    );
    std::fs::create_dir_all(dir).unwrap();
    let file = dir.join("sudo");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const ASKS_THRICE: &str = r#"for try in 1 2 3; do
  if ask; then echo asked >> "$0.log"; exec "$@"; fi
  echo 'Sorry, try again.' >&2
done; echo 'sudo: 3 incorrect password attempts' >&2; exit 1"#;

fn rig(body: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fake(&bin, body);
    Rig::at(dir, |c, _| c.bin = Some(bin))
}

fn access(root: RootAccess, password: Option<&str>) -> Access {
    Access {
        root,
        password: password.map(|p| Secret::new(p.to_owned())),
    }
}

async fn ask(rig: &Rig, access: &Access) -> Result<Answer, NodeError> {
    let query = Query::Fragment("# test\necho yes".into());
    let answers = rig
        .engine
        .probe(&node("pi"), access, vec![query.clone()])
        .await?;
    Ok(answers.0[&query].clone())
}

fn yes() -> Answer {
    Answer::Fragment {
        status: 0,
        stdout: "yes\n".into(),
    }
}

#[tokio::test]
async fn sudo_without_a_password_costs_no_round_trip() {
    let rig = rig(r#"[ -n "$n" ] && exec "$@""#);
    rig.engine.facts(&node("pi")).await.unwrap();
    assert_eq!(ask(&rig, &access(RootAccess::Sudo, None)).await, Ok(yes()));
    let count = rig.engine.counters().total();
    assert_eq!(
        (count.connections, count.execs, count.round_trips),
        (1, 1, 2)
    );
}

#[tokio::test]
async fn the_password_is_given_when_sudo_asks_for_it_and_only_then() {
    let asks = rig(ASKS_THRICE);
    let with = access(RootAccess::SudoPassword, Some("open sesame"));
    asks.engine.facts(&node("pi")).await.unwrap();
    assert_eq!(ask(&asks, &with).await, Ok(yes()));
    assert_eq!(asks.read("bin/sudo.log").as_deref(), Some("asked\n"));
    assert_eq!(asks.engine.counters().total().execs, 1);

    // Without facts before it, too.
    let asks = rig(ASKS_THRICE);
    assert_eq!(ask(&asks, &with).await, Ok(yes()));

    // A sudo that does not ask is not told: what it would read is the first line of the agent.
    let silent = rig(r#"exec "$@""#);
    assert_eq!(ask(&silent, &with).await, Ok(yes()));

    // A lecture that speaks of passwords is no question.
    let lecture = rig(r#"echo 'the password you type will not be visible' >&2; ask && exec "$@""#);
    assert_eq!(ask(&lecture, &with).await, Ok(yes()));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    for body in [
        ASKS_THRICE,
        // Another language, and another program: only the second question tells.
        r#"while ! ask; do echo 'Das war nichts.' >&2; done; exec "$@""#,
        r#"ask || { echo 'sudo: Authentication failed' >&2; exit 1; }; exec "$@""#,
    ] {
        let rig = rig(body);
        let error = ask(&rig, &access(RootAccess::SudoPassword, Some("wrong")))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            NodeError::WrongPassword { node: node("pi") },
            "{body}"
        );
        assert_eq!(
            error.to_string(),
            "pi: sudo refused the password (tried once)"
        );
    }
}

#[tokio::test]
async fn a_sudo_that_reads_nothing_leaves_no_password_behind_to_be_run() {
    // It prints the question and does not read the answer: the line is still there when the new
    // agent begins. The password here would be a command.
    let dir = tempfile::tempdir().unwrap();
    let trap = dir.path().join("trap");
    let bin = dir.path().join("bin");
    fake(&bin, r#"printf '%s' "$p" >&2; exec "$@""#);
    let rig = Rig::at(dir, |c, _| c.bin = Some(bin));
    let password = format!(": > {}", trap.display());
    assert_eq!(
        ask(&rig, &access(RootAccess::SudoPassword, Some(&password))).await,
        Ok(yes())
    );
    assert!(!trap.exists(), "the password was run");
}

#[tokio::test]
async fn no_password_no_sudo_and_a_refusing_sudo_are_told_apart() {
    let asks = rig(ASKS_THRICE);
    let error = ask(&asks, &access(RootAccess::SudoPassword, None))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("none was given"), "{error}");
    let error = ask(&asks, &access(RootAccess::None, None))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot become root"), "{error}");
    let refuses = rig("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1");
    for how in [RootAccess::Sudo, RootAccess::SudoPassword] {
        let error = ask(&refuses, &access(how, Some("open sesame")))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("must have a tty"), "{error}");
    }
}

#[tokio::test]
async fn ad_hoc_commands_stream_lines_and_tell_how_they_ended() {
    let rig = rig(ASKS_THRICE
        .replace("for try", "[ -n \"$n\" ] && exec \"$@\"\nfor try")
        .as_str());
    for (how, as_root) in [
        (RootAccess::IsRoot, true),
        (RootAccess::None, false),
        (RootAccess::Sudo, true),
        (RootAccess::SudoPassword, true),
    ] {
        let mut lines = Vec::new();
        let exit = rig
            .engine
            .exec(
                &node("pi"),
                &access(how, Some("open sesame")),
                "echo 'a  b'\necho out; echo err >&2; cat; printf end; exit 3",
                as_root,
                &mut |line: Line| lines.push(line),
            )
            .await;
        assert_eq!(exit, Ok(Exit::Status(3)), "{how:?}");
        let of = |stream| -> Vec<&str> {
            lines
                .iter()
                .filter(|l| l.stream == stream)
                .map(|l| l.text.as_str())
                .collect()
        };
        assert_eq!(of(Stream::Out), ["a  b", "out", "end"], "{how:?}");
        assert_eq!(of(Stream::Err), ["err"], "{how:?}");
    }
}

/// What the node-side shell makes of these lines, as a login user that is not root, with a sudo of
/// our own.
fn as_a_user(sudo: &str, lines: &str) -> Option<String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bin = dir.path().join("bin");
    fake(&bin, sudo);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    let root = std::fs::read_to_string("/proc/self/status").unwrap();
    if !root.contains("\nUid:\t0\t") {
        command = Command::new("env");
    }
    command
        .args(["sh", "-c", &crate::agent::command()])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    // In a container nobody may be without the right to change users.
    text.contains("picluster 1 ").then_some(text)
}

#[test]
fn one_sudo_tells_how_root_is_had_and_has_it() {
    let facts = crate::agent::facts(false);
    let facts = facts.trim_end();
    let question = format!(
        "{}{}{facts}",
        crate::agent::try_root(),
        crate::agent::header(facts.len(), 0)
    );
    let hellos = |text: &str| text.matches("picluster 1 ").count();

    // Root's agent dies in the middle: what is still on its way is not run by the login user's.
    let lines = format!("{question}exit 1\necho leaked\n");
    let Some(gives) = as_a_user(r#"[ -n "$n" ] && exec "$@""#, &lines) else {
        return;
    };
    assert_eq!(hellos(&gives), 2, "{gives}");
    assert!(gives.contains("now.root=sudo\n"), "{gives}");
    assert!(!gives.contains("leaked"), "{gives}");

    // Where sudo refuses, the login user's agent answers, and goes on.
    for (sudo, root) in [
        (
            "echo 'sudo: a password is required' >&2; exit 1",
            "password",
        ),
        ("echo 'sudo: you must have a tty' >&2; exit 1", "none"),
    ] {
        let text = as_a_user(sudo, &format!("{question}echo went on\n")).unwrap();
        assert_eq!(hellos(&text), 1, "{text}");
        assert!(text.contains(&format!("now.root={root}\n")), "{text}");
        assert!(text.ends_with("went on\n"), "{text}");
    }
}
