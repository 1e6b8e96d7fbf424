//! Virtual machines: nodes with a kernel of their own, for what namespaces can only pretend.
//!
//! One emulated 64-bit ARM machine (`qemu-system-aarch64 -M virt`, no KVM) a node, running Debian's arm64 kernel and
//! packages. It is plugged into the same bridge as every other node, so addresses, names and verbs are the same.
//!
//! - `recipe`, `kernel`, `initrd`, `cpio`: what the cached image holds beyond a Debian tree.
//! - `disk`: a node's card: a boot partition and a root partition, numbered and named as on a Pi's card; a second disk.
//! - `firmware`: boot partition to kernel arguments, at every start; `tryboot`.
//! - `qemu`: the machine itself, and how its run ended.

#[cfg(target_os = "linux")]
mod cpio;
#[cfg(target_os = "linux")]
pub(crate) mod disk;
#[cfg(target_os = "linux")]
pub(crate) mod firmware;
#[cfg(target_os = "linux")]
pub(crate) mod initrd;
#[cfg(target_os = "linux")]
pub(crate) mod kernel;
#[cfg(target_os = "linux")]
pub(crate) mod preflight;
#[cfg(target_os = "linux")]
pub(crate) mod qemu;
#[cfg(target_os = "linux")]
pub(crate) mod recipe;

use crate::preflight::Missing;

/// What virtual machines need beyond a lab: program, Debian package that brings it, what it is for.
pub const VM_PACKAGES: &[(&str, &str, &str)] = &[
    (
        "qemu-system-aarch64",
        "qemu-system-arm",
        "the virtual machine",
    ),
    ("mke2fs", "e2fsprogs", "the card's root partition"),
    ("mkfs.vfat", "dosfstools", "the card's boot partition"),
    (
        "mcopy",
        "mtools",
        "reads and writes the boot partition from outside",
    ),
    ("xz", "xz-utils", "unpacks kernel modules"),
    (
        "qemu-aarch64-static",
        "qemu-user-static",
        "sets up arm64 packages while the image is built",
    ),
    (
        "arch-test",
        "arch-test",
        "tells mmdebstrap that arm64 programs run",
    ),
];

/// Everything this machine lacks for a lab with virtual machines, beyond [`crate::preflight`]; empty when it is fit.
/// Changes nothing.
pub fn vm_preflight() -> Vec<Missing> {
    #[cfg(target_os = "linux")]
    {
        let mut list = preflight::to_run();
        list.extend(preflight::for_images());
        list.dedup();
        list
    }
    #[cfg(not(target_os = "linux"))]
    {
        crate::preflight(1)
    }
}
