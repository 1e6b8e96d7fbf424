//! Installs what the lab and the tests need.

use std::path::Path;
use std::process::Command;

use crate::consent::Consent;
use crate::machine::{self, System};
use crate::{Outcome, process};

/// A program, the Debian package that brings it, and what it is for.
type Need = (&'static str, &'static str, &'static str);

/// What labs need.
const NEEDS: &[Need] = &[
    ("mmdebstrap", "mmdebstrap", "builds the nodes' images"),
    ("newuidmap", "uidmap", "gives the lab user ids of its own"),
    ("ip", "iproute2", "the lab's network"),
    ("unshare", "util-linux", "namespaces"),
    ("mount", "mount", "the nodes' disks"),
    (
        "ssh",
        "openssh-client",
        "a shell on a node, and the benchmark's yardstick",
    ),
    (
        "ssh-keygen",
        "openssh-client",
        "the key that is lent to a lab",
    ),
];

/// What virtual machines need beyond that: the lab crate's own list, said again because this program has no
/// dependencies (a test of `xtask-product` compares the two).
const OF_MACHINES: &[Need] = include!("machines.rs.in");

/// What tests start beside labs.
const OF_TESTS: &[Need] = &[
    (
        "sshd",
        "openssh-server",
        "a server for tests of the transport",
    ),
    ("sfdisk", "fdisk", "partitions on images of disks"),
    ("mkfs.ext4", "e2fsprogs", "file systems on images of disks"),
];

/// What is to be made possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Labs.
    Lab,
    /// Labs, and what tests start beside them.
    Tests,
    /// All tests, also those with nodes that are virtual machines.
    AllTests,
}

impl Purpose {
    fn needs(self) -> impl Iterator<Item = &'static Need> {
        let tests = if self >= Self::Tests { OF_TESTS } else { &[] };
        let machines = if self >= Self::AllTests {
            OF_MACHINES
        } else {
            &[]
        };
        NEEDS.iter().chain(tests).chain(machines)
    }
}

/// Ubuntu lacks them; Debian cannot be without.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// A systemd needs about 6 inotify instances, and users get 128: no more than 16 nodes would come up.
const INOTIFY: (&str, u64) = ("fs.inotify.max_user_instances", 8192);

/// Installs what is missing, with consent.
pub(crate) fn run(consent: Consent, purpose: Purpose) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Err(
            "the lab makes its nodes of Linux namespaces, and this is another system; \
             run this on a Linux machine or in a Linux virtual machine"
                .into(),
        );
    }
    let packages = missing_packages(purpose);
    let mut commands = Vec::new();
    if !packages.is_empty() {
        commands.extend(keep_asleep(&packages));
        commands.push(apt(&["update"]));
        let mut install = vec!["install", "-y", "--no-install-recommends"];
        install.extend(packages.iter().map(String::as_str));
        commands.push(apt(&install));
    }
    commands.extend(
        settings()
            .iter()
            .map(|setting| privileged("sysctl", &["-q", "-w", setting])),
    );
    commands.extend(subordinate_ids());
    if commands.is_empty() {
        println!("This machine has what is needed.");
        return Ok(());
    }
    let system = System::here();
    println!("This needs to be done once (settings of the kernel: until the next boot):");
    for command in &commands {
        println!("  {}", process::shown(command));
    }
    if !packages.is_empty() && !system.is_known() {
        return Err(format!(
            "nothing was installed: the packages are named as in Debian 12 and Ubuntu 22.04, and this is {}; \
             install what brings these programs, and run this again: {}",
            system.name(),
            missing_programs(purpose).join(", ")
        ));
    }
    consent.obtain()?;
    for command in &mut commands {
        process::run(command)?;
    }
    // apt can succeed and leave a program out, when the package is named otherwise there.
    let left = missing_packages(purpose);
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("installed, and still missing: {}", left.join(", ")))
    }
}

fn missing(purpose: Purpose) -> impl Iterator<Item = (&'static str, &'static str)> {
    let programs = purpose
        .needs()
        .filter(|(program, _, _)| machine::find(program).is_none())
        .map(|(program, package, _)| (*program, *package));
    let keyring = KEYRINGS.iter().all(|file| !Path::new(file).exists());
    programs.chain(keyring.then_some(("the Debian archive's keys", "debian-archive-keyring")))
}

fn missing_packages(purpose: Purpose) -> Vec<String> {
    let mut list: Vec<String> = missing(purpose)
        .map(|(_, package)| package.to_owned())
        .collect();
    list.dedup();
    list
}

fn missing_programs(purpose: Purpose) -> Vec<String> {
    missing(purpose)
        .map(|(program, _)| {
            let why = purpose
                .needs()
                .find(|n| n.0 == program)
                .map(|n| format!(" ({})", n.2));
            format!("{program}{}", why.unwrap_or_default())
        })
        .collect()
}

/// Tests start servers of their own: installing the package must not open this machine to the network.
fn keep_asleep(packages: &[String]) -> Option<Command> {
    let runs_systemd = Path::new("/run/systemd/system").exists();
    let server = packages.iter().any(|p| p == "openssh-server");
    (runs_systemd && server)
        .then(|| privileged("systemctl", &["mask", "ssh.service", "ssh.socket"]))
}

/// Settings of the kernel that stand in the way.
fn settings() -> Vec<String> {
    let mut list = Vec::new();
    let mut want = |key: &str, value: u64, wrong: fn(u64, u64) -> bool| {
        if machine::sysctl(key).is_some_and(|now| wrong(now, value)) {
            list.push(format!("{key}={value}"));
        }
    };
    want(INOTIFY.0, INOTIFY.1, |now, value| now < value);
    if !machine::is_root() {
        // Ubuntu 23.10 and later take away what a user namespace gives; hardened Debian forbids it.
        want(
            "kernel.apparmor_restrict_unprivileged_userns",
            0,
            |now, value| now != value,
        );
        want("kernel.unprivileged_userns_clone", 1, |now, value| {
            now != value
        });
    }
    list
}

/// A range of ids for a user who has none. Root needs none.
fn subordinate_ids() -> Option<Command> {
    if machine::is_root() {
        return None;
    }
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .ok()?;
    let ranges = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    let has = |text: &str| {
        text.lines()
            .any(|l| l.split(':').next() == Some(user.as_str()))
    };
    if has(&uids) && has(&gids) {
        return None;
    }
    let first = first_free(&uids).max(first_free(&gids));
    let range = format!("{first}-{}", first + 65_535);
    Some(privileged(
        "usermod",
        &["--add-subuids", &range, "--add-subgids", &range, &user],
    ))
}

/// Behind every range that somebody has.
fn first_free(ranges: &str) -> u64 {
    ranges
        .lines()
        .filter_map(|l| {
            let mut numbers = l.split(':').skip(1).map(str::parse::<u64>);
            Some(numbers.next()?.ok()? + numbers.next()?.ok()?)
        })
        .fold(100_000, u64::max)
}

fn apt(words: &[&str]) -> Command {
    let mut all = vec![
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=300",
    ];
    all.extend(words);
    privileged("env", &all)
}

fn privileged(program: &str, words: &[&str]) -> Command {
    let mut command = if machine::is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    };
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::first_free;

    #[test]
    fn a_new_range_of_ids_overlaps_nobodys() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(
            first_free("ann:100000:65536\nbob:165536:65536\nnonsense\n"),
            231_072
        );
    }
}
