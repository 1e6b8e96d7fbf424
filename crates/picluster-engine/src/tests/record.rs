//! What stays of a run: exit code, journal, locks of the controller.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use picluster_plan::Problem;

use super::kit::{Rig, node, owner};
use crate::event::{Event, EventKind};
use crate::exit_code::ExitCode;
use crate::journal::Journal;
use crate::lock::{ControllerLock, LockError};
use crate::report::{Failure, NodeEnd, NodeReport, Outcome, Report, SkipReason, StepReport};

fn outcome(word: &str) -> Outcome {
    match word {
        "changed" => Outcome::Changed,
        "failed" => Outcome::Failed(Box::new(Failure::new("x"))),
        "lost" => Outcome::Lost { what: "x".into() },
        "stale" => Outcome::Stale { what: "x".into() },
        "rolled back" => Outcome::RolledBack { what: "x".into() },
        "guarded" => Outcome::Skipped(SkipReason::Guard("x".into())),
        "cancelled" => Outcome::Skipped(SkipReason::Cancelled),
        other => panic!("{other}"),
    }
}

fn end(word: &str) -> NodeEnd {
    let reason = String::from("x");
    match word {
        "done" => NodeEnd::Done,
        "unreachable" => NodeEnd::Unreachable { reason },
        "identity" => NodeEnd::IdentityChanged {
            reason,
            since_plan: false,
        },
        "locked" => NodeEnd::Locked {
            holder: None,
            reason,
        },
        "broken" => NodeEnd::Failed { reason },
        other => panic!("{other}"),
    }
}

/// A report with one node for each word: how it ended, or how its only step did.
fn report(words: &[&str]) -> Report {
    let mut nodes = BTreeMap::new();
    for (i, word) in words.iter().enumerate() {
        let name = node(&format!("n{i}"));
        let mut one = NodeReport {
            end: NodeEnd::Incomplete,
            steps: Vec::new(),
            problems: Vec::new(),
        };
        match *word {
            "interrupt" => continue,
            "problem" => one.problems.push(Problem::new("x")),
            "done" | "unreachable" | "identity" | "locked" | "broken" => one.end = end(word),
            word => one.steps.push(StepReport {
                addr: format!("{name}/r/file[x]").parse().unwrap(),
                outcome: outcome(word),
                seconds: 0.0,
            }),
        }
        nodes.insert(name, one);
    }
    Report {
        nodes,
        interrupted: words.contains(&"interrupt"),
        seconds: 0.0,
    }
}

#[test]
fn the_exit_code_is_the_gravest_of_what_happened() {
    for (words, code, all) in [
        (&[][..], 0, &[][..]),
        (&["done", "changed"], 0, &[]),
        (&["failed"], 3, &[3]),
        (&["lost"], 3, &[3]),
        (&["rolled back"], 7, &[7]),
        (&["rolled back", "failed", "unreachable"], 7, &[7, 3, 4]),
        (&["guarded"], 3, &[3]),
        (&["broken"], 3, &[3]),
        (&["problem"], 3, &[3]),
        (&["stale"], 5, &[5]),
        (&["locked"], 6, &[6]),
        (&["unreachable", "done"], 4, &[4]),
        (&["identity"], 8, &[8]),
        // 8 > 7 > 3 > 5 > 6 > 4; an interrupt stands before 4.
        (&["unreachable", "locked"], 6, &[6, 4]),
        (&["locked", "stale", "unreachable"], 5, &[5, 6, 4]),
        (&["stale", "failed", "locked"], 3, &[3, 5, 6]),
        (
            &["failed", "identity", "stale", "unreachable", "locked"],
            8,
            &[8, 3, 5, 6, 4],
        ),
        (&["interrupt", "cancelled"], 130, &[130]),
        (&["interrupt", "unreachable"], 130, &[130, 4]),
        (&["interrupt", "failed"], 3, &[3, 130]),
        // Closed by ourselves: the node finishes the step and stops.
        (&["interrupt", "lost"], 130, &[130]),
    ] {
        let report = report(words);
        assert_eq!(report.exit_code().number(), code, "{words:?}");
        let codes: Vec<u8> = report.exit_codes().iter().map(|c| c.number()).collect();
        assert_eq!(codes, all, "{words:?}");
    }
    assert!(ExitCode::RolledBack.gravity() > ExitCode::NodeFailed.gravity());
    assert!(ExitCode::RolledBack.gravity() < ExitCode::IdentityChanged.gravity());
    let numbers: Vec<u8> = ExitCode::ALL.iter().map(|c| c.number()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
}

#[tokio::test]
async fn a_journal_gives_back_what_was_written_and_outlives_a_torn_line() {
    let rig = Rig::new();
    let plan = rig.plan(&[("pi", vec![rig.file("a", "a")])]).await;
    let (_, events) = rig.apply(&plan).await;
    let written: Vec<Event> = events.into_iter().map(|e| Event::new(1, e)).collect();
    let mut journal = Journal::create(rig.dir.path(), "r1").unwrap();
    for event in &written {
        journal.write(event).unwrap();
        // As they come, not when it is closed.
        assert_eq!(Journal::read(journal.path()).unwrap().last(), Some(event));
    }
    let mode = std::fs::metadata(journal.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        Journal::create(rig.dir.path(), "r1").is_err(),
        "a run has one journal"
    );
    let mut text = std::fs::read(journal.path()).unwrap();
    text.truncate(text.len() - 3);
    std::fs::write(journal.path(), text).unwrap();
    let read = Journal::read(journal.path()).unwrap();
    assert_eq!(read, written[..written.len() - 1]);
    assert_eq!(Journal::durations(&read).len(), 1);
}

#[test]
fn one_run_at_a_time_holds_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let mine = ControllerLock::acquire(dir.path(), &owner("r1")).unwrap();
    let error = ControllerLock::acquire(dir.path(), &owner("r2")).unwrap_err();
    assert!(
        matches!(&error, LockError::Held { owner: Some(o), .. } if o.run == "r1"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("is held by ann@desk (run r1, process 7)"),
        "{error}"
    );
    drop(mine);
    ControllerLock::acquire(dir.path(), &owner("a shorter name")).unwrap();
}

#[test]
fn only_a_run_of_the_same_user_controller_and_store_can_be_outlived() {
    let mine = owner("r2");
    assert!(mine.outlived(&owner("r1")));
    for change in ["user", "controller", "store"] {
        let mut other = owner("r1");
        match change {
            "user" => other.user = "x".into(),
            "controller" => other.controller = "x".into(),
            _ => other.store = "x".into(),
        }
        assert!(!mine.outlived(&other), "{change}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_shows_in_the_facts() {
    let rig = Rig::new();
    let (facts, _) = rig.engine.facts(&node("pi")).await.unwrap();
    // The test's clock stands at the epoch, so the node is as far ahead as its own clock says.
    assert_eq!(facts.now.skew_s, Some(facts.now.epoch));
}

#[tokio::test]
async fn events_are_one_line_of_json_each_and_read_back() {
    let rig = Rig::new();
    let plan = rig.plan(&[("pi", vec![rig.file("a", "two\nlines")])]).await;
    let (_, events) = rig.apply(&plan).await;
    assert!(
        events
            .iter()
            .any(|e| matches!(e, EventKind::NodeConnected { .. }))
    );
    for event in events {
        let event = Event::new(7, event);
        let line = serde_json::to_string(&event).unwrap();
        assert!(
            !line.contains('\n') && line.starts_with(r#"{"v":1,"at":7,"event":"#),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
