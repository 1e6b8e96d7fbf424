//! The vocabulary of a machine.
//!
//! A [`Resource`] says what should be. It asks [`Query`]s about a node, turns their [`Answers`] into
//! an observation, compares, and names the [`Operation`] that would close the gap. Everything here
//! is a pure function of its arguments: no I/O, no clock, no connection. What runs the shell text
//! that is built here is somebody else's business.

pub mod change;
pub mod facts;
pub mod frame;
pub mod health;
pub mod kind;
pub mod kinds;
pub mod numbers;
pub mod operation;
pub mod path;
pub mod program;
pub mod query;
pub mod resource;
pub mod shell;
pub mod token;
pub mod vocabulary;

pub use change::{Action, Change, Diff, Effect, FieldChange, Shown};
pub use facts::Facts;
pub use frame::Frame;
pub use health::Health;
pub use kind::{Ctx, Diagnosis, Kind, Seen};
pub use numbers::Numbers;
pub use operation::{Operation, Payload, Staged, Undo};
pub use path::NodePath;
pub use program::ProbeProgram;
pub use query::{Answer, Answers, Query};
pub use resource::{Observation, Resource};
pub use token::{ClusterToken, Reaction, Token};
pub use vocabulary::Vocabulary;
