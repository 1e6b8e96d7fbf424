//! What a program costs: time, processor, memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// What was spent on one act.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of processor here, of the program and all it started.
    pub cpu: f64,
    /// Seconds of processor on all nodes.
    pub node_cpu: f64,
    /// The most memory the program held, in bytes; 0: not looked at.
    pub peak: f64,
    /// Per node, when the program counts them: connections, sessions, round trips.
    pub wire: Option<[f64; 3]>,
}

/// Ticks of `/proc/PID/stat` in a second: 100 on every machine Linux runs on today.
const TICKS: f64 = 100.0;

/// Runs a command to its end. `peak`: its memory is of interest, and it is one process.
pub(crate) fn spent(command: &mut Command, peak: bool) -> Outcome<Spent> {
    command.stdin(Stdio::null());
    let (cpu, start) = (cpu_of_children()?, Instant::now());
    let mut child = command
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", command.get_program().display()))?;
    let mut most = 0.0_f64;
    let status = loop {
        // The kernel keeps the maximum, so the last look before the end is as good as a constant watch.
        if peak {
            most = most.max(high_water(child.id()));
        }
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let wall = start.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!(
            "{} ended with {status}",
            command.get_program().display()
        ));
    }
    Ok(Spent {
        wall,
        cpu: cpu_of_children()? - cpu,
        peak: most,
        ..Spent::default()
    })
}

/// Seconds of processor of all children that have ended and been waited for.
fn cpu_of_children() -> Outcome<f64> {
    let stat =
        fs::read_to_string("/proc/self/stat").map_err(|e| format!("/proc/self/stat: {e}"))?;
    // The name in brackets may hold anything; the fields count from behind it. proc(5): cutime and cstime are
    // fields 16 and 17, state, the first one behind the name, is field 3.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<f64>().ok());
    match (ticks(16), ticks(17)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => Err("/proc/self/stat is not understood".into()),
    }
}

/// The most memory a process held so far, in bytes.
fn high_water(pid: u32) -> f64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .and_then(|v| v.trim().strip_suffix(" kB")?.parse::<f64>().ok())
        .map_or(0.0, |kib| kib * 1024.0)
}
