//! Why a step is there, by what the node itself remembers.

use std::collections::{BTreeMap, BTreeSet};

use picluster_resource::Resource;

use super::Workbench;
use super::questions::notes;
use crate::owned::{self, Begun, Record, Sealed};
use crate::plan::Cause;

impl Workbench<'_> {
    /// Tells drift from intent by the node's own records.
    pub(super) fn name_causes(&mut self) {
        let text = notes(&self.observed.answers);
        let known: BTreeMap<String, Record> = Record::parse_all(text)
            .into_iter()
            .filter_map(|r| {
                let (_, kind, key) = r.place()?;
                Some((owned::file_name(kind, key), r))
            })
            .collect();
        let begun: BTreeMap<String, i64> = Begun::parse_all(text)
            .into_iter()
            .map(|b| (b.begun, b.at))
            .collect();
        for item in &mut self.items {
            // A restart that is still owed from an earlier run follows from that run's change.
            let owed = item.change.as_ref().is_some_and(|c| {
                c.fields
                    .iter()
                    .all(|f| matches!(f.field.as_str(), "restart" | "reload"))
            });
            if item.removed || item.departs {
                item.cause = Cause::Removed;
            } else if owed {
                item.cause = Cause::Follows;
            } else if item.cause != Cause::Follows {
                let name = owned::file_name(&item.addr.kind, &item.addr.key);
                let seal = Sealed::of(self.key, &item.resource, self.ctx.secrets);
                item.cause = match known.get(&name) {
                    None => Cause::New,
                    Some(record) if !record.is_of(&item.resource, seal.as_ref()) => Cause::Intent,
                    Some(_) if begun.contains_key(&name) => {
                        item.begun = begun.get(&name).copied();
                        Cause::Unfinished
                    }
                    Some(_) => Cause::Drift,
                };
            }
        }
    }

    /// Records whose mark says *begun* while their resource is seen to be as desired.
    pub(super) fn finished(&self) -> Vec<String> {
        let begun: BTreeSet<String> = Begun::parse_all(notes(&self.observed.answers))
            .into_iter()
            .map(|b| b.begun)
            .collect();
        self.items
            .iter()
            .filter(|i| i.change.is_none() && i.problem.is_none() && !i.removed)
            .filter(|i| i.seen.as_ref().is_some_and(|s| s.not_yet().is_none()))
            .map(|i| owned::file_name(&i.addr.kind, &i.addr.key))
            .filter(|name| begun.contains(name))
            .collect()
    }

    /// The units of this plan that read what a resource makes.
    pub(super) fn readers_of(&self, resource: &Resource) -> Vec<(String, bool)> {
        let provided = resource.provides();
        let mut readers: BTreeMap<String, bool> = BTreeMap::new();
        for reaction in self.items.iter().flat_map(|i| i.resource.reactions()) {
            if let Some(unit) = reaction.unit.filter(|_| provided.contains(&reaction.on)) {
                *readers.entry(unit).or_default() |= reaction.restart;
            }
        }
        readers.into_iter().collect()
    }
}
