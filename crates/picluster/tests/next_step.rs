//! Invariant 11: whatever goes wrong, people are told on which node or at which place, what was not
//! done, and what to do next. Each kind of error is listed here; the compiler asks for new ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use picluster::error::Failure as Ended;
use picluster::show;
use picluster::survey::closed;
use picluster::term::Style;
use picluster_engine::host::{ConnectError, HostError};
use picluster_engine::report::{SkipReason, StepReport};
use picluster_engine::{ExitCode, Failure, NodeEnd, NodeError, NodeReport, Outcome, Report};
use picluster_model::{ClusterName, NodeName};
use picluster_plan::{NodePlan, Plan, StepAddr};
use picluster_resource::query::AnswerError;

const AGAIN: &str = "picluster apply rack.yaml";

fn node() -> NodeName {
    NodeName::new("rpi07").unwrap()
}

fn addr(key: &str) -> StepAddr {
    format!("rpi07/base/file[{key}]").parse().unwrap()
}

fn plain() -> Style {
    Style::plain(100)
}

/// One of each. A new kind does not compile until it stands here.
fn node_errors() -> Vec<NodeError> {
    let (node, address) = (node(), String::from("192.168.2.7:22"));
    let connect = vec![
        ConnectError::Unreachable {
            node: node.clone(),
            address: address.clone(),
            reason: "no route to host".into(),
        },
        ConnectError::HostKeyChanged {
            node: node.clone(),
            pinned: "SHA256:a".into(),
            presented: "SHA256:b".into(),
        },
        ConnectError::HostKeyUnknown {
            node: node.clone(),
            presented: "SHA256:b".into(),
        },
        ConnectError::Authentication {
            node: node.clone(),
            user: "pi".into(),
            address,
            reason: "publickey".into(),
        },
        ConnectError::Local {
            node: node.clone(),
            reason: "the key cannot be read; chmod 0600 it".into(),
        },
    ];
    for error in &connect {
        match error {
            ConnectError::Unreachable { .. }
            | ConnectError::HostKeyChanged { .. }
            | ConnectError::HostKeyUnknown { .. }
            | ConnectError::Authentication { .. }
            | ConnectError::Local { .. } => {}
        }
    }
    let mut all: Vec<NodeError> = connect.into_iter().map(NodeError::Connect).collect();
    all.extend([
        NodeError::Host {
            node: node.clone(),
            error: HostError::Refused("no".into()),
        },
        NodeError::Host {
            node: node.clone(),
            error: HostError::Disconnected("gone".into()),
        },
        NodeError::Lost {
            node: node.clone(),
            stderr: "Killed".into(),
        },
        NodeError::Timeout {
            node: node.clone(),
            doing: "probing it".into(),
            seconds: 9,
        },
        NodeError::Garbage {
            node: node.clone(),
            what: "hello".into(),
        },
        NodeError::GaveUp {
            node: node.clone(),
            what: "no room".into(),
        },
        NodeError::Answer {
            node: node.clone(),
            error: AnswerError {
                query: "path /x".into(),
                why: "odd".into(),
            },
        },
        NodeError::NoRoot {
            node: node.clone(),
            why: "no sudo".into(),
        },
        NodeError::WrongPassword { node: node.clone() },
        NodeError::Locked {
            node: node.clone(),
            holder: None,
            processes: vec![],
        },
        NodeError::NotServing {
            node: node.clone(),
            step: Box::new(addr("/etc/rancher/k3s/config.yaml")),
            why: "connection refused".into(),
        },
        NodeError::Identity {
            node,
            what: "machine id a in the plan, b now".into(),
        },
    ]);
    for error in &all {
        match error {
            NodeError::Connect(_)
            | NodeError::Host { .. }
            | NodeError::Lost { .. }
            | NodeError::Timeout { .. }
            | NodeError::Garbage { .. }
            | NodeError::GaveUp { .. }
            | NodeError::Answer { .. }
            | NodeError::NoRoot { .. }
            | NodeError::WrongPassword { .. }
            | NodeError::Locked { .. }
            | NodeError::NotServing { .. }
            | NodeError::Identity { .. } => {}
        }
    }
    all
}

#[test]
fn every_error_of_a_node_names_it_in_words_and_in_the_plan() {
    for error in node_errors() {
        let words = error.to_string();
        assert!(words.starts_with("rpi07: "), "{words}");
        let state = closed(&error);
        // Whose identity, password or login is the matter can be told what to do.
        let known = matches!(
            error,
            NodeError::NoRoot { .. }
                | NodeError::WrongPassword { .. }
                | NodeError::Connect(
                    ConnectError::HostKeyChanged { .. }
                        | ConnectError::HostKeyUnknown { .. }
                        | ConnectError::Authentication { .. }
                )
        );
        let nodes = BTreeMap::from([(node(), NodePlan::new(state))]);
        let plan = Plan {
            format: 1,
            cluster: ClusterName::new("rack").unwrap(),
            inventory: "rack.yaml".into(),
            addresses: BTreeMap::new(),
            key_id: None,
            nodes,
            steps: vec![],
            values: Vec::new(),
            leaving: std::collections::BTreeMap::new(),
            members: BTreeMap::new(),
        };
        let shown = show::plan::plan(&plan, 0, plain());
        let (_, below) = shown
            .split_once("Not planned\n")
            .unwrap_or_else(|| panic!("{words}: {shown}"));
        assert!(below.contains("rpi07"), "{below}");
        assert!(
            !known || below.contains("next: "),
            "{words}: no next step in\n{below}"
        );
    }
}

