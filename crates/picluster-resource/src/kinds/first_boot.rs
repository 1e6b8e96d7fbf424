//! `first_boot`: the image has finished setting itself up.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::query::{Answers, Query};
use crate::token::Token;

/// Waits until an image has finished its own first boot: cloud-init, growing the file system, the
/// scripts of rpi-imager. Before that it may rewrite what is set here, or reboot. (An apt of its own
/// that runs in the background is waited for by `package`.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstBoot {
    /// How long to wait, in seconds.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 7200))]
    pub timeout_s: u32,
}

fn ten_minutes() -> u32 {
    600
}

/// What was seen of the first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBootSeen {
    /// What still runs or waits, in words.
    pub left: Vec<String>,
}

const PROBE_SH: &str = include_str!("first_boot/probe.sh");

/// `cloud-init status`: 0 done or running, 1 crashed, 2 done with errors it could get over (since 23.4).
/// Older versions say 1 also while later stages run, so it counts only when it stays.
const WAIT_SH: &str = include_str!("first_boot/wait.sh");

impl Kind for FirstBoot {
    const NAME: &'static str = "first_boot";
    type Observation = FirstBootSeen;

    fn key(&self) -> String {
        "finished".into()
    }

    fn check(&self) -> Vec<String> {
        if (1..=7200).contains(&self.timeout_s) {
            Vec::new()
        } else {
            vec![format!(
                "timeout_s {} is not between 1 and 7200",
                self.timeout_s
            )]
        }
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(PROBE_SH.to_owned())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<FirstBootSeen>, Diagnosis> {
        let (_, text) = answers.fragment(PROBE_SH)?;
        if !text.lines().any(|line| line == "end") {
            return Err(Diagnosis::new(
                "the node did not say whether its first boot is finished",
            ));
        }
        Ok(Seen::Now(FirstBootSeen {
            left: text
                .lines()
                .filter_map(|line| line.strip_prefix("left "))
                .map(str::to_owned)
                .collect(),
        }))
    }

    fn diff(&self, seen: &FirstBootSeen, ctx: Ctx<'_>) -> Diff {
        if seen.left.is_empty() {
            return Diff::NoOp;
        }
        let mut change = self.expected(ctx);
        if let Some(field) = change.fields.first_mut() {
            field.before = Shown::text(seen.left.join("; "));
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Run)
            .field("first boot", Shown::Later, Shown::text("finished"))
            .because(format!("waits for at most {} s", self.timeout_s))
    }

    fn operation(
        &self,
        _seen: &FirstBootSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        // Each look takes a moment beside the second it sleeps.
        let bound = Duration::from_secs(u64::from(self.timeout_s) * 3 / 2 + 60);
        Ok(Operation::script(format!(
            "left_of_first_boot() (\n{PROBE_SH}\n)\nlimit={}\n{WAIT_SH}",
            self.timeout_s
        ))
        .within(bound))
    }

    fn provides(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }
}
