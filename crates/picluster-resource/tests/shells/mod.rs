//! The shells that scripts of nodes are tried under.

use std::process::Command;

/// The shells of this machine that a node may have as `sh`.
pub fn shells() -> Vec<Vec<&'static str>> {
    [
        vec!["sh"],
        vec!["dash"],
        vec!["bash", "--posix"],
        vec!["busybox", "sh"],
    ]
    .into_iter()
    .filter(|argv| {
        Command::new(argv[0])
            .args(&argv[1..])
            .args(["-c", ":"])
            .status()
            .is_ok_and(|s| s.success())
    })
    .collect()
}
