//! What a diff says: which fields, from what to what, why, and what follows from it.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of comparing desired and observed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diff {
    /// Already as desired.
    NoOp,
    /// Something to do.
    Change(Change),
}

/// What kind of change it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It does not exist yet.
    Create,
    /// It exists and differs.
    Update,
    /// It exists and should not.
    Delete,
    /// A command or restart that has to run.
    Run,
}

/// One resource's change, in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What kind of change.
    pub action: Action,
    /// The fields that differ, in the order people expect.
    pub fields: Vec<FieldChange>,
    /// For files: the unified text diff (secrets masked).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What follows from it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub effects: BTreeSet<Effect>,
    /// Bytes that will be sent to the node as payload.
    #[serde(default)]
    pub bytes: u64,
}

/// One field: before, after, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// The field's name as in the role document.
    pub field: String,
    /// What is.
    pub before: Shown,
    /// What will be.
    pub after: Shown,
    /// Why, when it is not plain from the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A value as people may see it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Nothing there.
    Absent,
    /// Plain text.
    Text(String),
    /// A secret: only that it differs is known.
    Sensitive,
    /// Not known before an earlier step has run.
    Later,
}

impl Shown {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.pad("(none)"),
            Self::Text(text) => f.pad(text),
            Self::Sensitive => f.pad(picluster_model::secret::SENSITIVE),
            Self::Later => f.pad("(known after apply)"),
        }
    }
}

/// What follows from a change, beyond the change itself.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A unit restarts.
    Restart(String),
    /// A unit reloads its configuration.
    Reload(String),
    /// The node must reboot before it counts; the reason in words.
    Reboot(String),
    /// The way in is touched (sshd, sudo or the network): the node-side program ends here and a
    /// new connection proves that the way in still works; for sudo alone a new session does.
    Access(String),
    /// The node keeps what was there before, and puts it back by itself unless a new connection
    /// confirms in time that there still is a way in.
    Guarded,
    /// The node is started with the new boot files once, and they are put in place when it has come up; a start that
    /// fails is followed by one with the files from before.
    BootTried,
    /// Nothing brings the node back by itself if its kernel does not start with the new boot files.
    BootUnproven,
    /// The pods of a node go elsewhere; of which, in words.
    Drain(String),
    /// A server of the cluster may be down meanwhile; what that means, in words.
    ServerDown(String),
    /// A node is off until somebody starts it; what that means, in words.
    Off(String),
}

/// The words of [`Effect::Access`] for the files of sudoers(5).
pub const SUDO: &str = "sudo reads it";

impl Effect {
    /// Whether of the way in only sudo is touched.
    #[must_use]
    pub fn is_about_sudo(&self) -> bool {
        matches!(self, Self::Access(why) if why == SUDO)
    }
}

impl Change {
    /// A change of one kind with no fields yet.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            fields: Vec::new(),
            text: None,
            effects: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, field: &str, before: Shown, after: Shown) -> Self {
        self.fields.push(FieldChange {
            field: field.to_owned(),
            before,
            after,
            reason: None,
        });
        self
    }

    /// Adds a field when the two texts differ.
    #[must_use]
    pub fn field_if(self, field: &str, before: &str, after: &str) -> Self {
        if before == after {
            self
        } else {
            self.field(field, Shown::text(before), Shown::text(after))
        }
    }

    /// Gives the reason of the field added last.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        if let Some(last) = self.fields.last_mut() {
            last.reason = Some(reason.into());
        }
        self
    }

    /// Adds an effect.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.insert(effect);
        self
    }

    /// `NoOp` when nothing differs.
    #[must_use]
    pub fn into_diff(self) -> Diff {
        if self.fields.is_empty() {
            Diff::NoOp
        } else {
            Diff::Change(self)
        }
    }

    /// Whether `self` stays within what `shown` announced: the same action or a part of it, no
    /// field that was not shown, no effect that was not shown. A field shown as "known after
    /// apply" admits any value.
    #[must_use]
    pub fn is_within(&self, shown: &Change) -> bool {
        let fields = self.fields.iter().all(|mine| {
            shown.fields.iter().any(|theirs| {
                theirs.field == mine.field
                    && (theirs.after == mine.after || theirs.after == Shown::Later)
            })
        });
        let action = match (self.action, shown.action) {
            (a, b) if a == b => true,
            // Something an earlier step created half-way is now updated, not created.
            (Action::Update | Action::Run, Action::Create) => true,
            (Action::Run, Action::Update) => true,
            _ => false,
        };
        fields && action && self.effects.is_subset(&shown.effects)
    }
}
