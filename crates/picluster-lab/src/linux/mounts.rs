//! Mounts of a node, named after what they are for.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount as sys_mount, mount_bind, mount_change, mount_remount,
};

use crate::error::{Attempt, Trouble};

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Mounts a file system of `kind`.
pub(crate) fn mount(
    kind: &str,
    target: &Path,
    flags: MountFlags,
    options: &str,
) -> Result<(), Trouble> {
    let data = CString::new(options).attempt(|| "mount options".into())?;
    sys_mount(kind, target, kind, flags, data.as_c_str())
        .attempt(|| format!("mount {kind} on {}", target.display()))
}

/// A tmpfs.
pub(crate) fn tmpfs(target: &Path, options: &str) -> Result<(), Trouble> {
    mount("tmpfs", target, QUIET, options)
}

/// Shows `source` (file or directory) at `target`.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), Trouble> {
    mount_bind(source, target)
        .attempt(|| format!("bind {} to {}", source.display(), target.display()))
}

/// Makes the mount at `target` read-only.
pub(crate) fn read_only(target: &Path) -> Result<(), Trouble> {
    mount_remount(target, MountFlags::BIND | MountFlags::RDONLY | QUIET, "")
        .attempt(|| format!("make {} read-only", target.display()))
}

/// Reading below the mount at `target` writes no times.
pub(crate) fn noatime(target: &Path) -> Result<(), Trouble> {
    mount_remount(target, MountFlags::BIND | MountFlags::NOATIME, "")
        .attempt(|| format!("set noatime on {}", target.display()))
}

/// Stops mounts from spreading between this namespace and any other.
pub(crate) fn all_private() -> Result<(), Trouble> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .attempt(|| "make all mounts private".into())
}

/// Writes `content` to `shadow` and shows it at `target`.
pub(crate) fn shadow(
    shadow: &Path,
    content: impl AsRef<[u8]>,
    target: &Path,
) -> Result<(), Trouble> {
    fs::write(shadow, content).attempt(|| format!("write {}", shadow.display()))?;
    bind(shadow, target)
}
