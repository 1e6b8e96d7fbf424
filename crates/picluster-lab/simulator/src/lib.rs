//! Stands in for k3s where the real one cannot be had.
//!
//! It follows upstream in what can be seen from outside: files, ports, exit codes, log lines and refusals. It runs no
//! containers and knows nothing of who uses it. `docs/simulator.md` lists what it does and what it does not do.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program that says what k3s and kubectl say"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agent;
mod api;
pub mod artifact;
mod cargo;
mod cli;
mod clock;
mod etcd;
mod fault;
mod files;
mod heart;
mod http;
mod kubeconfig;
mod kubectl;
mod labels;
mod log;
mod machine;
mod net;
mod notify;
mod pki;
pub mod release;
mod server;
mod text;
mod token;

pub use cli::run;
