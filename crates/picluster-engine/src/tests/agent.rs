//! The agent and its protocol, under every shell a node may have.

use std::time::Duration;

use picluster_model::secret::Secret;
use picluster_resource::facts::RootAccess;
use picluster_resource::{Frame, NodePath, Payload, Query};

use super::kit::{Rig, node};
use crate::agent;
use crate::error::NodeError;
use crate::run::Access;
use crate::session::Message;
use crate::testing::Fault;

/// Shells that stand in for `/bin/sh`.
fn shells() -> Vec<&'static str> {
    ["dash", "bash --posix", "busybox sh"]
        .into_iter()
        .filter(|shell| {
            let name = shell.split(' ').next().unwrap_or("");
            let found = std::process::Command::new(name)
                .arg("--help")
                .output()
                .is_ok();
            assert!(found || name == "busybox", "{name} is needed for this test");
            found
        })
        .collect()
}

pub fn root() -> Access {
    Access {
        root: RootAccess::IsRoot,
        password: None,
    }
}

#[tokio::test]
async fn facts_and_probes_take_one_session_and_two_round_trips() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        let pi = node("pi");
        let (facts, peer) = rig.engine.facts(&pi).await.unwrap();
        assert!(!facts.arch.kernel.is_empty(), "{shell}");
        assert_eq!(peer.user, "me");
        let file = rig.path("text");
        std::fs::write(&file, "a\n\n").unwrap();
        let path = NodePath::new(file.display().to_string()).unwrap();
        let answers = rig
            .engine
            .probe(&pi, &root(), vec![Query::Text(path.clone())])
            .await
            .unwrap();
        assert_eq!(answers.text(&path), Ok(Some("a\n\n")), "{shell}");
        let count = rig.engine.counters().total();
        assert_eq!(
            (count.connections, count.execs, count.round_trips),
            (1, 1, 2),
            "{shell}"
        );
    }
}

/// An operation sent by hand: its frame.
async fn operate(rig: &Rig, script: &str, payload: Vec<u8>) -> Result<Frame, NodeError> {
    let link = rig.engine.link(&node("pi"));
    let mut link = link.lock().await;
    let message = Message {
        script: agent::operation("", script, "", ""),
        payload: Payload::Bytes(Secret::new(payload)),
    };
    let frames = link
        .ask(&root(), message, Duration::from_secs(60), "testing")
        .await?;
    Ok(frames.into_iter().next().unwrap())
}

fn nothing_left(rig: &Rig) {
    let left: Vec<_> = std::fs::read_dir(rig.path("run/@@@@"))
        .map(|d| d.map(|e| e.unwrap().file_name()).collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn payloads_of_any_bytes_and_size_arrive_whole() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let big: Vec<u8> = every_byte
        .iter()
        .copied()
        .cycle()
        .take(5_000_000 + 7)
        .collect();
    let hostile = b"@23 0 0\n@20 0 0\nexit 1\n'\"$(x)`y`\\\n".to_vec();
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        let file = rig.path("out");
        for payload in [
            every_byte.clone(),
            big.clone(),
            hostile.clone(),
            b"\n".to_vec(),
        ] {
            let frame = operate(&rig, &format!("cat > {}", file.display()), payload.clone())
                .await
                .unwrap();
            assert_eq!(frame.status, 0, "{shell}: {}", frame.text());
            assert!(
                std::fs::read(&file).unwrap() == payload,
                "{shell}: {} bytes",
                payload.len()
            );
        }
        // What an operation does not read is not taken for anything else.
        assert_eq!(
            operate(&rig, "exit 7", big.clone()).await.unwrap().status,
            7
        );
        assert_eq!(operate(&rig, ":", Vec::new()).await.unwrap().status, 0);
        nothing_left(&rig);
    }
}

#[tokio::test]
async fn scripts_may_be_longer_than_an_argument_can_be() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        let script = format!(": {}\nexit 3\n", "x".repeat(300_000));
        for payload in [Vec::new(), b"data".to_vec()] {
            let frame = operate(&rig, &script, payload).await.unwrap();
            assert_eq!(frame.status, 3, "{shell}");
        }
    }
}

#[tokio::test]
async fn an_operation_stops_at_its_first_error_and_shows_only_the_end_of_its_output() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        let frame = operate(&rig, "echo one; false; echo two", Vec::new())
            .await
            .unwrap();
        assert_eq!(
            (frame.status, frame.text().as_str()),
            (1, "one\n"),
            "{shell}"
        );
        let frame = operate(&rig, "echo fine", Vec::new()).await.unwrap();
        assert_eq!((frame.status, frame.text().as_str()), (0, ""), "{shell}");
        let chatty = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; echo end >&2; exit 4";
        let frame = operate(&rig, chatty, Vec::new()).await.unwrap();
        assert_eq!((frame.status, frame.bytes.len()), (4, 65_536), "{shell}");
        assert!(frame.text().ends_with("end\n"), "{shell}");
        // A syntax error, an `exit`, an unset variable, a broken function: all stay inside.
        for script in [
            "if",
            "exit 9",
            "echo $nothing",
            "put() { :; }; reply() { :; }; exit 2",
        ] {
            assert_ne!(
                operate(&rig, script, Vec::new()).await.unwrap().status,
                0,
                "{shell}: {script}"
            );
        }
        // A zero byte cannot stand in a shell variable; the frame holds all the same.
        let frame = operate(&rig, "printf 'a\\000b'; exit 1", Vec::new())
            .await
            .unwrap();
        assert_eq!(frame.text(), "ab", "{shell}");
        nothing_left(&rig);
    }
}

