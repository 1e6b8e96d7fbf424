//! Runs several steps of a node in one go: one look before and one behind, one message, and one
//! process where each of them would need one.
//!
//! The promises to each step are those it has when it runs alone. What it starts from is looked at
//! before it runs, and what became of it behind it. It is on record before it begins, its file is on
//! the disk before it takes its name, and the name before the step is called done. One that fails
//! ends the go; those behind it then run alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use picluster_plan::{RecordAction, Step, Work};
use picluster_resource::shell::{quote, words};
use picluster_resource::{
    Answers, Change, Diagnosis, Frame, Operation, Payload, ProbeProgram, Query, Resource,
};

use crate::agent::{self, Part};
use crate::decide::{Decision, decide};
use crate::error::NodeError;
use crate::report::{Failure, Outcome};
use crate::runner::{TEXT_LIMIT, as_text, failed, owed};
use crate::scheduler::After;
use crate::session::Message;
use crate::worker::{Go, Peek, StepEnd, Worker};

/// Whether a step may be run in one go with others.
pub(crate) fn is_small(step: &Step) -> bool {
    let Work::Resource(resource) = &step.work else {
        return false;
    };
    resource.small()
        && step.guard.is_none()
        && step.change.effects.is_empty()
        && step.change.bytes <= TEXT_LIMIT as u64
        && !matches!(step.record, RecordAction::Drop { .. })
}

/// A step that has something to do.
struct Act<'a> {
    /// Its place among the steps of this go.
    at: usize,
    step: &'a Step,
    resource: &'a Resource,
    operation: Operation,
    change: Change,
}

/// What came of a message about several steps.
struct Answered {
    /// One for each step that ran.
    ran: Vec<Frame>,
    /// What they have in common; none where they were not begun.
    rest: Option<Frame>,
    /// What was seen behind them.
    seen: Vec<Frame>,
}

impl Worker {
    /// Runs steps that are small, and says how each of them ended.
    pub(crate) async fn run_together(&mut self, steps: &[Go], next: &[Step]) -> Vec<StepEnd> {
        let mut ends: Vec<Option<StepEnd>> = steps.iter().map(|_| None).collect();
        let broken = self.together(steps, next, &mut ends).await.err();
        let missing = || match &broken {
            Some(error) => StepEnd::broken(error),
            None => StepEnd::failed(Failure::new("nobody knows how it ended")),
        };
        ends.into_iter()
            .map(|end| end.unwrap_or_else(missing))
            .collect()
    }

    async fn together(
        &mut self,
        steps: &[Go],
        next: &[Step],
        ends: &mut [Option<StepEnd>],
    ) -> Result<(), NodeError> {
        let mut alone = Vec::new();
        let mut acts = self.decided(steps, ends, &mut alone).await?;
        self.drop_unheard(steps, ends).await?;
        let mut peek = None;
        if !acts.is_empty() {
            peek = self.carry_out(&mut acts, next, ends, &mut alone).await?;
        }
        alone.sort_unstable();
        for at in alone {
            self.peek = None;
            peek = None;
            let end = self.run_step(&steps[at], &[]).await;
            let gone = end.after != After::Up;
            ends[at] = Some(end);
            if gone {
                never_begun(ends);
                break;
            }
        }
        self.peek = peek;
        Ok(())
    }

