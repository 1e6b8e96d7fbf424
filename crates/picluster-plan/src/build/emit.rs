//! Steps, from what has been compared.

use super::Workbench;
use super::guard::Danger;
use crate::fingerprint::{fingerprint, later, sealed};
use crate::owned::{self, Record, Sealed};
use crate::plan::{Cause, Guarded, RecordAction, Step, Work};

impl Workbench<'_> {
    pub(super) fn emit(&mut self) {
        let reboot = self.reboot_reasons().next().and(self.reboot_addr());
        for at in 0..self.sorted.len() {
            let i = self.sorted[at];
            let before = self.order.all_before(i);
            let movers = self.movers(at, &before);
            let item = &self.items[i];
            let Some(change) = &item.change else { continue };
            let addr_of = |j: &usize| self.items[*j].addr.clone();
            let late = item.after_reboot || before.iter().any(|j| self.items[*j].after_reboot);
            let unknown: Vec<String> = later(&item.resource, self.ctx.secrets)
                .into_iter()
                .collect();
            let behind_reboot = reboot.clone().filter(|_| late);
            let record = if item.removed {
                RecordAction::Drop {
                    name: owned::file_name(&item.addr.kind, &item.addr.key),
                }
            } else if item.cause == Cause::Follows && !item.resource.claims() || item.departs {
                RecordAction::Keep
            } else {
                Record::of(&item.addr.local(), &item.resource)
                    .sealed(Sealed::of(self.key, &item.resource, self.ctx.secrets))
                    .read_by(self.readers_of(&item.resource))
                    .write(&item.resource)
            };
            self.steps.push(Step {
                addr: item.addr.clone(),
                origin: item.origin.clone(),
                work: Work::Resource(Box::new(item.resource.clone().into_owned())),
                change: change.clone(),
                cause: item.cause,
                begun: item.begun,
                needs: before
                    .iter()
                    .filter(|j| self.items[**j].change.is_some())
                    .map(addr_of)
                    .chain(item.foreign.iter().cloned())
                    .chain(behind_reboot.clone())
                    .collect(),
                after: Vec::new(),
                moved_by: movers
                    .iter()
                    .map(addr_of)
                    .chain(item.foreign.iter().cloned())
                    .chain(behind_reboot)
                    .collect(),
                recorded: item
                    .seen
                    .as_ref()
                    .filter(|seen| seen.not_yet().is_none())
                    .map(|seen| fingerprint(self.key, seen)),
                secrets: sealed(self.key, &item.resource, self.ctx.secrets, &unknown),
                later: unknown,
                marks: item.marks.clone().into_iter().collect(),
                record,
                guard: self.danger(i).map(|danger| Guarded {
                    group: 0,
                    last: false,
                    boot: danger == Danger::Boot,
                    tried: danger == Danger::Boot
                        && self.ctx.facts.board.tryboot
                        && matches!(item.addr.kind.as_str(), "kernel_cmdline" | "config_txt"),
                }),
            });
        }
    }
}
