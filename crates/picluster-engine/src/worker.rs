//! Works on one node during a run: starts the session, takes the lock, runs steps in lock-step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use picluster_model::NodeName;
use picluster_model::secret::{Secret, SecretValues};
use picluster_plan::{NodePlan, Step, StepAddr, Work};
use picluster_resource::kinds::cluster_server::ClusterServer;
use picluster_resource::{
    Answers, Change, Ctx, Diagnosis, Facts, Frame, Observation, ProbeProgram, Query, Resource,
};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::agent;
use crate::error::NodeError;
use crate::guarded::{OpenGuard, Verdict};
use crate::link::{Link, Shared};
use crate::lock::Owner;
use crate::report::{Failure, Outcome};
use crate::run::Access;
use crate::scheduler::After;
use crate::session::Message;
use crate::together::is_small;
use crate::upload::Artifacts;

/// What all workers of a run share.
pub(crate) struct RunContext {
    pub shared: Arc<Shared>,
    pub owner: Owner,
    pub key: Secret<Vec<u8>>,
    pub artifacts: Arc<dyn Artifacts>,
}

/// What a worker is told to do.
pub(crate) enum Job {
    /// Connect, check who answers, take the lock; look at this step's pre-state on the way.
    Start {
        node: Box<NodePlan>,
        first: Vec<Step>,
    },
    /// Run a step, or several in one go.
    Run {
        steps: Vec<Go>,
        /// Whose pre-state to look at on the way back.
        next: Vec<Step>,
        /// Nothing happened on this node since the last answer.
        fresh: bool,
        /// The values of secrets, as far as they are known by now.
        secrets: Arc<SecretValues>,
    },
    /// Ask whether the node serves; `patient`: until it does, or its time is up.
    Prove {
        server: Box<ClusterServer>,
        patient: bool,
    },
}

/// A step that is to be run.
pub(crate) struct Go {
    pub step: Step,
    /// A step named in its `moved_by` has changed something in this run.
    pub moved: bool,
}

/// What a worker reports.
#[derive(Debug)]
pub(crate) enum Told {
    /// The node answered, is the right one and is locked.
    Up { address: String },
    /// It cannot be worked on.
    Down(NodeError),
    /// It was asked whether it serves; why it does not, in words.
    Proved(Result<(), String>),
    /// Its dial was cut on request; that says nothing about the node.
    Cut,
    /// Something that outlived an earlier session of ours is waited for.
    Waiting(Vec<String>),
    /// It was told to reboot.
    Rebooting,
    /// It was told to switch itself off.
    PoweringOff,
    /// It does not answer any more.
    Off { seconds: f64 },
    /// It is back.
    Back { seconds: f64 },
    /// There is no way in; the node is waited for, which takes its guarded change back.
    TakingBack { seconds: u64 },
    /// What became of the steps of a guard that had ended before.
    Guard(Verdict),
    /// A step sends a file.
    Uploading {
        addr: StepAddr,
        sent: u64,
        total: u64,
    },
    /// A value that came to be on this node and that others may need.
    Learnt { name: String, value: Secret<String> },
    /// A step ended.
    Ended(Box<Ended>),
}

/// How a step ended, and what became of the node.
#[derive(Debug)]
pub(crate) struct Ended {
    pub addr: StepAddr,
    pub outcome: Outcome,
    pub change: Option<Change>,
    pub after: After,
    /// Why the node is given up, if it is.
    pub error: Option<NodeError>,
    /// A guard stands: whether it stays so is told later.
    pub held: bool,
}

/// What a step's function returns; the address is added by its caller.
pub(crate) struct StepEnd {
    pub outcome: Outcome,
    pub change: Option<Change>,
    pub after: After,
    pub error: Option<NodeError>,
}

impl StepEnd {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            change: None,
            after: After::Up,
            error: None,
        }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self::new(Outcome::Failed(Box::new(failure)))
    }

    pub(crate) fn after(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// A step that could not be asked about, or not be run, because of its session.
    pub(crate) fn broken(error: &NodeError) -> Self {
        let end = match error {
            NodeError::Lost { stderr, .. } => Self::new(Outcome::Lost {
                what: if stderr.trim().is_empty() {
                    "the session ended before the node answered".into()
                } else {
                    format!(
                        "the session ended before the node answered: {}",
                        stderr.trim()
                    )
                },
            }),
            other => Self::failed(Failure::new(other.to_string())),
        };
        end.after(After::Away)
    }

    pub(crate) fn diagnosed(diagnosis: Diagnosis) -> Self {
        Self::failed(Failure {
            what: diagnosis.what,
            cure: diagnosis.cure,
            ..Failure::default()
        })
    }
}

