//! What firmware and kernel do on a Pi: assembles the node's root, then becomes its systemd.
//!
//! Runs as PID 1 of the node's pid namespace, in mount, uts, ipc, net and cgroup namespaces of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Trouble};
use crate::linux::{hub, mounts};
use crate::network::NodeNet;
use crate::pi;
use crate::spec::PiPersonality;

/// Everything a boot needs to know, written by the supervisor for each node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BootConfig {
    /// Read-only layers, topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where the root is put together.
    pub root: PathBuf,
    pub net: NodeNet,
    pub mac: String,
    pub pi: PiPersonality,
}

/// Directory on the node with the files behind its kernel views. A tmpfs, so nothing of it is on the card.
const VIEWS: &str = "run/lab";

/// `CONFIG`
pub(crate) fn main(args: &[OsString]) -> Result<(), Trouble> {
    let path = args
        .first()
        .ok_or_else(|| Trouble("no configuration named".into()))?;
    let text = fs::read(path).attempt(|| format!("read {}", path.to_string_lossy()))?;
    let config: BootConfig =
        serde_json::from_slice(&text).attempt(|| "read the boot configuration".into())?;
    mounts::all_private()?;
    hub::configure(&config.net)?;
    assemble(&config)?;
    let root = &config.root;
    std::env::set_current_dir(root).attempt(|| format!("enter {}", root.display()))?;
    // Old and new root at one place: the old one ends up on top and is detached, with every path of this machine.
    rustix::process::pivot_root(".", ".").attempt(|| "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).attempt(|| "leave the old root".into())?;
    std::env::set_current_dir("/").attempt(|| "enter the new root".into())?;
    let error = Command::new("/lib/systemd/systemd")
        .arg("--log-target=journal")
        .env_clear()
        .env("PATH", super::tool::PATH)
        // Any value makes systemd leave to the outside what a container cannot do (udev, swap, devices of fstab).
        .env("container", "lab")
        .exec();
    Err(Trouble(format!("start systemd: {error}")))
}

fn assemble(config: &BootConfig) -> Result<(), Trouble> {
    let r = config.root.as_path();
    let lower: Vec<String> = config
        .lower
        .iter()
        .map(|p| p.display().to_string())
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.join(":"),
        config.upper.display(),
        config.work.display()
    );
    mounts::mount("overlay", r, MountFlags::empty(), &options)?;
    let fstab = fs::read_to_string(r.join("etc/fstab")).unwrap_or_default();
    if pi::root_options(&fstab).any(|option| option == "noatime") {
        // What systemd-remount-fs does on a Pi; it knows no overlay.
        mounts::noatime(r)?;
    }
    kernel_file_systems(r)?;
    devices(r)?;
    mounts::tmpfs(&r.join("run"), "mode=755")?;
    for dir in ["run/lock", VIEWS] {
        fs::create_dir_all(r.join(dir)).attempt(|| format!("create /{dir}"))?;
    }
    let firmware = r.join("boot/firmware");
    if firmware.is_dir() {
        // A vfat cannot be mounted here; at least it is a mount of its own, as on a Pi.
        mounts::bind(&firmware, &firmware)?;
    }
    pi::boot_stages(r, &config.pi)?;
    views(r, config)?;
    let hostname = fs::read_to_string(r.join("etc/hostname")).unwrap_or_default();
    let hostname = hostname
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty() && !l.starts_with('#'))
        .unwrap_or("localhost");
    rustix::system::sethostname(hostname.as_bytes()).attempt(|| "set the hostname".into())
}

fn kernel_file_systems(r: &Path) -> Result<(), Trouble> {
    let hard = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::mount("proc", &r.join("proc"), hard, "")?;
    // Writable, udev would run and rename and re-address eth0.
    mounts::mount("sysfs", &r.join("sys"), hard | MountFlags::RDONLY, "")?;
    mounts::mount("cgroup2", &r.join("sys/fs/cgroup"), hard, "")?;
    // Only net.* is the node's own; all else under /proc/sys is this machine's.
    let (sys, net) = (r.join("proc/sys"), r.join("proc/sys/net"));
    mounts::bind(&sys, &sys)?;
    mounts::bind(&net, &net)?;
    mounts::read_only(&sys)
}

