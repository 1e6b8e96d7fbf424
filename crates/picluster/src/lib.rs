//! The command line: one file a verb, the screens, and the wiring that names a transport.
//!
//! Everything that decides anything lives in the crates below; this one reads arguments, asks
//! people, shows events and picks exit codes.

pub mod artifacts;
pub mod ask;
pub mod builtin;
pub mod cli;
pub mod connect;
pub mod error;
pub mod explain;
pub mod identity;
pub mod kubeconfig;
pub mod manifests;
mod opening;
pub mod person;
pub mod plan_file;
pub mod project;
pub mod releases;
pub mod run;
pub mod schema;
pub mod secrets;
pub mod show;
pub mod status;
pub mod store;
pub mod survey;
mod takeback;
pub mod term;
pub mod verbs;
