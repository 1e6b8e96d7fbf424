//! Which step may start: a pure state machine, without clock and without I/O.
//!
//! [`Scheduler::step`] takes what happened and returns what to do. The driver carries it out and
//! reports back; nothing else connects the two, so every rule here can be tested over any graph
//! and any order of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use picluster_model::NodeName;
use picluster_plan::{Plan, StepAddr, Work};

use crate::guard::{Guard, Verdict};
use crate::report::SkipReason;
use crate::run::Cancel;
use crate::together::is_small;

/// A step as far as the scheduler is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    /// Its address; the node is part of it.
    pub addr: StepAddr,
    /// Steps that must be done before. Those that are not in the plan count as done.
    pub needs: Vec<StepAddr>,
    /// Steps that must have ended before, however they did. Those that are not in the plan count as ended.
    pub after: Vec<StepAddr>,
    /// Its work is a reboot, or switches the node off.
    pub reboot: bool,
    /// It sends a large payload.
    pub upload: bool,
    /// It may be run in one go with steps before and behind it on its node that may be, too, and that
    /// it neither needs nor is moved by.
    pub small: bool,
    /// Earlier steps that may move its pre-state.
    pub moved_by: Vec<StepAddr>,
}

/// How many steps are run in one go at most: as many are brought to their end after an interrupt.
pub const AT_ONCE: usize = 16;

/// How much may go on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nodes dialled or connected.
    pub nodes: usize,
    /// Steps with a large payload.
    pub uploads: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The run begins. First, and once.
    Start,
    /// A dialled node is ready for steps.
    NodeUp(NodeName),
    /// A node cannot be worked on (any more). A step that ran on it is reported by its own input.
    NodeDown {
        /// The node.
        node: NodeName,
        /// Why, in words.
        why: String,
    },
    /// A node was asked whether it serves.
    Proved {
        /// The node.
        node: NodeName,
        /// Why it does not, in words.
        serves: Result<(), String>,
    },
    /// A step that was started ended.
    StepFinished {
        /// Its address.
        addr: StepAddr,
        /// It was changed or found unchanged.
        done: bool,
        /// What became of its node meanwhile.
        node: After,
    },
    /// The run is told to stop.
    Cancel(Cancel),
}

/// What became of a node while a step ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is ready for the next step.
    Up,
    /// Its session is gone, but it is not given up: it is dialled again when there is something
    /// to do.
    Away,
    /// It cannot be worked on any more.
    Down,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Connect to a node, start a session and take its lock; answered by `NodeUp` or `NodeDown`.
    Dial(NodeName),
    /// Run a step, or several of a node in one go; each is answered by `StepFinished`.
    Run(Vec<StepAddr>),
    /// Run a step that reboots its node; answered by `StepFinished`.
    Reboot(StepAddr),
    /// Ask a connected node whether it serves; answered by `Proved` or `NodeDown`.
    Prove {
        /// The node.
        node: NodeName,
        /// A step of this run took it down: it is waited for.
        patient: bool,
    },
    /// A step ends without having been started.
    Skip {
        /// Its address.
        addr: StepAddr,
        /// Why.
        reason: SkipReason,
    },
    /// Let go of a node in peace. It may be dialled again.
    Close(NodeName),
    /// Cut the connection of a node, whatever runs there. Its step, if one runs, is still answered
    /// by `StepFinished`, its dial by `NodeUp` or `NodeDown`.
    Abort(NodeName),
    /// Nothing is left to do. Last, and once.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepState {
    Waiting,
    Running,
    Done,
    NotDone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeState {
    /// Not connected.
    Away,
    Dialling,
    Up,
    /// Given up.
    Down,
}

struct StepEntry {
    spec: StepSpec,
    node: usize,
    needs: Vec<usize>,
    movers: Vec<usize>,
    /// Those it merely comes after.
    after: Vec<usize>,
    /// Needs that are not done yet, and steps it comes after that have not ended.
    unmet: usize,
    dependents: Vec<usize>,
    /// Steps that wait for the end of this one, however it is.
    followers: Vec<usize>,
    state: StepState,
}

