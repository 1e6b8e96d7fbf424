//! Carries out a plan: connects the scheduler, the nodes' workers and the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use picluster_model::NodeName;
use picluster_model::secret::{Secret, SecretRef, SecretValues};
use picluster_plan::{NodePlan, NodeState, Plan, Step, StepAddr};
use picluster_resource::Ctx;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::error::NodeError;
use crate::event::{Event, EventKind};
use crate::guard::Guard;
use crate::guarded::Verdict;
use crate::host::ConnectError;
use crate::mask::Masker;
use crate::report::{Counts, NodeEnd, NodeReport, Outcome, Report, SkipReason, StepReport};
use crate::run::{Access, Cancel, Run};
use crate::scheduler::{Command, Input, Limits, Scheduler, StepSpec};
use crate::worker::{Ended, Go, Job, RunContext, Told, Worker, work};

/// A node while it is worked on.
struct Hand {
    jobs: mpsc::Sender<Job>,
    abort: watch::Sender<bool>,
}

/// A step that was done under a guard.
struct Held {
    addr: StepAddr,
    outcome: Outcome,
    seconds: f64,
    change: Option<picluster_resource::Change>,
}

struct Driver<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    index: BTreeMap<&'a StepAddr, usize>,
    access: BTreeMap<NodeName, Access>,
    context: Arc<RunContext>,
    events: mpsc::UnboundedSender<Event>,
    masker: Masker,
    /// What else is hidden: the sudo passwords.
    passwords: Vec<Secret<String>>,
    /// The values of secrets, as far as they are known by now.
    secrets: Arc<SecretValues>,
    scheduler: Scheduler,
    hands: BTreeMap<NodeName, Hand>,
    workers: JoinSet<()>,
    told: mpsc::UnboundedSender<(NodeName, Told)>,
    /// Steps that have changed something.
    changed: BTreeSet<StepAddr>,
    /// When each step was started, and with how many others in one go.
    started: BTreeMap<StepAddr, (Duration, u32)>,
    outcomes: BTreeMap<StepAddr, (Outcome, f64)>,
    /// Steps of each node that were done and whose guard is not closed yet.
    held: BTreeMap<NodeName, Vec<Held>>,
    /// Steps of each node that have not ended.
    open: BTreeMap<NodeName, usize>,
    down: BTreeMap<NodeName, NodeError>,
    ends: BTreeMap<NodeName, NodeEnd>,
    begun: Duration,
    cancel: Cancel,
}

pub(crate) async fn apply(
    engine: &Engine,
    plan: &Plan,
    mut run: Run,
    guard: Box<dyn Guard>,
) -> Report {
    read_values(engine, plan, &mut run).await;
    let settings = &engine.shared().settings;
    let limits = Limits {
        nodes: settings.max_nodes,
        uploads: settings.uploads,
    };
    let scheduler = Scheduler::new(StepSpec::of_plan(plan, settings.upload_from), limits, guard);
    let passwords = run.access.values().filter_map(|a| a.password.as_ref());
    let passwords: Vec<_> = passwords.cloned().collect();
    let masker = Masker::new(&run.secrets, &passwords);
    let (told, mut reports) = mpsc::unbounded_channel();
    let mut open: BTreeMap<NodeName, usize> = BTreeMap::new();
    for step in &plan.steps {
        *open.entry(step.addr.node.clone()).or_default() += 1;
    }
    let mut driver = Driver {
        engine,
        plan,
        index: plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, s)| (&s.addr, i))
            .collect(),
        access: run.access,
        context: Arc::new(RunContext {
            shared: Arc::clone(engine.shared()),
            owner: run.owner,
            key: run.key,
            artifacts: run.artifacts,
        }),
        events: run.events,
        masker,
        passwords,
        secrets: Arc::new(run.secrets),
        scheduler,
        hands: BTreeMap::new(),
        workers: JoinSet::new(),
        told,
        changed: BTreeSet::new(),
        started: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        held: BTreeMap::new(),
        open,
        down: BTreeMap::new(),
        ends: BTreeMap::new(),
        begun: settings.clock.elapsed(),
        cancel: Cancel::No,
    };
    driver.begin(&run.id);
    let mut cancel = run.cancel;
    let mut listening = true;
    let mut over = driver.feed(Input::Start, None);
    while !over {
        tokio::select! {
            biased;
            changed = cancel.changed(), if listening => {
                listening = changed.is_ok();
                let how = *cancel.borrow_and_update();
                over = driver.cancelled(how);
            }
            // The driver keeps a sender, so this never ends by itself.
            Some((node, told)) = reports.recv() => over = driver.told(&node, told),
        }
    }
    driver.hands.clear();
    while driver.workers.join_next().await.is_some() {}
    // Guards that were closed last.
    while let Ok((node, told)) = reports.try_recv() {
        driver.told(&node, told);
    }
    driver.unheld();
    driver.finish()
}

