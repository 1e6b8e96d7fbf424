//! Questions to `/proc`.

use std::fs;

/// Pids whose parent is `pid`, as this process's `/proc` numbers them.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    // Needs CONFIG_PROC_CHILDREN, which distributions set; the scan below needs nothing.
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return text
            .split_ascii_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
    }
    let Ok(dir) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
        .filter(|p| parent(*p) == Some(pid))
        .collect()
}

/// Parent of `pid`.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    // The command in parentheses may hold anything, so count from the last one: state, ppid, …
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Start time of `pid` in clock ticks since boot: tells a process from a later one with the same number.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}