/// The pre-states of steps, as they came back with the answer to the ones before.
pub(crate) struct Peek {
    /// The steps, each with its own questions.
    pub steps: Vec<(StepAddr, Vec<Query>)>,
    /// What asked them, maybe among others.
    pub program: ProbeProgram,
    pub frames: Vec<Frame>,
}

impl Peek {
    /// A step's own questions, where they were asked.
    pub(crate) fn queries_of(&self, addr: &StepAddr) -> Option<&[Query]> {
        let (_, queries) = self.steps.iter().find(|(of, _)| of == addr)?;
        Some(queries)
    }
}

/// See the module.
pub(crate) struct Worker {
    pub node: NodeName,
    pub link: OwnedMutexGuard<Link>,
    pub run: Arc<RunContext>,
    pub access: Access,
    pub facts: Facts,
    pub out: mpsc::UnboundedSender<(NodeName, Told)>,
    pub peek: Option<Peek>,
    pub secrets: Arc<SecretValues>,
    /// The guard that stands on the node because of this run.
    pub guard: Option<OpenGuard>,
    /// This run has changed the account it comes in by, whose groups a connection keeps.
    pub own_account: bool,
}

/// Takes jobs until there are no more, then lets go of the node: its lock is free when this ends.
pub(crate) async fn work(
    mut worker: Worker,
    mut jobs: mpsc::Receiver<Job>,
    mut abort: watch::Receiver<bool>,
) {
    loop {
        let job = tokio::select! {
            biased;
            () = asked(&mut abort) => break worker.link.drop_connection().await,
            job = jobs.recv() => job,
        };
        let Some(job) = job else {
            worker.settle_guard().await;
            break worker.link.end_session().await;
        };
        let addrs: Vec<StepAddr> = match &job {
            Job::Start { .. } | Job::Prove { .. } => Vec::new(),
            Job::Run { steps, .. } => steps.iter().map(|go| go.step.addr.clone()).collect(),
        };
        let told = tokio::select! {
            biased;
            // The future of the job goes first, and with it its session; then the connection.
            () = asked(&mut abort) => None,
            told = worker.job(job) => Some(told),
        };
        let aborted = told.is_none();
        let told = told.unwrap_or_else(|| Worker::cut(addrs));
        if aborted {
            worker.link.drop_connection().await;
        }
        told.into_iter().for_each(|told| worker.tell(told));
        if aborted {
            break;
        }
    }
}

/// Resolves when the connection is to be cut.
async fn asked(abort: &mut watch::Receiver<bool>) {
    if abort.wait_for(|now| *now).await.is_err() {
        // The driver has let go in peace: the end of the jobs says so, too.
        std::future::pending::<()>().await;
    }
}

impl Worker {
    /// What is told of a job whose connection was cut on request.
    fn cut(addrs: Vec<StepAddr>) -> Vec<Told> {
        if addrs.is_empty() {
            return vec![Told::Cut];
        }
        let lost = |addr| {
            Told::Ended(Box::new(Ended {
                addr,
                outcome: Outcome::Lost {
                    what: "the connection was closed on request; the node finishes this step and stops"
                        .into(),
                },
                change: None,
                after: After::Away,
                error: None,
                held: false,
            }))
        };
        addrs.into_iter().map(lost).collect()
    }

    pub(crate) fn tell(&self, told: Told) {
        let _ = self.out.send((self.node.clone(), told));
    }

