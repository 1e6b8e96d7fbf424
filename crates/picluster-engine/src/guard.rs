//! Rules about what may go on at the same time, beyond order and limits.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_plan::members::{joins, lets_go, takes_down};
use picluster_plan::{MemberStanding, Plan, StepAddr};

/// Whether a step may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Go,
    /// When each of these nodes has been asked, now, and serves.
    Ask(Vec<NodeName>),
    /// Not as things stand; why not, for people. When nothing is left that could change it, the step is
    /// skipped with these words.
    No(String),
}

/// Asked before a step starts, told what happens. A guard may keep what it has learnt (which members were
/// seen serving); it must be a pure function of what it was told.
pub trait Guard: Send {
    /// Whether the step may start.
    fn verdict(&self, step: &StepAddr) -> Verdict;

    /// Answers from before this moment count no longer: the members are about to be asked for a step.
    fn ask_anew(&mut self) {}

    /// The step starts.
    fn started(&mut self, step: &StepAddr);

    /// The step ended; `done` when it was changed or found unchanged.
    fn ended(&mut self, step: &StepAddr, done: bool);

    /// A node was asked whether it serves; why it does not, in words.
    fn proved(&mut self, _node: &NodeName, _serves: Result<(), String>) {}

    /// The session of a node is gone, and its lock with it; it may be asked again.
    fn let_go(&mut self, _node: &NodeName) {}

    /// A node cannot be worked on any more; why, in words.
    fn lost(&mut self, _node: &NodeName, _why: &str) {}

    /// The nodes it may want asked.
    fn members(&self) -> Vec<NodeName> {
        Vec::new()
    }

    /// The step that took the node down, when the node has not been seen serving since.
    fn owed_by(&self, _node: &NodeName) -> Option<&StepAddr> {
        None
    }
}

/// No rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGuard;

impl Guard for NoGuard {
    fn verdict(&self, _step: &StepAddr) -> Verdict {
        Verdict::Go
    }
    fn started(&mut self, _step: &StepAddr) {}
    fn ended(&mut self, _step: &StepAddr, _done: bool) {}
}

/// What is known of a declared server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has never been a member: the others do without it.
    Blank,
    /// It is a member; whether it serves has to be asked.
    Unasked,
    /// It was asked for the step in question, and serves.
    Serves,
    /// This step took it down, and it has not been seen serving since.
    Down(StepAddr),
    /// It was asked, and does not serve: why, in words.
    Silent(String),
    /// It cannot be asked: why, in words.
    Unknown(String),
    /// A step that took it down did not end well: what it answers now says little.
    Broken(StepAddr),
    /// It is to leave, and its cluster still counts on it: nobody asks it, and nobody else goes down.
    Leaves,
}

/// Whether a member may go down now, given what is known of all declared servers. Two members are never
/// down together: every other one has to be seen serving first, and one that cannot be asked, that does not serve or
/// that did not come back well keeps this one up. A cluster of one server has nobody to keep it up.
#[must_use]
pub fn may_go_down(node: &NodeName, servers: &BTreeMap<NodeName, Standing>) -> Verdict {
    if servers
        .get(node)
        .is_none_or(|s| matches!(s, Standing::Blank | Standing::Leaves))
    {
        return Verdict::Go;
    }
    let others = || servers.iter().filter(|(name, _)| *name != node);
    let reasons: Vec<String> = others()
        .filter_map(|(name, standing)| match standing {
            Standing::Blank | Standing::Unasked | Standing::Serves | Standing::Down(_) => None,
            Standing::Silent(why) => Some(format!("server {name} does not serve ({why})")),
            Standing::Unknown(why) => Some(format!("server {name} {why}")),
            Standing::Broken(step) => Some(format!("{step} did not end well")),
            Standing::Leaves => Some(format!(
                "server {name} is to leave, and its cluster has not let it go"
            )),
        })
        .collect();
    if !reasons.is_empty() {
        return Verdict::No(format!(
            "{}, so {node} has to stay up",
            reasons.join(", and ")
        ));
    }
    let unasked: Vec<NodeName> = others()
        .filter(|(_, standing)| matches!(standing, Standing::Unasked | Standing::Down(_)))
        .map(|(name, _)| name.clone())
        .collect();
    if unasked.is_empty() {
        Verdict::Go
    } else {
        Verdict::Ask(unasked)
    }
}

/// Two declared servers are never down together: see [`may_go_down`].
#[derive(Debug, Clone, Default)]
pub struct Quorum {
    servers: BTreeMap<NodeName, Standing>,
    /// Steps that can take their node down.
    risky: BTreeSet<StepAddr>,
    /// Steps that make their node a member.
    joins: BTreeSet<StepAddr>,
    /// Steps that make the cluster let a member go.
    departures: BTreeMap<StepAddr, NodeName>,
    away: Option<StepAddr>,
}

impl Quorum {
    /// A guard over the declared servers. Of the steps only those count that can take their node down, or make it
    /// a member.
    pub fn new(
        servers: impl IntoIterator<Item = (NodeName, Standing)>,
        risky: impl IntoIterator<Item = StepAddr>,
        joins: impl IntoIterator<Item = StepAddr>,
    ) -> Self {
        let servers: BTreeMap<NodeName, Standing> = servers.into_iter().collect();
        let ours = |s: &StepAddr| servers.contains_key(&s.node);
        Self {
            risky: risky.into_iter().filter(ours).collect(),
            joins: joins.into_iter().filter(ours).collect(),
            servers,
            departures: BTreeMap::new(),
            away: None,
        }
    }

