//! cgroup controllers as a Pi's kernel lists them.

/// `/sys/fs/cgroup/cgroup.controllers`.
pub(crate) fn controllers(memory: bool) -> &'static str {
    if memory {
        "cpuset cpu io memory pids\n"
    } else {
        "cpuset cpu io pids\n"
    }
}

/// `/proc/cgroups` of a kernel with cgroup v1 memory support compiled in: the row stays, its last column tells.
pub(crate) fn proc_cgroups(memory: bool) -> String {
    let mut text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_owned();
    for name in [
        "cpuset",
        "cpu",
        "cpuacct",
        "blkio",
        "memory",
        "devices",
        "freezer",
        "net_cls",
        "perf_event",
        "net_prio",
        "pids",
    ] {
        let enabled = u8::from(name != "memory" || memory);
        text.push_str(&format!("{name}\t0\t64\t{enabled}\n"));
    }
    text
}