    /// What each step has to do, now that its pre-state has been seen.
    async fn decided<'a>(
        &mut self,
        steps: &'a [Go],
        ends: &mut [Option<StepEnd>],
        alone: &mut Vec<usize>,
    ) -> Result<Vec<Act<'a>>, NodeError> {
        let (mut answers, mut wrong) = self.looked_at(steps).await?;
        // As for a step by itself: what should be there by now may only have been slow to answer.
        let late: Vec<Resource> = steps
            .iter()
            .filter_map(|go| match &go.step.work {
                Work::Resource(resource) => Some(resource.as_ref()),
                _ => None,
            })
            .filter(|resource| {
                let seen = resource.observe(&answers, self.ctx());
                seen.is_ok_and(|seen| seen.not_yet().is_some())
            })
            .cloned()
            .collect();
        if !late.is_empty()
            && let Ok(again) = self.ask_all_again(&late).await?
        {
            answers.0.extend(again.0);
        }
        let mut acts = Vec::new();
        for (at, go) in steps.iter().enumerate() {
            let Work::Resource(resource) = &go.step.work else {
                alone.push(at);
                continue;
            };
            let seen = match wrong.remove(&at) {
                Some(diagnosis) => Err(diagnosis),
                None => {
                    self.learn(resource, &answers);
                    resource.observe(&answers, self.ctx())
                }
            };
            let seen = match seen {
                Ok(seen) => seen,
                Err(diagnosis) => {
                    ends[at] = Some(StepEnd::diagnosed(diagnosis));
                    continue;
                }
            };
            let key = self.run.key.reveal();
            ends[at] = match decide(&go.step, resource, &seen, self.ctx(), key, go.moved) {
                Decision::Unchanged => Some(StepEnd::new(Outcome::Unchanged)),
                Decision::Stale(what) => Some(StepEnd::new(Outcome::Stale { what })),
                Decision::Problem(failure) => Some(StepEnd::failed(*failure)),
                Decision::Go { operation, change } => {
                    if goes_along(&operation, &change) {
                        acts.push(Act {
                            at,
                            step: &go.step,
                            resource: resource.as_ref(),
                            operation: *operation,
                            change: *change,
                        });
                    } else {
                        alone.push(at);
                    }
                    None
                }
            };
        }
        Ok(acts)
    }

    /// What is as desired may have been under way when the plan was made, and have come to its end
    /// since: its mark goes.
    async fn drop_unheard(
        &mut self,
        steps: &[Go],
        ends: &mut [Option<StepEnd>],
    ) -> Result<(), NodeError> {
        let mut marks = Vec::new();
        let mut whose = Vec::new();
        for (at, go) in steps.iter().enumerate() {
            let unchanged = |end: &StepEnd| end.outcome == Outcome::Unchanged;
            if ends[at].as_ref().is_some_and(unchanged) {
                marks.push(self.mark_of_step(&go.step));
                whose.push(at);
            }
        }
        if marks.is_empty() {
            return Ok(());
        }
        let script = format!("rm -f -- {}\n", words(marks.iter().map(String::as_str)));
        let operation = Operation::script(script.as_str());
        let (frame, _) = self.operate("", operation, "", "", None).await?;
        if frame.status != 0 {
            for at in whose {
                ends[at] = Some(StepEnd::failed(failed(&script, &frame)));
            }
        }
        Ok(())
    }

    /// The answers to what all steps ask, and those whose questions cannot be formed.
    async fn looked_at(
        &mut self,
        steps: &[Go],
    ) -> Result<(Answers, BTreeMap<usize, Diagnosis>), NodeError> {
        let mut wrong = BTreeMap::new();
        let mut wanted: Vec<Query> = Vec::new();
        for (at, go) in steps.iter().enumerate() {
            if let Work::Resource(resource) = &go.step.work {
                match resource.queries(self.ctx()) {
                    Ok(queries) => wanted.extend(queries),
                    Err(diagnosis) => drop(wrong.insert(at, diagnosis)),
                }
            }
        }
        if let Some(peek) = self.peek.take()
            && wanted.iter().all(|q| peek.program.queries().contains(q))
        {
            let answers = self.link.answers(&peek.program, &wanted, &peek.frames)?;
            return Ok((answers, wrong));
        }
        Ok((self.ask(wanted).await?, wrong))
    }

    /// Sends what is to be done and judges what came of it. Those that were not begun are put with
    /// those that run alone. Returns what was seen of the steps behind these.
    async fn carry_out(
        &mut self,
        acts: &mut [Act<'_>],
        next: &[Step],
        ends: &mut [Option<StepEnd>],
        alone: &mut Vec<usize>,
    ) -> Result<Option<Peek>, NodeError> {
        let mut queries = Vec::new();
        for act in acts.iter() {
            if let Ok(more) = act.resource.queries(self.ctx()) {
                queries.extend(more);
            }
        }
        let peek = self.question(next);
        let ahead = peek.iter().flat_map(|p| p.program.queries());
        let check = ProbeProgram::new(queries.iter().chain(ahead).cloned());
        let pid = self.link.agent_pid();
        let answered = match self.send(acts, &check).await {
            Err(NodeError::Timeout { .. }) => {
                self.stuck_together(acts, ends, pid).await;
                return Ok(None);
            }
            other => other?,
        };
        let Some(rest) = answered
            .rest
            .filter(|r| r.status == 0 || !answered.ran.is_empty())
        else {
            // Nothing was begun. Alone, the one that it lies with says what is wrong.
            alone.extend(acts.iter().map(|act| act.at));
            return Ok(None);
        };
        alone.extend(acts.iter().skip(answered.ran.len()).map(|act| act.at));
        let well = answered.ran.iter().all(|f| f.status == 0) && rest.status == 0;
        let seen = if well {
            self.link.answers(&check, &queries, &answered.seen)?
        } else {
            let mut wanted = Vec::new();
            for (act, frame) in acts.iter().zip(&answered.ran) {
                if frame.status == 0 {
                    wanted.extend(act.resource.queries(self.ctx()).unwrap_or_default());
                }
            }
            self.ask(wanted).await?
        };
        // The operations say they went well: before some are told otherwise, the node is asked once more about them.
        let mut seen = seen;
        if rest.status == 0 {
            let doubtful: Vec<Resource> = acts
                .iter()
                .zip(&answered.ran)
                .filter(|(act, frame)| {
                    frame.status == 0 && !self.verdict(act.resource, &seen, "").outcome.is_done()
                })
                .map(|(act, _)| act.resource.clone())
                .collect();
            if !doubtful.is_empty()
                && let Ok(again) = self.ask_all_again(&doubtful).await?
            {
                seen.0.extend(again.0);
            }
        }
        for (act, frame) in acts.iter().zip(&answered.ran) {
            let script = act.operation.script.clone();
            let mut end = if frame.status != 0 {
                self.went_wrong(act.resource, &script, frame)
            } else if rest.status != 0 {
                StepEnd::failed(Failure {
                    output: rest.text(),
                    ..Failure::new("it ran, and could not be brought to the disk")
                })
            } else {
                self.learn(act.resource, &seen);
                let end = self.verdict(act.resource, &seen, &script);
                self.unfinished(act.step, &end).await;
                end
            };
            if frame.status == 0 {
                end.change = Some(act.change.clone());
            }
            ends[act.at] = Some(end);
        }
        let peek = peek.filter(|_| well);
        Ok(peek.map(|p| Peek {
            program: check,
            frames: answered.seen,
            ..p
        }))
    }

    async fn send(
        &mut self,
        acts: &mut [Act<'_>],
        check: &ProbeProgram,
    ) -> Result<Answered, NodeError> {
        let (script, bound) = self.message(acts, check);
        let mut frames = self
            .link
            .ask(&self.access, Message::script(script), bound, "running them")
            .await?;
        let ran = frames.iter().take_while(|f| f.id == agent::OP).count();
        let seen = frames.split_off(ran);
        let (rest, seen) = match crate::worker::split_first(seen, agent::REST) {
            Some((rest, seen)) => (Some(rest), seen),
            None => (None, Vec::new()),
        };
        if ran > acts.len() || (rest.is_none() && ran > 0) {
            return Err(self.garbage("no word of how they went"));
        }
        Ok(Answered {
            ran: frames,
            rest,
            seen,
        })
    }

    /// Everything that is sent, and how long it may take.
    fn message(&self, acts: &mut [Act<'_>], check: &ProbeProgram) -> (String, Duration) {
        let mut prep = String::new();
        for act in acts.iter() {
            prep.push_str(&owed(act.step));
            if let RecordAction::Write { name, text } = &act.step.record {
                let _ = writeln!(prep, "note {}", self.record_words(name, text));
            }
        }
        let owned = &self.run.shared.settings.paths.owned;
        let _ = writeln!(prep, "due=$due$nl{}", quote(owned));
        let mut rights: BTreeMap<[&str; 3], String> = BTreeMap::new();
        let mut contents = String::new();
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut timeout = Duration::ZERO;
        for (number, act) in (1..).zip(acts.iter()) {
            let mut ready = 0;
            if let (Some(put), Some(text)) = (&act.operation.puts, content(&act.operation)) {
                ready = number;
                let _ = writeln!(prep, "fresh {number} {}", quote(&put.path));
                let same = rights
                    .entry([&put.mode, &put.owner, &put.group])
                    .or_default();
                let _ = write!(same, " \"$t{number}\"");
                let _ = writeln!(contents, "printf %s {} > \"$t{number}\"", quote(text));
                bytes += text.len();
            }
            parts.push(Part {
                script: act.operation.script.clone(),
                ready,
                mark: self.mark_of_step(act.step),
            });
            timeout += act.operation.timeout;
        }
        for (rights, files) in rights {
            // Owner and mode while they are empty: what is in them is never open to anybody else.
            let _ = writeln!(prep, "rights {}{files}", words(rights));
        }
        prep.push_str(&contents);
        let then = agent::probe(&check.script);
        (
            agent::several(&prep, &parts, &then),
            self.bound(timeout, bytes),
        )
    }

    /// One of them takes longer than it may, and it is not known which.
    async fn stuck_together(
        &mut self,
        acts: &[Act<'_>],
        ends: &mut [Option<StepEnd>],
        pid: Option<u32>,
    ) {
        let scripts: Vec<&str> = acts.iter().map(|a| a.operation.script.as_str()).collect();
        let timeout = acts.iter().map(|a| a.operation.timeout).sum();
        for act in acts {
            ends[act.at] = Some(self.stuck(&scripts.join("\n"), timeout, pid).await);
        }
        never_begun(ends);
    }
}

/// The session is over: what has no end yet was not begun.
fn never_begun(ends: &mut [Option<StepEnd>]) {
    for end in ends.iter_mut().filter(|end| end.is_none()) {
        let what = "the session ended before it was begun".into();
        *end = Some(StepEnd::new(Outcome::Lost { what }).after(After::Away));
    }
}

/// Whether what has to be done is as small as the step was thought to be.
fn goes_along(operation: &Operation, change: &Change) -> bool {
    let content = match (&operation.puts, &operation.payload) {
        (_, Payload::None) => true,
        (Some(_), Payload::Bytes(_)) => content(operation).is_some(),
        (None, Payload::Bytes(_)) => false,
    };
    content && operation.staged.is_none() && change.effects.is_empty()
}

/// The content of the file it writes, as far as a word of the shell can hold it.
fn content(operation: &Operation) -> Option<&str> {
    operation.puts.as_ref()?;
    match &operation.payload {
        Payload::None => Some(""),
        payload => as_text(payload),
    }
}
