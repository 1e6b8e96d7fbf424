//! The transport against a real OpenSSH server, started by each test on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod rig;
mod server;

mod exec;
mod hostkey;
mod jump;
mod login;
mod loss;
mod measure;