struct NodeEntry {
    name: NodeName,
    state: NodeState,
    steps: Vec<usize>,
    /// Waiting steps whose needs are all done.
    ready: BTreeSet<usize>,
    /// The step that runs, or those that run in one go.
    running: BTreeSet<usize>,
    /// It is being asked whether it serves.
    proving: bool,
    /// It is one of those that may have to be asked.
    member: bool,
    /// Steps that have not ended.
    open: usize,
}

impl NodeEntry {
    fn is_idle(&self) -> bool {
        self.running.is_empty() && !self.proving
    }
}

/// A step for which the members are asked whether they serve. While there is one, or while the step it was for
/// runs, no member that is connected is let go, so that its lock is held.
struct Claim {
    step: usize,
    /// Who has not answered yet.
    asking: BTreeSet<usize>,
}

/// The state machine. What an event costs does not grow with the size of the plan: the sets and
/// counts below are kept up to date instead of being searched for.
pub struct Scheduler {
    steps: Vec<StepEntry>,
    index: BTreeMap<StepAddr, usize>,
    nodes: Vec<NodeEntry>,
    names: BTreeMap<NodeName, usize>,
    /// Connected nodes with ready steps and nothing running.
    ready_up: BTreeSet<usize>,
    /// Nodes with ready steps that are not connected.
    ready_away: BTreeSet<usize>,
    /// Connected nodes without open steps.
    spent: BTreeSet<usize>,
    /// Steps that have not ended.
    open: usize,
    /// Nodes on which something runs.
    running: usize,
    uploading: usize,
    dialling: usize,
    proving: usize,
    up: usize,
    limits: Limits,
    guard: Box<dyn Guard>,
    /// Places among `nodes` of those that may have to be asked whether they serve.
    members: Vec<usize>,
    claim: Option<Claim>,
    /// The step that members were asked for, while it runs.
    claimed: Option<usize>,
    cancel: Cancel,
    finished: bool,
}

impl StepSpec {
    /// The steps of a plan; those that send `upload_from` bytes or more are uploads.
    #[must_use]
    pub fn of_plan(plan: &Plan, upload_from: usize) -> Vec<Self> {
        plan.steps
            .iter()
            .map(|step| Self {
                addr: step.addr.clone(),
                needs: step.needs.clone(),
                after: step.after.clone(),
                reboot: matches!(step.work, Work::Reboot { .. } | Work::PowerOff),
                upload: step.change.bytes >= upload_from as u64,
                small: is_small(step),
                moved_by: step.moved_by.clone(),
            })
            .collect()
    }
}

impl Scheduler {
    /// A scheduler over these steps. Limits below one count as one.
    #[must_use]
    pub fn new(specs: Vec<StepSpec>, limits: Limits, guard: Box<dyn Guard>) -> Self {
        let index: BTreeMap<StepAddr, usize> = specs
            .iter()
            .enumerate()
            .map(|(i, s)| (s.addr.clone(), i))
            .collect();
        let mut nodes: Vec<NodeEntry> = Vec::new();
        let mut names: BTreeMap<NodeName, usize> = BTreeMap::new();
        let mut steps: Vec<StepEntry> = Vec::with_capacity(specs.len());
        let mut place = |nodes: &mut Vec<NodeEntry>, name: &NodeName| {
            *names.entry(name.clone()).or_insert_with(|| {
                nodes.push(NodeEntry {
                    name: name.clone(),
                    state: NodeState::Away,
                    steps: Vec::new(),
                    ready: BTreeSet::new(),
                    running: BTreeSet::new(),
                    proving: false,
                    member: false,
                    open: 0,
                });
                nodes.len() - 1
            })
        };
        for (i, spec) in specs.into_iter().enumerate() {
            let node = place(&mut nodes, &spec.addr.node);
            let known = |all: &[StepAddr]| -> BTreeSet<usize> {
                all.iter().filter_map(|a| index.get(a).copied()).collect()
            };
            let (needs, movers) = (known(&spec.needs), known(&spec.moved_by));
            let after: Vec<usize> = known(&spec.after).difference(&needs).copied().collect();
            nodes[node].steps.push(i);
            nodes[node].open += 1;
            if needs.is_empty() && after.is_empty() {
                nodes[node].ready.insert(i);
            }
            steps.push(StepEntry {
                spec,
                node,
                unmet: needs.len() + after.len(),
                needs: needs.into_iter().collect(),
                after,
                movers: movers.into_iter().collect(),
                dependents: Vec::new(),
                followers: Vec::new(),
                state: StepState::Waiting,
            });
        }
        for i in 0..steps.len() {
            for need in steps[i].needs.clone() {
                steps[need].dependents.push(i);
            }
            for other in steps[i].after.clone() {
                steps[other].followers.push(i);
            }
        }
        let members: Vec<usize> = guard
            .members()
            .iter()
            .map(|name| place(&mut nodes, name))
            .collect();
        members.iter().for_each(|m| nodes[*m].member = true);
        let mut new = Self {
            open: steps.len(),
            steps,
            index,
            ready_up: BTreeSet::new(),
            ready_away: BTreeSet::new(),
            spent: BTreeSet::new(),
            running: 0,
            uploading: 0,
            dialling: 0,
            proving: 0,
            up: 0,
            limits: Limits {
                // All members are connected at once while one of them is down.
                nodes: limits.nodes.max(1).max(members.len()),
                uploads: limits.uploads.max(1),
            },
            guard,
            members,
            claim: None,
            claimed: None,
            cancel: Cancel::No,
            finished: false,
            nodes,
            names,
        };
        (0..new.nodes.len()).for_each(|n| new.review(n));
        new
    }

