//! What the machine is: names, ids, memory, cgroups.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use crate::fault::{Fault, Outcome};

fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim_matches(['\n', '\0', ' '])
        .to_owned()
}

/// The host's name, in lower case as node names are.
pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase()
}

/// The address on the way out, as the default route has it.
pub(crate) fn address() -> Outcome<IpAddr> {
    let none =
        || Fault::new(r#"no default routes found in "/proc/net/route" or "/proc/net/ipv6_route""#);
    // Connecting a datagram socket sends nothing; it only asks the routing table. The address is for documentation.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|_| none())?;
    socket.connect("192.0.2.1:9").map_err(|_| none())?;
    match socket.local_addr() {
        Ok(address) if !address.ip().is_unspecified() => Ok(address.ip()),
        _ => Err(none()),
    }
}

/// `amd64`, `arm64` or `arm`.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn machine_id() -> String {
    line("/etc/machine-id")
}

pub(crate) fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// The firmware's id where there is one; a Pi has none, and the kubelet takes the machine id then.
pub(crate) fn system_uuid() -> String {
    let id = line("/sys/class/dmi/id/product_uuid");
    if id.is_empty() { machine_id() } else { id }
}

/// `PRETTY_NAME` of os-release.
pub(crate) fn os_image() -> String {
    fs::read_to_string("/etc/os-release")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".into(), |v| v.trim_matches('"').to_owned())
}

/// Memory in KiB.
pub(crate) fn memory() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|v| v.trim().split(' ').next()?.parse().ok())
        .unwrap_or(1 << 20)
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// cgroup2's magic number (statfs(2)).
const CGROUP2: u64 = 0x6367_7270;

/// Whether the controllers are there that the kubelet needs (pkg/cgroups/cgroups_linux.go).
pub(crate) fn validate_cgroups() -> Outcome {
    let unified = rustix::fs::statfs("/sys/fs/cgroup")
        .is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|t| t == CGROUP2));
    if unified {
        let listed = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").map_err(|e| {
            crate::fault::at("open", "/sys/fs/cgroup/cgroup.controllers".as_ref(), &e)
        })?;
        for wanted in ["cpu", "cpuset", "memory"] {
            if !listed.split_whitespace().any(|c| c == wanted) {
                return Err(Fault(format!("failed to find {wanted} cgroup (v2)")));
            }
        }
        return Ok(());
    }
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if !ours.contains("cpuset") {
        crate::log::warn(
            "Failed to find cpuset cgroup, you may need to add \"cgroup_enable=cpuset\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)",
        );
    }
    if !ours.contains("memory") {
        let rest = "ailed to find memory cgroup, you may need to add \"cgroup_memory=1 cgroup_enable=memory\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)";
        crate::log::error(format!("F{rest}"));
        return Err(Fault(format!("f{rest}")));
    }
    Ok(())
}

/// Whether any swap is on (`/proc/swaps` has more than its heading).
pub(crate) fn swap_is_on() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|s| s.lines().count() > 1)
}
