//! What every kind of resource answers.

use std::fmt::Debug;
use std::time::Duration;

use picluster_model::secret::{Secret, SecretValues, Unresolved};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::change::{Change, Diff};
use crate::facts::Facts;
use crate::kinds::shared::place_tokens;
use crate::operation::{Operation, Undo};
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::token::{Reaction, Token};

/// What a kind may look at besides itself: the node's facts and the values of secrets.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// What no apply changes about this node.
    pub facts: &'a Facts,
    /// Values behind the placeholders.
    pub secrets: &'a SecretValues,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen<O> {
    /// The state now.
    Now(O),
    /// It cannot exist before something else does (a unit before its package, a path under a
    /// directory that is still to be made). The plan looks for the step that brings it; without
    /// one this is an error.
    NotYet(Token),
}

/// Output or a state that makes no sense for this resource: in words for the person who has to
/// mend it, with the next thing to do where it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Diagnosis {
    /// What is wrong with the node.
    pub what: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Diagnosis {
    /// A finding without a cure.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cure: None,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl From<Unresolved> for Diagnosis {
    fn from(e: Unresolved) -> Self {
        Self::new(e.to_string())
    }
}

/// A kind of resource: desired state as data, and four pure functions over it.
///
/// Laws, held by tests for every kind: `diff` after its own `operation` is `NoOp`; `diff` of an
/// unchanged node is `NoOp`; a change names every field that `operation` will touch.
pub trait Kind: Serialize + DeserializeOwned + JsonSchema + Clone + PartialEq + Debug {
    /// The key in `role.yaml`.
    const NAME: &'static str;
    /// The fields that may hold a secret (those of type `SecretText`). A secret anywhere else is
    /// refused: it would end up in a script, or in the file as its placeholder.
    const SECRETS: &'static [&'static str] = &[];
    /// What can be seen of it.
    type Observation: Serialize + DeserializeOwned + Clone + PartialEq + Debug;

    /// What tells two resources of this kind apart on one node (a path, a name).
    fn key(&self) -> String;

    /// Rules that the schema cannot say (a mode that is no octal number, two fields that exclude
    /// each other). Each text is a sentence about the field.
    fn check(&self) -> Vec<String> {
        Vec::new()
    }

    /// The read-only questions to ask the node.
    ///
    /// # Errors
    /// [`Diagnosis`] when a secret needed to ask is not resolved.
    fn queries(&self, ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis>;

    /// Reads the answers.
    ///
    /// # Errors
    /// [`Diagnosis`] when the answers make no sense or show a node that cannot be helped.
    fn observe(
        &self,
        answers: &Answers,
        ctx: Ctx<'_>,
    ) -> Result<Seen<Self::Observation>, Diagnosis>;

    /// What of an observation a step stands on. What moves by itself between a plan and its apply (pods that become ready,
    /// a node that reports) is taken out: only the rest makes a step stale when it is another than the plan saw.
    #[must_use]
    fn ground(seen: Self::Observation) -> Self::Observation {
        seen
    }

    /// Compares.
    fn diff(&self, seen: &Self::Observation, ctx: Ctx<'_>) -> Diff;

    /// What will have to be done once a [`Seen::NotYet`] can be looked at: the change from nothing,
    /// with [`crate::Shown::Later`] where a value cannot be known.
    fn expected(&self, ctx: Ctx<'_>) -> Change;

    /// How to close the gap.
    ///
    /// # Errors
    /// [`Diagnosis`] when it cannot be closed from here.
    fn operation(
        &self,
        seen: &Self::Observation,
        change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis>;

    /// What is waited for once more when the operation went well and what is seen behind it is not as desired: what came true may
    /// have gone again for a moment, and come back by itself. `left`: of the operation's time. `None`: what is seen counts.
    fn wait_again(
        &self,
        _seen: &Self::Observation,
        _left: Duration,
        _ctx: Ctx<'_>,
    ) -> Option<Operation> {
        None
    }

    /// The file that it is, wholly or in part, with the owner and the group it is to have. What it provides and requires and how
    /// it is taken back follow from that.
    fn file(&self) -> Option<(&NodePath, &str, &str)> {
        None
    }

    /// What exists (or is true) once this resource is as desired.
    fn provides(&self) -> Vec<Token> {
        let file = self.file().into_iter();
        file.map(|(path, ..)| Token::Path(path.clone())).collect()
    }

    /// Whose way in an [`crate::change::Effect::Access`] of it touches: the name of an account.
    /// `None`: everybody's, as far as can be known.
    fn way_in_of(&self, _seen: &Self::Observation) -> Option<&str> {
        None
    }

    /// What must be so before this one is looked at. A token nobody provides is ignored.
    fn requires(&self) -> Vec<Token> {
        self.file()
            .map(|(path, owner, group)| place_tokens(path, owner, group))
            .unwrap_or_default()
    }

    /// Whether bringing it about takes a moment, changes nothing but what it provides, and starts no
    /// program that others wrote: then it may be done in one go with others that do not need it.
    fn small(&self) -> bool {
        false
    }

    /// Whether a step that is planned is run, and so written down as ours, also where other steps of the same run have brought
    /// about meanwhile what it is for. Of all others that was found as desired somebody else may have made it.
    fn claims(&self) -> bool {
        false
    }

    /// Why this resource has something to do at every apply, if its author wants it so. Its step is
    /// then not asked to converge.
    fn unsettled(&self) -> Option<&str> {
        None
    }

    /// Inputs whose change makes this resource act (units: files read at start).
    fn reactions(&self) -> Vec<Reaction> {
        Vec::new()
    }

    /// The change that follows for this resource, now as desired, when `inputs` it reacts to change
    /// in the same plan. `None`: nothing follows.
    fn follow_up(
        &self,
        _seen: Option<&Self::Observation>,
        _inputs: &[Token],
        _ctx: Ctx<'_>,
    ) -> Option<Change> {
        None
    }

    /// Why the node must reboot before this resource is in effect, if it must: read from derived
    /// state (file right, effect missing), never from memory.
    fn reboot_pending(&self, _seen: &Self::Observation, _ctx: Ctx<'_>) -> Option<String> {
        None
    }

    /// A value that came to be on this node and that resources of any node may refer to, by its
    /// name. Read from the same answers as the observation; kept in memory only.
    fn yields(&self, _answers: &Answers) -> Option<(String, Secret<String>)> {
        None
    }

    /// What it means that the operation failed with this exit status and this output: a pure
    /// function over the evidence the operation's own script collected. `None`: the output speaks
    /// for itself.
    fn explain(&self, _status: u32, _output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        None
    }

    /// How the node takes a change back, seen from before it. `None`: it cannot, so the change cannot
    /// be guarded.
    fn undo(&self, _seen: Option<&Self::Observation>, _change: &Change) -> Option<Undo> {
        self.file().map(|(path, ..)| Undo::file(path))
    }

    /// What is wanted when this resource leaves the documents: usually itself, absent. `None`:
    /// it is forgotten, not undone.
    fn removal(&self) -> Option<Self> {
        None
    }
}
