//! Which swap an OS switches on at boot, read from the node's own files.
//!
//! The sources and their precedence follow dphys-swapfile(8), rpi-swap's README, zram-generator(8) and fstab(5).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/swaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub name: String,
    /// `file` or `partition`.
    pub kind: &'static str,
    pub kib: u64,
    pub priority: i32,
}

/// `/proc/swaps` as the kernel prints it (mm/swapfile.c, `swap_show`).
pub(crate) fn render(swaps: &[Swap]) -> String {
    let mut text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
    for s in swaps {
        let pad = " ".repeat(40usize.saturating_sub(s.name.len()).max(1));
        let kind = if s.kind == "file" { "file\t" } else { s.kind };
        let tab = if s.kib < 10_000_000 { "\t" } else { "" };
        text.push_str(&format!(
            "{}{pad}{kind}\t{}\t{tab}0\t\t{}\n",
            s.name, s.kib, s.priority
        ));
    }
    text
}

/// The swap that is on after this boot of the node whose root is `root`.
pub(crate) fn at_boot(root: &Path, cmdline: &str) -> Vec<Swap> {
    let mut swaps = Vec::new();
    let zram_allowed = !cmdline
        .split_ascii_whitespace()
        .any(|t| t == "systemd.zram=0" || t == "systemd.zram=no" || t == "systemd.zram=false")
        && !["systemd-zram-setup@zram0.service", "dev-zram0.swap"]
            .iter()
            .any(|u| masked(root, u));
    let zram = Swap {
        name: "/dev/zram0".into(),
        kind: "partition",
        kib: 2_097_148,
        priority: 100,
    };
    if generator(root, "zram-generator") {
        if generator(root, "rpi-swap-generator") {
            match rpi_mechanism(root).as_str() {
                "none" => {}
                "swapfile" => swaps.push(file(root, "/var/swap", 2048)),
                _ if zram_allowed => swaps.push(zram),
                _ => {}
            }
        } else if zram_allowed && zram_section(root) {
            swaps.push(zram);
        }
    }
    if dphys_enabled(root) {
        let conf = fs::read_to_string(root.join("etc/dphys-swapfile")).unwrap_or_default();
        let value = |key: &str| shell_value(&conf, key);
        let mib: u64 = value("CONF_SWAPSIZE")
            .and_then(|v| v.parse().ok())
            .unwrap_or(100);
        if mib > 0 {
            swaps.push(file(
                root,
                &value("CONF_SWAPFILE").unwrap_or_else(|| "/var/swap".into()),
                mib,
            ));
        }
    }
    for line in fs::read_to_string(root.join("etc/fstab"))
        .unwrap_or_default()
        .lines()
    {
        let fields: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        if let [what, _, "swap", options, ..] = fields.as_slice() {
            if options.split(',').any(|o| o == "noauto") {
                continue;
            }
            if what.starts_with("/dev/") || what.contains('=') {
                swaps.push(Swap {
                    name: (*what).to_owned(),
                    kind: "partition",
                    kib: 1_048_572,
                    priority: -2,
                });
            } else if root.join(what.trim_start_matches('/')).is_file() {
                let mib = fs::metadata(root.join(what.trim_start_matches('/')))
                    .map_or(0, |m| m.len() >> 20);
                swaps.push(file(root, what, mib));
            }
        }
    }
    swaps
}

/// A swap file; made (sparse) when it is not there yet, as dphys-swapfile and rpi-swap do.
fn file(root: &Path, name: &str, mib: u64) -> Swap {
    let path = root.join(name.trim_start_matches('/'));
    if !path.exists() {
        // A read-only card has no swap file then, and no boot fails for it.
        if let Ok(f) = fs::File::create(&path) {
            let _ = f.set_len(mib << 20);
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        }
    }
    Swap {
        name: name.to_owned(),
        kind: "file",
        kib: (mib << 10).saturating_sub(4),
        priority: -2,
    }
}

fn unit_dir(root: &Path) -> PathBuf {
    root.join("etc/systemd/system")
}

fn masked(root: &Path, unit: &str) -> bool {
    fs::read_link(unit_dir(root).join(unit)).is_ok_and(|t| t == Path::new("/dev/null"))
}

fn generator(root: &Path, name: &str) -> bool {
    let masked = fs::read_link(root.join("etc/systemd/system-generators").join(name))
        .is_ok_and(|t| t == Path::new("/dev/null"));
    !masked
        && root
            .join("usr/lib/systemd/system-generators")
            .join(name)
            .is_file()
}

fn dphys_enabled(root: &Path) -> bool {
    let unit = "dphys-swapfile.service";
    unit_dir(root)
        .join("multi-user.target.wants")
        .join(unit)
        .is_symlink()
        && !masked(root, unit)
        && root.join("usr/sbin/dphys-swapfile").is_file()
}

