//! What this machine lacks for virtual machines.

use std::fs;
use std::path::Path;

use super::VM_PACKAGES;
use super::kernel::INTERPRETERS;
use crate::linux::tool::{PATH, find};
use crate::preflight::Missing;

const TUN: &str = "/dev/net/tun";

/// To run them.
pub(crate) fn to_run() -> Vec<Missing> {
    let mut list = programs(&["qemu-system-aarch64", "mke2fs", "mkfs.vfat", "mcopy"]);
    let root = rustix::process::getuid().is_root();
    let why = "a virtual machine's cable ends there";
    if !Path::new(TUN).exists() {
        list.push(Missing::new(TUN, why, "sudo modprobe tun"));
    } else if !root
        && fs::File::options()
            .read(true)
            .write(true)
            .open(TUN)
            .is_err()
    {
        list.push(Missing::new(
            format!("access to {TUN}"),
            format!("{why}, and you may not use it; it is open to everybody on Debian"),
            format!("sudo chmod 666 {TUN}"),
        ));
    }
    list
}

/// To build their image.
pub(crate) fn for_images() -> Vec<Missing> {
    let mut list = programs(&["xz", "arch-test"]);
    if cfg!(target_arch = "aarch64") {
        return list;
    }
    if !INTERPRETERS.iter().any(|p| find(p.as_ref()).is_some()) {
        list.extend(programs(&["qemu-aarch64-static"]));
    }
    let registered = Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists();
    if !registered && kernel() < (6, 7) {
        list.push(Missing::new(
            "arm64 programs that run",
            "the image's packages are set up under emulation; before Linux 6.7 only root can arrange for that",
            "sudo apt-get install -y --no-install-recommends qemu-user-static binfmt-support   (or: sudo systemctl restart systemd-binfmt)",
        ));
    } else if !registered && !Path::new("/proc/sys/fs/binfmt_misc").exists() {
        list.push(Missing::new(
            "binfmt_misc",
            "the image's packages are set up under emulation",
            "sudo modprobe binfmt_misc",
        ));
    }
    list
}

fn programs(wanted: &[&str]) -> Vec<Missing> {
    VM_PACKAGES
        .iter()
        .filter(|(program, _, _)| wanted.contains(program) && find(program.as_ref()).is_none())
        .map(|(program, package, why)| {
            Missing::new(
                *program,
                format!("it is for {why}, and it is not in {PATH}"),
                format!("sudo apt-get install -y --no-install-recommends {package}"),
            )
        })
        .collect()
}

fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