fn report(end: NodeEnd, outcomes: Vec<Outcome>) -> Report {
    let steps = outcomes
        .into_iter()
        .enumerate()
        .map(|(n, outcome)| StepReport {
            addr: addr(&format!("/{n}")),
            outcome,
            seconds: 0.0,
        })
        .collect();
    Report {
        nodes: BTreeMap::from([(
            node(),
            NodeReport {
                end,
                steps,
                problems: vec![],
            },
        )]),
        interrupted: false,
        seconds: 1.0,
    }
}

/// Everything but the table at the end, which has one row a node.
fn failures(report: &Report) -> String {
    let text = show::recap::recap(report, &BTreeSet::new(), AGAIN, plain());
    text.rsplit_once("\n  rpi07  ")
        .map_or(text.clone(), |(before, _)| format!("{before}\n"))
}

#[test]
fn every_step_that_was_not_done_is_named_with_the_next_step() {
    let outcomes = [
        Outcome::Failed(Box::new(Failure::new("it ended with exit status 1"))),
        Outcome::Failed(Box::new(Failure {
            cure: Some("do this".into()),
            ..Failure::new("no")
        })),
        Outcome::Lost {
            what: "the session ended".into(),
        },
        Outcome::RolledBack {
            what: "after the change there was no way in".into(),
        },
        Outcome::Stale {
            what: "mode: 0644 -> 0600".into(),
        },
        Outcome::Skipped(SkipReason::Guard(
            "server rpi08 was not reached, so rpi07 has to stay up".into(),
        )),
    ];
    for outcome in outcomes {
        let cured = matches!(&outcome, Outcome::Failed(f) if f.cure.is_some());
        let waits = Outcome::Skipped(SkipReason::Needs(addr("/0")));
        let text = failures(&report(NodeEnd::Incomplete, vec![outcome.clone(), waits]));
        assert!(
            text.contains("rpi07/base/file[/0]: "),
            "{outcome:?}:\n{text}"
        );
        assert!(
            text.contains("not done because of it: base/file[/1]"),
            "{outcome:?}:\n{text}"
        );
        let next = if cured {
            "next: do this"
        } else if matches!(&outcome, Outcome::RolledBack { .. }) {
            "next: mend it in the documents, then picluster apply rack.yaml"
        } else if matches!(&outcome, Outcome::Stale { .. }) {
            // The same plan would be refused again.
            "next: make a new plan of it: picluster plan"
        } else {
            "next: picluster apply rack.yaml"
        };
        assert!(text.contains(next), "{outcome:?}:\n{text}");
        // A step that only waited has no error of its own.
        assert!(!text.contains("✗ rpi07/base/file[/1]"), "{text}");
    }
}

#[test]
fn every_node_that_was_not_done_is_named_with_what_was_left_and_the_next_step() {
    let reason = || String::from("rpi07: it has a reason");
    let ends = [
        NodeEnd::Unreachable { reason: reason() },
        NodeEnd::IdentityChanged {
            reason: reason(),
            since_plan: false,
        },
        NodeEnd::IdentityChanged {
            reason: reason(),
            since_plan: true,
        },
        NodeEnd::Locked {
            holder: None,
            reason: reason(),
        },
        NodeEnd::Failed { reason: reason() },
    ];
    for end in ends {
        match &end {
            // These say it by their steps, or have nothing to say.
            NodeEnd::Idle | NodeEnd::Done | NodeEnd::Incomplete | NodeEnd::Interrupted => panic!(),
            NodeEnd::Unreachable { .. }
            | NodeEnd::IdentityChanged { .. }
            | NodeEnd::Locked { .. }
            | NodeEnd::Failed { .. } => {}
        }
        let left = Outcome::Skipped(SkipReason::Node(node()));
        let text = failures(&report(end.clone(), vec![left]));
        for part in ["rpi07: it has a reason", "not done: 1 step", "next: "] {
            assert!(
                text.contains(part),
                "{end:?}: {part:?} is missing in\n{text}"
            );
        }
    }
    let mut report = report(NodeEnd::Interrupted, vec![]);
    report.interrupted = true;
    assert!(
        show::recap::recap(&report, &BTreeSet::new(), AGAIN, plain())
            .contains("Carry on with: picluster apply rack.yaml")
    );
}

#[test]
fn an_error_before_any_write_says_that_nothing_was_changed() {
    for failure in [
        Ended::usage("cannot do it"),
        Ended::with(ExitCode::Usage, "no"),
        Ended::documents(vec![]),
    ] {
        let text = show::failure::failure(&failure, plain());
        assert!(text.contains("nothing was changed"), "{text}");
    }
    let hinted = show::failure::failure(&Ended::usage("no").hint("say --yes"), plain());
    assert!(hinted.contains("say --yes"), "{hinted}");
}
