//! Whether a node can be worked on at all: a clear stop of that node only.

use picluster_resource::Facts;
use picluster_resource::facts::RootAccess;

use crate::plan::Problem;

/// Less free space than this on `/` and even a package list cannot be written, in KiB.
const ROOT_FREE_KIB: u64 = 32 * 1024;

/// What keeps a node from being worked on. Empty: nothing.
#[must_use]
pub fn unfit(facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |what: String, cure: &str| {
        problems.push(Problem::new(what).cure(cure));
    };
    if !matches!(facts.os.id.as_str(), "debian" | "raspbian" | "ubuntu") {
        add(
            format!(
                "its system is {:?}; Debian, Raspberry Pi OS and Ubuntu are supported",
                if facts.os.pretty.is_empty() {
                    &facts.os.id
                } else {
                    &facts.os.pretty
                }
            ),
            "flash one of these and run the same command again",
        );
    }
    if !matches!(facts.arch.userland.as_str(), "armhf" | "arm64" | "amd64") {
        add(
            format!(
                "its architecture is {:?} ({}); armhf, arm64 and amd64 are supported",
                facts.arch.userland, facts.arch.kernel
            ),
            "use an image for one of these",
        );
    }
    if !facts.now.systemd {
        add(
            "systemd is not running there as PID 1".into(),
            "flash an image with systemd (Raspberry Pi OS, Ubuntu, Debian)",
        );
    }
    match facts.now.root {
        RootAccess::None => add(
            "the login user cannot become root: no sudo, or not allowed to use it".into(),
            "add the user to group sudo on the node (adduser USER sudo), or set ssh.user to one who may",
        ),
        RootAccess::IsRoot | RootAccess::Sudo | RootAccess::SudoPassword => {}
    }
    if facts.now.root_read_only {
        add(
            "its root file system is mounted read-only, as a dying card ends".into(),
            "look at `dmesg | tail`; replace the card if it shows I/O errors, else `mount -o remount,rw /`",
        );
    } else if facts.now.root_free_kib < ROOT_FREE_KIB {
        add(
            format!(
                "its root file system is full: {} MiB are free",
                facts.now.root_free_kib / 1024
            ),
            "free some space there: `apt-get clean`, `journalctl --vacuum-size=50M`, `du -xh / | sort -h | tail`",
        );
    }
    problems
}
