//! A part of the Kubernetes API, with the answers and the refusals of the real one.

mod controllers;
mod discovery;
pub(crate) mod disruption;
pub(crate) mod kinds;
mod patch;
mod rest;
pub(crate) mod select;
mod shared;
pub(crate) mod status;
mod store;
pub(crate) mod tables;
mod validate;

pub(crate) use patch::merge as merge_patch;
pub(crate) use rest::{Caller, answer};
pub(crate) use store::{Key, Store};
pub(crate) use validate::{label_value_problem, qualified_name_problem};