    /// With the steps that make the cluster let members go: until then these count, and afterwards they are nobody's.
    #[must_use]
    pub fn with_departures(
        mut self,
        steps: impl IntoIterator<Item = (StepAddr, NodeName)>,
    ) -> Self {
        self.departures = steps.into_iter().collect();
        self
    }

    /// What is known of the servers as far as it concerns a step: those that leave have no say in who else is let go.
    fn as_for(&self, step: &StepAddr) -> BTreeMap<NodeName, Standing> {
        let mut servers = self.servers.clone();
        if self.departures.contains_key(step) {
            servers.retain(|_, standing| *standing != Standing::Leaves);
        }
        servers
    }

    /// The guard of a plan, over the servers the inventory declares and those the plan knows besides.
    pub fn of_plan(plan: &Plan, servers: impl IntoIterator<Item = NodeName>) -> Self {
        let server = |name: &NodeName| plan.members.get(name).and_then(|m| m.server.as_ref());
        let all: BTreeSet<NodeName> = servers
            .into_iter()
            .chain(plan.members.keys().cloned())
            .collect();
        let standings = all.into_iter().map(|name| {
            let standing = match plan.members.get(&name).map(|m| (&m.standing, &m.server)) {
                Some((MemberStanding::Blank, _)) => Standing::Blank,
                Some((MemberStanding::Member, Some(_))) => Standing::Unasked,
                Some((MemberStanding::Unknown(why), _)) => Standing::Unknown(why.clone()),
                Some((MemberStanding::Leaves, _)) => Standing::Leaves,
                Some((MemberStanding::Member, None)) | None => {
                    Standing::Unknown("is not among the servers this plan knows".into())
                }
            };
            (name, standing)
        });
        let of = |want: fn(&picluster_plan::Step, Option<&_>) -> bool| {
            plan.steps
                .iter()
                .filter(move |s| want(s, server(&s.addr.node)))
                .map(|s| s.addr.clone())
        };
        let departures = plan
            .steps
            .iter()
            .filter_map(|step| Some((step.addr.clone(), lets_go(step)?.clone())));
        Self::new(standings, of(takes_down), of(joins)).with_departures(departures)
    }

    fn is_member(&self, node: &NodeName) -> bool {
        self.servers
            .get(node)
            .is_some_and(|s| !matches!(s, Standing::Blank | Standing::Leaves))
    }
}

impl Guard for Quorum {
    fn verdict(&self, step: &StepAddr) -> Verdict {
        let joins = self.joins.contains(step);
        let risky = self.risky.contains(step) && self.is_member(&step.node);
        if let Some(other) = self.away.as_ref().filter(|_| joins || risky) {
            return Verdict::No(format!("{other} is not done"));
        }
        if !risky {
            return Verdict::Go;
        }
        may_go_down(&step.node, &self.as_for(step))
    }

    fn ask_anew(&mut self) {
        for standing in self.servers.values_mut() {
            if *standing == Standing::Serves {
                *standing = Standing::Unasked;
            }
        }
    }

    fn started(&mut self, step: &StepAddr) {
        if self.joins.contains(step)
            && let Some(standing @ Standing::Blank) = self.servers.get_mut(&step.node)
        {
            *standing = Standing::Unasked;
        } else if self.risky.contains(step) && self.is_member(&step.node) {
            self.ask_anew();
            self.away = Some(step.clone());
        }
    }

    fn ended(&mut self, step: &StepAddr, done: bool) {
        let away = self.away.as_ref() == Some(step);
        if away {
            self.away = None;
        }
        if done
            && let Some(gone) = self.departures.get(step)
            && let Some(standing) = self.servers.get_mut(gone)
        {
            *standing = Standing::Blank;
        }
        let Some(standing) = self.servers.get_mut(&step.node) else {
            return;
        };
        match standing {
            Standing::Blank | Standing::Unknown(_) | Standing::Broken(_) | Standing::Leaves => {}
            _ if away && done => *standing = Standing::Down(step.clone()),
            _ if away => *standing = Standing::Broken(step.clone()),
            // Something was done there: maybe just what it takes.
            Standing::Silent(_) => *standing = Standing::Unasked,
            Standing::Unasked | Standing::Serves | Standing::Down(_) => {}
        }
    }

    fn proved(&mut self, node: &NodeName, serves: Result<(), String>) {
        if let Some(standing @ (Standing::Unasked | Standing::Serves | Standing::Down(_))) =
            self.servers.get_mut(node)
        {
            *standing = match serves {
                Ok(()) => Standing::Serves,
                Err(why) => Standing::Silent(why),
            };
        }
    }

    fn let_go(&mut self, node: &NodeName) {
        if let Some(standing @ Standing::Serves) = self.servers.get_mut(node) {
            *standing = Standing::Unasked;
        }
    }

    fn lost(&mut self, node: &NodeName, why: &str) {
        match self.servers.get_mut(node) {
            None
            | Some(
                Standing::Blank | Standing::Unknown(_) | Standing::Broken(_) | Standing::Leaves,
            ) => {}
            Some(standing) => *standing = Standing::Unknown(format!("cannot be asked ({why})")),
        }
    }

    fn members(&self) -> Vec<NodeName> {
        // Steps of agents wait for nobody: then nobody has to be asked.
        if self.risky.is_empty() {
            return Vec::new();
        }
        let stays =
            |(name, s): (&NodeName, &Standing)| (*s != Standing::Leaves).then(|| name.clone());
        self.servers.iter().filter_map(stays).collect()
    }

    fn owed_by(&self, node: &NodeName) -> Option<&StepAddr> {
        match self.servers.get(node) {
            Some(Standing::Down(step)) => Some(step),
            _ => None,
        }
    }
}
