//! Tests that drive the whole engine against shells of this machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod apply;
mod kit;
mod reboot;
mod schedule;
mod sudo;
