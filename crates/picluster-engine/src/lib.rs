//! Carries out a plan.
//!
//! The data takes one way: a [`Plan`](picluster_plan::Plan) goes in, a pure [`scheduler`] says
//! which step may start, the driver runs it on its node in one lock-step session, and [`Event`]s
//! and a [`Report`] come out. The [`host`] module is the only door to nodes; who stands behind it
//! is the binary's choice. Nothing here knows a terminal, a network or a clock: time comes in
//! through [`Clock`].

mod agent;
mod apply;
pub mod clock;
pub mod counters;
pub mod decide;
pub mod engine;
pub mod error;
pub mod event;
pub mod exit_code;
pub mod guard;
mod guarded;
pub mod host;
pub mod journal;
mod link;
pub mod lock;
pub mod mask;
mod power;
mod proof;
mod reboot;
pub mod report;
pub mod run;
mod runner;
pub mod scheduler;
mod session;
pub mod settings;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod together;
pub mod upload;
mod worker;

pub use clock::Clock;
pub use counters::{Counters, NodeCounters};
pub use engine::Engine;
pub use error::NodeError;
pub use event::{Event, EventKind};
pub use exit_code::ExitCode;
pub use journal::Journal;
pub use lock::{ControllerLock, Owner};
pub use report::{Failure, NodeEnd, NodeReport, Outcome, Report};
pub use run::{Access, Cancel, Line, Run, Stream};
pub use settings::{NodePaths, Settings};
pub use upload::{Artifacts, NoArtifacts};