/// `Mechanism=` after all drop-ins; an unknown or missing value means `auto`.
fn rpi_mechanism(root: &Path) -> String {
    let mut files = vec![root.join("etc/rpi/swap.conf")];
    files.extend(drop_ins(&root.join("etc/rpi/swap.conf.d")));
    let mut mechanism = "auto".to_owned();
    for f in files {
        let mut section = String::new();
        for line in fs::read_to_string(f)
            .unwrap_or_default()
            .lines()
            .map(str::trim)
        {
            if line.starts_with('[') {
                section = line.to_owned();
            } else if section == "[Main]"
                && let Some(v) = line
                    .strip_prefix("Mechanism")
                    .map(str::trim_start)
                    .and_then(|l| l.strip_prefix('='))
            {
                mechanism = v.trim().to_owned();
            }
        }
    }
    if ["swapfile", "zram", "zram+file", "none"].contains(&mechanism.as_str()) {
        mechanism
    } else {
        "auto".into()
    }
}

/// Whether zram-generator finds a section for a device: the first main file in order of precedence, plus drop-ins.
fn zram_section(root: &Path) -> bool {
    let dirs = ["etc/systemd", "usr/local/lib/systemd", "usr/lib/systemd"].map(|d| root.join(d));
    let main = dirs
        .iter()
        .map(|d| d.join("zram-generator.conf"))
        .find(|p| p.exists() || p.is_symlink());
    let files = main.into_iter().chain(
        dirs.iter()
            .flat_map(|d| drop_ins(&d.join("zram-generator.conf.d"))),
    );
    files.into_iter().any(|f| {
        fs::read_to_string(f)
            .unwrap_or_default()
            .lines()
            .any(|l| l.trim().starts_with("[zram"))
    })
}

fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "conf"))
        .collect();
    files.sort();
    files
}

fn shell_value(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='))
        .next_back()
        .map(|v| v.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(root: &Path, path: &str, text: &str) {
        let p = root.join(path);
        fs::create_dir_all(p.parent().unwrap()).unwrap();
        fs::write(p, text).unwrap();
    }

    #[test]
    fn dphys_follows_its_service_and_its_configuration() {
        let d = tempfile::tempdir().unwrap();
        let r = d.path();
        put(r, "usr/sbin/dphys-swapfile", "");
        put(
            r,
            "etc/dphys-swapfile",
            "#CONF_SWAPSIZE=1\nCONF_SWAPSIZE=512\n",
        );
        fs::create_dir_all(r.join("var")).unwrap();
        assert!(at_boot(r, "").is_empty(), "not enabled");
        let wants = r.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink(
            "/lib/systemd/system/dphys-swapfile.service",
            wants.join("dphys-swapfile.service"),
        )
        .unwrap();
        let on = at_boot(r, "");
        assert_eq!(
            on,
            [Swap {
                name: "/var/swap".into(),
                kind: "file",
                kib: 524_284,
                priority: -2
            }]
        );
        assert_eq!(fs::metadata(r.join("var/swap")).unwrap().len(), 512 << 20);
        assert_eq!(
            render(&on).lines().nth(1).unwrap(),
            format!("/var/swap{}file\t\t524284\t\t0\t\t-2", " ".repeat(31))
        );
        put(r, "etc/dphys-swapfile", "CONF_SWAPSIZE=0\n");
        assert!(at_boot(r, "").is_empty(), "size zero");
    }

    #[test]
    fn rpi_swap_is_off_by_drop_in_mask_or_kernel_argument() {
        let d = tempfile::tempdir().unwrap();
        let r = d.path();
        put(r, "usr/lib/systemd/system-generators/zram-generator", "");
        put(
            r,
            "usr/lib/systemd/system-generators/rpi-swap-generator",
            "",
        );
        put(r, "etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n");
        assert_eq!(at_boot(r, "")[0].name, "/dev/zram0");
        assert!(at_boot(r, "quiet systemd.zram=0").is_empty());
        put(
            r,
            "etc/rpi/swap.conf.d/90-disable-swap.conf",
            "[Main]\nMechanism=none\n",
        );
        assert!(at_boot(r, "").is_empty());
        // Purged, its generator's default configuration is back in charge (rpi-swap issue 4).
        fs::remove_file(r.join("usr/lib/systemd/system-generators/rpi-swap-generator")).unwrap();
        put(r, "usr/lib/systemd/zram-generator.conf", "[zram0]\n");
        assert_eq!(at_boot(r, "")[0].name, "/dev/zram0");
        put(r, "etc/systemd/zram-generator.conf", "");
        assert!(
            at_boot(r, "").is_empty(),
            "an empty file masks the vendor's"
        );
    }

    #[test]
    fn fstab_lines_count_unless_commented_or_noauto() {
        let d = tempfile::tempdir().unwrap();
        let r = d.path();
        put(r, "swapfile", "");
        put(
            r,
            "etc/fstab",
            "/swapfile none swap sw 0 0\n# /dev/sda2 none swap sw 0 0\n/dev/sda3 none swap noauto 0 0\n",
        );
        assert_eq!(
            at_boot(r, "")
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>(),
            ["/swapfile"]
        );
    }
}
