//! Fetching, against servers of this test's own on the loopback interface.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod client;
mod resolve;
mod server;
