//! Changes that could shut us out: the node keeps what was there before and takes the change back
//! by itself, unless a new connection confirms in time that there still is a way in.
//!
//! The steps of a group share one guard. It is opened before the first write and closed after the
//! last step: by a confirmation, or by waiting for the node to have done its part.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use picluster_plan::owned::Begun;
use picluster_plan::{Guarded, RecordAction, RolledBack, Step};
use picluster_resource::shell::{quote, words};
use picluster_resource::{Change, Diff, Effect, Operation, Resource, Undo};
use tokio::time::{Instant, sleep, timeout};

use crate::decide::brief;
use crate::error::NodeError;
use crate::host::{ConnectError, Exit};
use crate::link::Link;
use crate::report::{Failure, Outcome};
use crate::run::Access;
use crate::runner::ACCESS_BOUND;
use crate::scheduler::After;
use crate::session::Message;
use crate::stream;
use crate::worker::{StepEnd, Told, Worker};

/// What the node does to take an open change back, at once: the script that was left there when the guard was opened
/// (`guard_open` in `guard.sh`).
const TAKE_BACK: &str = "sh /var/lib/picluster/guard/restore now";

/// How long the session from before the change has to answer when it is asked to take it back.
const HURRY: Duration = Duration::from_secs(15);
/// How long one attempt to come in may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// What taking back may take, beyond the time that is waited before it.
const RESTORING: Duration = Duration::from_secs(60);
/// The pauses between attempts.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Said when the node's own clock decided.
pub(crate) const NOT_IN_TIME: &str = "it was not confirmed in time";
/// Said after a try that was none.
const NOT_STARTED: &str = "the node came back with the boot files from before: it did not start with the new ones, or its firmware did not try them";

/// A guard that stands on the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenGuard {
    group: u32,
    boot: bool,
    /// All of it is about who may become root by sudo.
    sudo: bool,
}

/// What became of the steps of a guard.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// There is a way in; they stay.
    Confirmed,
    /// The node took them back, in words.
    RolledBack(String),
    /// Nobody comes in, and nobody knows.
    Unknown(NodeError),
}

impl Verdict {
    /// How a step of the group ended after all.
    pub(crate) fn judge(&self, outcome: Outcome) -> Outcome {
        match (self, outcome) {
            (Self::RolledBack(what), Outcome::Changed) => {
                Outcome::RolledBack { what: what.clone() }
            }
            (Self::Unknown(error), Outcome::Changed) => Outcome::Lost {
                what: format!(
                    "it was done, but there is no way in any more, and it is not known whether the node has taken it back: {error}"
                ),
            },
            (_, outcome) => outcome,
        }
    }
}

/// Has a node take back a change that a run which is gone left open; not while another run works there, whose lock it
/// is. Returns whether it was taken back.
pub(crate) async fn take_back(link: &mut Link, access: &Access, lock: &str) -> bool {
    let script = format!("flock -n {} {TAKE_BACK} </dev/null", quote(lock));
    let done = stream::exec(link, access, &script, true, &mut |_| {}).await;
    matches!(done, Ok(Exit::Status(0)))
}

impl Worker {
    /// Whether the open guard, if there is one, is about other steps.
    pub(crate) fn guards_others(&self, step: &Step) -> bool {
        let mine = step.guard.map(|g| g.group);
        self.guard.is_some_and(|open| Some(open.group) != mine)
    }

