//! Several steps in one go: each keeps the promises it has when it runs alone.

use picluster_plan::RecordAction;
use picluster_plan::owned::Begun;
use picluster_resource::NodePath;
use picluster_resource::kinds::link::Link;
use proptest::prelude::*;

use super::kit::{Rig, file_at, node};
use crate::report::Outcome;
use crate::testing::Fault;

/// What is left on the node of what was made ready, by name.
fn left_over(rig: &Rig) -> Vec<String> {
    let names = std::fs::read_dir(rig.dir.path()).unwrap();
    names
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with(".picluster"))
        .collect()
}

fn marks(rig: &Rig) -> Vec<String> {
    let names = std::fs::read_dir(rig.path("owned/@@@@")).unwrap();
    let mut marks: Vec<String> = names
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.ends_with(".begun"))
        .collect();
    marks.sort();
    marks
}

fn link(rig: &Rig, name: &str, target: &str) -> picluster_resource::Resource {
    picluster_resource::Resource::Link(Link {
        path: NodePath::new(rig.path(name).display().to_string()).unwrap(),
        target: target.into(),
        state: picluster_resource::kinds::file::Presence::Present,
        force: false,
    })
}

#[tokio::test]
async fn marks_of_a_killed_run_go_whether_there_is_something_to_do_or_not() {
    let rig = Rig::new();
    let names = ["a", "b", "c"];
    let resources = names.map(|name| rig.file(name, name)).to_vec();
    let mut plan = rig.plan(&[("pi", resources)]).await;
    rig.apply(&plan).await;
    // The killed run has written the records already; one of the three it has not done.
    for step in &mut plan.steps {
        let record = std::mem::replace(&mut step.record, RecordAction::Keep);
        let RecordAction::Write { name, .. } = record else {
            panic!("no record")
        };
        let mark = format!("owned/@@@@/{}", Begun::file_name(&name));
        std::fs::write(
            rig.path(&mark),
            format!("{{\"begun\":\"{name}\",\"at\":0}}\n"),
        )
        .unwrap();
    }
    std::fs::remove_file(rig.path("b")).unwrap();
    assert_eq!(marks(&rig).len(), 3);
    let (report, _) = rig.apply(&plan).await;
    assert_eq!((report.counts().changed, report.counts().unchanged), (1, 2));
    assert_eq!(marks(&rig), [""; 0]);
}

#[tokio::test]
async fn one_that_fails_has_its_own_error_and_those_behind_it_are_run_all_the_same() {
    let rig = Rig::new();
    let resources = vec![
        rig.file("a", "a"),
        link(&rig, "l", "a"),
        rig.file("b", "b"),
        rig.file("c", "c"),
    ];
    let plan = rig.plan(&[("pi", resources)]).await;
    assert_eq!(plan.steps.len(), 4);
    let tools = rig.path("bin");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(
        tools.join("ln"),
        "#!/bin/sh\necho 'no links today' >&2; exit 7\n",
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tools.join("ln"), mode).unwrap();
    let rig = Rig::at(rig.dir, |connector, _| connector.bin = Some(tools));
    let (report, _) = rig.apply(&plan).await;
    let steps = &report.nodes[&node("pi")].steps;
    let outcomes: Vec<bool> = steps
        .iter()
        .map(|s| s.outcome == Outcome::Changed)
        .collect();
    assert_eq!(outcomes, [true, false, true, true], "{steps:?}");
    assert!(
        matches!(&steps[1].outcome, Outcome::Failed(f) if f.status == Some(7) && f.output.contains("no links today")),
        "{steps:?}"
    );
    assert_eq!(rig.read("c").as_deref(), Some("c"));
    assert_eq!(left_over(&rig), [""; 0]);
    let RecordAction::Write { name, .. } = &plan.steps[1].record else {
        panic!("no record")
    };
    assert_eq!(marks(&rig), [Begun::file_name(name)]);
}

#[tokio::test]
async fn what_cannot_be_made_ready_hinders_nobody_else() {
    let rig = Rig::new();
    let resources = vec![
        rig.file("a", "a"),
        // The directory is there, and nothing can be made in it.
        file_at(std::path::Path::new("/proc/picluster-test"), "x"),
        rig.file("b", "b"),
    ];
    let plan = rig.plan(&[("pi", resources)]).await;
    let (report, _) = rig.apply(&plan).await;
    let count = report.counts();
    assert_eq!((count.changed, count.failed), (2, 1), "{report:?}");
    assert_eq!(left_over(&rig), [""; 0]);
    assert_eq!(marks(&rig).len(), 1);
}

