//! The transport against a real OpenSSH server, started by each test on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod server;
mod rig;

mod exec;
