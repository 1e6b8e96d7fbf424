//! Transform: one reboot a node.

use picluster_model::RoleName;
use picluster_resource::{Action, Change, Effect, Resource, Shown};

use super::{PLANNER, Workbench};
use crate::addr::StepAddr;
use crate::plan::{Cause, Step, Work};

impl Workbench<'_> {
    /// What waits for a reboot, and why. An item that itself comes behind the reboot cannot bring it
    /// about in the same run; the next plan finds it pending.
    pub(super) fn reboot_reasons(&self) -> impl Iterator<Item = (usize, String)> {
        self.sorted.iter().filter_map(|i| {
            let item = &self.items[*i];
            // Held back, and the reboot for it as well.
            if item.problem.is_some()
                && matches!(item.resource.as_ref(), Resource::PackageUpgrade(_))
            {
                return None;
            }
            let planned = item.change.as_ref().and_then(|c| {
                c.effects.iter().find_map(|e| match e {
                    Effect::Reboot(why) => Some(why.clone()),
                    _ => None,
                })
            });
            let pending = || {
                let seen = item.seen.as_ref()?;
                item.resource.reboot_pending(seen, self.ctx)
            };
            let why = planned.or_else(pending)?;
            let late = item.after_reboot
                || self
                    .order
                    .all_before(*i)
                    .iter()
                    .any(|j| self.items[*j].after_reboot);
            (!late).then_some((*i, why))
        })
    }

    pub(super) fn reboot_addr(&self) -> Option<StepAddr> {
        Some(StepAddr {
            node: self.node.clone(),
            role: RoleName::new(PLANNER).ok()?,
            kind: "reboot".into(),
            key: self.node.to_string(),
        })
    }

    /// Transform: one reboot a node, for everything that waits for one.
    pub(super) fn add_reboot(&mut self) {
        let mut change = Change::new(Action::Run);
        let mut verify = Vec::new();
        let mut needs = Vec::new();
        for (i, why) in self.reboot_reasons() {
            let item = &self.items[i];
            change = change
                .field(
                    &item.addr.local(),
                    Shown::text("waiting"),
                    Shown::text("in effect"),
                )
                .because(why.clone())
                .effect(Effect::Reboot(why));
            verify.push(item.resource.clone().into_owned());
            if item.change.is_some() {
                needs.push(item.addr.clone());
            }
        }
        let Some(addr) = self.reboot_addr().filter(|_| !verify.is_empty()) else {
            return;
        };
        needs.extend(self.reboot_behind.iter().cloned());
        self.steps.push(Step {
            moved_by: needs.clone(),
            needs,
            ..Step::new(addr, Work::Reboot { verify }, change, Cause::Follows)
        });
    }
}