#[tokio::test]
async fn what_is_as_desired_meanwhile_and_what_was_moved_is_seen_in_its_turn() {
    let rig = Rig::new();
    let resources = ["a", "b", "c", "d"].map(|name| rig.file(name, name));
    let plan = rig.plan(&[("pi", resources.into())]).await;
    std::fs::write(rig.path("b"), "b").unwrap();
    std::fs::set_permissions(
        rig.path("b"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    std::fs::write(rig.path("c"), "somebody else's").unwrap();
    let (report, _) = rig.apply(&plan).await;
    let steps = &report.nodes[&node("pi")].steps;
    assert_eq!(steps[0].outcome, Outcome::Changed);
    assert_eq!(steps[1].outcome, Outcome::Unchanged);
    assert!(
        matches!(steps[2].outcome, Outcome::Stale { .. }),
        "{steps:?}"
    );
    assert_eq!(steps[3].outcome, Outcome::Changed);
    assert_eq!(rig.read("c").as_deref(), Some("somebody else's"));
}

#[tokio::test]
async fn a_message_that_is_cut_anywhere_leaves_whole_files_only_and_the_next_apply_heals_it() {
    let content = "a line of text\n".repeat(20);
    let names = ["a", "b", "c"];
    // What is sent up to the first step, and by all of it.
    let rig = Rig::new();
    let plan = rig
        .plan(&[("pi", names.map(|n| rig.file(n, &content)).into())])
        .await;
    let from = rig.engine.counters().total().bytes_out;
    rig.engine.close().await;
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.counts().changed, 3);
    let to = rig.engine.counters().total().bytes_out - from;
    for cut in (from..to).step_by(211) {
        let rig = Rig::new();
        let plan = rig
            .plan(&[("pi", names.map(|n| rig.file(n, &content)).into())])
            .await;
        rig.engine.close().await;
        rig.connector.faults(
            &node("pi"),
            [Fault::CutAfterInput(usize::try_from(cut).unwrap())],
        );
        let (report, _) = rig.apply(&plan).await;
        assert_eq!(report.counts().changed, 0, "{cut}: {report:?}");
        for name in names {
            let text = rig.read(name);
            assert!(text.is_none_or(|t| t == content), "{cut}: {name} is torn");
        }
        let (report, _) = rig.apply(&plan).await;
        assert_eq!(report.counts().failed, 0, "{cut}: {report:?}");
        for name in names {
            assert_eq!(rig.read(name).as_deref(), Some(content.as_str()));
        }
        assert_eq!(left_over(&rig), [""; 0]);
    }
}

/// Text that a shell might take for something else.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\\PC\n\r\t ]{0,12}",
        prop::sample::select(vec![
            "'",
            "\"",
            "\\",
            "$(false)",
            "`false`",
            "%s%n",
            "-n",
            "\\c",
            "E\n",
            "\nE\n",
            "}",
            "#",
            "!",
            "*",
            "\u{7f}",
            "\u{1b}[0m",
            "ä",
            "\u{10ffff}",
            "\n\n",
            "prep",
            "$1",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_text_arrives_as_it_is() {
    // Each case is dozens of processes, so `PROPTEST_CASES`, which means millions of cheap ones, is not for it.
    let config = ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let strategy = proptest::collection::vec(texts(), 1..6);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let ran = runner.run(&strategy, |all| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for shell in ["dash", "bash --posix", "busybox sh"] {
            runtime.block_on(async {
                let rig = Rig::with(|connector, _| connector.shell = Some(shell.into()));
                let name = |i: usize| format!("f{i}");
                let files = all
                    .iter()
                    .enumerate()
                    .map(|(i, text)| rig.file(&name(i), text));
                let plan = rig.plan(&[("pi", files.collect())]).await;
                let (report, _) = rig.apply(&plan).await;
                assert_eq!(
                    report.counts().changed as usize,
                    all.len(),
                    "{shell}: {report:?}"
                );
                for (i, text) in all.iter().enumerate() {
                    assert_eq!(
                        rig.read(&name(i)).as_deref(),
                        Some(text.as_str()),
                        "{shell}"
                    );
                }
            });
        }
        Ok(())
    });
    ran.unwrap_or_else(|wrong| panic!("{wrong}"));
}
