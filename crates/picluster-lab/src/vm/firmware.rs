//! What a Pi's firmware and its patched kernel do with `cmdline.txt`, for a machine that has neither.
//!
//! At every start the files of the boot partition are read and the kernel's arguments put together as on a Pi: device
//! tree first, then the first line of `cmdline.txt` (`pi::cmdline`, which nodes made of namespaces use as well).
//!
//! **The stand-in.** `cgroup_enable=memory` is known to Raspberry Pi's kernels alone, where of contradicting flags the
//! last one wins. Debian's kernel knows `cgroup_disable=memory` only, so the contradiction is settled here, before the
//! kernel is told: where the memory controller is to be on, `memory` is taken out of `cgroup_disable=`. Whether the
//! controller is there is then the kernel's own doing.
//!
//! **`tryboot`**, as the Raspberry Pi documentation has it ("Fail-safe OS updates"): `reboot '0 tryboot'` sets a flag
//! that counts for one start and is cleared by it; that start reads `tryboot.txt` instead of `config.txt`, and the node
//! sees in its device tree (`chosen/bootloader/tryboot`) whether it is in one. On a Pi the kernel's firmware driver
//! hands the flag on; here what the kernel says last on its console is read, which carries the same words. The node's
//! side, device tree and `/dev/vcio`, is a unit on its card (see [`STAND_IN`]). Not emulated: `autoboot.txt`.

use std::fs;
use std::path::Path;

use super::disk::{Disk, mtools};
use crate::error::{Attempt, Trouble};
use crate::linux::tool;
use crate::pi::cmdline;
use crate::spec::PiPersonality;

/// The emulated machine's own: where its console is, and nothing that only costs time under emulation.
const OWN: &str = "console=ttyAMA0 mitigations=off audit=0";

/// On the node: what shows the firmware to programs, before anything else looks.
pub(crate) const STAND_IN: [(&str, u32, &str); 2] = [
    (
        "etc/systemd/system/lab-firmware.service",
        0o644,
        "[Unit]\nDescription=The lab's stand-in for the firmware\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=sysinit.target shutdown.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -e /etc/lab-firmware\n\n[Install]\nWantedBy=sysinit.target\n",
    ),
    ("etc/lab-firmware", 0o644, include_str!("firmware.sh")),
];

/// Whether a kernel's last words ask for a start with `tryboot`. `console`: what it has said since its start.
pub(crate) fn asks_for_tryboot(console: &[u8]) -> bool {
    // kernel/reboot.c, kernel_restart(); drivers/firmware/raspberrypi.c of Raspberry Pi's kernels reads "%d tryboot".
    const WORDS: &[u8] = b"reboot: Restarting system with command '0 tryboot'";
    console.windows(WORDS.len()).any(|w| w == WORDS)
}

/// Reads the boot partition and returns the kernel's arguments. `scratch` is a directory of ours; `tryboot`: this start
/// is a try.
pub(crate) fn arguments(
    disk: &Disk,
    scratch: &Path,
    pi: &PiPersonality,
    mac: &str,
    tryboot: bool,
) -> Result<String, Trouble> {
    let boot = scratch.join("boot/firmware");
    let _ = fs::remove_dir_all(scratch);
    fs::create_dir_all(&boot).attempt(|| format!("create {}", boot.display()))?;
    tool::run(
        mtools("mcopy", &disk.card())
            .args(["-s", "-n", "::*"])
            .arg(&boot),
    )?;
    if tryboot {
        let config = boot.join("config.txt");
        let _ = fs::remove_file(&config);
        let _ = fs::rename(boot.join("tryboot.txt"), &config);
    }
    let line = cmdline::effective(scratch, pi, mac);
    let _ = fs::remove_dir_all(scratch);
    let flag = if tryboot { " lab.tryboot=1" } else { "" };
    Ok(format!("{OWN}{flag} {}", settle(&line)))
}

/// Settles what a Pi's kernel would.
fn settle(line: &str) -> String {
    if !cmdline::memory_cgroup(line) {
        return line.to_owned();
    }
    let words = line.split_ascii_whitespace().filter_map(|word| {
        let Some(list) = word.strip_prefix("cgroup_disable=") else {
            return Some(word.to_owned());
        };
        let rest: Vec<&str> = list.split(',').filter(|c| *c != "memory").collect();
        (!rest.is_empty()).then(|| format!("cgroup_disable={}", rest.join(",")))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_words_ask_for_a_try() {
        assert!(asks_for_tryboot(
            b"[  12.3] reboot: Restarting system with command '0 tryboot'\r\n"
        ));
        assert!(!asks_for_tryboot(b"[  12.3] reboot: Restarting system\r\n"));
        assert!(!asks_for_tryboot(b""));
    }

    #[test]
    fn the_last_flag_wins_before_the_kernel_is_told() {
        assert_eq!(
            settle("a cgroup_disable=memory b"),
            "a cgroup_disable=memory b"
        );
        assert_eq!(
            settle("a cgroup_disable=memory b cgroup_enable=memory"),
            "a b cgroup_enable=memory"
        );
        assert_eq!(
            settle("cgroup_disable=memory,io cgroup_enable=memory"),
            "cgroup_disable=io cgroup_enable=memory"
        );
        assert_eq!(
            settle("cgroup_enable=memory cgroup_disable=memory"),
            "cgroup_enable=memory cgroup_disable=memory"
        );
    }
}
