//! A node's workbench: set up, put in order, summed up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_resource::{Ctx, Resource};

use super::questions::notes;
use super::removal::removals;
use super::{Inputs, Item, ObservedNode, REBOOT, Workbench};
use crate::addr::StepAddr;
use crate::graph::{Cycle, Order};
use crate::plan::{Cause, NodePlan, NodeState, Problem, RolledBack};

impl<'a> Item<'a> {
    /// A resource nothing is known of but what it is.
    pub(super) fn new(addr: StepAddr, resource: Cow<'a, Resource>) -> Self {
        Self {
            addr,
            resource,
            origin: String::new(),
            barrier: false,
            guarded: false,
            needs: &[],
            id: None,
            seen: None,
            problem: None,
            change: None,
            cause: Cause::New,
            begun: None,
            marks: BTreeMap::new(),
            removed: false,
            awaits: None,
            foreign: BTreeSet::new(),
            after_reboot: false,
            departs: false,
            reader: false,
        }
    }
}

impl<'a> Workbench<'a> {
    pub(super) fn new(
        node: &'a NodeName,
        observed: &'a ObservedNode,
        inputs: &'a Inputs<'_>,
    ) -> Self {
        let mut items: Vec<Item<'a>> = observed
            .declared
            .iter()
            .map(|d| Item {
                origin: d.span.as_ref().map(ToString::to_string).unwrap_or_default(),
                barrier: d.barrier,
                guarded: d.guarded,
                needs: &d.needs,
                id: d.id.as_deref(),
                after_reboot: d.needs.iter().any(|n| n == REBOOT),
                ..Item::new(d.addr.clone(), Cow::Borrowed(&d.resource))
            })
            .collect();
        items.extend(removals(node, observed));
        let order = Order::new(items.len());
        Self {
            node,
            observed,
            ctx: Ctx {
                facts: &observed.facts,
                secrets: inputs.secrets,
            },
            key: inputs.key,
            items,
            order,
            sorted: Vec::new(),
            steps: Vec::new(),
            registered: false,
            reboot_behind: BTreeSet::new(),
            part: None,
            runs: false,
            turns: None,
            turning: BTreeSet::new(),
        }
    }

    /// Forgets the order, after entries were added.
    pub(super) fn reorder(&mut self) {
        self.order = Order::new(self.items.len());
    }

    /// Puts the resources in order.
    pub(super) fn prepare(&mut self) -> Result<(), Cycle> {
        self.add_needs();
        self.add_token_edges();
        self.add_barriers();
        self.add_departure_edges();
        self.add_package_edges();
        self.sorted = self.order.sorted()?;
        Ok(())
    }

    pub(super) fn summary(&self) -> NodePlan {
        let changed = self.items.iter().filter(|i| i.change.is_some()).count();
        let broken = self.items.iter().filter(|i| i.problem.is_some()).count();
        let skipped: usize = self
            .items
            .iter()
            .filter_map(|i| i.problem.as_ref())
            .map(|p| p.skipped.len())
            .sum();
        let idle = |i: &&Item<'_>| i.reader && i.change.is_none() && i.problem.is_none();
        let idle = self.items.iter().filter(idle).count();
        let settled = self.items.len() - changed - broken - skipped - idle;
        NodePlan {
            state: NodeState::Observed {
                facts: Box::new(self.observed.facts.clone()),
                host_key: self.observed.host_key.clone(),
            },
            unchanged: u32::try_from(settled).unwrap_or(u32::MAX),
            problems: self
                .items
                .iter()
                .filter_map(|i| i.problem.clone())
                .collect(),
            warnings: Vec::new(),
            rolled_back: RolledBack::parse(notes(&self.observed.answers)),
            finished: self.finished(),
        }
    }

    pub(super) fn blocked_by(&self, cycle: &Cycle) -> NodePlan {
        let names: Vec<String> = cycle
            .0
            .iter()
            .map(|i| self.items[*i].addr.local())
            .collect();
        let what = format!("these wait for each other: {}", names.join(" -> "));
        NodePlan::blocked(Problem::new(what).cure("take one of their `needs` away"))
    }
}
