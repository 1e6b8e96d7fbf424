//! What to do with a step, now that its pre-state has been seen: a pure function.

use picluster_plan::fingerprint::{fingerprint, later, sealed, secrets_of};
use picluster_plan::{RecordAction, Step};
use picluster_resource::{Change, Ctx, Diff, Observation, Operation, Resource};

use crate::report::Failure;

/// What to do.
#[derive(Debug, Clone)]
pub enum Decision {
    /// It is as desired.
    Unchanged,
    /// Run this; the change is the one that is made now.
    Go {
        /// What to send.
        operation: Box<Operation>,
        /// What it changes.
        change: Box<Change>,
    },
    /// Something else stands there than the plan was made from, and no step of this run explains it.
    Stale(String),
    /// It cannot be done.
    Problem(Box<Failure>),
}

/// Decides.
///
/// `moved`: one of the steps named in the step's `moved_by` has changed something in this run.
#[must_use]
pub fn decide(
    step: &Step,
    resource: &Resource,
    seen: &Observation,
    ctx: Ctx<'_>,
    key: &[u8],
    moved: bool,
) -> Decision {
    let recorded = step.recorded.as_deref();
    let as_recorded = recorded.is_some_and(|r| r == fingerprint(key, seen));
    // What the plan could not see has no pre-state to compare with: like what was moved, it only has to
    // stay within what was shown.
    let may_differ = moved || recorded.is_none();
    if let Some(name) = later(resource, ctx.secrets).pop_first() {
        return Decision::Problem(Box::new(Failure {
            what: format!(
                "the value {name} is still not known, although everything that should bring it is done"
            ),
            ..Failure::default()
        }));
    }
    if let Some(token) = seen.not_yet() {
        return if may_differ || as_recorded {
            Decision::Problem(Box::new(Failure {
                what: format!(
                    "{token} is still missing, although everything that should bring it is done"
                ),
                ..Failure::default()
            }))
        } else {
            Decision::Stale(format!("{token} has disappeared since the plan was made"))
        };
    }
    let change = match resource.diff(seen, ctx) {
        // What moved it is a step of this run, and nobody else.
        Diff::NoOp if moved && resource.claims() => step.change.clone(),
        Diff::NoOp => return Decision::Unchanged,
        Diff::Change(change) => change,
    };
    if step.secrets != sealed(key, resource, ctx.secrets, &step.later) {
        let names: Vec<String> = secrets_of(resource)
            .iter()
            .map(ToString::to_string)
            .collect();
        return Decision::Stale(format!(
            "a secret has another value than when the plan was made: {}",
            names.join(", ")
        ));
    }
    if !as_recorded {
        if !may_differ {
            return Decision::Stale(format!(
                "it was changed since the plan was made; now: {}",
                brief(&change)
            ));
        }
        if !change.is_within(&step.change) {
            return Decision::Stale(format!(
                "what would have to be done is not what was shown; now: {}",
                brief(&change)
            ));
        }
    }
    match resource.operation(seen, &change, ctx) {
        Ok(operation) => Decision::Go {
            operation: Box::new(operation),
            change: Box::new(change),
        },
        Err(diagnosis) => Decision::Problem(Box::new(Failure {
            what: diagnosis.what,
            cure: diagnosis.cure,
            ..Failure::default()
        })),
    }
}

/// Whether the ownership record has to be touched although nothing is to be done: what is already
/// gone is forgotten. A record is not *written* for something that was found as desired: somebody
/// else made it.
#[must_use]
pub fn record_when_unchanged(record: &RecordAction) -> Option<&str> {
    match record {
        RecordAction::Drop { name } => Some(name),
        RecordAction::Keep | RecordAction::Write { .. } => None,
    }
}

/// A change in one line.
#[must_use]
pub fn brief(change: &Change) -> String {
    let fields: Vec<String> = change
        .fields
        .iter()
        .map(|f| format!("{}: {} -> {}", f.field, f.before, f.after))
        .collect();
    fields.join(", ")
}
