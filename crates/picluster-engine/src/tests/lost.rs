//! A step whose session is lost is lost: nobody knows how far it got, so nothing that needs it begins.

use super::kit::{Rig, node};
use crate::exit_code::ExitCode;
use crate::report::{Outcome, SkipReason};
use crate::testing::Fault;

#[tokio::test]
async fn nothing_that_needs_a_lost_step_begins() {
    let mut lost = 0;
    for cut in 1..40 {
        let rig = Rig::new();
        let files = vec![rig.file("a", "a"), rig.file("b", "b")];
        let mut plan = rig.plan(&[("pi", files)]).await;
        let a = plan.steps[0].addr.clone();
        plan.steps[1].needs.push(a.clone());
        rig.engine.close().await;
        rig.connector
            .faults(&node("pi"), [Fault::CutAfterFrames(cut)]);
        let (report, _) = rig.apply(&plan).await;
        let steps = &report.nodes[&node("pi")].steps;
        if let Outcome::Lost { .. } = steps[0].outcome {
            lost += 1;
            assert_eq!(
                steps[1].outcome,
                Outcome::Skipped(SkipReason::Needs(a)),
                "cut at {cut}"
            );
            assert!(!rig.path("b").exists(), "cut at {cut}");
            assert_eq!(report.exit_code(), ExitCode::NodeFailed, "cut at {cut}");
        }
        if report.exit_code() == ExitCode::Done {
            break;
        }
    }
    assert!(lost > 0, "no cut fell into the first step");
}