    /// Takes in what happened and says what to do, in this order.
    pub fn step(&mut self, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        match input {
            Input::Start => {}
            Input::NodeUp(name) => self.set_node(&name, NodeState::Up),
            Input::NodeDown { node, why } => {
                self.guard.lost(&node, &why);
                self.proved(&node);
                self.set_node(&node, NodeState::Down);
                self.skip_node(&node, &mut out);
            }
            Input::Proved { node, serves } => {
                self.guard.proved(&node, serves);
                if !self.names.get(&node).is_some_and(|n| self.is_asked(*n)) {
                    // No step waits for this answer, and the next one wants one of its own.
                    self.guard.let_go(&node);
                }
                self.proved(&node);
            }
            Input::StepFinished { addr, done, node } => {
                self.step_finished(&addr, done, node, &mut out);
            }
            Input::Cancel(how) => self.cancelled(how, &mut out),
        }
        self.settle(&mut out);
        out
    }

    /// The steps that would start on the same node if these ended well and nothing else happened: what
    /// is worth looking at in the same round trip. None where that is a reboot.
    #[must_use]
    pub fn likely_next(&self, after: &[StepAddr]) -> Vec<StepAddr> {
        let done: Vec<usize> = after
            .iter()
            .filter_map(|a| self.index.get(a).copied())
            .collect();
        match done.first() {
            Some(i) => self.likely(self.steps[*i].node, &done),
            None => Vec::new(),
        }
    }

    /// The steps that would start first on a node.
    #[must_use]
    pub fn likely_first(&self, node: &NodeName) -> Vec<StepAddr> {
        match self.names.get(node) {
            Some(n) => self.likely(*n, &[]),
            None => Vec::new(),
        }
    }

    fn likely(&self, node: usize, done: &[usize]) -> Vec<StepAddr> {
        let first = self.nodes[node]
            .steps
            .iter()
            .copied()
            .find(|i| self.waits_only_for(*i, done));
        let Some(first) = first.filter(|i| !self.steps[*i].spec.reboot) else {
            return Vec::new();
        };
        let all = self.in_one_go(first, done);
        all.iter()
            .map(|i| self.steps[*i].spec.addr.clone())
            .collect()
    }

    /// Whether a step has not started, and could if these had ended well.
    fn waits_only_for(&self, i: usize, done: &[usize]) -> bool {
        let step = &self.steps[i];
        let others = step.unmet - done.iter().filter(|d| step.needs.contains(d)).count();
        step.state == StepState::Waiting && others == 0
    }

    /// The steps that would be run in one go with `first`, itself among them: those that come right
    /// behind it, as long as they may. That their pre-states are looked at before the first of them
    /// runs does no harm: none of them needs another, or may be moved by it.
    fn in_one_go(&self, first: usize, done: &[usize]) -> Vec<usize> {
        let mut chosen = vec![first];
        if !self.steps[first].spec.small {
            return chosen;
        }
        let all = &self.nodes[self.steps[first].node].steps;
        for &i in &all[all.partition_point(|i| *i <= first)..] {
            let step = &self.steps[i];
            if step.state != StepState::Waiting {
                continue;
            }
            let fits = step.spec.small
                && chosen.len() < AT_ONCE
                && self.waits_only_for(i, done)
                && !step.movers.iter().any(|m| chosen.contains(m));
            if !fits {
                break;
            }
            chosen.push(i);
        }
        chosen
    }

