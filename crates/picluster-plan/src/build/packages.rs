//! Packages of nodes that are at work in a cluster: they go as an upgrade of Kubernetes does, drained, one after the other,
//! and take pods again when they are Ready. The order is that of [`super::upgrade`].

use std::borrow::Cow;

use picluster_resource::kinds::cluster_node::ClusterSays;
use picluster_resource::kinds::node_drained::{NodeDrained, Purpose};
use picluster_resource::{Diff, Observation, Resource, Seen};

use super::{Workbench, upgrade};
use crate::plan::Cause;

/// The entry that upgrades the packages of a member, when it has something to do, or its reboot is owed.
pub(super) fn due(bench: &Workbench<'_>) -> Option<usize> {
    let (i, _) = upgrade::ready(bench)?;
    let Some(Observation::ClusterNode(Seen::Now(seen))) = bench.items[i].seen.as_ref() else {
        return None;
    };
    if matches!(seen.cluster, ClusterSays::Never | ClusterSays::Unknown) {
        return None;
    }
    bench.items.iter().position(|item| {
        let owed = || {
            let seen = item.seen.as_ref()?;
            item.resource.reboot_pending(seen, bench.ctx)
        };
        matches!(item.resource.as_ref(), Resource::PackageUpgrade(_))
            && !item.removed
            && (item.change.is_some() || owed().is_some())
    })
}

/// Lets an entry that drains for another version drain for packages. Returns whether something moved.
pub(super) fn drain_for(bench: &mut Workbench<'_>, i: usize) -> bool {
    let Resource::NodeDrained(drain) = bench.items[i].resource.as_ref() else {
        return false;
    };
    if drain.purpose == Purpose::Packages {
        return false;
    }
    let resource = Resource::NodeDrained(NodeDrained {
        version: None,
        purpose: Purpose::Packages,
        ..drain.clone()
    });
    // It asks what it has asked before.
    let seen = resource.observe(&bench.observed.answers, bench.ctx).ok();
    let item = &mut bench.items[i];
    item.change = match &seen {
        Some(seen) if seen.not_yet().is_none() && item.problem.is_none() => {
            match resource.diff(seen, bench.ctx) {
                Diff::Change(change) => Some(change),
                Diff::NoOp => None,
            }
        }
        _ => None,
    };
    item.seen = seen;
    item.resource = Cow::Owned(resource);
    true
}

/// Transform: a member whose packages are upgraded is waited for until it is Ready, whether it reboots or not.
pub(super) fn await_ready(benches: &mut [Workbench<'_>]) {
    for bench in benches {
        if due(bench).is_none() {
            continue;
        }
        let Some((i, _)) = upgrade::ready(bench) else {
            continue;
        };
        let item = &bench.items[i];
        let Some(seen) = item
            .seen
            .as_ref()
            .filter(|_| item.change.is_none() && item.problem.is_none() && !bench.is_skipped(i))
        else {
            continue;
        };
        let follow = item.resource.follow_up(seen, &[], bench.ctx);
        let item = &mut bench.items[i];
        item.change = follow;
        item.cause = Cause::Follows;
    }
}

impl Workbench<'_> {
    /// Transform: packages are installed, then upgraded, then the lists are fetched anew: what a list brings must not be met
    /// by a step that was planned without it.
    pub(super) fn add_package_edges(&mut self) {
        let rank = |resource: &Resource| match resource {
            Resource::Package(_) => Some(0),
            Resource::PackageUpgrade(_) => Some(1),
            Resource::PackageLists(_) => Some(2),
            _ => None,
        };
        let ranks: Vec<Option<u8>> = self
            .items
            .iter()
            .map(|i| rank(i.resource.as_ref()))
            .collect();
        for i in 0..ranks.len() {
            for j in 0..ranks.len() {
                if let (Some(a), Some(b)) = (ranks[i], ranks[j])
                    && a < b
                    // What somebody has put the other way round stays so.
                    && !self.order.all_before(i).contains(&j)
                {
                    self.order.edge(i, j);
                }
            }
        }
    }
}
