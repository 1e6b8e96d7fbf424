//! The chores that use the product's own code. `cargo xtask` builds and runs this.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person at the terminal is what it is for"
)]

fn main() {}