    /// Keeps the sets of nodes true for one node.
    fn review(&mut self, n: usize) {
        let node = &self.nodes[n];
        let may = !node.ready.is_empty() && node.is_idle();
        let up = node.state == NodeState::Up;
        for (set, belongs) in [
            (&mut self.ready_up, may && up),
            (&mut self.ready_away, may && node.state == NodeState::Away),
            (&mut self.spent, up && node.open == 0 && node.is_idle()),
        ] {
            if belongs {
                set.insert(n);
            } else {
                set.remove(&n);
            }
        }
    }

    /// Whether a step waits for this node's answer.
    fn is_asked(&self, n: usize) -> bool {
        let claim = self.claim.as_ref();
        claim.is_some_and(|claim| claim.asking.contains(&n))
    }

    /// A node is no longer being asked.
    fn proved(&mut self, name: &NodeName) {
        let Some(&n) = self.names.get(name) else {
            return;
        };
        self.proving -= usize::from(std::mem::take(&mut self.nodes[n].proving));
        if let Some(claim) = &mut self.claim {
            claim.asking.remove(&n);
        }
        self.review(n);
    }

    fn set_node(&mut self, name: &NodeName, state: NodeState) {
        if let Some(&n) = self.names.get(name) {
            self.set_state(n, state);
        }
    }

    fn set_state(&mut self, n: usize, state: NodeState) {
        let before = self.nodes[n].state;
        if before == NodeState::Down {
            return;
        }
        for (was, count) in [
            (NodeState::Dialling, &mut self.dialling),
            (NodeState::Up, &mut self.up),
        ] {
            *count = *count + usize::from(state == was) - usize::from(before == was);
        }
        self.nodes[n].state = state;
        self.review(n);
    }

    /// A step comes to its end.
    fn end(&mut self, i: usize, state: StepState) {
        let n = self.steps[i].node;
        self.steps[i].state = state;
        self.open -= 1;
        self.nodes[n].open -= 1;
        self.nodes[n].ready.remove(&i);
        let mut freed = self.steps[i].followers.clone();
        if state == StepState::Done {
            freed.extend(&self.steps[i].dependents);
        }
        for d in freed {
            self.steps[d].unmet -= 1;
            if self.steps[d].unmet == 0 && self.steps[d].state == StepState::Waiting {
                let other = self.steps[d].node;
                self.nodes[other].ready.insert(d);
                self.review(other);
            }
        }
        self.review(n);
    }

    fn step_finished(&mut self, addr: &StepAddr, done: bool, after: After, out: &mut Vec<Command>) {
        let Some(&i) = self.index.get(addr) else {
            return;
        };
        if self.steps[i].state != StepState::Running {
            return;
        }
        let n = self.steps[i].node;
        self.nodes[n].running.remove(&i);
        self.running -= usize::from(self.nodes[n].running.is_empty());
        self.uploading -= usize::from(self.steps[i].spec.upload);
        self.guard.ended(addr, done);
        if self.claimed == Some(i) {
            self.claimed = None;
        }
        match after {
            After::Up => {}
            After::Away => self.guard.let_go(&addr.node),
            After::Down => self.guard.lost(&addr.node, "it was lost on the way"),
        }
        if done {
            self.end(i, StepState::Done);
        } else {
            self.end(i, StepState::NotDone);
            self.skip_dependents(i, out);
        }
        match after {
            After::Up => {}
            After::Away => self.set_state(n, NodeState::Away),
            After::Down => {
                self.set_state(n, NodeState::Down);
                self.skip_node(&addr.node, out);
            }
        }
    }

    /// Everything behind a step that was not done; each names that step.
    fn skip_dependents(&mut self, cause: usize, out: &mut Vec<Command>) {
        let reason = SkipReason::Needs(self.steps[cause].spec.addr.clone());
        let mut queue: VecDeque<usize> = self.steps[cause].dependents.iter().copied().collect();
        while let Some(i) = queue.pop_front() {
            if self.steps[i].state == StepState::Waiting {
                self.skip(i, reason.clone(), out);
                queue.extend(self.steps[i].dependents.iter().copied());
            }
        }
    }

