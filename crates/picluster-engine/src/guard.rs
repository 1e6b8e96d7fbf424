//! Rules about what may go on at the same time, beyond order and limits.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_plan::{NodeState, Plan, Step, StepAddr, Work};
use picluster_resource::Effect;

/// Asked before a step starts, told when it has started and ended. A guard may keep what it has
/// learnt (which members were seen serving); it must be a pure function of what it was told.
pub trait Guard: Send {
    /// Whether the step may start now; the reason why not, for people.
    ///
    /// # Errors
    /// What the step has to wait for. When nothing is left that could make it true, the step is
    /// skipped with these words.
    fn admits(&self, step: &StepAddr) -> Result<(), String>;

    /// The step starts.
    fn started(&mut self, step: &StepAddr);

    /// The step ended; `done` when it was changed or found unchanged.
    fn ended(&mut self, step: &StepAddr, done: bool);

    /// A node answered, or a step on it was done.
    fn seen(&mut self, _node: &NodeName) {}

    /// A node did not answer, or went away in the middle of a step.
    fn lost(&mut self, _node: &NodeName) {}
}

/// No rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuard;

impl Guard for NoGuard {
    fn admits(&self, _step: &StepAddr) -> Result<(), String> {
        Ok(())
    }
    fn started(&mut self, _step: &StepAddr) {}
    fn ended(&mut self, _step: &StepAddr, _done: bool) {}
}

/// Units whose restart takes a member of the control plane, or its way to the others, down for a while.
const TAKE_DOWN: &[&str] = &[
    "k3s.service",
    "rke2-server.service",
    "kubelet.service",
    "etcd.service",
    "containerd.service",
    "crio.service",
    "docker.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "networking.service",
    "dhcpcd.service",
    "wpa_supplicant.service",
    "nftables.service",
    "ufw.service",
];

/// What is known of a member of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It was seen at work, and nothing has been heard since that speaks against it.
    Seen,
    /// It was not, in words.
    Unseen(String),
    /// A step that took it down did not end well: that it answers again proves nothing.
    Broken(StepAddr),
}

/// Two declared servers are never down together. A step that can take one down starts only while no
/// other such step runs and every other declared server was seen at work; one that was not reached, that
/// was lost on the way or that did not come back well keeps all others up.
#[derive(Debug, Clone, Default)]
pub struct Quorum {
    members: BTreeMap<NodeName, Standing>,
    risky: BTreeSet<StepAddr>,
    away: Option<StepAddr>,
}

impl Quorum {
    /// A guard over the declared servers: those that were seen at work, and the others with the words for
    /// why they were not. Of the steps only those count that can take their node down.
    pub fn new(
        members: impl IntoIterator<Item = (NodeName, Result<(), String>)>,
        risky: impl IntoIterator<Item = StepAddr>,
    ) -> Self {
        let members: BTreeMap<NodeName, Standing> = members
            .into_iter()
            .map(|(name, seen)| {
                (
                    name,
                    seen.map_or_else(Standing::Unseen, |()| Standing::Seen),
                )
            })
            .collect();
        let risky = risky
            .into_iter()
            .filter(|s| members.contains_key(&s.node))
            .collect();
        Self {
            members,
            risky,
            away: None,
        }
    }

    /// The guard of a plan. Who was reached when it was made counts as seen.
    pub fn of_plan(plan: &Plan, servers: impl IntoIterator<Item = NodeName>) -> Self {
        let members = servers.into_iter().map(|name| {
            let seen = match plan.nodes.get(&name).map(|n| &n.state) {
                Some(NodeState::Observed { .. }) => Ok(()),
                Some(NodeState::Absent) => Err("is declared absent".to_owned()),
                _ => Err("was not reached".to_owned()),
            };
            (name, seen)
        });
        let risky = plan
            .steps
            .iter()
            .filter(|s| takes_down(s))
            .map(|s| s.addr.clone());
        Self::new(members, risky)
    }
}

/// Whether a step can take its node out of the control plane for a while.
#[must_use]
pub fn takes_down(step: &Step) -> bool {
    let restarts = |effect: &Effect| matches!(effect, Effect::Restart(unit) if TAKE_DOWN.contains(&unit.as_str()));
    matches!(step.work, Work::Reboot { .. }) || step.change.effects.iter().any(restarts)
}

impl Guard for Quorum {
    fn admits(&self, step: &StepAddr) -> Result<(), String> {
        if !self.risky.contains(step) {
            return Ok(());
        }
        if let Some(other) = &self.away {
            return Err(format!("{other} is not done"));
        }
        for (name, standing) in self.members.iter().filter(|(name, _)| **name != step.node) {
            let node = &step.node;
            match standing {
                Standing::Seen => {}
                Standing::Unseen(why) => {
                    return Err(format!("server {name} {why}, so {node} has to stay up"));
                }
                Standing::Broken(other) => {
                    return Err(format!(
                        "{other} did not end well, so {node} has to stay up"
                    ));
                }
            }
        }
        Ok(())
    }

    fn started(&mut self, step: &StepAddr) {
        if self.risky.contains(step) {
            self.away = Some(step.clone());
        }
    }

    fn ended(&mut self, step: &StepAddr, done: bool) {
        if self.away.as_ref() == Some(step) {
            self.away = None;
            if !done {
                self.members
                    .insert(step.node.clone(), Standing::Broken(step.clone()));
            }
        }
    }

    fn seen(&mut self, node: &NodeName) {
        if let Some(standing @ Standing::Unseen(_)) = self.members.get_mut(node) {
            *standing = Standing::Seen;
        }
    }

    fn lost(&mut self, node: &NodeName) {
        if let Some(standing @ Standing::Seen) = self.members.get_mut(node) {
            *standing = Standing::Unseen("was lost on the way".into());
        }
    }
}
