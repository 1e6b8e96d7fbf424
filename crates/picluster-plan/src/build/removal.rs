//! What has left the documents comes among the resources.

use std::borrow::Cow;

use picluster_model::{NodeName, RoleName};
use picluster_resource::Resource;

use super::questions::{orphans, readers};
use super::{Item, ObservedNode, PLANNER};
use crate::addr::StepAddr;
use crate::plan::Cause;

pub(super) fn removals<'a>(node: &NodeName, observed: &ObservedNode) -> Vec<Item<'a>> {
    let orphans = orphans(&observed.declared, &observed.answers);
    let readers = readers(&observed.declared, &observed.answers, &orphans);
    let item = |role: &str, kind: &str, key: &str, resource: Resource, reader: bool| {
        let addr = StepAddr {
            node: node.clone(),
            role: RoleName::new(role).ok()?,
            kind: kind.to_owned(),
            key: key.to_owned(),
        };
        let cause = if reader {
            Cause::Follows
        } else {
            Cause::Removed
        };
        Some(Item {
            cause,
            removed: !reader,
            reader,
            ..Item::new(addr, Cow::Owned(resource))
        })
    };
    let gone = orphans.into_iter().filter_map(|(record, resource)| {
        let (role, kind, key) = record.place()?;
        item(role, kind, key, resource, false)
    });
    let readers = readers.into_iter().filter_map(|resource| {
        let (kind, key) = (resource.kind(), resource.key());
        item(PLANNER, kind, &key, resource, true)
    });
    gone.collect::<Vec<_>>()
        .into_iter()
        .chain(readers)
        .collect()
}
