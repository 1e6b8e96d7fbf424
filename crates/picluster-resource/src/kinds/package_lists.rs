//! `package_lists`: what apt knows of its repositories is not too old.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::query::{Answers, Query};
use crate::token::Token;

/// apt's package lists, fetched again when they are older than `max_age_days`. It comes behind all entries that install
/// packages, so that none of them finds other versions than those that were shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageLists {
    /// How old they may be, in days.
    #[serde(default = "a_day")]
    pub max_age_days: u32,
}

pub(crate) fn a_day() -> u32 {
    1
}

/// What was seen of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListsSeen {
    /// They are too old, or not there.
    pub stale: bool,
    /// How old they are, in days; `None`: nobody knows, or there are none.
    pub days: Option<u64>,
}

/// When the lists were last fetched. `update-stamp` is what apt's own daily job keeps (debian/apt.systemd.daily);
/// lists that are as they were keep their times, but apt passes them through `partial` at every `update`.
pub(crate) const AGE_SH: &str = r#"# age of the package lists
R=
date +'now %s'
for f in "$R"/var/lib/apt/lists/*Packages*; do [ ! -e "$f" ] || { echo lists; break; }; done
for f in "$R"/var/lib/apt/periodic/update-stamp "$R"/var/lib/apt/periodic/update-success-stamp "$R"/var/lib/apt/lists/partial; do
  [ ! -e "$f" ] || stat -c 'at %Y' "$f"
done"#;

impl ListsSeen {
    pub(crate) fn of(answers: &Answers, max_age_days: u32) -> Result<Self, Diagnosis> {
        let (_, text) = answers.fragment(AGE_SH)?;
        let number = |name: &'static str| {
            let lines = text.lines().filter_map(move |l| l.strip_prefix(name));
            lines.filter_map(|n| n.trim().parse::<u64>().ok()).max()
        };
        let now =
            number("now ").ok_or_else(|| Diagnosis::new("the node does not tell its time"))?;
        let there = text.lines().any(|l| l == "lists");
        let age = number("at ").map(|at| now.saturating_sub(at));
        let bound = u64::from(max_age_days) * 24 * 3600;
        Ok(Self {
            stale: !there || age.is_none_or(|age| age > bound),
            days: age.filter(|_| there).map(|age| age / (24 * 3600)),
        })
    }

    fn shown(&self) -> Shown {
        match self.days {
            None => Shown::Absent,
            Some(1) => Shown::text("1 day old"),
            Some(days) => Shown::text(format!("{days} days old")),
        }
    }
}

/// What is wrong with a bound of the lists' age.
pub(crate) fn bound_is_wrong(max_age_days: u32) -> Vec<String> {
    let never = (max_age_days == 0).then(|| "max_age_days is at least 1".to_owned());
    never.into_iter().collect()
}

impl PackageLists {
    fn change(before: Shown) -> Change {
        Change::new(Action::Run)
            .field("package lists", before, Shown::text("fetched"))
            .because("what is to be upgraded by them is seen by the next plan")
    }
}

impl Kind for PackageLists {
    const NAME: &'static str = "package_lists";
    type Observation = ListsSeen;

    fn key(&self) -> String {
        "apt".into()
    }

    fn check(&self) -> Vec<String> {
        bound_is_wrong(self.max_age_days)
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(AGE_SH.to_owned())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<ListsSeen>, Diagnosis> {
        ListsSeen::of(answers, self.max_age_days).map(Seen::Now)
    }

    /// They grow older by themselves.
    fn ground(seen: ListsSeen) -> ListsSeen {
        ListsSeen { days: None, ..seen }
    }

    fn diff(&self, seen: &ListsSeen, _ctx: Ctx<'_>) -> Diff {
        if seen.stale {
            Diff::Change(Self::change(seen.shown()))
        } else {
            Diff::NoOp
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Self::change(Shown::Later)
    }

    fn operation(
        &self,
        _seen: &ListsSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let script = format!(
            "# apt: fetch the package lists\n{}refresh\n[ -z \"$fetch_out\" ] || {{ out=; explain; }}\nmkdir -p /var/lib/apt/periodic && touch /var/lib/apt/periodic/update-stamp\n",
            include_str!("package.sh")
        );
        Ok(Operation::script(script).within(Duration::from_secs(20 * 60)))
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }
}
