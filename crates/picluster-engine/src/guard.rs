//! Rules about what may go on at the same time, beyond order and limits.

use std::collections::BTreeSet;

use picluster_plan::StepAddr;

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

/// Of these steps at most one at a time, and none after one of them has gone wrong: two members of
/// a quorum are never away together, and one that did not come back stops the others from going.
#[derive(Debug, Clone, Default)]
pub struct OneAtATime {
    members: BTreeSet<StepAddr>,
    away: Option<StepAddr>,
    broken: Option<StepAddr>,
}

impl OneAtATime {
    /// A guard over these steps; all others pass.
    pub fn new(members: impl IntoIterator<Item = StepAddr>) -> Self {
        Self {
            members: members.into_iter().collect(),
            away: None,
            broken: None,
        }
    }
}

impl Guard for OneAtATime {
    fn admits(&self, step: &StepAddr) -> Result<(), String> {
        if !self.members.contains(step) {
            return Ok(());
        }
        match (&self.broken, &self.away) {
            (Some(other), _) => Err(format!("{other} did not end well, so this one stays up")),
            (None, Some(other)) => Err(format!("{other} is not done")),
            (None, None) => Ok(()),
        }
    }

    fn started(&mut self, step: &StepAddr) {
        if self.members.contains(step) {
            self.away = Some(step.clone());
        }
    }

    fn ended(&mut self, step: &StepAddr, done: bool) {
        if self.away.as_ref() == Some(step) {
            self.away = None;
            if !done {
                self.broken = Some(step.clone());
            }
        }
    }
}
