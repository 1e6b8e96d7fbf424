//! What a Pi's firmware and its patched kernel do with `cmdline.txt`, for a machine that has neither.
//!
//! At every start the files of the boot partition are read and the kernel's arguments put together as on a Pi: device
//! tree first, then the first line of `cmdline.txt` (`pi::cmdline`, which nodes made of namespaces use as well).
//!
//! **The stand-in.** `cgroup_enable=memory` is known to Raspberry Pi's kernels alone, where of contradicting flags the
//! last one wins. Debian's kernel knows `cgroup_disable=memory` only, so the contradiction is settled here, before the
//! kernel is told: where the memory controller is to be on, `memory` is taken out of `cgroup_disable=`. Whether the
//! controller is there is then the kernel's own doing.

use std::fs;
use std::path::Path;

use super::disk::{Disk, mtools};
use crate::error::{Attempt, Trouble};
use crate::linux::tool;
use crate::pi::cmdline;
use crate::spec::PiPersonality;

/// The emulated machine's own: where its console is, and nothing that only costs time under emulation.
const OWN: &str = "console=ttyAMA0 mitigations=off audit=0";

/// Reads the boot partition and returns the kernel's arguments. `scratch` is a directory of ours.
pub(crate) fn arguments(
    disk: &Disk,
    scratch: &Path,
    pi: &PiPersonality,
    mac: &str,
) -> Result<String, Trouble> {
    let boot = scratch.join("boot/firmware");
    let _ = fs::remove_dir_all(scratch);
    fs::create_dir_all(&boot).attempt(|| format!("create {}", boot.display()))?;
    tool::run(
        mtools("mcopy", &disk.boot())
            .args(["-s", "-n", "::*"])
            .arg(&boot),
    )?;
    let line = cmdline::effective(scratch, pi, mac);
    let _ = fs::remove_dir_all(scratch);
    Ok(format!("{OWN} {}", settle(&line)))
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
