//! A part of a plan: `--only` and `--except`.

use std::collections::BTreeSet;

use picluster_resource::Resource;

use crate::addr::{AddrPattern, StepAddr};
use crate::build::{turned, whole};
use crate::plan::{Plan, Step, Work};

/// What is to be taken back when its purpose is fulfilled takes that along: who drains a node lets it take pods again.
fn taken_back_by(step: &Step, plan: &Plan) -> Option<StepAddr> {
    let Work::Resource(resource) = &step.work else {
        return None;
    };
    let Resource::NodeDrained(drain) = resource.as_ref() else {
        return None;
    };
    let opens = |other: &&Step| match &other.work {
        Work::Resource(resource) => match resource.as_ref() {
            Resource::NodeSchedulable(entry) => entry.node == drain.node,
            _ => false,
        },
        Work::Reboot { .. } | Work::PowerOff => false,
    };
    plan.steps.iter().find(opens).map(|s| s.addr.clone())
}

/// Keeps the steps that match one of `only` (all, when it is empty) with everything they need and what takes them back
/// again, and drops those that match one of `except` with everything that needs them. Who would leave its cluster and not come
/// back, because the one half of that falls out, stays.
///
/// Returns the patterns that matched no step of the plan: a typing error must not look like
/// "nothing to do".
pub fn select(plan: &mut Plan, only: &[AddrPattern], except: &[AddrPattern]) -> Vec<AddrPattern> {
    let idle: Vec<AddrPattern> = only
        .iter()
        .chain(except)
        .filter(|p| !plan.steps.iter().any(|s| p.matches(&s.addr)))
        .cloned()
        .collect();
    let mut keep: BTreeSet<StepAddr> = BTreeSet::new();
    // Steps stand behind what they need, so one pass from the end closes over needs …
    loop {
        for step in plan.steps.iter().rev() {
            let wanted = only.is_empty() || only.iter().any(|p| p.matches(&step.addr));
            if wanted || keep.contains(&step.addr) {
                keep.insert(step.addr.clone());
                keep.extend(step.needs.iter().cloned());
            }
        }
        let kept = plan.steps.iter().filter(|s| keep.contains(&s.addr));
        let back: Vec<StepAddr> = kept
            .filter_map(|step| taken_back_by(step, plan))
            .filter(|addr| !keep.contains(addr))
            .collect();
        if back.is_empty() {
            break;
        }
        keep.extend(back);
    }
    // … and one from the front over dependents.
    let mut dropped: BTreeSet<StepAddr> = BTreeSet::new();
    for step in &plan.steps {
        let unwanted = except.iter().any(|p| p.matches(&step.addr))
            || step.needs.iter().any(|n| dropped.contains(n))
            || !keep.contains(&step.addr);
        if unwanted {
            dropped.insert(step.addr.clone());
        }
    }
    let turned = turned(&plan.steps);
    plan.steps.retain(|s| !dropped.contains(&s.addr));
    whole(&mut plan.steps, &turned);
    idle
}
