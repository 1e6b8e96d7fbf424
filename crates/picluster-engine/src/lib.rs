//! Carries out a plan.
//!
//! The [`host`] module is the only door to nodes; who stands behind it is the binary's choice.

pub mod host;
