//! Which steps are guarded, and together with which.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_resource::{Effect, NodePath};

use super::Workbench;
use crate::addr::StepAddr;
use crate::plan::{Guarded, Step, Work};

/// What a step can shut us out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Danger {
    /// The running node.
    Access,
    /// The node as it is after its next boot.
    Boot,
}

impl Workbench<'_> {
    /// Whether a changed item's step is guarded: it touches the way in, boot files, or its author
    /// says so; and the node knows how to take it back.
    pub(super) fn danger(&self, i: usize) -> Option<Danger> {
        let item = &self.items[i];
        let change = item.change.as_ref()?;
        let undo = item.resource.undo(item.seen.as_ref(), change)?;
        let boots = |path: &NodePath| path.as_str().starts_with("/boot/");
        if item.addr.kind == "kernel_cmdline" || undo.files.iter().any(boots) {
            return Some(Danger::Boot);
        }
        let access = |e: &Effect| matches!(e, Effect::Access(_));
        (item.guarded || change.effects.iter().any(access)).then_some(Danger::Access)
    }

    /// Transform: what is guarded comes late and together, as far as the order allows, so that
    /// nothing slow happens between a change and its confirmation; boot files come last.
    pub(super) fn gather_guarded(&mut self) {
        let danger: Vec<Option<Danger>> = (0..self.items.len()).map(|i| self.danger(i)).collect();
        if danger.iter().all(Option::is_none) {
            return;
        }
        let mut left = std::mem::take(&mut self.sorted);
        let mut open: Vec<BTreeSet<usize>> = (0..self.items.len())
            .map(|i| self.order.all_before(i))
            .collect();
        let mut current = None;
        while !left.is_empty() {
            let ready = |i: &usize| open[*i].is_empty();
            // A group is not left before it is whole; then the harmless things come first.
            let same = current
                .is_some()
                .then(|| left.iter().position(|i| ready(i) && danger[*i] == current));
            let least = || {
                (0..left.len())
                    .filter(|at| ready(&left[*at]))
                    .min_by_key(|at| danger[left[*at]])
            };
            let Some(at) = same.flatten().or_else(least) else {
                // Never: the order has no circle. What is left keeps its order.
                self.sorted.append(&mut left);
                return;
            };
            let i = left.remove(at);
            current = danger[i];
            open.iter_mut().for_each(|before| {
                before.remove(&i);
            });
            self.sorted.push(i);
        }
    }
}

/// Transform: guarded steps of a node in a row are one group. What needs one of them on the same node
/// needs the whole group, and a reboot for boot files belongs to theirs.
pub(super) fn add_guards(steps: &mut [Step]) {
    let mut nodes: BTreeMap<NodeName, Vec<usize>> = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        nodes.entry(step.addr.node.clone()).or_default().push(i);
    }
    for mine in nodes.into_values() {
        guard_node(steps, &mine);
    }
}

fn guard_node(steps: &mut [Step], mine: &[usize]) {
    let mut group = 0;
    let mut groups: BTreeMap<StepAddr, u32> = BTreeMap::new();
    let mut before: Option<Guarded> = None;
    for (at, &i) in mine.iter().enumerate() {
        if matches!(steps[i].work, Work::Reboot { .. }) {
            steps[i].guard = before.filter(|guard| guard.boot);
            // Shown where it happens: at the boot.
            if let Some(guard) = steps[i].guard {
                let effect = if guard.tried {
                    Effect::BootTried
                } else {
                    Effect::BootUnproven
                };
                steps[i].change.effects.insert(effect);
            }
        }
        let Some(mut guard) = steps[i].guard else {
            before = None;
            continue;
        };
        // One file that cannot be tried makes the group one that cannot.
        guard.tried &= before.is_none_or(|before| before.boot != guard.boot || before.tried);
        if before.is_none_or(|before| before.boot != guard.boot) {
            group += 1;
        }
        guard.group = group;
        let next = mine.get(at + 1).map(|n| &steps[*n]);
        guard.last = match next.map(|n| (&n.work, n.guard)) {
            Some((Work::Reboot { .. }, _)) => !guard.boot,
            Some((_, Some(next))) => next.boot != guard.boot,
            Some((_, None)) | None => true,
        };
        groups.insert(steps[i].addr.clone(), group);
        steps[i].guard = Some(guard);
        steps[i].change.effects.insert(Effect::Guarded);
        before = Some(guard);
    }
    let lasts: BTreeMap<u32, StepAddr> = mine
        .iter()
        .filter_map(|i| {
            let guard = steps[*i].guard.filter(|g| g.last)?;
            Some((guard.group, steps[*i].addr.clone()))
        })
        .collect();
    for &i in mine {
        let step = &mut steps[i];
        let own = step.guard.map(|g| g.group);
        let others: BTreeSet<u32> = step
            .needs
            .iter()
            .filter_map(|need| groups.get(need).copied())
            .filter(|group| Some(*group) != own)
            .collect();
        for last in others.iter().filter_map(|group| lasts.get(group)) {
            if !step.needs.contains(last) {
                step.needs.push(last.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::plan::Cause;
    use picluster_resource::{Action, Change};

    fn step(kind: &str, work: Work, guard: Option<Guarded>) -> Step {
        let addr = format!("pi/base/{kind}[x]").parse().unwrap();
        Step {
            guard,
            ..Step::new(addr, work, Change::new(Action::Update), Cause::New)
        }
    }

    /// Boot files that can be tried or not, and the reboot behind them.
    fn planned(tried: &[bool]) -> Vec<Step> {
        let file =
            serde_json::json!({"file": {"path": "/boot/firmware/config.txt", "content": ""}});
        let resource: picluster_resource::Resource = serde_json::from_value(file).unwrap();
        let boot = |tried| Guarded {
            group: 0,
            last: false,
            boot: true,
            tried,
        };
        let mut steps: Vec<Step> = tried
            .iter()
            .map(|t| {
                let work = Work::Resource(Box::new(resource.clone()));
                step("file", work, Some(boot(*t)))
            })
            .collect();
        steps.push(step("reboot", Work::Reboot { verify: Vec::new() }, None));
        add_guards(&mut steps);
        steps
    }

    #[test]
    fn boot_files_are_tried_together_or_not_at_all_and_the_reboot_says_which() {
        for (tried, all) in [
            (&[true, true][..], true),
            (&[true, false], false),
            (&[false, true], false),
        ] {
            let steps = planned(tried);
            let reboot = steps.last().unwrap();
            let guard = reboot.guard.unwrap();
            assert!(guard.last && guard.boot);
            assert_eq!(guard.tried, all, "{tried:?}");
            let effects = &reboot.change.effects;
            assert_eq!(effects.contains(&Effect::BootTried), all);
            assert_eq!(effects.contains(&Effect::BootUnproven), !all);
        }
        // A reboot for something else risks nothing new.
        let steps = planned(&[]);
        assert!(steps[0].change.effects.is_empty());
    }
}