    fn skip(&mut self, i: usize, reason: SkipReason, out: &mut Vec<Command>) {
        self.end(i, StepState::NotDone);
        out.push(Command::Skip {
            addr: self.steps[i].spec.addr.clone(),
            reason,
        });
    }

    fn skip_node(&mut self, name: &NodeName, out: &mut Vec<Command>) {
        let Some(&n) = self.names.get(name) else {
            return;
        };
        let waiting: Vec<usize> = self.nodes[n]
            .steps
            .iter()
            .copied()
            .filter(|i| self.steps[*i].state == StepState::Waiting)
            .collect();
        for i in &waiting {
            self.skip(*i, SkipReason::Node(name.clone()), out);
        }
        for i in waiting {
            self.skip_dependents(i, out);
        }
    }

    fn cancelled(&mut self, how: Cancel, out: &mut Vec<Command>) {
        if how <= self.cancel {
            return;
        }
        self.cancel = how;
        for i in 0..self.steps.len() {
            if self.steps[i].state == StepState::Waiting {
                self.skip(i, SkipReason::Cancelled, out);
            }
        }
        self.claim = None;
        for node in &self.nodes {
            // A dial has written nothing yet, and may be waiting for somebody else's lock: no
            // reason to wait for its end. Nor for that of a question.
            let cut = match node.state {
                NodeState::Dialling => true,
                NodeState::Up => how == Cancel::Now || node.proving,
                NodeState::Away | NodeState::Down => false,
            };
            if cut {
                out.push(Command::Abort(node.name.clone()));
            }
        }
    }

    /// The first step of a node that may start now.
    fn startable(&self, n: usize) -> Option<usize> {
        self.first_ready(n, |verdict| *verdict == Verdict::Go)
    }

    /// The first step of a node that may start now, or once others have been asked.
    fn claimable(&self, n: usize) -> Option<usize> {
        if !self.nodes[n].member {
            return None;
        }
        self.first_ready(n, |verdict| matches!(verdict, Verdict::Ask(_)))
    }

    fn first_ready(&self, n: usize, want: impl Fn(&Verdict) -> bool) -> Option<usize> {
        // The step that members are asked for keeps its place.
        let claim = self.claim.as_ref();
        let kept = claim.is_some_and(|claim| self.steps[claim.step].spec.upload);
        let uploading = self.uploading + usize::from(kept);
        self.nodes[n].ready.iter().copied().find(|i| {
            let spec = &self.steps[*i].spec;
            (!spec.upload || uploading < self.limits.uploads)
                && want(&self.guard.verdict(&spec.addr))
        })
    }

    /// Whether a node has to be asked before it is let go: it was taken down, and nothing of its own is left
    /// that could bring it back.
    fn owes(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.member
            && node.open == 0
            && self.cancel == Cancel::No
            && node.state != NodeState::Down
            && self.guard.owed_by(&node.name).is_some()
    }

    /// The step that took a node down of which nothing is left but to be seen serving again.
    #[must_use]
    pub fn awaited(&self, node: &NodeName) -> Option<&StepAddr> {
        let n = *self.names.get(node)?;
        self.guard.owed_by(node).filter(|_| self.owes(n))
    }

    /// Whether a node may be asked whether it serves.
    #[must_use]
    pub fn may_ask(&self, node: &NodeName) -> bool {
        let place = self.names.get(node);
        place.is_some_and(|n| self.nodes[*n].member)
    }

    /// Whether a node that is connected keeps its lock although it has nothing to do.
    fn is_held(&self, n: usize) -> bool {
        self.nodes[n].member && (self.claim.is_some() || self.claimed.is_some())
    }

