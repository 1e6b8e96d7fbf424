//! The steps of an image build that are a virtual machine's: emulation, kernel, initrd.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, mount};

use super::{initrd, recipe};
use crate::error::{Attempt, Trouble};
use crate::linux::tool::{self, find, tool};

/// Where the kernel is told which programs run foreign ones.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Programs that run arm64 ones, by the names they have in Debian's releases.
pub(super) const INTERPRETERS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];

/// Lets arm64 programs run in the present user namespace, which has its own list of such programs since Linux 6.7.
/// On older kernels the machine's own list counts, and on an arm64 machine none is needed.
pub(crate) fn emulate() -> Result<(), Trouble> {
    if cfg!(target_arch = "aarch64") || Path::new(BINFMT).join("qemu-aarch64").exists() {
        return Ok(());
    }
    let interpreter = INTERPRETERS
        .iter()
        .find_map(|n| find(n.as_ref()))
        .ok_or_else(|| Trouble("qemu-aarch64-static is not installed".into()))?;
    let none = CString::default();
    mount(
        "binfmt_misc",
        BINFMT,
        "binfmt_misc",
        MountFlags::empty(),
        none.as_c_str(),
    )
    .attempt(|| format!("mount {BINFMT}"))?;
    // The head of an ELF file for AArch64. O: opened by the kernel; C: credentials of the program; F: opened now, so
    // that it is found inside a chroot too.
    let line = format!(
        ":qemu-aarch64:M::{}:{}:{}:OCF",
        r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        interpreter.display()
    );
    fs::write(Path::new(BINFMT).join("register"), line)
        .attempt(|| "register the emulator of arm64 programs".into())
}

/// What mmdebstrap is told beyond the usual.
pub(crate) fn bootstrap_arguments(command: &mut Command) {
    let program = recipe::NO_INITRAMFS;
    // Before the kernel comes in: dpkg is there, the package that owns the program is not.
    let divert = format!(
        "chroot \"$1\" dpkg-divert --quiet --local --rename --divert {program}.distrib --add {program} && printf '%s' '{}' > \"$1{program}\" && chmod 755 \"$1{program}\"",
        recipe::NO_INITRAMFS_SCRIPT
    );
    command
        .arg("--architectures=arm64")
        .arg(format!("--include={}", recipe::KERNEL))
        .arg(format!("--essential-hook={divert}"));
}

/// Takes kernel and initrd out of the tree, and puts our units into it.
pub(crate) fn finish(root: &Path, out: &Path) -> Result<(), Trouble> {
    let units = root.join("etc/systemd/system");
    for (target, unit) in recipe::ENABLED {
        let dir = units.join(target);
        fs::create_dir_all(&dir).attempt(|| format!("create {}", dir.display()))?;
        symlink(format!("/etc/systemd/system/{unit}"), dir.join(unit))
            .attempt(|| format!("switch {unit} on"))?;
    }
    let modules = only_entry(&root.join("lib/modules"))?;
    let version = modules
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    fs::copy(
        root.join(format!("boot/vmlinuz-{version}")),
        out.join("vmlinuz"),
    )
    .attempt(|| format!("copy the kernel {version}"))?;
    let busybox = out.join("tmp/busybox");
    unpack_busybox(root, &busybox)?;
    let initrd = initrd::make(&modules, &busybox.join("bin/busybox"))?;
    fs::write(out.join("initrd"), initrd).attempt(|| "write the initrd".into())
}

fn unpack_busybox(root: &Path, to: &Path) -> Result<(), Trouble> {
    let prefix = format!("{}_", recipe::BUSYBOX);
    let deb = fs::read_dir(root.join("lab"))
        .attempt(|| "read the downloaded packages".into())?
        .flatten()
        .find(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .ok_or_else(|| Trouble(format!("{} was not downloaded", recipe::BUSYBOX)))?;
    fs::create_dir_all(to).attempt(|| format!("create {}", to.display()))?;
    tool::run(tool("dpkg-deb").arg("-x").arg(deb.path()).arg(to))?;
    // Debian 13 has it in /usr/bin alone.
    let (old, new) = (to.join("bin"), to.join("usr/bin"));
    if old.exists() {
        return Ok(());
    }
    symlink(&new, &old).attempt(|| format!("link {}", old.display()))
}

fn only_entry(dir: &Path) -> Result<PathBuf, Trouble> {
    fs::read_dir(dir)
        .attempt(|| format!("read {}", dir.display()))?
        .flatten()
        .next()
        .map(|e| e.path())
        .ok_or_else(|| Trouble(format!("{} is empty: no kernel came", dir.display())))
}
