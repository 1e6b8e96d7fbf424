//! From documents, facts and observations to a [`Plan`].
//!
//! Everything here is a pure function: the same inputs give the same bytes. No clock, no
//! randomness, no network, no terminal. [`build::build`] makes the graph of all resources of all
//! nodes, named transforms add what follows (barriers, restarts, reboots, removals), and what is
//! left to do becomes the plan's steps, in an order that respects every edge.

pub mod addr;
pub mod bootstrap;
pub mod build;
pub mod critical;
pub mod declare;
pub mod dot;
pub mod fingerprint;
pub mod fitness;
pub mod graph;
pub mod members;
pub mod numbers;
pub mod owned;
pub mod plan;
pub mod select;
pub mod twins;

pub use addr::{AddrPattern, StepAddr};
pub use declare::{Declared, declare};
pub use members::{Member, MemberStanding};
pub use plan::{
    Cause, Guarded, NodePlan, NodeState, Plan, Problem, RecordAction, RolledBack, Step, Work,
};
