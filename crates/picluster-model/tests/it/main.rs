//! The documents of picluster, read from files as users write them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asks;
mod bad;
mod kinds;
mod load;
mod properties;
mod render;
mod schema;
mod starters;
