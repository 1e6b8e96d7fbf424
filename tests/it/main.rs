//! The program as a user runs it: its words and exit codes, and what it does to lab nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod rig;

mod artifact;
mod bad_node;
mod damage;
mod documents;
mod examples;
mod first_apply;
mod identity;
mod interrupt;
mod locks;
mod real_home;
mod secrets;
mod stale;
mod sudo_password;
mod sweep;
mod tier2;
mod truth;
mod unchanged;
mod unreachable;