/// Reads the values that were known when the plan was made and that this process does not know: the
/// plan came from a file. What cannot be read stays unknown, and the steps that need it say so.
async fn read_values(engine: &Engine, plan: &Plan, run: &mut Run) {
    for source in &plan.values {
        let reference = SecretRef::ClusterValue(source.name.clone());
        if run.secrets.0.contains_key(&reference) {
            continue;
        }
        let Ok((facts, _)) = engine.facts(&source.node).await else {
            continue;
        };
        let ctx = Ctx {
            facts: &facts,
            secrets: &run.secrets,
        };
        let Ok(queries) = source.resource.queries(ctx) else {
            continue;
        };
        let mut access = run.access.get(&source.node).cloned().unwrap_or_default();
        access.root = facts.now.root;
        if let Ok(answers) = engine.probe(&source.node, &access, queries).await
            && let Some((_, value)) = source.resource.yields(&answers)
        {
            run.secrets.0.insert(reference, value);
        }
    }
}

impl Driver<'_> {
    fn emit(&self, event: EventKind) {
        let at = self.context.shared.settings.clock.epoch_ms();
        // Nobody listening is no reason to stop.
        let _ = self.events.send(Event::new(at, event));
    }

    fn now(&self) -> Duration {
        self.context.shared.settings.clock.elapsed()
    }

    fn begin(&mut self, run: &str) {
        self.emit(EventKind::RunStarted {
            run: run.to_owned(),
            cluster: self.plan.cluster.clone(),
            nodes: self.open.keys().cloned().collect(),
            steps: u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX),
        });
        for (name, node) in &self.plan.nodes {
            // Who may be asked whether it serves is heard of later.
            if !self.open.contains_key(name) && !self.scheduler.may_ask(name) {
                let end = end_without_steps(node);
                self.emit(EventKind::NodeFinished {
                    node: name.clone(),
                    end: end.clone(),
                    counts: Counts::default(),
                });
                self.ends.insert(name.clone(), end);
            }
        }
    }

    fn cancelled(&mut self, how: Cancel) -> bool {
        if how <= self.cancel {
            return false;
        }
        self.cancel = how;
        self.emit(EventKind::Cancelling {
            now: how == Cancel::Now,
        });
        self.feed(Input::Cancel(how), None)
    }

    fn told(&mut self, node: &NodeName, told: Told) -> bool {
        match told {
            Told::Up { address } => {
                self.emit(EventKind::NodeConnected {
                    node: node.clone(),
                    address,
                });
                self.feed(Input::NodeUp(node.clone()), Some(node))
            }
            Told::Down(error) => {
                self.hands.remove(node);
                let why = self.masker.mask(&error.to_string());
                self.node_down(node, error);
                self.feed(
                    Input::NodeDown {
                        node: node.clone(),
                        why,
                    },
                    None,
                )
            }
            Told::Cut => {
                self.hands.remove(node);
                self.feed(
                    Input::NodeDown {
                        node: node.clone(),
                        why: "the run was told to stop".into(),
                    },
                    None,
                )
            }
            Told::Proved(serves) => self.proved(node, serves),
            Told::Waiting(processes) => {
                self.emit(EventKind::NodeWaiting {
                    node: node.clone(),
                    processes,
                });
                false
            }
            Told::Rebooting => {
                self.emit(EventKind::NodeRebooting { node: node.clone() });
                false
            }
            Told::PoweringOff => {
                self.emit(EventKind::NodePoweringOff { node: node.clone() });
                false
            }
            Told::Off { seconds } => {
                self.emit(EventKind::NodeOff {
                    node: node.clone(),
                    seconds: rounded(seconds),
                });
                false
            }
            Told::Back { seconds } => {
                self.emit(EventKind::NodeBack {
                    node: node.clone(),
                    seconds: rounded(seconds),
                });
                false
            }
            Told::TakingBack { seconds } => {
                self.emit(EventKind::NodeTakingBack {
                    node: node.clone(),
                    seconds,
                });
                false
            }
            Told::Guard(verdict) => {
                self.guard_closed(node, &verdict);
                false
            }
            Told::Uploading { addr, sent, total } => {
                self.emit(EventKind::StepUploading { addr, sent, total });
                false
            }
            Told::Learnt { name, value } => {
                self.learn(name, value);
                false
            }
            Told::Ended(ended) => self.step_ended(node, *ended),
        }
    }

    /// A node was asked whether it serves.
    fn proved(&mut self, node: &NodeName, serves: Result<(), String>) -> bool {
        let serves = serves.map_err(|why| self.masker.mask(&why));
        self.emit(EventKind::NodeProved {
            node: node.clone(),
            serves: serves.is_ok(),
            reason: serves.clone().err(),
        });
        if let (Err(why), Some(step)) = (&serves, self.scheduler.awaited(node)) {
            let error = NodeError::NotServing {
                node: node.clone(),
                step: Box::new(step.clone()),
                why: why.clone(),
            };
            self.down.entry(node.clone()).or_insert(error);
        }
        self.feed(
            Input::Proved {
                node: node.clone(),
                serves,
            },
            None,
        )
    }

    /// Asks a node whether it serves.
    fn prove(&mut self, node: &NodeName, patient: bool) {
        self.emit(EventKind::NodeProving { node: node.clone() });
        let member = self.plan.members.get(node);
        let Some(server) = member.and_then(|member| member.server.clone()) else {
            // The guard asks for nobody of whom it is not known how.
            return;
        };
        if let Some(hand) = self.hands.get(node) {
            let server = Box::new(server);
            let _ = hand.jobs.try_send(Job::Prove { server, patient });
        }
    }

    /// A value came to be on a node: steps that begin from now on may use it, and nobody sees it.
    fn learn(&mut self, name: String, value: Secret<String>) {
        let reference = SecretRef::ClusterValue(name);
        if self.secrets.0.get(&reference) == Some(&value) {
            return;
        }
        Arc::make_mut(&mut self.secrets).0.insert(reference, value);
        self.masker = Masker::new(&self.secrets, &self.passwords);
    }

    fn node_down(&mut self, node: &NodeName, error: NodeError) {
        if matches!(error, NodeError::Connect(_)) {
            self.emit(EventKind::NodeUnreachable {
                node: node.clone(),
                reason: self.masker.mask(&error.to_string()),
            });
        }
        self.down.insert(node.clone(), error);
    }

    fn step_ended(&mut self, node: &NodeName, ended: Ended) -> bool {
        let Ended {
            addr,
            outcome,
            change,
            after,
            error,
            held,
        } = ended;
        let done = outcome.is_done();
        if outcome == Outcome::Changed {
            self.changed.insert(addr.clone());
        }
        let seconds = self.started.get(&addr).map_or(0.0, |(at, together)| {
            self.now().saturating_sub(*at).as_secs_f64() / f64::from(*together)
        });
        if after != crate::scheduler::After::Up {
            self.hands.remove(node);
        }
        if let Some(error) = error {
            self.node_down(node, error);
        }
        if held {
            self.held.entry(node.clone()).or_default().push(Held {
                addr: addr.clone(),
                outcome,
                seconds: rounded(seconds),
                change,
            });
        } else {
            self.end_step(addr.clone(), outcome, rounded(seconds), change);
        }
        self.feed(
            Input::StepFinished {
                addr,
                done,
                node: after,
            },
            Some(node),
        )
    }

    /// What a guard's steps have come to.
    fn guard_closed(&mut self, node: &NodeName, verdict: &Verdict) {
        for held in self.held.remove(node).unwrap_or_default() {
            let outcome = verdict.judge(held.outcome);
            if outcome != Outcome::Changed {
                self.changed.remove(&held.addr);
            }
            self.end_step(held.addr, outcome, held.seconds, held.change);
        }
        self.finish_nodes();
    }

    /// Guards that nobody could close: the connection was lost, or cut on request.
    fn unheld(&mut self) {
        for held in std::mem::take(&mut self.held).into_values().flatten() {
            let outcome = Outcome::Lost {
                what: "it was done and could not be confirmed; the node takes it back by itself"
                    .into(),
            };
            self.end_step(held.addr, outcome, held.seconds, held.change);
        }
        self.finish_nodes();
    }

    /// A step has its end: the one place where that is said and written down.
    fn end_step(
        &mut self,
        addr: StepAddr,
        outcome: Outcome,
        seconds: f64,
        change: Option<picluster_resource::Change>,
    ) {
        let outcome = self.masked(outcome);
        self.emit(EventKind::StepFinished {
            addr: addr.clone(),
            outcome: outcome.clone(),
            seconds,
            change,
        });
        if let Some(open) = self.open.get_mut(&addr.node) {
            *open = open.saturating_sub(1);
        }
        self.outcomes.insert(addr, (outcome, seconds));
    }

    fn masked(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Failed(failure) => Outcome::Failed(Box::new(self.masker.failure(*failure))),
            Outcome::Lost { what } => Outcome::Lost {
                what: self.masker.mask(&what),
            },
            Outcome::Stale { what } => Outcome::Stale {
                what: self.masker.mask(&what),
            },
            Outcome::RolledBack { what } => Outcome::RolledBack {
                what: self.masker.mask(&what),
            },
            Outcome::Unchanged | Outcome::Changed | Outcome::Skipped(_) => outcome,
        }
    }

    /// Gives the scheduler an input and does what it says. `fresh`: the node whose own answer this
    /// is. Returns whether all is over.
    fn feed(&mut self, input: Input, fresh: Option<&NodeName>) -> bool {
        let mut over = false;
        for command in self.scheduler.step(input) {
            match command {
                Command::Dial(node) => self.dial(node),
                Command::Run(addrs) => self.run(&addrs, fresh),
                Command::Reboot(addr) => self.run(&[addr], fresh),
                Command::Skip { addr, reason } => {
                    self.end_step(addr, Outcome::Skipped(reason), 0.0, None);
                }
                Command::Prove { node, patient } => self.prove(&node, patient),
                Command::Close(node) => drop(self.hands.remove(&node)),
                Command::Abort(node) => {
                    if let Some(hand) = self.hands.get(&node) {
                        let _ = hand.abort.send(true);
                    }
                }
                Command::Finish => over = true,
            }
        }
        self.finish_nodes();
        over
    }

    fn finish_nodes(&mut self) {
        let finished: Vec<NodeName> = self
            .open
            .iter()
            .filter(|(name, open)| **open == 0 && self.scheduler.awaited(name).is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for node in finished {
            self.open.remove(&node);
            let steps = self.node_steps(&node);
            let end = self.end_of(&node, &steps);
            self.emit(EventKind::NodeFinished {
                node: node.clone(),
                end: end.clone(),
                counts: Counts::of(steps.iter().map(|s| &s.outcome)),
            });
            self.ends.insert(node, end);
        }
    }

    fn dial(&mut self, node: NodeName) {
        self.emit(EventKind::NodeConnecting { node: node.clone() });
        let plan = match self.plan.nodes.get(&node) {
            Some(plan) => plan.clone(),
            // A step of a node the plan does not list: nothing is known to compare with.
            None => NodePlan::new(NodeState::Absent),
        };
        let first = self.steps(&self.scheduler.likely_first(&node));
        let job = Job::Start {
            node: Box::new(plan),
            first,
        };
        // One job waits at most: the next one comes after the answer.
        let (jobs, queue) = mpsc::channel(1);
        let (abort, aborted) = watch::channel(false);
        let _ = jobs.try_send(job);
        let link = self.engine.link(&node);
        let context = Arc::clone(&self.context);
        let access = self.access.get(&node).cloned().unwrap_or_default();
        let out = self.told.clone();
        let secrets = Arc::clone(&self.secrets);
        self.hands.insert(node.clone(), Hand { jobs, abort });
        self.workers.spawn(async move {
            let worker = Worker {
                node,
                link: link.lock_owned().await,
                run: context,
                access,
                facts: picluster_resource::Facts::default(),
                out,
                peek: None,
                secrets,
                guard: None,
                own_account: false,
            };
            work(worker, queue, aborted).await;
        });
    }

    /// Has a step run, or several of a node in one go.
    fn run(&mut self, addrs: &[StepAddr], fresh: Option<&NodeName>) {
        let Some(node) = addrs.first().map(|addr| &addr.node) else {
            return;
        };
        let started = (self.now(), u32::try_from(addrs.len()).unwrap_or(1));
        for addr in addrs {
            self.emit(EventKind::StepStarted { addr: addr.clone() });
            self.started.insert(addr.clone(), started);
        }
        let moved = |step: &Step| step.moved_by.iter().any(|m| self.changed.contains(m));
        let job = Job::Run {
            steps: self
                .steps(addrs)
                .into_iter()
                .map(|step| Go {
                    moved: moved(&step),
                    step,
                })
                .collect(),
            next: self.steps(&self.scheduler.likely_next(addrs)),
            fresh: fresh == Some(node),
            secrets: Arc::clone(&self.secrets),
        };
        if let Some(hand) = self.hands.get(node) {
            let _ = hand.jobs.try_send(job);
        }
    }

    fn steps(&self, addrs: &[StepAddr]) -> Vec<Step> {
        let step = |addr| self.plan.steps.get(*self.index.get(addr)?).cloned();
        addrs.iter().filter_map(step).collect()
    }

    fn node_steps(&self, node: &NodeName) -> Vec<StepReport> {
        self.plan
            .steps
            .iter()
            .filter(|s| &s.addr.node == node)
            .filter_map(|s| {
                let (outcome, seconds) = self.outcomes.get(&s.addr)?;
                Some(StepReport {
                    addr: s.addr.clone(),
                    outcome: outcome.clone(),
                    seconds: *seconds,
                })
            })
            .collect()
    }

    fn end_of(&self, node: &NodeName, steps: &[StepReport]) -> NodeEnd {
        if let Some(error) = self.down.get(node) {
            return end_of_error(error, &self.masker);
        }
        let cut = |s: &StepReport| match &s.outcome {
            Outcome::Skipped(SkipReason::Cancelled) => true,
            Outcome::Lost { .. } => self.cancel == Cancel::Now,
            _ => false,
        };
        if steps.iter().all(|s| s.outcome.is_done()) {
            NodeEnd::Done
        } else if steps.iter().any(cut) {
            NodeEnd::Interrupted
        } else {
            NodeEnd::Incomplete
        }
    }

    fn finish(mut self) -> Report {
        let seconds = rounded(self.now().saturating_sub(self.begun).as_secs_f64());
        let names: BTreeSet<NodeName> = self
            .plan
            .nodes
            .keys()
            .chain(self.ends.keys())
            .cloned()
            .collect();
        for (name, node) in &self.plan.nodes {
            if !self.ends.contains_key(name) {
                let end = match self.down.get(name) {
                    Some(error) => end_of_error(error, &self.masker),
                    None => end_without_steps(node),
                };
                self.emit(EventKind::NodeFinished {
                    node: name.clone(),
                    end: end.clone(),
                    counts: Counts::default(),
                });
                self.ends.insert(name.clone(), end);
            }
        }
        let mut nodes = BTreeMap::new();
        for name in names {
            let report = NodeReport {
                end: self.ends.remove(&name).unwrap_or(NodeEnd::Idle),
                steps: self.node_steps(&name),
                problems: match self.plan.nodes.get(&name) {
                    Some(node) => node.problems.clone(),
                    None => Vec::new(),
                },
            };
            nodes.insert(name, report);
        }
        let mut report = Report {
            interrupted: false,
            nodes,
            seconds,
        };
        // Told to stop when all was done anyway: not interrupted.
        report.interrupted = self.cancel != Cancel::No
            && report.nodes.values().any(|n| n.end == NodeEnd::Interrupted);
        let codes = report.exit_codes();
        self.emit(EventKind::RunFinished {
            counts: report.counts(),
            exit: report.exit_code(),
            code: report.exit_code().number(),
            codes: codes.iter().map(|c| c.number()).collect(),
            seconds,
        });
        report
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn end_without_steps(node: &NodePlan) -> NodeEnd {
    match &node.state {
        NodeState::Observed { .. } | NodeState::Absent => NodeEnd::Idle,
        NodeState::Unreachable { reason } => NodeEnd::Unreachable {
            reason: reason.clone(),
        },
        NodeState::HostKeyChanged { reason } => NodeEnd::IdentityChanged {
            reason: reason.clone(),
            since_plan: false,
        },
        NodeState::Blocked { problems } => NodeEnd::Failed {
            reason: problems
                .iter()
                .map(|p| p.what.as_str())
                .collect::<Vec<_>>()
                .join("; "),
        },
    }
}

fn end_of_error(error: &NodeError, masker: &Masker) -> NodeEnd {
    let reason = masker.mask(&error.to_string());
    match error {
        NodeError::Connect(ConnectError::HostKeyChanged { .. }) | NodeError::Identity { .. } => {
            NodeEnd::IdentityChanged {
                reason,
                since_plan: matches!(error, NodeError::Identity { .. }),
            }
        }
        NodeError::Connect(ConnectError::Local { .. }) => NodeEnd::Failed { reason },
        NodeError::Connect(_) => NodeEnd::Unreachable { reason },
        NodeError::Locked { holder, .. } => NodeEnd::Locked {
            holder: holder.as_deref().cloned(),
            reason,
        },
        _ => NodeEnd::Failed { reason },
    }
}
