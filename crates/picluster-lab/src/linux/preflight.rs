//! What this Linux machine lacks.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::linux::cgroup;
use crate::linux::tool::{find, tool};
use crate::linux::userns::Mapping;
use crate::preflight::Missing;

const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";
/// inotify instances a node's systemd and services hold.
const INOTIFY_PER_NODE: usize = 6;
/// Instances the rest of the user's session may hold already.
const INOTIFY_RESERVE: usize = 30;

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The whole list, for `nodes` nodes.
pub(crate) fn list(nodes: usize) -> Vec<Missing> {
    let mut list = tools(&[
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("mount", "util-linux"),
        ("ip", "iproute2"),
        ("chroot", "coreutils"),
    ]);
    list.extend(namespaces());
    if let Err(t) = cgroup::way() {
        list.push(Missing::new(
            "a cgroup2 directory of your own",
            format!("each node's systemd needs one ({t})"),
            if is_root() {
                "run the lab on the machine itself, or give the container a writable cgroup2 (mount -t cgroup2 cgroup2 /sys/fs/cgroup)"
            } else {
                "log in with a systemd user session (`loginctl enable-linger $USER`, then log in again), or run as root"
            },
        ));
    }
    if !fs::read_to_string("/proc/filesystems")
        .unwrap_or_default()
        .lines()
        .any(|l| l.trim_end().ends_with("\toverlay"))
    {
        list.push(Missing::new(
            "overlayfs",
            "every node's disk is an overlay over the image",
            "modprobe overlay",
        ));
    }
    let (have, want) = inotify(nodes);
    if have < want && !is_root() {
        list.push(Missing::new(
            "inotify instances",
            format!("{nodes} nodes need about {want} and this machine allows {have} a user; beyond that nodes hang or come up degraded"),
            format!("sudo sysctl fs.inotify.max_user_instances={}", want.max(8192)),
        ));
    }
    list
}

/// What building an image needs beyond that.
pub(crate) fn for_images() -> Vec<Missing> {
    let mut list = tools(&[("mmdebstrap", "mmdebstrap"), ("apt-get", "apt")]);
    list.extend(namespaces());
    let rings = [
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/usr/share/keyrings/debian-archive-keyring.pgp",
    ];
    if !rings.iter().any(|p| Path::new(p).exists()) {
        list.push(Missing::new(
            "the Debian archive's keys",
            "packages of the image are verified with them",
            install("debian-archive-keyring"),
        ));
    }
    list
}

/// Raises the inotify limit when this is root; says so.
pub(crate) fn raise_inotify(nodes: usize) -> Option<String> {
    let (have, want) = inotify(nodes);
    if have >= want || !is_root() {
        return None;
    }
    let new = want.max(8192);
    fs::write(INOTIFY, new.to_string()).ok()?;
    Some(format!(
        "raised fs.inotify.max_user_instances from {have} to {new} until this machine restarts: {nodes} nodes need about {want}"
    ))
}

fn inotify(nodes: usize) -> (usize, usize) {
    let have = fs::read_to_string(INOTIFY)
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(usize::MAX);
    (have, nodes * INOTIFY_PER_NODE + INOTIFY_RESERVE)
}

fn install(package: &str) -> String {
    format!("sudo apt-get install -y --no-install-recommends {package}")
}

fn tools(wanted: &[(&str, &str)]) -> Vec<Missing> {
    wanted
        .iter()
        .filter(|(program, _)| find(program.as_ref()).is_none())
        .map(|(program, package)| {
            Missing::new(
                *program,
                format!("the lab runs it, and it is not in {}", super::tool::PATH),
                install(package),
            )
        })
        .collect()
}

fn namespaces() -> Vec<Missing> {
    let mut list = Vec::new();
    let number = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .and_then(|t| t.trim().parse::<u64>().ok())
    };
    if !is_root() {
        if find("newuidmap".as_ref()).is_none() {
            list.push(Missing::new(
                "newuidmap",
                "it maps a range of ids into the lab's user namespace",
                install("uidmap"),
            ));
        }
        if let Err(t) = Mapping::mine() {
            list.push(Missing::new(
                "a range of subordinate ids",
                format!("the lab's accounts need ids of this machine ({t})"),
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER   (choose a range no other line of /etc/subuid has)",
            ));
        }
        if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
            list.push(Missing::new(
                "user namespaces for users",
                "kernel.unprivileged_userns_clone is 0",
                "sudo sysctl kernel.unprivileged_userns_clone=1",
            ));
        }
        if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
            list.push(Missing::new(
                "unrestricted user namespaces",
                "AppArmor takes away what a user namespace gives (Ubuntu 23.10 and later)",
                "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            ));
        }
    }
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        list.push(Missing::new(
            "user namespaces",
            "user.max_user_namespaces is 0",
            "sudo sysctl user.max_user_namespaces=10000",
        ));
    }
    if list.is_empty() && find("unshare".as_ref()).is_some() {
        let made = tool("unshare")
            .args(["--user", "--", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|s| s.success()) {
            list.push(Missing::new(
                "user namespaces",
                "`unshare --user true` fails",
                "allow user namespaces in the kernel, or leave the container that forbids them",
            ));
        }
    }
    list
}
