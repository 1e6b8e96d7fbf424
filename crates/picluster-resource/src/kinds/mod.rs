//! One file a kind.

pub mod file;
