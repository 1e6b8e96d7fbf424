//! Tests that drive the whole engine against shells of this machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod apply;
mod decide;
mod kit;
mod lost;
mod marks;
mod proof;
mod quorum;
mod reboot;
mod record;
mod schedule;
mod secrets;
mod still;
mod sudo;
mod together;
mod upload;
mod wait;