    /// What has to be done on the node before a guarded step writes anything.
    pub(crate) fn open_guard(&mut self, step: &Step, guard: Guarded, undo: &Undo) -> String {
        let effects = &step.change.effects;
        let sudo = effects.iter().any(Effect::is_about_sudo)
            && effects
                .iter()
                .all(|e| e.is_about_sudo() || *e == Effect::Guarded);
        self.guard = Some(OpenGuard {
            group: guard.group,
            boot: guard.boot,
            sudo: sudo && self.guard.is_none_or(|open| open.sudo),
        });
        let settings = &self.run.shared.settings;
        let (window, boot) = (
            settings.guard_window.as_secs(),
            settings.guard_boot_window.as_secs(),
        );
        let name = serde_json::to_string(&step.addr.local()).unwrap_or_default();
        let mut sh = format!(
            "{}guard_open {window} {boot} {} {} {}\nguard_arm {}\n",
            include_str!("guard.sh"),
            quote(include_str!("guard_restore.sh")),
            quote(&name),
            if guard.boot { "boot" } else { "''" },
            if guard.boot { boot } else { window },
        );
        let mut files: Vec<String> = undo.files.iter().map(ToString::to_string).collect();
        // The record goes back with what it is about: the next plan then says why it is pending.
        if let RecordAction::Write { name, .. } | RecordAction::Drop { name } = &step.record {
            let dir = &settings.paths.owned;
            files.push(format!("{dir}/{name}"));
            files.push(format!("{dir}/{}", Begun::file_name(name)));
        }
        let _ = writeln!(sh, "guard_save {}", words(files.iter().map(String::as_str)));
        if !undo.script.is_empty() {
            let _ = writeln!(sh, "guard_undo {}", quote(&undo.script));
        }
        sh.push_str("umask 022\n");
        sh
    }

    /// A guarded step whose session ended in the middle: the change itself may have cut it.
    pub(crate) async fn after_cut(
        &mut self,
        resource: &Resource,
        change: Change,
        error: NodeError,
    ) -> Result<StepEnd, NodeError> {
        let mut end = match self.fresh_way_in().await {
            Ok(link) => {
                self.come_in(link).await?;
                match self.observe(std::slice::from_ref(resource)).await? {
                    Err(diagnosis) => StepEnd::diagnosed(diagnosis),
                    Ok(seen) => match seen.first().map(|s| resource.diff(s, self.ctx())) {
                        Some(Diff::NoOp) => StepEnd::new(Outcome::Changed),
                        Some(Diff::Change(left)) => StepEnd::failed(Failure {
                            remaining: Some(left.clone()),
                            ..Failure::new(format!("{error}; still: {}", brief(&left)))
                        }),
                        None => StepEnd::broken(&error),
                    },
                }
            }
            Err(why) => {
                let verdict = self.taken_back(&why).await;
                self.guard = None;
                let end = end_of(&verdict, StepEnd::new(Outcome::Changed));
                self.tell(Told::Guard(verdict));
                end
            }
        };
        end.change = Some(change);
        Ok(end)
    }

    /// Closes the guard, if one is open, and says what became of its steps.
    pub(crate) async fn settle_guard(&mut self) -> Option<Verdict> {
        let open = self.guard?;
        let verdict = self.close_guard(open).await;
        self.guard = None;
        self.tell(Told::Guard(verdict.clone()));
        Some(verdict)
    }

    /// The same after the group's last step, whose own end depends on it.
    pub(crate) async fn settle_last(&mut self, end: StepEnd) -> StepEnd {
        match self.settle_guard().await {
            Some(verdict) => end_of(&verdict, end),
            None => end,
        }
    }

    async fn close_guard(&mut self, open: OpenGuard) -> Verdict {
        self.peek = None;
        if open.sudo
            && !self.own_account
            && let Some(verdict) = self.confirm_here().await
        {
            return verdict;
        }
        match self.fresh_way_in().await {
            Ok(link) => match self.confirm(link).await {
                Ok(verdict) => verdict,
                // It went between the proof and the confirmation: what holds is what the node says.
                Err(error) => self.taken_back(&error).await,
            },
            Err(why) => {
                if !open.boot {
                    self.hurry().await;
                }
                self.taken_back(&why).await
            }
        }
    }

    /// sudo reads its files each time it is called: a new session on the connection that stands proves
    /// of them what a new connection would. Nothing is returned where that proved nothing.
    async fn confirm_here(&mut self) -> Option<Verdict> {
        let bound = self.run.shared.settings.answer_timeout.min(ATTEMPT);
        self.link.renew(&self.access, bound).await.ok()?;
        self.take_lock(&[]).await.ok()?;
        self.close_here().await.ok()
    }

    async fn confirm(&mut self, link: Link) -> Result<Verdict, NodeError> {
        self.come_in(link).await?;
        self.close_here().await
    }