#[tokio::test]
async fn a_payload_cut_off_on_the_way_is_never_used() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        rig.connector
            .faults(&node("pi"), [Fault::CutAfterInput(100_000)]);
        let file = rig.path("out");
        let lost = operate(
            &rig,
            &format!("cat > {}", file.display()),
            vec![b'x'; 200_000],
        )
        .await;
        assert!(
            matches!(lost, Err(NodeError::Lost { .. })),
            "{shell}: {lost:?}"
        );
        // The agent is a child of this process: once it is gone nothing can come any more.
        until(|| std::fs::read_dir(rig.path("run/@@@@")).is_ok_and(|mut d| d.next().is_none()))
            .await;
        assert!(!file.exists(), "{shell}");
    }
}

/// Waits for something that will happen, bounded only by the test runner's patience.
pub async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_start_up_files_print_is_passed_over() {
    let rig = Rig::new();
    let noise = b"Welcome!\n@0 0 5\nhello\nno newline at the end: ".to_vec();
    rig.connector.faults(&node("pi"), [Fault::Noise(noise)]);
    rig.engine.facts(&node("pi")).await.unwrap();
}

#[tokio::test]
async fn garbage_is_called_garbage() {
    let rig = Rig::new();
    rig.connector
        .faults(&node("pi"), [Fault::Noise(vec![b'z'; 200_000])]);
    let error = rig.engine.facts(&node("pi")).await.unwrap_err();
    assert!(matches!(error, NodeError::Garbage { .. }), "{error}");
    // In the middle of a session, too.
    let link = rig.engine.link(&node("pi"));
    let message = Message::script("echo surprise\n".into());
    let error = link
        .lock()
        .await
        .ask(&root(), message, Duration::from_secs(9), "x")
        .await;
    assert!(
        matches!(&error, Err(NodeError::Garbage { what, .. }) if what.contains("surprise")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_session_that_ends_early_is_lost_and_its_last_words_are_kept() {
    let rig = Rig::new();
    let link = rig.engine.link(&node("pi"));
    let message = Message::script("echo 'cannot fork' >&2; exit 5\n".into());
    let error = link
        .lock()
        .await
        .ask(&root(), message, Duration::from_secs(9), "x")
        .await;
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "pi: the session ended before the answer came; it said: cannot fork"
    );
    // The next one starts afresh on the same connection.
    assert_eq!(operate(&rig, ":", Vec::new()).await.unwrap().status, 0);
    let count = rig.engine.counters().total();
    assert_eq!((count.connections, count.execs), (1, 2));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_given_up_in_time() {
    tokio::time::pause();
    let rig = Rig::new();
    let link = rig.engine.link(&node("pi"));
    let message = Message::script("read -r never\n".into());
    let error = link
        .lock()
        .await
        .ask(&root(), message, Duration::from_secs(9), "dreaming")
        .await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "pi: no answer within 9 s while dreaming"
    );
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_does_so_at_the_step_boundary() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        assert_eq!(operate(&rig, ":", Vec::new()).await.unwrap().status, 0);
        let pid = rig
            .engine
            .link(&node("pi"))
            .lock()
            .await
            .agent_pid()
            .unwrap();
        let done = rig.path("done");
        // While it works: it finishes, answers, and is gone before the next message.
        let script = format!("kill -TERM {pid}; sleep 0.2; echo yes > {}", done.display());
        let first = operate(&rig, &script, Vec::new()).await;
        assert!(
            matches!(
                first,
                Ok(Frame { status: 0, .. }) | Err(NodeError::Lost { .. })
            ),
            "{shell}: {first:?}"
        );
        assert_eq!(std::fs::read_to_string(&done).unwrap(), "yes\n", "{shell}");
        if first.is_ok() {
            assert!(operate(&rig, ":", Vec::new()).await.is_err(), "{shell}");
        }
        // While it waits for the next message.
        assert_eq!(operate(&rig, ":", Vec::new()).await.unwrap().status, 0);
        let pid = rig
            .engine
            .link(&node("pi"))
            .lock()
            .await
            .agent_pid()
            .unwrap();
        let killed = std::process::Command::new("kill")
            .arg(pid.to_string())
            .status()
            .unwrap();
        assert!(killed.success());
        until(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    }
}
