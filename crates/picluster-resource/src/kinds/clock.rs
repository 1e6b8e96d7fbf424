//! `clock`: the node knows what time it is.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::query::{Answers, Query};
use crate::token::Token;

/// The node's clock: synchronised with a time server, or close to the controller's. Most Raspberry
/// Pis have no clock that runs without power; with a wrong one TLS and apt refuse to work. The
/// node's own time service (chrony, systemd-timesyncd, ntpsec) is made to set it; the controller's
/// time is never pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// How far it may be from the controller's clock when it is not synchronised, in seconds.
    #[serde(default = "within")]
    pub within_s: u32,
}

/// How far a clock may be from the controller's where nothing else is said, in seconds.
pub const WITHIN_S: u32 = 5;

fn within() -> u32 {
    WITHIN_S
}

/// What was seen of the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSeen {
    /// Seconds ahead of the controller, as the facts say; `None`: not compared.
    pub skew_s: Option<i64>,
    /// Synchronised with a time server; not asked when the clock is close enough.
    pub synchronized: bool,
    /// The installed time service.
    pub service: Option<String>,
}

const PROBE_SH: &str = include_str!("clock/probe.sh");

const WAIT_SH: &str = include_str!("clock/wait.sh");

impl Clock {
    fn is_close(&self, skew_s: Option<i64>) -> bool {
        skew_s.is_some_and(|skew| skew.unsigned_abs() <= u64::from(self.within_s))
    }
}

/// A difference in words: `3 min behind the controller`.
#[must_use]
pub fn apart(skew_s: i64) -> String {
    let by = skew_s.unsigned_abs();
    let amount = match by {
        0..120 => format!("{by} s"),
        120..7200 => format!("{} min", by / 60),
        7200..172_800 => format!("{} h", by / 3600),
        _ => format!("{} days", by / 86_400),
    };
    let side = if skew_s < 0 { "behind" } else { "ahead of" };
    format!("{amount} {side} the controller")
}

impl Kind for Clock {
    const NAME: &'static str = "clock";
    type Observation = ClockSeen;

    fn key(&self) -> String {
        "right".into()
    }

    fn queries(&self, ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        // Right is right: no need to wake a daemon for it.
        Ok(if self.is_close(ctx.facts.now.skew_s) {
            Vec::new()
        } else {
            vec![Query::Fragment(PROBE_SH.to_owned())]
        })
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<ClockSeen>, Diagnosis> {
        let skew_s = ctx.facts.now.skew_s;
        let mut seen = ClockSeen {
            skew_s,
            synchronized: false,
            service: None,
        };
        if !self.is_close(skew_s) {
            let (_, text) = answers.fragment(PROBE_SH)?;
            seen.synchronized = text.lines().any(|line| line == "synchronized yes");
            seen.service = text
                .lines()
                .find_map(|line| line.strip_prefix("service "))
                .map(str::to_owned);
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &ClockSeen, ctx: Ctx<'_>) -> Diff {
        if seen.synchronized || self.is_close(seen.skew_s) {
            return Diff::NoOp;
        }
        let mut change = self.expected(ctx);
        if let Some(field) = change.fields.first_mut() {
            let before = match seen.skew_s {
                Some(skew) => format!("{}, not synchronised", apart(skew)),
                None => "not synchronised".into(),
            };
            field.before = Shown::Text(before);
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Run)
            .field("clock", Shown::Later, Shown::text("synchronised"))
            .because("with a wrong clock TLS and apt refuse to work")
    }

    fn operation(
        &self,
        seen: &ClockSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let Some(service) = &seen.service else {
            return Err(Diagnosis::new(
                "the clock is wrong and no time service is installed that could set it",
            )
            .cure("set it once by hand (date -u -s '2026-01-31 12:00:00'), then install systemd-timesyncd or chrony"));
        };
        // A restart makes both take the first answer at once, however far the clock is off.
        Ok(Operation::script(format!(
            "u={service}\nasked() (\n{PROBE_SH}\n)\nsystemctl unmask -q -- \"$u\"\nsystemctl enable -q -- \"$u\"\nsystemctl restart -- \"$u\"\n{WAIT_SH}"
        ))
        .within(Duration::from_secs(150)))
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use picluster_model::secret::SecretValues;

    fn diff(skew_s: Option<i64>, printed: Option<&str>) -> Result<Diff, Diagnosis> {
        let clock = Clock { within_s: 5 };
        let mut facts = Facts::default();
        facts.now.skew_s = skew_s;
        let secrets = SecretValues::default();
        let ctx = Ctx {
            facts: &facts,
            secrets: &secrets,
        };
        let queries = clock.queries(ctx)?;
        assert_eq!(
            queries.is_empty(),
            printed.is_none(),
            "asked only when in doubt"
        );
        let mut answers = Answers::default();
        for query in queries {
            let stdout = printed.unwrap_or("").to_owned();
            answers
                .0
                .insert(query, crate::Answer::Fragment { status: 0, stdout });
        }
        match clock.observe(&answers, ctx)? {
            Seen::Now(seen) => Ok(clock.diff(&seen, ctx)),
            Seen::NotYet(_) => Ok(Diff::NoOp),
        }
    }

    fn before(diff: Result<Diff, Diagnosis>) -> String {
        match diff {
            Ok(Diff::Change(change)) => change.fields[0].before.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn close_to_the_controller_is_right_and_asks_nothing() {
        assert_eq!(diff(Some(0), None), Ok(Diff::NoOp));
        assert_eq!(diff(Some(-5), None), Ok(Diff::NoOp));
    }

    #[test]
    fn synchronised_is_right_wherever_the_controller_is() {
        assert_eq!(
            diff(Some(86_400), Some("synchronized yes\n")),
            Ok(Diff::NoOp)
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_round_numbers() {
        let off = Some("synchronized no\n");
        assert_eq!(
            before(diff(Some(6), off)),
            "6 s ahead of the controller, not synchronised"
        );
        assert_eq!(
            before(diff(Some(-200), off)),
            "3 min behind the controller, not synchronised"
        );
        assert_eq!(
            before(diff(Some(-90_000), off)),
            "25 h behind the controller, not synchronised"
        );
        assert_eq!(
            before(diff(Some(-9_000_000), off)),
            "104 days behind the controller, not synchronised"
        );
    }
}