    async fn close_here(&mut self) -> Result<Verdict, NodeError> {
        let close = Operation::script(include_str!("guard_close.sh"));
        let (frame, _) = self.operate("", close, "", "", None).await?;
        match frame.status {
            0 => Ok(Verdict::Confirmed),
            9 => Ok(Verdict::RolledBack(self.words(&frame.text(), NOT_IN_TIME))),
            _ => Err(NodeError::GaveUp {
                node: self.node.clone(),
                what: format!("the change could not be confirmed: {}", frame.text().trim()),
            }),
        }
    }

    /// A connection made anew, with a log-in, and root on it.
    async fn fresh_way_in(&mut self) -> Result<Link, NodeError> {
        let bound = ACCESS_BOUND.min(self.run.shared.settings.guard_window / 2);
        let deadline = Instant::now() + bound;
        let mut pause = PAUSE;
        loop {
            match self.attempt().await {
                // Nobody is there, yet. A refusal of somebody who is there is the answer.
                Err(NodeError::Connect(ConnectError::Unreachable { .. }))
                    if Instant::now() < deadline =>
                {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                other => return other,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Link, NodeError> {
        let mut link = Link::new(self.node.clone(), Arc::clone(&self.run.shared));
        let bound = self.run.shared.settings.answer_timeout.min(ATTEMPT);
        let access = self.access.clone();
        let tried = timeout(ATTEMPT, async {
            let facts = link.fresh_facts(false).await?;
            let access = Access {
                root: facts.now.root,
                ..access
            };
            let nothing = Message::script(":\n".into());
            link.ask(&access, nothing, bound, "proving that there is a way in")
                .await
        })
        .await;
        let error = match tried {
            Ok(Ok(_)) => return Ok(link),
            Ok(Err(error)) => error,
            Err(_) => NodeError::Timeout {
                node: self.node.clone(),
                doing: "letting us in again".into(),
                seconds: ATTEMPT.as_secs(),
            },
        };
        link.drop_connection().await;
        Err(error)
    }

    /// Goes on through another connection; the old one, and its lock, are given up.
    async fn come_in(&mut self, link: Link) -> Result<(), NodeError> {
        if timeout(HURRY, self.link.end_session()).await.is_ok() {
            self.link.drop_connection().await;
        }
        *self.link = link;
        self.peek = None;
        self.take_lock(&[]).await
    }

    /// The session from before the change may still stand: then nobody has to wait.
    async fn hurry(&mut self) {
        let now = Operation::script(TAKE_BACK);
        let _ = timeout(HURRY, self.operate("", now, "", "", None)).await;
    }

    /// Waits until the node has taken the change back and lets us in again.
    async fn taken_back(&mut self, why: &NodeError) -> Verdict {
        let settings = &self.run.shared.settings;
        let window = match self.guard {
            Some(OpenGuard { boot: true, .. }) => {
                settings.guard_boot_window + settings.reboot_timeout
            }
            _ => settings.guard_window,
        };
        self.tell(Told::TakingBack {
            seconds: window.as_secs(),
        });
        let deadline = Instant::now() + window + RESTORING;
        self.link.drop_connection().await;
        let mut last = why.clone();
        let mut pause = PAUSE;
        while Instant::now() < deadline {
            match self.attempt().await {
                Ok(link) => match self.look(link).await {
                    Ok(Some(verdict)) => return verdict.because(self, why),
                    // The guard still waits for its time.
                    Ok(None) => {}
                    Err(error) => last = error,
                },
                Err(error) => last = error,
            }
            self.link.drop_connection().await;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Verdict::Unknown(last)
    }

    async fn look(&mut self, link: Link) -> Result<Option<Look>, NodeError> {
        self.come_in(link).await?;
        self.look_here().await
    }

    /// What the node says of the guard, on the connection that stands.
    async fn look_here(&mut self) -> Result<Option<Look>, NodeError> {
        let look = Operation::script(include_str!("guard_look.sh"));
        let (frame, _) = self.operate("", look, "", "", None).await?;
        Ok(match frame.status {
            8 => None,
            9 => Some(Look::RolledBack(frame.text())),
            _ => Some(Look::Gone),
        })
    }

    /// Whether the node has taken the group's earlier steps back, before it is rebooted or after.
    /// `why`: what is known of the reason, in words.
    pub(crate) async fn rolled_back_meanwhile(
        &mut self,
        why: &str,
    ) -> Result<Option<StepEnd>, NodeError> {
        if self.guard.is_none() {
            return Ok(None);
        }
        let Some(Look::RolledBack(note)) = self.look_here().await? else {
            return Ok(None);
        };
        self.guard = None;
        let verdict = Verdict::RolledBack(self.words(&note, why));
        self.tell(Told::Guard(verdict.clone()));
        Ok(Some(end_of(&verdict, StepEnd::new(Outcome::Changed))))
    }

    /// Puts the new boot files where the firmware reads them once, and restarts the node. `Ok(Some)`: it did not
    /// come to that, and they were taken back.
    pub(crate) async fn reboot_to_try(&mut self) -> Result<Option<StepEnd>, NodeError> {
        let script = concat!(include_str!("guard.sh"), include_str!("try_prepare.sh"));
        match self
            .operate("", Operation::script(script), "", "", None)
            .await
        {
            Ok((frame, _)) if frame.status != 0 => {
                self.hurry().await;
                let why = format!(
                    "the new boot files could not be tried: {}",
                    frame.text().trim()
                );
                let end = self.rolled_back_meanwhile(&why).await?;
                Ok(Some(
                    end.unwrap_or_else(|| StepEnd::failed(Failure::new(why))),
                ))
            }
            // The session going down with the node is an answer too.
            Ok(_) | Err(NodeError::Lost { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// After the boot: the files are put in place if it was with them. Otherwise how the step ended.
    pub(crate) async fn settle_try(&mut self) -> Result<Option<StepEnd>, NodeError> {
        let settle = Operation::script(include_str!("try_settle.sh"));
        let (frame, _) = self.operate("", settle, "", "", None).await?;
        match frame.status {
            0 => Ok(None),
            9 => {
                let end = self.rolled_back_meanwhile(NOT_STARTED).await?;
                Ok(Some(end.unwrap_or_else(|| {
                    StepEnd::failed(Failure::new(NOT_STARTED))
                })))
            }
            _ => Ok(Some(StepEnd::failed(Failure {
                status: Some(frame.status),
                output: frame.text(),
                ..Failure::new(
                    "it started with the new boot files, and they could not be put in place",
                )
            }))),
        }
    }

    /// Gives the node more time, for a boot.
    pub(crate) async fn arm_for_boot(&mut self) -> Result<(), NodeError> {
        if self.guard.is_none() {
            return Ok(());
        }
        let seconds = self.run.shared.settings.guard_boot_window.as_secs();
        let arm = format!("{}guard_arm {seconds}\n", include_str!("guard.sh"));
        self.operate("", Operation::script(arm), "", "", None)
            .await?;
        Ok(())
    }

    fn words(&self, note: &str, why: &str) -> String {
        let restored = match RolledBack::parse(note) {
            Some(note) => format!(
                "{} took it back: {} as before",
                self.node,
                note.rolled_back.join(", ")
            ),
            None => format!("{} took it back", self.node),
        };
        format!("{why}; {restored}")
    }
}

/// What a look at the guard showed.
enum Look {
    RolledBack(String),
    Gone,
}

impl Look {
    fn because(self, worker: &Worker, why: &NodeError) -> Verdict {
        match self {
            Self::RolledBack(note) => {
                let why = format!("after the change there was no way in: {why}");
                Verdict::RolledBack(worker.words(&note, &why))
            }
            Self::Gone => Verdict::Unknown(why.clone()),
        }
    }
}

fn end_of(verdict: &Verdict, end: StepEnd) -> StepEnd {
    let outcome = verdict.judge(end.outcome);
    let (after, error) = match verdict {
        Verdict::Unknown(error) => (After::Down, Some(error.clone())),
        Verdict::Confirmed | Verdict::RolledBack(_) => (end.after, end.error),
    };
    StepEnd {
        outcome,
        change: end.change,
        after,
        error,
    }
}
