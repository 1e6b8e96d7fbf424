//! Looks at every resource of a node and compares; then units take up what changes beneath them.

use std::collections::BTreeSet;

use picluster_resource::{
    Action, Change, ClusterToken, Diagnosis, Diff, Observation, Resource, Shown, Token,
};

use super::Workbench;
use crate::fingerprint::later;
use crate::plan::{Cause, Problem};

impl Workbench<'_> {
    /// Observes and compares every resource, in order.
    pub(super) fn evaluate(&mut self) {
        for at in 0..self.sorted.len() {
            let i = self.sorted[at];
            if self.items[i].problem.is_some() {
                continue;
            }
            let before = self.order.all_before(i);
            if let Some(stop) = before
                .iter()
                .copied()
                .find(|j| self.items[*j].problem.is_some())
            {
                let addr = self.items[i].addr.clone();
                if let Some(problem) = &mut self.items[stop].problem {
                    problem.skipped.push(addr);
                }
                continue;
            }
            match self.observe(i) {
                Err(diagnosis) => {
                    let addr = self.items[i].addr.clone();
                    self.items[i].problem = Some(Problem::from(diagnosis).of(addr));
                }
                Ok(seen) => {
                    let mut missing = seen.not_yet().cloned();
                    if let Some(Token::Cluster(token)) = &missing {
                        // Other nodes are looked at when all have been evaluated.
                        self.items[i].awaits = Some(token.clone());
                        missing = None;
                    }
                    let movers = self.movers(at, &before);
                    let brought = missing.is_none() || !movers.is_empty();
                    if missing.is_some() {
                        // Whoever may bring it has to be done first; when that fails, so does this.
                        movers.iter().for_each(|j| self.order.edge(*j, i));
                    }
                    if let (Some(token), false) = (missing, brought) {
                        let problem = self.nobody_brings(&token, &before);
                        self.items[i].problem = Some(problem.of(self.items[i].addr.clone()));
                    } else if let Diff::Change(change) =
                        self.items[i].resource.diff(&seen, self.ctx)
                    {
                        self.items[i].change = Some(change);
                    } else if self.items[i].removed {
                        // Already gone; the record still has to be dropped.
                        self.items[i].change = Some(Change::new(Action::Delete).field(
                            "record",
                            Shown::text("owned"),
                            Shown::Absent,
                        ));
                    }
                    self.items[i].seen = Some(seen);
                }
            }
        }
    }

    /// What is seen of an item. One that refers to a value nobody knows yet is not looked at.
    fn observe(&self, i: usize) -> Result<Observation, Diagnosis> {
        let resource = &self.items[i].resource;
        if let Some(name) = later(resource, self.ctx.secrets).pop_first() {
            return Ok(resource.not_before(Token::Cluster(ClusterToken::Value(name))));
        }
        if let Some(again) = self.gone_by_then(i) {
            return Ok(again);
        }
        resource.queries(self.ctx)?;
        resource.observe(&self.observed.answers, self.ctx)
    }

    /// Why something is waited for in vain, with what is done before it.
    fn nobody_brings(&self, token: &Token, before: &BTreeSet<usize>) -> Problem {
        let provider = before
            .iter()
            .find(|j| self.items[**j].resource.provides().contains(token));
        let silence = || {
            self.items
                .iter()
                .find_map(|item| match item.resource.as_ref() {
                    Resource::ClusterNode(node) => node.silence(&self.observed.answers),
                    _ => None,
                })
        };
        if *token == Token::ApiServer
            && provider.is_some()
            && let Some(silence) = silence()
        {
            return Problem::from(silence);
        }
        match provider {
            Some(j) => Problem::new(format!(
                "{token} does not exist, and yet {} finds nothing to do",
                self.items[*j].addr.local()
            ))
            .cure("plan again; if it stays so, reboot the node: its kernel and its services may know less than its disks"),
            None => Problem::new(format!("{token} does not exist, and nothing in the plan makes it"))
                .cure("declare it in a role of this node, before this entry"),
        }
    }

    /// Changed items that may move the pre-state of the item at position `at`: what it depends on,
    /// and earlier ones that may touch anything (packages bring units, accounts and files of their
    /// own; commands do what they like).
    pub(super) fn movers(&self, at: usize, before: &BTreeSet<usize>) -> Vec<usize> {
        self.sorted[..at]
            .iter()
            .copied()
            .filter(|j| self.items[*j].change.is_some())
            .filter(|j| {
                before.contains(j)
                    || matches!(self.items[*j].addr.kind.as_str(), "package" | "command")
            })
            .collect()
    }

    /// Transform: units take up what changes beneath them.
    pub(super) fn add_follow_ups(&mut self) {
        for at in 0..self.sorted.len() {
            let u = self.sorted[at];
            let reactions = self.items[u].resource.reactions();
            let mut inputs = Vec::new();
            for reaction in reactions {
                for j in 0..self.items.len() {
                    if j != u
                        && self.items[j]
                            .change
                            .as_ref()
                            .is_some_and(|change| stirs(&reaction.on, change))
                        && self.items[j].resource.provides().contains(&reaction.on)
                    {
                        let Some(unit) = &reaction.unit else {
                            inputs.push(reaction.on.clone());
                            continue;
                        };
                        let mark = self.items[j].marks.entry(unit.clone()).or_default();
                        *mark |= reaction.restart;
                        inputs.push(reaction.on.clone());
                    }
                }
            }
            let Some(seen) = self.items[u].seen.as_ref().filter(|_| !inputs.is_empty()) else {
                continue;
            };
            let follow = self.items[u].resource.follow_up(seen, &inputs, self.ctx);
            match (&mut self.items[u].change, follow) {
                (_, None) => {}
                (Some(change), Some(follow)) => {
                    for field in follow.fields {
                        if !change.fields.iter().any(|f| f.field == field.field) {
                            change.fields.push(field);
                        }
                    }
                    change.effects.extend(follow.effects);
                }
                (slot @ None, Some(follow)) => {
                    *slot = Some(follow);
                    self.items[u].cause = Cause::Follows;
                }
            }
        }
    }
}

/// Whether a change of what stands behind a token is one that others react to: of a unit, that it
/// starts or restarts.
fn stirs(token: &Token, change: &Change) -> bool {
    let starts = |field: &str| matches!(field, "active" | "restart");
    !matches!(token, Token::Unit(_)) || change.fields.iter().any(|f| starts(&f.field))
}
