//! Runs one step: look, decide, act, look again.

use std::fmt::Write as _;
use std::time::Duration;

use picluster_plan::owned::{Begun, file_name};
use picluster_plan::{Guarded, RecordAction, Step, Work};
use picluster_resource::kind::Kind as _;
use picluster_resource::kinds::is_silent;
use picluster_resource::kinds::user::User;
use picluster_resource::shell::{quote, words};
use picluster_resource::{
    Answers, Change, Diagnosis, Diff, Effect, Frame, Observation, Operation, Payload, ProbeProgram,
    Resource, Undo,
};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};

use crate::agent;
use crate::decide::{Decision, brief, decide, record_when_unchanged};
use crate::error::NodeError;
use crate::host::ConnectError;
use crate::report::{Failure, Outcome};
use crate::scheduler::After;
use crate::session::Message;
use crate::worker::{Go, Peek, StepEnd, Worker, split_first};

/// How long the question what a stuck step is doing may take.
const LOOK_BOUND: Duration = Duration::from_secs(10);

/// How long nobody may answer after a change to the way in. sshd closes its door for a moment at
/// every reload, and an address that moves takes the neighbours a while to learn.
pub(crate) const ACCESS_BOUND: Duration = Duration::from_secs(20);
const ACCESS_POLL: Duration = Duration::from_millis(100);

/// How long a cluster that is there may give no answer.
const SILENCE_BOUND: Duration = Duration::from_secs(120);
const SILENCE_POLL: Duration = Duration::from_secs(1);

/// The longest payload, in bytes, that goes with its script.
pub(crate) const TEXT_LIMIT: usize = 8192;

impl Worker {
    /// Runs a step to its end, whatever that is.
    pub(crate) async fn run_step(&mut self, go: &Go, next: &[Step]) -> StepEnd {
        let step = &go.step;
        match &step.work {
            Work::Resource(resource) => {
                match self.resource_step(step, resource, next, go.moved).await {
                    Ok(end) => end,
                    Err(error) => StepEnd::broken(&error),
                }
            }
            Work::PowerOff => match self.power_off_step(step).await {
                Ok(end) => end,
                Err(error) => StepEnd::broken(&error),
            },
            Work::Reboot { verify } => match self.reboot_step(step, verify).await {
                Ok(end) => end,
                Err(error) => StepEnd::broken(&error),
            },
        }
    }

    async fn resource_step(
        &mut self,
        step: &Step,
        resource: &Resource,
        next: &[Step],
        moved: bool,
    ) -> Result<StepEnd, NodeError> {
        let peek = self.peek.take();
        let known = peek
            .as_ref()
            .and_then(|p| Some((p, p.queries_of(&step.addr)?)));
        let answers = match known {
            Some((peek, queries)) => Ok(self.link.answers(&peek.program, queries, &peek.frames)?),
            None => self.ask_about(std::slice::from_ref(resource)).await?,
        };
        let mut seen = self.observed(resource, answers);
        // Everything that should bring it is done. A service with much to do may have been too slow
        // for one question, or have come after it was asked.
        if seen.as_ref().is_ok_and(|seen| seen.not_yet().is_some()) {
            let answers = self.ask_again(resource).await?;
            seen = self.observed(resource, answers);
        }
        let seen = match seen {
            Ok(seen) => seen,
            Err(diagnosis) => return Ok(StepEnd::diagnosed(diagnosis)),
        };
        match decide(
            step,
            resource,
            &seen,
            self.ctx(),
            self.run.key.reveal(),
            moved,
        ) {
            Decision::Unchanged => self.unchanged(step, next).await,
            Decision::Stale(what) => Ok(StepEnd::new(Outcome::Stale { what })),
            Decision::Problem(failure) => Ok(StepEnd::failed(*failure)),
            Decision::Go { operation, change } => {
                let undo = step
                    .guard
                    .and_then(|guard| Some((guard, resource.undo(Some(&seen), &change)?)));
                self.act(step, resource, &seen, *operation, *change, undo, next)
                    .await
            }
        }
    }

    /// Asks about a resource once more, and goes on asking while it is a cluster that does not answer, up to a bound.
    async fn ask_again(
        &mut self,
        resource: &Resource,
    ) -> Result<Result<Answers, Diagnosis>, NodeError> {
        self.ask_all_again(std::slice::from_ref(resource)).await
    }

