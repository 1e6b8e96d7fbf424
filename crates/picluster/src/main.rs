//! picluster
fn main() {}