    /// Starts what may start, lets go of what is not needed, and notices the end.
    fn settle(&mut self, out: &mut Vec<Command>) {
        if self.finished {
            return;
        }
        loop {
            self.tend_claim(out);
            self.start_steps(out);
            self.make_claim();
            self.ask_members(out);
            // Those that were asked for it may all have been given up meanwhile.
            if self
                .claim
                .as_ref()
                .is_some_and(|claim| claim.asking.is_empty())
            {
                continue;
            }
            self.close_nodes(out);
            self.dial_nodes(out);
            if self.running > 0 || self.dialling > 0 || self.proving > 0 {
                return;
            }
            // Nothing runs and nothing may start: no event will ever change that.
            let ready = self.nodes.iter().find_map(|n| n.ready.first().copied());
            let waiting = || {
                self.steps
                    .iter()
                    .position(|s| s.state == StepState::Waiting)
            };
            let Some(i) = ready.or_else(waiting) else {
                break;
            };
            let addr = &self.steps[i].spec.addr;
            let reason = match self.guard.verdict(addr) {
                Verdict::No(words) => SkipReason::Guard(words),
                // A need that can never be met: the steps go round in a circle.
                Verdict::Go | Verdict::Ask(_) => SkipReason::Needs(addr.clone()),
            };
            self.skip(i, reason, out);
            self.skip_dependents(i, out);
        }
        if self.open == 0 && self.up == 0 {
            self.finished = true;
            out.push(Command::Finish);
        }
    }

    fn start_steps(&mut self, out: &mut Vec<Command>) {
        let mut at = 0;
        while let Some(n) = self.ready_up.range(at..).next().copied() {
            at = n + 1;
            // Who is asked for, or waits for those that are, begins nothing else.
            let spoken_for = self
                .claim
                .as_ref()
                .is_some_and(|claim| claim.asking.contains(&n) || self.steps[claim.step].node == n);
            if spoken_for {
                continue;
            }
            let Some(first) = self.startable(n) else {
                continue;
            };
            let all = self.in_one_go(first, &[]).into_iter();
            let all = all
                .take_while(|i| self.guard.verdict(&self.steps[*i].spec.addr) == Verdict::Go)
                .collect();
            self.start(all, out);
        }
    }

    /// Starts steps of one node that go together.
    fn start(&mut self, all: Vec<usize>, out: &mut Vec<Command>) {
        let Some(&first) = all.first() else { return };
        let n = self.steps[first].node;
        self.running += 1;
        for i in &all {
            self.steps[*i].state = StepState::Running;
            let spec = &self.steps[*i].spec;
            self.uploading += usize::from(spec.upload);
            self.guard.started(&spec.addr);
            self.nodes[n].ready.remove(i);
        }
        let addr = |i: &usize| self.steps[*i].spec.addr.clone();
        out.push(if self.steps[first].spec.reboot {
            Command::Reboot(addr(&first))
        } else {
            Command::Run(all.iter().map(addr).collect())
        });
        self.nodes[n].running = all.into_iter().collect();
        self.review(n);
    }

    /// Goes on with the step that members were asked for, once all have answered.
    fn tend_claim(&mut self, out: &mut Vec<Command>) {
        let Some(claim) = self.claim.take() else {
            return;
        };
        let step = &self.steps[claim.step];
        let node = &self.nodes[step.node];
        if step.state != StepState::Waiting || node.state != NodeState::Up || !node.is_idle() {
            self.guard.ask_anew();
            return;
        }
        if !claim.asking.is_empty() {
            self.claim = Some(claim);
            return;
        }
        match self.guard.verdict(&step.spec.addr) {
            Verdict::Go => {
                self.claimed = Some(claim.step);
                self.start(vec![claim.step], out);
            }
            // Somebody who had answered was let go since.
            Verdict::Ask(names) => {
                let asking = self.places(&names);
                self.claim = Some(Claim { asking, ..claim });
            }
            Verdict::No(_) => self.guard.ask_anew(),
        }
    }

    fn places(&self, names: &[NodeName]) -> BTreeSet<usize> {
        let place = |name| self.names.get(name).copied();
        names.iter().filter_map(place).collect()
    }

    /// Picks the step that members are asked for next: one of a node that is down already before any other.
    fn make_claim(&mut self) {
        if self.claim.is_some() || self.claimed.is_some() || self.cancel != Cancel::No {
            return;
        }
        let down = |n: &usize| self.guard.owed_by(&self.nodes[*n].name).is_some();
        let (first, then): (Vec<usize>, Vec<usize>) =
            self.members.iter().copied().partition(|n| down(n));
        let free = |n: &usize| self.ready_up.contains(n);
        let found = first.into_iter().chain(then).filter(free).find_map(|n| {
            let step = self.claimable(n)?;
            self.guard_lets(step).then_some(step)
        });
        let Some(step) = found else { return };
        self.guard.ask_anew();
        if let Verdict::Ask(names) = self.guard.verdict(&self.steps[step].spec.addr) {
            let asking = self.places(&names);
            self.claim = Some(Claim { step, asking });
        }
    }