    /// The same about several, in one question.
    pub(crate) async fn ask_all_again(
        &mut self,
        resources: &[Resource],
    ) -> Result<Result<Answers, Diagnosis>, NodeError> {
        let deadline = Instant::now() + SILENCE_BOUND;
        loop {
            let answers = self.ask_about(resources).await?;
            let silent = resources
                .iter()
                .any(|r| match (&answers, r.queries(self.ctx())) {
                    (Ok(answers), Ok(queries)) => is_silent(&queries, answers),
                    _ => false,
                });
            if !silent || Instant::now() >= deadline {
                return Ok(answers);
            }
            sleep(SILENCE_POLL).await;
        }
    }

    /// What the answers say, with what other steps need of them remembered.
    fn observed(
        &mut self,
        resource: &Resource,
        answers: Result<Answers, Diagnosis>,
    ) -> Result<Observation, Diagnosis> {
        let answers = answers?;
        self.learn(resource, &answers);
        resource.observe(&answers, self.ctx())
    }

    async fn unchanged(&mut self, step: &Step, next: &[Step]) -> Result<StepEnd, NodeError> {
        // It may have been under way when the plan was made, and have come to its end since.
        let script = match record_when_unchanged(&step.record) {
            Some(name) => self.drop_record(name),
            None => self.drop_mark_of(step),
        };
        let operation = Operation::script(script);
        let peek = self.question(next);
        let (frame, rest) = self
            .operate("", operation.clone(), "", "", peek.as_ref())
            .await?;
        if frame.status != 0 {
            return Ok(StepEnd::failed(failed(&operation.script, &frame)));
        }
        self.peek = peek.map(|p| Peek { frames: rest, ..p });
        Ok(StepEnd::new(Outcome::Unchanged))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "called once; a struct would only name the same things twice"
    )]
    async fn act(
        &mut self,
        step: &Step,
        resource: &Resource,
        seen: &Observation,
        operation: Operation,
        change: Change,
        undo: Option<(Guarded, Undo)>,
        next: &[Step],
    ) -> Result<StepEnd, NodeError> {
        // The way in is about to be touched: what follows has to come through a new connection,
        // and this session is not to be relied on for it.
        // Another account's way in is not the one this run comes by.
        let access = self.is_mine(resource.way_in_of(seen)).await?
            && change
                .effects
                .iter()
                .chain(&step.change.effects)
                .any(|e| matches!(e, Effect::Access(_)))
            // The guard's own proof comes at the end of the group.
            && undo.is_none();
        let last = undo.as_ref().is_some_and(|(guard, _)| guard.last);
        let queries = match resource.queries(self.ctx()) {
            Ok(queries) => queries,
            Err(diagnosis) => return Ok(StepEnd::diagnosed(diagnosis)),
        };
        // One program looks at the result and at what comes next: most of what a look costs is
        // starting its tools.
        let peek = Some(next)
            .filter(|_| !access && !last)
            .and_then(|n| self.question(n));
        let ahead = peek.iter().flat_map(|p| p.program.queries());
        let check = ProbeProgram::new(queries.iter().chain(ahead).cloned());
        let own = ProbeProgram::new(queries.iter().cloned());
        let mut before = match &undo {
            Some((guard, undo)) => self.open_guard(step, *guard, undo),
            None => String::new(),
        };
        before.push_str(&self.before(step));
        let after = match &step.record {
            RecordAction::Drop { name } => self.drop_record(name),
            RecordAction::Write { .. } | RecordAction::Keep => self.drop_mark_of(step),
        };
        let (script, timeout) = (operation.script.clone(), operation.timeout);
        let mut operation = operation;
        if let Some(staged) = operation.staged.take() {
            // The record first: what is left of a broken upload belongs to somebody.
            let (frame, _) = self
                .operate(&before, Operation::script(""), "", "", None)
                .await?;
            if frame.status != 0 {
                return Ok(StepEnd::failed(failed(&script, &frame)));
            }
            if let Err(failure) = self.upload(&step.addr, &staged).await? {
                return Ok(StepEnd::failed(failure));
            }
            let place = quote(staged.path.as_str());
            operation.script.insert_str(0, &format!("staged={place}\n"));
        }
        let pid = self.link.agent_pid();
        let began = Instant::now();
        let done = self
            .operate(&before, operation, &after, &check.script, None)
            .await;
        let (frame, rest) = match done {
            Err(error @ (NodeError::Lost { .. } | NodeError::Host { .. })) if undo.is_some() => {
                return self.after_cut(resource, change, error).await;
            }
            Err(NodeError::Timeout { .. }) => return Ok(self.stuck(&script, timeout, pid).await),
            other => other?,
        };
        if frame.status != 0 {
            return Ok(self.went_wrong(resource, &script, &frame));
        }
        let mut answers = self.link.answers(&check, &queries, &rest)?;
        self.peek = peek.map(|p| Peek {
            program: check,
            frames: rest,
            ..p
        });
        let mut end = self.verdict(resource, &answers, &script);
        // The operation says it went well: before it is told otherwise, the node is asked once more.
        if !end.outcome.is_done()
            && let Ok(again) = self.ask_again(resource).await?
        {
            answers = again;
            end = self.verdict(resource, &answers, &script);
        }
        while !end.outcome.is_done() {
            let left = timeout.saturating_sub(began.elapsed());
            let Some(wait) = self.wait_again(resource, &answers, left) else {
                break;
            };
            self.peek = None;
            let script = wait.script.clone();
            let (frame, rest) = self.operate("", wait, "", &own.script, None).await?;
            if frame.status != 0 {
                end = self.went_wrong(resource, &script, &frame);
                break;
            }
            answers = self.link.answers(&own, &queries, &rest)?;
            end = self.verdict(resource, &answers, &script);
        }
        self.learn(resource, &answers);
        self.unfinished(step, &end).await;
        end.change = Some(change);
        if resource.kind() == User::NAME {
            self.own_account |= self.is_mine(Some(&resource.key())).await?;
        }
        if access && end.outcome.is_done() {
            end = self.prove_access(end).await;
        }
        Ok(end)
    }

    /// What is waited for once more, by what was seen behind an operation that went well.
    fn wait_again(
        &self,
        resource: &Resource,
        answers: &Answers,
        left: Duration,
    ) -> Option<Operation> {
        let seen = resource.observe(answers, self.ctx()).ok()?;
        resource.wait_again(&seen, left, self.ctx())
    }

    /// How a step ended whose operation did not go well.
    pub(crate) fn went_wrong(&self, resource: &Resource, script: &str, frame: &Frame) -> StepEnd {
        match resource.explain(frame.status, &frame.text(), self.ctx()) {
            // What was found out says more than the evidence it was found in.
            Some(diagnosis) => StepEnd::diagnosed(diagnosis),
            None => StepEnd::failed(failed(script, frame)),
        }
    }

    /// How a step ended whose operation went well, by what is seen of it now.
    pub(crate) fn verdict(&self, resource: &Resource, answers: &Answers, script: &str) -> StepEnd {
        let failed = |what: String, remaining: Option<Change>| {
            StepEnd::failed(Failure {
                command: Some(script.to_owned()),
                remaining,
                ..Failure::new(what)
            })
        };
        let seen = match resource.observe(answers, self.ctx()) {
            Ok(seen) => seen,
            Err(diagnosis) => return StepEnd::diagnosed(diagnosis),
        };
        match (seen.not_yet(), resource.diff(&seen, self.ctx())) {
            (Some(token), _) => failed(format!("it ran, but {token} is still missing"), None),
            (None, Diff::Change(remaining)) if resource.unsettled().is_none() => failed(
                format!(
                    "it ran, but did not bring about what was wanted; still: {}",
                    brief(&remaining)
                ),
                Some(remaining),
            ),
            (None, _) => StepEnd::new(Outcome::Changed),
        }
    }

    /// A step that ended well and did not bring about what was wanted is not finished, and its mark says so. That this could not be
    /// written down is not what has to be told.
    pub(crate) async fn unfinished(&mut self, step: &Step, end: &StepEnd) {
        if let (Outcome::Failed(_), RecordAction::Write { name, text }) =
            (&end.outcome, &step.record)
        {
            let again = Operation::script(self.write_record(name, text));
            let _ = self.operate("", again, "", "", None).await;
            self.peek = None;
        }
    }

    /// Whether what touches the way in of `account` may touch that of this run.
    async fn is_mine(&mut self, account: Option<&str>) -> Result<bool, NodeError> {
        match account {
            None => Ok(true),
            Some(account) => {
                let user = self.link.connect().await?.user;
                Ok(user.is_empty() || user == account)
            }
        }
    }

    /// A new connection must come to be, and bring root, before anything else is done.
    async fn prove_access(&mut self, end: StepEnd) -> StepEnd {
        self.peek = None;
        let deadline = Instant::now() + ACCESS_BOUND;
        let mut pause = ACCESS_POLL;
        let proven = loop {
            match self.link.redial().await {
                Ok(()) => break self.take_lock(&[]).await,
                // Nobody is there, yet. A refusal of somebody who is there is the answer.
                Err(NodeError::Connect(ConnectError::Unreachable { .. }))
                    if Instant::now() < deadline =>
                {
                    sleep(pause).await;
                    pause = (pause * 2).min(ACCESS_BOUND / 10);
                }
                Err(error) => break Err(error),
            }
        };
        match proven {
            Ok(()) => end,
            Err(error) => {
                let failure = Failure {
                    cure: Some("reach the node in another way (console) and put it right".into()),
                    ..Failure::new(format!(
                        "it was done, but there is no way in any more: {error}"
                    ))
                };
                StepEnd {
                    change: end.change,
                    error: Some(error),
                    ..StepEnd::failed(failure).after(After::Down)
                }
            }
        }
    }

    /// Sends an operation, with a check of its result and a look at the next step behind it.
    /// Returns the frame about the operation and the frames of the probes.
    pub(crate) async fn operate(
        &mut self,
        before: &str,
        operation: Operation,
        after: &str,
        check: &str,
        peek: Option<&Peek>,
    ) -> Result<(Frame, Vec<Frame>), NodeError> {
        let mut then = String::new();
        if !check.is_empty() {
            then.push_str(&agent::probe(check));
        }
        if let Some(peek) = peek {
            then.push_str(&agent::probe(&peek.program.script));
        }
        let bound = self.bound(operation.timeout, operation.payload.len());
        let script = agent::operation(before, &operation.script, after, &then);
        let message = match as_text(&operation.payload) {
            Some(text) => Message::script(agent::input(text) + &script),
            None => Message {
                script,
                payload: operation.payload,
            },
        };
        let frames = self
            .link
            .ask(&self.access, message, bound, "running it")
            .await?;
        split_first(frames, agent::OP).ok_or_else(|| self.garbage("no word of how it went"))
    }

    /// What is done before the operation: marks that stand from before the first input changes
    /// until the restart is verified, and the ownership record, so that a run that dies in the
    /// middle leaves nothing behind that nobody owns.
    pub(crate) fn before(&self, step: &Step) -> String {
        let mut sh = owed(step);
        if let RecordAction::Write { name, text } = &step.record {
            sh.push_str(&self.write_record(name, text));
        }
        sh
    }

    /// The record, and beside it the mark that it is not finished: first, so that there is no moment
    /// at which a record stands for something that was not done.
    fn write_record(&self, name: &str, text: &str) -> String {
        format!("record {}\n", self.record_words(name, text))
    }

    /// What `record` and `note` of the agent take.
    pub(crate) fn record_words(&self, name: &str, text: &str) -> String {
        let dir = &self.run.shared.settings.paths.owned;
        let mark = Begun {
            begun: name.to_owned(),
            at: self.run.shared.settings.clock.epoch_ms().div_euclid(1000),
        };
        let mark = serde_json::to_string(&mark).unwrap_or_default();
        words([
            dir.as_str(),
            name,
            text,
            &Begun::file_name(name),
            mark.as_str(),
        ])
    }

    /// Where the mark of a record stands.
    pub(crate) fn mark_of(&self, name: &str) -> String {
        let dir = &self.run.shared.settings.paths.owned;
        format!("{dir}/{}", Begun::file_name(name))
    }

    /// Where the mark of a step stands, also one that an earlier run has left, killed in the middle of what this step
    /// now ends or finds done.
    pub(crate) fn mark_of_step(&self, step: &Step) -> String {
        match &step.record {
            RecordAction::Write { name, .. } | RecordAction::Drop { name } => self.mark_of(name),
            RecordAction::Keep => self.mark_of(&file_name(&step.addr.kind, &step.addr.key)),
        }
    }

    fn drop_mark_of(&self, step: &Step) -> String {
        format!("rm -f -- {}\n", quote(&self.mark_of_step(step)))
    }

    fn drop_record(&self, name: &str) -> String {
        let dir = &self.run.shared.settings.paths.owned;
        let record = format!("{dir}/{name}");
        format!(
            "rm -f -- {} {}\n",
            quote(&record),
            quote(&self.mark_of(name))
        )
    }

    /// A step that takes longer than it may. It is not killed: half an apt is worse than a slow
    /// one. It holds the node's lock until it is done, so the next run waits for it by name.
    pub(crate) async fn stuck(
        &mut self,
        script: &str,
        timeout: Duration,
        agent: Option<u32>,
    ) -> StepEnd {
        let running = match agent {
            Some(pid) => tokio::time::timeout(LOOK_BOUND, self.running_below(pid))
                .await
                .unwrap_or_default(),
            None => Vec::new(),
        };
        let what = if running.is_empty() {
            format!("it did not end within {} s", timeout.as_secs())
        } else {
            format!(
                "it did not end within {} s; on the node runs: {}",
                timeout.as_secs(),
                running.join("; ")
            )
        };
        let failure = Failure {
            cure: Some("look at it there; the next apply waits until it is done".into()),
            command: Some(script.to_owned()),
            ..Failure::new(what.clone())
        };
        StepEnd {
            error: Some(NodeError::GaveUp {
                node: self.node.clone(),
                what,
            }),
            ..StepEnd::failed(failure).after(After::Down)
        }
    }

    /// The processes below an agent, innermost last, through a session of its own.
    async fn running_below(&mut self, agent: u32) -> Vec<String> {
        let Ok(mut session) = self.link.start("exec ps -e -o pid=,ppid=,args=").await else {
            return Vec::new();
        };
        let mut text = Vec::new();
        if session.stdout.read_to_end(&mut text).await.is_err() {
            return Vec::new();
        }
        below(agent, &String::from_utf8_lossy(&text))
    }
}