    pub(crate) fn ctx(&self) -> Ctx<'_> {
        Ctx {
            facts: &self.facts,
            secrets: &self.secrets,
        }
    }

    async fn job(&mut self, job: Job) -> Vec<Told> {
        match job {
            Job::Start { node, first } => vec![match self.start(&node, &first).await {
                Ok(address) => Told::Up { address },
                Err(error) => {
                    self.link.drop_connection().await;
                    Told::Down(error)
                }
            }],
            Job::Prove { server, patient } => {
                self.peek = None;
                match self.prove(&server, patient).await {
                    Ok(serves) => vec![Told::Proved(serves)],
                    Err(error) => {
                        self.link.drop_connection().await;
                        vec![Told::Down(error)]
                    }
                }
            }
            Job::Run {
                steps,
                next,
                fresh,
                secrets,
            } => {
                self.secrets = secrets;
                if !fresh {
                    self.peek = None;
                }
                if steps.first().is_some_and(|go| self.guards_others(&go.step)) {
                    self.settle_guard().await;
                }
                let mut ends = self.run_steps(&steps, &next).await;
                if ends.iter().any(|(_, end)| end.after != After::Up) {
                    self.link.drop_connection().await;
                }
                // That the node is away is told last: what is known of the others was heard before.
                ends.sort_by_key(|(_, end)| end.after != After::Up);
                ends.into_iter()
                    .map(|(addr, end)| self.told_end(addr, end))
                    .collect()
            }
        }
    }

    async fn run_steps(&mut self, steps: &[Go], next: &[Step]) -> Vec<(StepAddr, StepEnd)> {
        if let [go] = steps
            && !is_small(&go.step)
        {
            let step = &go.step;
            let mut end = self.run_step(go, next).await;
            if step.guard.is_some_and(|g| g.last) && end.after == After::Up {
                end = self.settle_last(end).await;
            }
            return vec![(step.addr.clone(), end)];
        }
        let ends = self.run_together(steps, next).await;
        let addrs = steps.iter().map(|go| go.step.addr.clone());
        addrs.zip(ends).collect()
    }

    fn told_end(&self, addr: StepAddr, end: StepEnd) -> Told {
        Told::Ended(Box::new(Ended {
            addr,
            held: self.guard.is_some() && end.outcome == Outcome::Changed,
            outcome: end.outcome,
            change: end.change,
            after: end.after,
            error: end.error,
        }))
    }

    async fn start(&mut self, plan: &NodePlan, first: &[Step]) -> Result<String, NodeError> {
        let kept = self.link.is_connected();
        match self.begin(plan, first).await {
            // A connection that was kept since the plan may have died meanwhile, unnoticed.
            // Nothing has been done yet on this node: one more try costs nothing.
            Err(NodeError::Lost { .. } | NodeError::Host { .. }) if kept => {
                self.link.drop_connection().await;
                self.begin(plan, first).await
            }
            other => other,
        }
    }

    async fn begin(&mut self, plan: &NodePlan, first: &[Step]) -> Result<String, NodeError> {
        let address = self.link.connect().await?.address;
        self.link.identify(plan).await?;
        self.take_lock(first).await?;
        Ok(address)
    }

    /// Takes the node's lock in a root session, and looks at the pre-states of steps on the way.
    pub(crate) async fn take_lock(&mut self, first: &[Step]) -> Result<(), NodeError> {
        self.facts = self.link.facts().await?;
        self.access.root = self.facts.now.root;
        let peek = self.question(first);
        let owner = serde_json::to_string(&self.run.owner).unwrap_or_default();
        let settings = &self.run.shared.settings;
        let (bound, poll) = (settings.answer_timeout, settings.lock_poll);
        let deadline = Instant::now() + settings.lock_wait;
        let mut asked_to_stop = BTreeSet::new();
        let mut shown = Vec::new();
        loop {
            let then = peek.as_ref().map(|p| agent::probe(&p.program.script));
            let message = agent::locked(&owner, &then.unwrap_or_default());
            let frames = self
                .link
                .ask(
                    &self.access,
                    Message::script(message),
                    bound,
                    "taking the lock",
                )
                .await?;
            let Some((lock, rest)) = split_first(frames, agent::LOCK) else {
                return Err(self.garbage("no answer about the lock"));
            };
            if lock.status == 0 {
                self.peek = peek.map(|p| Peek { frames: rest, ..p });
                return Ok(());
            }
            let held = Held::parse(&lock.text());
            let ours = held
                .owner
                .as_ref()
                .is_some_and(|o| self.run.owner.outlived(o));
            if !ours || Instant::now() >= deadline {
                return Err(NodeError::Locked {
                    node: self.node.clone(),
                    processes: held.names(),
                    holder: held.owner.map(Box::new),
                });
            }
            if held.names() != shown {
                shown = held.names();
                self.tell(Told::Waiting(shown.clone()));
            }
            // An agent of ours whose controller went without a word (a cut cable) would wait for
            // its next line until the node's TCP gives up. It stops at its next step boundary.
            if let Some(pid) = held
                .agent
                .filter(|pid| held.processes.iter().any(|(p, _)| p == pid))
                && asked_to_stop.insert(pid)
            {
                let stop = Message::script(format!("kill -TERM {pid} 2>/dev/null\n"));
                self.link
                    .ask(&self.access, stop, bound, "asking an orphan to stop")
                    .await?;
            }
            sleep(poll).await;
        }
    }

    /// What to ask for the pre-states of steps; nothing of those where the question cannot be formed
    /// (the step will say why).
    pub(crate) fn question(&self, steps: &[Step]) -> Option<Peek> {
        let asked = |step: &Step| {
            let Work::Resource(resource) = &step.work else {
                return None;
            };
            let queries = resource.queries(self.ctx()).ok()?;
            Some((step.addr.clone(), queries))
        };
        let steps: Vec<_> = steps.iter().filter_map(asked).collect();
        let queries = steps.iter().flat_map(|(_, queries)| queries).cloned();
        let program = ProbeProgram::new(queries);
        (!steps.is_empty()).then_some(Peek {
            steps,
            program,
            frames: Vec::new(),
        })
    }

    /// Looks at resources now.
    pub(crate) async fn observe(
        &mut self,
        resources: &[Resource],
    ) -> Result<Result<Vec<Observation>, Diagnosis>, NodeError> {
        let answers = match self.ask_about(resources).await? {
            Ok(answers) => answers,
            Err(diagnosis) => return Ok(Err(diagnosis)),
        };
        Ok(resources
            .iter()
            .map(|r| r.observe(&answers, self.ctx()))
            .collect())
    }

    /// Tells what the answers yield for others.
    pub(crate) fn learn(&mut self, resource: &Resource, answers: &Answers) {
        if let Some((name, value)) = resource.yields(answers) {
            self.tell(Told::Learnt { name, value });
        }
    }

    /// Asks the questions of resources now.
    pub(crate) async fn ask_about(
        &mut self,
        resources: &[Resource],
    ) -> Result<Result<Answers, Diagnosis>, NodeError> {
        let mut queries = Vec::new();
        for resource in resources {
            match resource.queries(self.ctx()) {
                Ok(more) => queries.extend(more),
                Err(diagnosis) => return Ok(Err(diagnosis)),
            }
        }
        self.ask(queries).await.map(Ok)
    }

    /// Asks questions now.
    pub(crate) async fn ask(&mut self, queries: Vec<Query>) -> Result<Answers, NodeError> {
        let program = ProbeProgram::new(queries);
        let bound = self.run.shared.settings.answer_timeout;
        let message = Message::script(agent::probe(&program.script));
        let frames = self
            .link
            .ask(&self.access, message, bound, "looking at it")
            .await?;
        self.link.answers(&program, program.queries(), &frames)
    }

    pub(crate) fn garbage(&self, what: &str) -> NodeError {
        NodeError::Garbage {
            node: self.node.clone(),
            what: what.into(),
        }
    }

    /// How long a message with this operation may take: its own bound, and time for the payload to
    /// trickle through a bad link and for the probes around it.
    pub(crate) fn bound(&self, timeout: Duration, payload: usize) -> Duration {
        let transfer = Duration::from_secs(payload as u64 / 50_000);
        timeout + transfer + self.run.shared.settings.answer_timeout
    }
}

/// The frame with this id, which has to be the first, and the rest.
pub(crate) fn split_first(mut frames: Vec<Frame>, id: u32) -> Option<(Frame, Vec<Frame>)> {
    if frames.first()?.id != id {
        return None;
    }
    let first = frames.remove(0);
    Some((first, frames))
}

/// A lock that is held: what its file says, and who has it open.
struct Held {
    owner: Option<Owner>,
    agent: Option<u32>,
    processes: Vec<(u32, String)>,
}

impl Held {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let owner = lines.next().and_then(|l| serde_json::from_str(l).ok());
        let agent = lines.next().and_then(|l| l.trim().parse().ok());
        let processes = lines
            .filter_map(|l| {
                let (pid, name) = l.split_once(' ')?;
                Some((pid.parse().ok()?, name.to_owned()))
            })
            .collect();
        Self {
            owner,
            agent,
            processes,
        }
    }

    fn names(&self) -> Vec<String> {
        self.processes
            .iter()
            .map(|(pid, name)| format!("{name} ({pid})"))
            .collect()
    }
}
