//! The critical path: the longest chain of steps each of which has to wait for the one before it.

use std::collections::BTreeMap;

use crate::addr::StepAddr;
use crate::plan::Step;

/// One step of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// The step.
    pub addr: StepAddr,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The longest chain through `needs`, by how long each step took, first step first. No run of these steps can be shorter,
/// however many nodes work at once. Needs that are no steps of the list count as done before.
#[must_use]
pub fn critical_path(steps: &[Step], took: impl Fn(&StepAddr) -> f64) -> Vec<Leg> {
    let by_addr: BTreeMap<&StepAddr, &Step> = steps.iter().map(|s| (&s.addr, s)).collect();
    let mut ends: BTreeMap<&StepAddr, (f64, Option<&StepAddr>)> = BTreeMap::new();
    for step in steps {
        end_of(step, &by_addr, &took, &mut ends);
    }
    let last = ends
        .iter()
        // The first of equals, whatever order the steps came in.
        .fold(
            None::<(&StepAddr, f64)>,
            |most, (addr, (end, _))| match most {
                Some((_, longest)) if *end <= longest => most,
                _ => Some((addr, *end)),
            },
        );
    let mut chain = Vec::new();
    let mut next = last.map(|(addr, _)| addr);
    while let Some(addr) = next {
        chain.push(Leg {
            addr: addr.clone(),
            seconds: took(addr),
        });
        next = ends.get(addr).and_then(|(_, before)| *before);
    }
    chain.reverse();
    chain
}

/// When a step ends at the earliest, and the step it waited for last. Chains are as long as roles are, not as racks are wide.
fn end_of<'a>(
    step: &'a Step,
    by_addr: &BTreeMap<&'a StepAddr, &'a Step>,
    took: &impl Fn(&StepAddr) -> f64,
    ends: &mut BTreeMap<&'a StepAddr, (f64, Option<&'a StepAddr>)>,
) -> f64 {
    if let Some((end, _)) = ends.get(&step.addr) {
        return *end;
    }
    // A circle, which no plan has, ends here instead of never.
    ends.insert(&step.addr, (0.0, None));
    let mut begins = (0.0, None);
    for need in &step.needs {
        if let Some((addr, needed)) = by_addr.get_key_value(need) {
            let end = end_of(needed, by_addr, took, ends);
            if begins.1.is_none() || end > begins.0 {
                begins = (end, Some(*addr));
            }
        }
    }
    let end = begins.0 + took(&step.addr).max(0.0);
    ends.insert(&step.addr, (end, begins.1));
    end
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Steps as `NAME: NEEDS`, each of which takes as many seconds as its name says.
    fn path(list: &[(&str, &[&str])]) -> (Vec<String>, f64) {
        let addr = |text: &str| text.parse::<StepAddr>().unwrap();
        let full = |name: &str| format!("{}/r/command[{name}]", &name[..2]);
        let steps: Vec<Step> = list
            .iter()
            .map(|(name, needs)| {
                let needs: Vec<StepAddr> = needs.iter().map(|n| addr(&full(n))).collect();
                serde_json::from_value(serde_json::json!({
                    "addr": addr(&full(name)), "origin": "", "work": {"reboot": {"verify": []}},
                    "change": {"action": "run", "fields": []}, "cause": "new",
                    "needs": needs, "record": "keep",
                }))
                .unwrap()
            })
            .collect();
        let took = |a: &StepAddr| {
            let text = a.to_string();
            text.trim_end_matches(']')
                .rsplit('-')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        let legs = critical_path(&steps, took);
        for pair in legs.windows(2) {
            let step = steps.iter().find(|s| s.addr == pair[1].addr).unwrap();
            assert!(step.needs.contains(&pair[0].addr), "it is a chain");
        }
        let names = list.iter().map(|(n, _)| *n);
        let named = |leg: &Leg| {
            names
                .clone()
                .find(|n| addr(&full(n)) == leg.addr)
                .unwrap()
                .to_owned()
        };
        (
            legs.iter().map(named).collect(),
            legs.iter().map(|l| l.seconds).sum(),
        )
    }

    #[test]
    fn it_is_the_longest_chain_and_not_the_one_with_the_most_steps() {
        let (names, seconds) = path(&[
            ("n1-upload-8", &[]),
            ("n1-unit-1", &["n1-upload-8"]),
            ("n2-file-1", &[]),
            ("n2-file-2", &["n2-file-1"]),
            ("n2-join-3", &["n2-file-2", "n1-unit-1"]),
            ("n3-join-1", &["n1-unit-1"]),
        ]);
        assert_eq!(names, ["n1-upload-8", "n1-unit-1", "n2-join-3"]);
        assert!((seconds - 12.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_in_the_plan_is_done_and_nothing_is_nothing() {
        let (names, _) = path(&[("n1-a-1", &["n1-gone-9"])]);
        assert_eq!(names, ["n1-a-1"]);
        assert_eq!(path(&[]).0, Vec::<String>::new());
        // The order of the list says nothing.
        let (names, _) = path(&[("n1-b-1", &["n1-a-2"]), ("n1-a-2", &[])]);
        assert_eq!(names, ["n1-a-2", "n1-b-1"]);
        // What takes no time still has its place between two that do.
        let (names, _) = path(&[
            ("n1-c-1", &["n1-b-0"]),
            ("n1-b-0", &["n1-a-2"]),
            ("n1-a-2", &[]),
        ]);
        assert_eq!(names, ["n1-a-2", "n1-b-0", "n1-c-1"]);
    }
}