/// Descendants of a process in the output of `ps`, without the shells in between.
fn below(root: u32, table: &str) -> Vec<String> {
    let rows: Vec<(u32, u32, &str)> = table
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let (pid, rest) = line.split_once(' ')?;
            let (ppid, args) = rest.trim_start().split_once(' ')?;
            Some((pid.parse().ok()?, ppid.parse().ok()?, args.trim()))
        })
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, _, args) in rows.iter().filter(|(_, ppid, _)| *ppid == parent) {
            parents.push(*pid);
            // The agent's own subshells carry its whole text; nobody wants to read that.
            if !args.contains("umask 022; cd /;") {
                found.push(format!("{args} ({pid})"));
            }
        }
    }
    found
}

/// A payload that may go with its script: text that is not long. The rest has a way of its own.
pub(crate) fn as_text(payload: &Payload) -> Option<&str> {
    let Payload::Bytes(bytes) = payload else {
        return None;
    };
    let bytes = bytes.reveal();
    let fits = bytes.len() <= TEXT_LIMIT && !bytes.contains(&0);
    std::str::from_utf8(bytes).ok().filter(|_| fits)
}

/// The marks of restarts and reloads that a step makes necessary.
pub(crate) fn owed(step: &Step) -> String {
    let mut sh = String::new();
    for (unit, restart) in &step.marks {
        let how = if *restart { "restart" } else { "reload" };
        let _ = writeln!(sh, "pend {} {how}", quote(unit));
    }
    sh
}

pub(crate) fn failed(script: &str, frame: &Frame) -> Failure {
    Failure {
        command: Some(script.to_owned()),
        status: Some(frame.status),
        output: frame.text(),
        ..Failure::new(format!("it ended with exit status {}", frame.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_below_an_agent_is_named_without_its_shells() {
        let table = "    1     0 /sbin/init\n   50     1 /bin/sh -c umask 022; cd /; LC_ALL=C\n   51    50 /bin/sh -c umask 022; cd /; LC_ALL=C\n  100    51 apt-get -y install k3s\n  101   100 /usr/bin/dpkg --configure -a\n  200     1 sshd\n";
        assert_eq!(
            below(50, table),
            [
                "apt-get -y install k3s (100)",
                "/usr/bin/dpkg --configure -a (101)"
            ]
        );
    }
}
