//! Performing a caller's request.

use std::fs;

use crate::control::{Request, Response, Wait};
use crate::error::{Failure, Trouble};
use crate::linux::node::Node;
use crate::linux::supervisor::Supervisor;
use crate::linux::{cgroup, faults, list_upper};

/// Performs one request.
pub(crate) fn perform(lab: &Supervisor, request: Request) -> Response {
    use Request as R;
    match request {
        R::Status => Response::Status(lab.nodes.iter().map(|n| n.status()).collect()),
        R::Cut { node } => on(lab, &node, |n| n.set_cut(true)),
        R::Heal { node } => on(lab, &node, |n| n.set_cut(false)),
        R::Kill { node } => on(lab, &node, Node::power_off),
        R::Start { node, wait } => on(lab, &node, |n| ready(lab, n, n.power_on(), wait)),
        R::Wipe { node, wait } => on(lab, &node, |n| {
            n.wipe()?;
            ready(lab, n, n.power_on(), wait)
        }),
        R::Reboot { node, wait } => on(lab, &node, |n| ready(lab, n, n.reboot()?, wait)),
        R::WaitReady { node, seconds } => on(lab, &node, |n| {
            n.wait_ready(1, std::time::Duration::from_secs(seconds))
                .map(drop)
        }),
        R::HoldAptLock { node, seconds } => on(lab, &node, |n| faults::hold_apt_lock(n, seconds)),
        R::FillDisk { node } => on(lab, &node, faults::fill_disk),
        R::FreeDisk { node } => on(lab, &node, faults::free_disk),
        R::RemountRoot { node, read_only } => {
            on(lab, &node, |n| faults::remount_root(n, read_only))
        }
        R::Listing { node } => answer(lab, &node, |n| {
            n.not_a_vm()?;
            Ok(Response::Listing(list_upper::list(&n.upper())))
        }),
        R::CpuSeconds { node } => answer(lab, &node, |n| {
            stat(n, "cpu.stat", "usage_usec").map(|us| Response::Number(us / 1e6))
        }),
        R::MemoryBytes { node } => answer(lab, &node, |n| Ok(Response::Number(memory(n)))),
        R::Down => {
            // All ends with this process in any case; killed first, the disks can be removed.
            std::thread::scope(|scope| {
                for node in &lab.nodes {
                    scope.spawn(|| {
                        let _ = node.power_off();
                        let _ = fs::remove_dir_all(&node.dir);
                    });
                }
            });
            Response::Done
        }
    }
}

fn ready(lab: &Supervisor, node: &Node, boot: u32, wait: Wait) -> Result<(), Trouble> {
    match wait {
        Wait::Ready => node.wait_ready(boot, lab.ready).map(drop),
        Wait::No => Ok(()),
    }
}

fn on(lab: &Supervisor, name: &str, act: impl FnOnce(&Node) -> Result<(), Trouble>) -> Response {
    answer(lab, name, |n| act(n).map(|()| Response::Done))
}

fn answer(
    lab: &Supervisor,
    name: &str,
    act: impl FnOnce(&Node) -> Result<Response, Trouble>,
) -> Response {
    let failed = |what: String| {
        Response::Failed(Failure {
            node: Some(name.to_owned()),
            what,
        })
    };
    let Some(node) = lab.nodes.iter().find(|n| n.spec.name == name) else {
        let names: Vec<&str> = lab
            .nodes
            .iter()
            .map(|n| n.spec.name.as_str())
            .take(10)
            .collect();
        return failed(format!(
            "this lab has no such node; it has {}",
            names.join(", ")
        ));
    };
    if node.spec.absent {
        return failed("the inventory expects no machine here, so there is none".into());
    }
    act(node).unwrap_or_else(|t| failed(t.0))
}

/// A value of one of the node's cgroup files. The counters of the group outlive its reboots.
fn stat(node: &Node, file: &str, key: &str) -> Result<f64, Trouble> {
    let path = node.cgroup.join(file);
    let text =
        fs::read_to_string(&path).map_err(|e| Trouble(format!("read {}: {e}", path.display())))?;
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
        .ok_or_else(|| Trouble(format!("{} has no {key}", path.display())))
}

/// Proportional memory of all the node's processes: shared pages count once over all their users.
fn memory(node: &Node) -> f64 {
    cgroup::pids(&node.cgroup)
        .into_iter()
        .filter_map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let kib: f64 = text.lines().find_map(|l| {
                l.strip_prefix("Pss:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .trim()
                    .parse()
                    .ok()
            })?;
            Some(kib * 1024.0)
        })
        .sum()
}
