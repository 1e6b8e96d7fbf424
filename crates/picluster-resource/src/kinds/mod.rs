//! One file a kind.

pub mod authorized_keys;
pub mod block;
pub mod command;
pub mod directory;
pub(crate) mod edit;
pub mod file;
pub mod group;
pub mod hostname;
pub mod ini;
pub mod line;
pub mod link;
pub(crate) mod shared;
pub mod timezone;
pub mod user;
