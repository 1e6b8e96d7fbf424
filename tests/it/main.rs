//! The program as a user runs it: its words and exit codes, and what it does to lab nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

mod k3s;
mod k3s_cluster;
mod k3s_damage;
mod rig;

mod aliases;
mod apt;
mod artifact;
mod bad_input;
mod bad_node;
mod cluster_files;
mod damage;
mod datastore;
mod documents;
mod examples;
mod explain;
mod fetch;
mod first_apply;
mod guarded;
mod ha;
mod identity;
mod interrupt;
mod k3s_heart;
mod k3s_ready;
mod labs;
mod leave;
mod locks;
mod offline;
mod packages;
mod prepare;
mod quorum;
mod real_home;
mod roles;
mod schema;
mod secrets;
mod shutdown;
mod stale;
mod status;
mod sudo_password;
mod sweep;
mod tier2;
mod truth;
mod unchanged;
mod unfinished;
mod uninstall;
mod unreachable;
mod upgrade;
mod verbs;

/// A file that nobody names is never compiled, and its tests look green.
#[test]
fn every_file_of_this_folder_is_a_module() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/it");
    let named = include_str!("main.rs");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|m| *m != "main") {
            assert!(
                named.contains(&format!("\nmod {module};\n")),
                "{name} is not compiled"
            );
        }
    }
}
// The server of the crate that fetches; not all of its bad manners are needed here.
#[allow(dead_code, reason = "shared with another crate's tests")]
#[path = "../../crates/picluster-artifact/tests/fetch/server.rs"]
mod web;