    /// Whether nobody who would be asked is about to do what may be needed to serve again.
    fn guard_lets(&self, step: usize) -> bool {
        let Verdict::Ask(names) = self.guard.verdict(&self.steps[step].spec.addr) else {
            return false;
        };
        names.iter().all(|name| {
            let Some(&n) = self.names.get(name) else {
                return true;
            };
            let node = &self.nodes[n];
            let busy = !node.running.is_empty()
                || node.state != NodeState::Down && self.startable(n).is_some();
            !busy || self.guard.owed_by(name).is_none()
        })
    }

    /// Asks those that a step waits for, and those that were taken down and have nothing left to do.
    fn ask_members(&mut self, out: &mut Vec<Command>) {
        for at in 0..self.members.len() {
            let n = self.members[at];
            let node = &self.nodes[n];
            if !self.is_asked(n) && !self.owes(n) {
                continue;
            }
            match node.state {
                NodeState::Up if node.is_idle() => {
                    out.push(Command::Prove {
                        node: node.name.clone(),
                        patient: self.guard.owed_by(&node.name).is_some(),
                    });
                    self.nodes[n].proving = true;
                    self.proving += 1;
                    self.review(n);
                }
                // It said so itself when it went.
                NodeState::Down => {
                    if let Some(claim) = &mut self.claim {
                        claim.asking.remove(&n);
                    }
                }
                NodeState::Up | NodeState::Away | NodeState::Dialling => {}
            }
        }
    }

    fn close_nodes(&mut self, out: &mut Vec<Command>) {
        let spent: Vec<usize> = self.spent.iter().copied().collect();
        for n in spent {
            if self.is_held(n) || self.owes(n) {
                continue;
            }
            out.push(Command::Close(self.nodes[n].name.clone()));
            self.guard.let_go(&self.nodes[n].name);
            self.set_state(n, NodeState::Away);
        }
    }

    /// Nodes that are worth a connection, the urgent ones first: those that are asked for, then those with a step
    /// that may start, then those with a step that may once others were asked.
    fn to_dial(&self) -> Vec<(usize, bool)> {
        let asked = self.members.iter().copied().filter(|n| {
            self.nodes[*n].state == NodeState::Away && (self.is_asked(*n) || self.owes(*n))
        });
        let mut found: Vec<(usize, bool)> = asked.map(|n| (n, true)).collect();
        let away = || self.ready_away.iter().copied();
        found.extend(away().map(|n| (n, true)));
        found.extend(away().filter(|n| self.nodes[*n].member).map(|n| (n, false)));
        found
    }

    fn dial_nodes(&mut self, out: &mut Vec<Command>) {
        let full = |my: &Self| my.dialling + my.up >= my.limits.nodes;
        // Full of nodes that all have something to do: nobody makes room.
        let stuck = |my: &Self| full(my) && my.up <= my.running + my.proving;
        if stuck(self) {
            return;
        }
        for (n, now) in self.to_dial() {
            if stuck(self) {
                return;
            }
            let node = &self.nodes[n];
            let asked = self.is_asked(n) || self.owes(n);
            let wanted = match now {
                true => asked || self.startable(n).is_some(),
                false => self.claimable(n).is_some(),
            };
            if node.state != NodeState::Away || !wanted {
                continue;
            }
            if full(self) {
                // A connected node without anything it may do makes room: it may be waiting for
                // the very node that has no room. A member waits for members only.
                let idle = (0..self.nodes.len()).find(|m| {
                    let other = &self.nodes[*m];
                    other.state == NodeState::Up
                        && other.is_idle()
                        && !self.is_held(*m)
                        && (now || !other.member)
                });
                let Some(idle) = idle else { continue };
                out.push(Command::Close(self.nodes[idle].name.clone()));
                self.guard.let_go(&self.nodes[idle].name);
                self.set_state(idle, NodeState::Away);
            }
            out.push(Command::Dial(self.nodes[n].name.clone()));
            self.set_state(n, NodeState::Dialling);
        }
    }
}