fn devices(r: &Path) -> Result<(), Trouble> {
    let dev = r.join("dev");
    mounts::mount("tmpfs", &dev, MountFlags::NOSUID, "mode=755")?;
    let made = |p: &Path| fs::create_dir(p).attempt(|| format!("create {}", p.display()));
    made(&dev.join("pts"))?;
    made(&dev.join("shm"))?;
    mounts::tmpfs(&dev.join("shm"), "mode=1777")?;
    mounts::mount(
        "devpts",
        &dev.join("pts"),
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "newinstance,ptmxmode=666,mode=620,gid=5",
    )?;
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(link)).attempt(|| format!("link /dev/{link}"))?;
    }
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let node = dev.join(name);
        fs::write(&node, "").attempt(|| format!("create /dev/{name}"))?;
        mounts::bind(&Path::new("/dev").join(name), &node)?;
    }
    Ok(())
}

/// Puts the Pi's answers over the kernel's.
fn views(r: &Path, config: &BootConfig) -> Result<(), Trouble> {
    let v = r.join(VIEWS);
    let cmdline = pi::cmdline::effective(r, &config.pi, &config.mac);
    let memory = pi::cmdline::memory_cgroup(&cmdline);
    let swaps = if config.pi.swaps {
        pi::swap::at_boot(r, &cmdline)
    } else {
        Vec::new()
    };
    let boot_id =
        fs::read_to_string("/proc/sys/kernel/random/uuid").attempt(|| "draw a boot id".into())?;
    mounts::shadow(
        &v.join("cmdline"),
        format!("{cmdline}\n"),
        &r.join("proc/cmdline"),
    )?;
    mounts::shadow(
        &v.join("boot_id"),
        boot_id,
        &r.join("proc/sys/kernel/random/boot_id"),
    )?;
    mounts::shadow(
        &v.join("swaps"),
        pi::swap::render(&swaps),
        &r.join("proc/swaps"),
    )?;
    for (name, value) in pi::kernel::PARAMETERS {
        let target = r.join("proc/sys").join(name);
        if target.exists() {
            mounts::shadow(
                &v.join(name.replace('/', ".")),
                format!("{value}\n"),
                &target,
            )?;
        }
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    mounts::shadow(
        &v.join("meminfo"),
        pi::memory::meminfo(&meminfo, config.pi.memory_kib, &swaps),
        &r.join("proc/meminfo"),
    )?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    mounts::shadow(
        &v.join("cpuinfo"),
        pi::firmware::cpuinfo(&cpuinfo, &config.pi),
        &r.join("proc/cpuinfo"),
    )?;
    let controllers = r.join("sys/fs/cgroup/cgroup.controllers");
    mounts::shadow(
        &v.join("cgroup.controllers"),
        pi::cgroups::controllers(memory),
        &controllers,
    )?;
    if r.join("proc/cgroups").exists() {
        mounts::shadow(
            &v.join("cgroups"),
            pi::cgroups::proc_cgroups(memory),
            &r.join("proc/cgroups"),
        )?;
    }
    for (dir, files) in [
        ("sys/firmware", pi::firmware::device_tree(&config.pi)),
        ("sys/block", pi::firmware::block_devices(&config.pi)),
    ] {
        let dir = r.join(dir);
        mounts::tmpfs(&dir, "mode=755")?;
        for (path, content) in files {
            let path = dir.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).attempt(|| format!("create {}", parent.display()))?;
            }
            fs::write(&path, content).attempt(|| format!("write {}", path.display()))?;
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o444));
        }
        mounts::read_only(&dir)?;
    }
    // Exists on machines that have a device tree of their own; procfs lets nobody create it elsewhere.
    let tree = r.join("proc/device-tree");
    if tree.is_dir() {
        mounts::bind(&r.join("sys/firmware/devicetree/base"), &tree)?;
    }
    Ok(())
}
