//! The kernel command line: `/boot/firmware/cmdline.txt` as written, and as the kernel gets it.

use std::fs;
use std::path::Path;

use crate::spec::{OsFlavour, PiPersonality};

/// `cmdline.txt` of a freshly flashed card whose first boot is over. Raspberry Pi OS: pi-gen's file with the PARTUUID
/// filled in; Ubuntu: the preinstalled server image's. No newline at the end, as Raspberry Pi Imager writes it.
pub(crate) fn on_card(os: OsFlavour) -> &'static str {
    match os {
        OsFlavour::RpiOsBookworm | OsFlavour::RpiOsTrixie => {
            "console=serial0,115200 console=tty1 root=PARTUUID=4d8097e2-02 rootfstype=ext4 fsck.repair=yes rootwait"
        }
        OsFlavour::Ubuntu2404 => {
            "console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fixrtc"
        }
        OsFlavour::Debian => {
            "console=tty0 console=ttyS1,115200 root=LABEL=RASPIROOT rw fsck.repair=yes net.ifnames=0  rootwait"
        }
    }
}

/// `/proc/cmdline` without its newline: arguments of the device tree and the firmware, then the first line of
/// `cmdline.txt`. Raspberry Pi OS kernels get `cgroup_disable=memory` from the device tree since October 2024
/// (raspberrypi/linux pull request 6439); the others have the memory controller on unless told otherwise.
pub(crate) fn effective(root: &Path, pi: &PiPersonality, mac: &str) -> String {
    let disabled = if pi.os.is_rpi_os() {
        " cgroup_disable=memory"
    } else {
        ""
    };
    let line = read(root);
    // The firmware replaces the alias by the port it stands for.
    let line = line.replace("console=serial0,", "console=ttyS0,");
    format!(
        "coherent_pool=1M 8250.nr_uarts=1 snd_bcm2835.enable_headphones=0{disabled} numa_policy=interleave smsc95xx.macaddr={} vc_mem.mem_base=0x3ec00000 vc_mem.mem_size=0x40000000  {line}",
        mac.to_uppercase()
    )
}

/// First line of the file the firmware reads: `config.txt` may give a prefix directory and another file name.
fn read(root: &Path) -> String {
    let firmware = ["boot/firmware", "boot"]
        .map(|d| root.join(d))
        .into_iter()
        .find(|d| d.join("config.txt").is_file());
    let firmware = firmware.unwrap_or_else(|| root.join("boot/firmware"));
    let config = fs::read_to_string(firmware.join("config.txt")).unwrap_or_default();
    let value = |key: &str| {
        config
            .lines()
            .filter_map(|l| l.trim().strip_prefix(key)?.strip_prefix('=').map(str::trim))
            .next_back()
            .map(str::to_owned)
    };
    let file = format!(
        "{}{}",
        value("os_prefix").unwrap_or_default(),
        value("cmdline").unwrap_or_else(|| "cmdline.txt".into())
    );
    fs::read_to_string(firmware.join(file))
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// Whether the memory controller is on: of contradicting flags the last one wins (kernel, `cgroup_disable=` and the
/// Raspberry Pi patch's `cgroup_enable=`, both comma-separated lists).
pub(crate) fn memory_cgroup(cmdline: &str) -> bool {
    let mut on = true;
    for token in cmdline.split_ascii_whitespace() {
        let lists = |key: &str| {
            token
                .strip_prefix(key)
                .is_some_and(|v| v.split(',').any(|c| c == "memory"))
        };
        if lists("cgroup_disable=") {
            on = false;
        } else if lists("cgroup_enable=") {
            on = true;
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_memory_flag_wins() {
        assert!(memory_cgroup("quiet"));
        assert!(!memory_cgroup(
            "cgroup_disable=memory quiet cgroup_memory=1"
        ));
        assert!(memory_cgroup(
            "cgroup_disable=memory  cgroup_enable=cpuset,memory"
        ));
        assert!(!memory_cgroup("cgroup_enable=memory cgroup_disable=memory"));
    }

    #[test]
    fn only_the_first_line_of_the_named_file_reaches_the_kernel() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("boot/firmware");
        fs::create_dir_all(boot.join("current")).unwrap();
        fs::write(
            boot.join("cmdline.txt"),
            "root=x cgroup_enable=memory\ncgroup_disable=memory",
        )
        .unwrap();
        fs::write(boot.join("config.txt"), "arm_64bit=1\n").unwrap();
        let pi = PiPersonality::for_node(OsFlavour::RpiOsBookworm, "n");
        let line = effective(root.path(), &pi, "dc:a6:32:00:00:01");
        assert!(line.ends_with("  root=x cgroup_enable=memory"), "{line}");
        assert!(memory_cgroup(&line));
        fs::write(boot.join("config.txt"), "[all]\nos_prefix=current/\n").unwrap();
        fs::write(boot.join("current/cmdline.txt"), "root=y").unwrap();
        let line = effective(root.path(), &pi, "dc:a6:32:00:00:01");
        assert!(line.ends_with("  root=y"));
        assert!(!memory_cgroup(&line));
    }
}
