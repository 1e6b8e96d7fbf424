//! The questions that are shell text of their own, asked of made-up trees under the shells that may
//! stand behind `/bin/sh`: they must read there what the data cases say they print, and write nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use picluster_model::SourceFile;
use picluster_model::secret::SecretValues;
use picluster_model::yaml::parse;
use picluster_resource::{Ctx, Facts, Numbers, Query, Resource};

/// The fragment a resource asks, by the kind and body of the resource.
fn fragment(kind: &str, body: &str) -> String {
    let file = Arc::new(SourceFile {
        name: "test".into(),
        text: body.into(),
    });
    let body = parse::parse(&file).unwrap();
    let resource = Resource::from_yaml(kind, &body).unwrap();
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let queries = resource.queries(ctx).unwrap();
    let fragment = queries.into_iter().find_map(|query| match query {
        Query::Fragment(text) => Some(text),
        _ => None,
    });
    fragment.unwrap()
}

/// Files of a tree: `-> TARGET` makes a link, a path that ends in `/` a directory, one in `bin/` can
/// be run.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        if path.to_string_lossy().ends_with('/') {
            fs::create_dir_all(&path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = text.strip_prefix("-> ") {
            symlink(target, &path).unwrap();
        } else {
            fs::write(&path, text).unwrap();
        }
        if path.parent().unwrap().ends_with("bin") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    root
}

fn listing(root: &Path) -> String {
    let out = Command::new("find")
        .arg(root)
        .args(["-printf", "%p %T@ %C@ %i\n"])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// What the fragment prints there. The same under every shell; nothing in the tree changes.
fn ask(fragment: &str, files: &[(&str, &str)]) -> String {
    let root = tree(files);
    let dir = root.path().to_str().unwrap();
    assert_eq!(
        fragment.matches("\nR=\n").count(),
        1,
        "the tests need a root to set"
    );
    let script = fragment.replacen("\nR=\n", &format!("\nR={dir}\n"), 1);
    let before = listing(root.path());
    let mut printed: Option<String> = None;
    for shell in ["sh", "dash", "bash"] {
        // As the node-side program wraps it, with errors in sight.
        let program = format!("set -u\nask() (\n{script}\n)\nask </dev/null");
        let out = Command::new(shell)
            .args(["-c", &program])
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", format!("{dir}/bin:/usr/bin:/bin"))
            .output();
        let Ok(out) = out else {
            assert_ne!(shell, "sh", "there is no sh");
            continue;
        };
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{shell}");
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(
            *printed.get_or_insert_with(|| text.clone()),
            text,
            "{shell}"
        );
    }
    assert_eq!(listing(root.path()), before, "a question changes nothing");
    printed.unwrap()
}

/// A file system in use is named anew (e2label asks the kernel to): the partition's device tells so at once, the disk only
/// when the kernel has written it there.
#[test]
fn a_partition_is_read_through_its_own_device() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().canonicalize().unwrap().join("vdb");
    fs::write(&disk, vec![0; 4 << 20]).unwrap();
    let disk = disk.to_str().unwrap();
    let table = "#!/bin/sh\ncat <<E\n{ \"label\": \"gpt\", \"sectorsize\": 512, \"partitions\": [\n\
        { \"node\": \"vdb1\", \"start\": 2048, \"size\": 2048 },\n{ \"node\": \"vdb2\", \"start\": 4096, \"size\": 2048 } ] }\nE\n";
    let blkid = "#!/bin/sh\nfor n; do :; done\necho \"DEVNAME=${n##*/}\"\ncase \"$* \" in\n\
        *' -S '*) echo LABEL=written;;\n\
        *) printf '%s\\n' LABEL=now TYPE=ext4 'PART_ENTRY_NAME=a\\ LABEL=b';;\nesac\n";
    let printed = ask(
        &fragment("partition", &format!("{{ disk: {disk}, label: data }}")),
        &[
            ("/bin/sfdisk", table),
            ("/bin/mkfs.ext4", "#!/bin/sh\n"),
            ("/bin/blkid", blkid),
            ("/dev/vdb1", ""),
            ("/sys/class/block/vdb/vdb1/start", "2048\n"),
            ("/sys/class/block/vdb/vdb1/size", "2048\n"),
            // The kernel has not been told of the new table here.
            ("/dev/vdb2", ""),
            ("/sys/class/block/vdb/vdb2/start", "4096\n"),
            ("/sys/class/block/vdb/vdb2/size", "1024\n"),
        ],
    );
    let signatures: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("part ") || line.starts_with("gap "))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        signatures,
        [
            "part 2048 DEVNAME=vdb1 LABEL=now TYPE=ext4",
            "part 4096 DEVNAME=vdb LABEL=written",
            "gap 6144 DEVNAME=vdb LABEL=written"
        ]
    );
    assert!(printed.ends_with("end\n"), "{printed}");
}

const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

#[test]
fn swap_of_rpios_trixie() {
    let printed = ask(
        &fragment("swap", "state: off"),
        &[
            (
                "/proc/swaps",
                &format!(
                    "{SWAPS}/dev/zram0                              partition\t2097148\t\t0\t\t100\n"
                ),
            ),
            ("/proc/cmdline", "console=tty1 root=PARTUUID=4d8097e2-02\n"),
            (
                "/etc/rpi/swap.conf",
                "#  This file is part of rpi-swap.\n\n[Main]\n#Mechanism=auto\n[File]\n",
            ),
            ("/etc/rpi/swap.conf.d/50-a.conf", "[Main]\nMechanism=zram"),
            (
                "/usr/lib/systemd/system-generators/rpi-swap-generator",
                "#!/bin/sh\n",
            ),
            ("/usr/lib/systemd/system-generators/zram-generator", "ELF"),
            ("/usr/lib/systemd/zram-generator.conf", "[zram0]\n"),
            (
                "/usr/lib/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf",
                "# Disable zram0\n[zram0]\nhost-memory-limit=0\n",
            ),
            (
                "/etc/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf",
                "-> /dev/null",
            ),
            (
                "/run/systemd/generator/dev-zram0.swap",
                "# Automatically generated by rpi-swap-generator\n[Swap]\n",
            ),
        ],
    );
    assert_eq!(
        printed,
        "now /dev/zram0 partition 2097148 0\n\
         rpi-swap\nfile /etc/rpi/swap.conf\n|[Main]\n|[File]\nfile /etc/rpi/swap.conf.d/50-a.conf\n|[Main]\n|Mechanism=zram\n\
         zram-generator\nfile /etc/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf\n\
         file /usr/lib/systemd/zram-generator.conf\n|[zram0]\n\
         file /usr/lib/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf\n|[zram0]\n|host-memory-limit=0\n\
         cmdline console=tty1 root=PARTUUID=4d8097e2-02\nend\n"
    );
}

#[test]
fn services_and_units_that_make_swap() {
    let unit = "[Unit]\n";
    let files: &[(&str, &str)] = &[
        ("/proc/swaps", SWAPS),
        ("/proc/cmdline", "x\n"),
        // Enabled.
        ("/usr/lib/systemd/system/dphys-swapfile.service", unit),
        (
            "/etc/systemd/system/multi-user.target.wants/dphys-swapfile.service",
            "-> /usr/lib/systemd/system/dphys-swapfile.service",
        ),
        (
            "/etc/dphys-swapfile",
            "# CONF_SWAPFILE=/var/swap\nCONF_SWAPSIZE=100\n",
        ),
        // Enabled and masked.
        ("/usr/lib/systemd/system/zramswap.service", unit),
        ("/etc/systemd/system/zramswap.service", "-> /dev/null"),
        (
            "/etc/systemd/system/multi-user.target.wants/zramswap.service",
            "-> /usr/lib/systemd/system/zramswap.service",
        ),
        // Removed with its package, the link left behind.
        (
            "/etc/systemd/system/multi-user.target.wants/zram-config.service",
            "-> /lib/systemd/system/zram-config.service",
        ),
        (
            "/etc/systemd/system/var-swap.swap",
            "[Swap]\nWhat=/var/swap\n",
        ),
        (
            "/etc/systemd/system/swap.target.wants/var-swap.swap",
            "-> ../var-swap.swap",
        ),
        ("/etc/systemd/system/other.swap", "[Swap]\n"),
        (
            "/run/systemd/generator.late/dev-sda3.swap",
            "# Automatically generated by systemd-gpt-auto-generator\n",
        ),
        (
            "/run/systemd/generator.late/dev-sda4.swap",
            "# Automatically generated by systemd-gpt-auto-generator\n",
        ),
        ("/etc/systemd/system/dev-sda4.swap", "-> /dev/null"),
        ("/etc/udev/rules.d/98-dietpi-zram-swap.rules", "x"),
    ];
    assert_eq!(
        ask(&fragment("swap", "state: off"), files),
        "service dphys-swapfile.service\nunit var-swap.swap\ngpt dev-sda3.swap\n\
         file /etc/dphys-swapfile\n|CONF_SWAPSIZE=100\ndietpi\ncmdline x\nend\n"
    );
}

#[test]
fn an_init_script_counts_only_without_a_unit() {
    let rc = (
        "/etc/rc3.d/S02dphys-swapfile",
        "-> ../init.d/dphys-swapfile",
    );
    let base = [("/proc/swaps", SWAPS), ("/proc/cmdline", "x\n"), rc];
    let swap = fragment("swap", "state: off");
    assert_eq!(
        ask(&swap, &base),
        "service dphys-swapfile.service\ncmdline x\nend\n"
    );
    let unit = ("/lib/systemd/system/dphys-swapfile.service", "[Unit]\n");
    let with_unit = [base[0], base[1], base[2], unit];
    assert_eq!(ask(&swap, &with_unit), "cmdline x\nend\n");
}

const CMDLINE: &str = "tokens: { present: [a] }";
const V1: &str =
    "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t76\t1\nmemory\t0\t76\t0\n";

#[test]
fn command_line_of_rpios_bookworm() {
    let printed = ask(
        &fragment("kernel_cmdline", CMDLINE),
        &[
            (
                "/boot/firmware/config.txt",
                "# a comment\ndtparam=audio=on\n[cm4]\notg_mode=1\n[all]\r\ncmdline=other.txt\r\n",
            ),
            ("/boot/firmware/cmdline.txt", "console=tty1 *  root=x"),
            ("/boot/firmware/other.txt", "one\\line\n  second\n"),
            (
                "/boot/cmdline.txt",
                "DO NOT EDIT THIS FILE\n\nThe file you are looking for has moved to /boot/firmware/cmdline.txt\n",
            ),
            (
                "/proc/mounts",
                "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/mmcblk0p1 /boot/firmware vfat rw,relatime 0 0\n",
            ),
            (
                "/etc/fstab",
                "PARTUUID=4d8097e2-01  /boot/firmware  vfat    defaults          0       2\n",
            ),
            ("/proc/cmdline", "coherent_pool=1M  console=tty1\n"),
            ("/proc/cgroups", V1),
            ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n"),
            ("/run/picluster/cmdline", ""),
        ],
    );
    assert_eq!(
        printed,
        "prefix \nconfig /boot/firmware/config.txt\n|[cm4]\n|[all]\n|cmdline=other.txt\n\
         file /boot/firmware/cmdline.txt\n+console=tty1 *  root=x\n\
         file /boot/firmware/other.txt\n|one\\line\n|  second\n\
         file /boot/cmdline.txt\n|DO NOT EDIT THIS FILE\n|\n|The file you are looking for has moved to /boot/firmware/cmdline.txt\n\
         mount /boot/firmware vfat rw,relatime\nfstab /boot/firmware\nrunning coherent_pool=1M  console=tty1\n\
         v2 cpuset cpu io pids\nv1 cpuset\nedited\nend\n"
    );
}

#[test]
fn command_line_of_ubuntu_with_a_b_boot_and_includes() {
    let printed = ask(
        &fragment("kernel_cmdline", CMDLINE),
        &[
            (
                "/boot/firmware/config.txt",
                "[all]\nos_prefix=current/\ninclude usercfg.txt\n",
            ),
            ("/boot/firmware/usercfg.txt", "cmdline=btcmd.txt"),
            ("/boot/firmware/current/cmdline.txt", "a\n"),
            ("/boot/firmware/new/btcmd.txt", "b\n"),
            ("/boot/firmware/set7/cmdline.txt", "c\n"),
            // The device tree's strings end in NUL.
            ("/sys/firmware/devicetree/base/chosen/os_prefix", "set7/\0"),
            ("/proc/mounts", ""),
            ("/proc/cmdline", "a\n"),
            (
                "/etc/kernel/postinst.d/z50-raspi-firmware",
                "cmdline_custom=\"/etc/default/raspi-extra-cmdline\"\n",
            ),
            ("/etc/default/raspi-extra-cmdline", "x\n"),
        ],
    );
    assert_eq!(
        printed,
        "prefix set7/\nconfig /boot/firmware/config.txt\n|[all]\n|os_prefix=current/\nconfig /boot/firmware/usercfg.txt\n|cmdline=btcmd.txt\n\
         file /boot/firmware/current/cmdline.txt\n|a\nfile /boot/firmware/set7/cmdline.txt\n|c\nfile /boot/firmware/new/btcmd.txt\n|b\n\
         regenerated\nfile /etc/default/raspi-extra-cmdline\n|x\nrunning a\nend\n"
    );
}

#[test]
fn first_boot_signs() {
    let first_boot = fragment("first_boot", "{}");
    let quiet = (
        "/boot/firmware/cmdline.txt",
        "root=x init=/bin/systemd quiet",
    );
    assert_eq!(ask(&first_boot, &[quiet]), "end\n");
    // A file that nothing will take up is no reason to wait.
    assert_eq!(
        ask(&first_boot, &[quiet, ("/boot/firmware/custom.toml", "x")]),
        "end\n"
    );
    let printed = ask(
        &first_boot,
        &[
            (
                "/boot/firmware/cmdline.txt",
                "root=* resize init=/usr/lib/raspberrypi-sys-mods/firstboot systemd.run=/boot/firstrun.sh\n",
            ),
            ("/boot/firmware/firstrun.sh", "x"),
            ("/boot/cmdline.txt", "DO NOT EDIT THIS FILE resize\n"),
            ("/run/cloud-init/enabled", ""),
        ],
    );
    assert_eq!(
        printed,
        "left resize in /boot/firmware/cmdline.txt\nleft init=/usr/lib/raspberrypi-sys-mods/firstboot in /boot/firmware/cmdline.txt\n\
         left systemd.run=/boot/firstrun.sh in /boot/firmware/cmdline.txt\nleft cloud-init\nleft /boot/firmware/firstrun.sh\nend\n"
    );
    let done = [
        ("/run/cloud-init/enabled", ""),
        ("/run/cloud-init/result.json", "{}"),
    ];
    assert_eq!(ask(&first_boot, &done), "end\n");
}

/// A systemctl that says `state` and lists `jobs`.
fn systemctl(state: &str, jobs: &str) -> String {
    format!(
        "#!/bin/sh\ncase $1 in is-system-running) echo {state}; exit 1;; list-jobs) echo '{jobs}';; esac\n"
    )
}

#[test]
fn a_system_that_starts() {
    let first_boot = fragment("first_boot", "{}");
    let with = |state: &str, jobs: &str| {
        let fake = systemctl(state, jobs);
        ask(
            &first_boot,
            &[("/run/systemd/system/", ""), ("/bin/systemctl", &fake)],
        )
    };
    assert_eq!(with("running", ""), "end\n");
    assert_eq!(with("degraded", ""), "end\n");
    assert_eq!(with("stopping", ""), "left the system is going down\nend\n");
    assert_eq!(
        with("initializing", ""),
        "left the system is starting\nend\n"
    );
    let jobs = "2 multi-user.target start waiting\n81 cloud-final.service start running\n90 k3s.service start running";
    assert_eq!(
        with("starting", jobs),
        "left starting: cloud-final.service\nend\n"
    );
    // An agent waits for its server on every boot, for as long as it takes.
    let agent = "2 multi-user.target start waiting\n90 k3s-agent.service start running";
    assert_eq!(with("starting", agent), "end\n");
}

#[test]
fn clocks() {
    let clock = fragment("clock", "{}");
    let timesyncd = (
        "/usr/lib/systemd/system/systemd-timesyncd.service",
        "[Unit]\n",
    );
    let no = ("/bin/timedatectl", "#!/bin/sh\necho no\n");
    assert_eq!(
        ask(
            &clock,
            &[timesyncd, no, ("/run/systemd/timesync/synchronized", "")]
        ),
        "synchronized yes\nservice systemd-timesyncd.service\n"
    );
    assert_eq!(
        ask(&clock, &[timesyncd, no]),
        "synchronized no\nservice systemd-timesyncd.service\n"
    );
    let yes = ("/bin/timedatectl", "#!/bin/sh\necho yes\n");
    assert_eq!(ask(&clock, &[yes]), "synchronized yes\n");
    assert_eq!(
        ask(&clock, &[("/bin/timedatectl", "#!/bin/sh\nexit 1\n")]),
        "synchronized no\n"
    );
}

#[test]
fn package_database() {
    let package = fragment("package", "names: [curl]");
    assert_eq!(ask(&package, &[]), "journals=\n");
    let lists = (
        "/var/lib/apt/lists/deb.debian.org_debian_dists_trixie_main_binary-arm64_Packages",
        "",
    );
    let journal = ("/var/lib/dpkg/updates/0001", "");
    let tmp = ("/var/lib/dpkg/updates/tmp.i", "");
    assert_eq!(
        ask(
            &package,
            &[
                lists,
                journal,
                tmp,
                ("/var/lib/dpkg/lock", ""),
                ("/proc/locks", "")
            ]
        ),
        "journals= 0001\nlists=1\n"
    );
}

#[test]
fn sysctl_configuration() {
    let printed = ask(
        &fragment("sysctl", "{ key: net.ipv4.ip_forward, value: '1' }"),
        &[
            ("/etc/sysctl.d/99-sysctl.conf", "-> ../sysctl.conf"),
            (
                "/etc/sysctl.conf",
                "# net.ipv4.ip_forward=0\n\n;x\nkernel.panic = 10",
            ),
            ("/etc/sysctl.d/README.sysctl", "x=1\n"),
            (
                "/usr/lib/sysctl.d/50-pid-max.conf",
                "kernel.pid_max = 4194304\n",
            ),
            ("/lib", "-> usr/lib"),
        ],
    );
    assert_eq!(
        printed,
        "file /etc/sysctl.d/99-sysctl.conf\n|kernel.panic = 10\nfile /usr/lib/sysctl.d/50-pid-max.conf\n|kernel.pid_max = 4194304\n"
    );
}

#[test]
fn kernel_modules() {
    let module = fragment("kernel_module", "name: br-netfilter");
    let release = ("/proc/sys/kernel/osrelease", "6.1.0-rpi7\n");
    let builtin = (
        "/lib/modules/6.1.0-rpi7/modules.builtin",
        "kernel/fs/ext4/ext4.ko\n",
    );
    assert_eq!(
        ask(&module, &[("/sys/module/br_netfilter/", "")]),
        "loaded\n"
    );
    assert_eq!(ask(&module, &[release]), "no-modules 6.1.0-rpi7\n");
    let can = ("/bin/modprobe", "#!/bin/sh\n");
    assert_eq!(ask(&module, &[release, builtin, can]), "available\n");
    let cannot = ("/bin/modprobe", "#!/bin/sh\nexit 1\n");
    assert_eq!(
        ask(&module, &[release, builtin, cannot]),
        "missing 6.1.0-rpi7\n"
    );
    let has = (
        "/lib/modules/6.1.0-rpi7/modules.builtin",
        "kernel/net/bridge/br-netfilter.ko\n",
    );
    assert_eq!(ask(&module, &[release, has, cannot]), "loaded\n");
}

#[test]
fn kernel_modules_of_the_kernel_that_is_not_booted_yet() {
    let module = fragment("kernel_module", "name: vxlan");
    let release = ("/proc/sys/kernel/osrelease", "5.15.0-1060-raspi\n");
    let cannot = ("/bin/modprobe", "#!/bin/sh\nexit 1\n");
    let running = ("/lib/modules/5.15.0-1060-raspi/modules.dep", "\n");
    let list = "kernel/drivers/net/vxlan/vxlan.ko: kernel/net/ipv4/udp_tunnel.ko\n";
    let next = ("/lib/modules/5.15.0-1061-raspi/modules.dep", list);
    assert_eq!(
        ask(&module, &[release, cannot, running, next]),
        "next 5.15.0-1061-raspi\n"
    );
    // The running kernel's modules went with its upgrade.
    assert_eq!(ask(&module, &[release, next]), "next 5.15.0-1061-raspi\n");
    // Another flavour is not what the next boot brings.
    let other = ("/lib/modules/5.15.0-1061-generic/modules.dep", list);
    assert_eq!(
        ask(&module, &[release, cannot, running, other]),
        "missing 5.15.0-1060-raspi\n"
    );
}

const MOUNTED: (&str, &str) = (
    "/proc/mounts",
    "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/mmcblk0p1 /boot/firmware vfat rw,relatime 0 0\n",
);

#[test]
fn config_txt_with_includes_that_include() {
    let printed = ask(
        &fragment("config_txt", "setting: gpu_mem=16"),
        &[
            (
                "/boot/firmware/config.txt",
                "[all]\r\n  spaced \\x\ninclude one.txt\ninclude missing.txt\r\ninclude deep/two.txt",
            ),
            ("/boot/firmware/one.txt", "include config.txt\ngpu_mem=1"),
            ("/boot/firmware/deep/two.txt", "a=b\n"),
            ("/boot/firmware/other.txt", "x=y\n"),
            ("/boot/config.txt", "DO NOT EDIT THIS FILE\n"),
            ("/run/picluster/config-txt/%boot%firmware%config.txt", "q=1"),
            MOUNTED,
            ("/etc/fstab", "LABEL=b /boot/firmware vfat defaults 0 2\n"),
            ("/bin/getconf", "#!/bin/sh\necho 16384\n"),
        ],
    );
    assert_eq!(
        printed,
        "file /boot/firmware/config.txt\n|[all]\r\n|  spaced \\x\n|include one.txt\n|include missing.txt\r\n+include deep/two.txt\n\
         file /boot/firmware/one.txt\n|include config.txt\n+gpu_mem=1\nfile /boot/firmware/deep/two.txt\n|a=b\n\
         file /boot/config.txt\n|DO NOT EDIT THIS FILE\nwas %boot%firmware%config.txt\n+q=1\n\
         mount /boot/firmware vfat rw,relatime\nfstab /boot/firmware\npages 16384\nend\n"
    );
}

#[test]
fn mounts() {
    let data = fragment("mount", "{ path: '/mnt/my data', source: LABEL=data }");
    let mounts = (
        "/proc/mounts",
        "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/sda1 /mnt/my\\040data ext4 rw,relatime 0 0\n",
    );
    let none = ("/bin/findfs", "#!/bin/sh\nexit 1\n");
    assert_eq!(
        ask(&data, &[mounts, none, ("/mnt/my data/", "")]),
        "mounted /dev/sda1 ext4 rw,relatime\nkind directory\nend\n"
    );
    let found = (
        "/bin/findfs",
        "#!/bin/sh\n[ \"$1\" = LABEL=data ] && echo /dev/sdb1\n",
    );
    assert_eq!(
        ask(&data, &[MOUNTED, found, ("/mnt/my data/.hidden", "")]),
        "kind directory\nfull\ndevice /dev/sdb1\nend\n"
    );
    assert_eq!(
        ask(&data, &[MOUNTED, none, ("/mnt/my data", "")]),
        "kind other\nend\n"
    );
    let bind = fragment("mount", "{ path: /var/lib/rancher, source: /mnt/rancher }");
    assert_eq!(ask(&bind, &[MOUNTED]), "end\n");
    assert_eq!(
        ask(
            &bind,
            &[
                MOUNTED,
                ("/mnt/rancher/", ""),
                ("/var/lib/rancher", "-> ../../mnt/rancher")
            ]
        ),
        "kind directory\ndirectory\nsame\nend\n"
    );
}

#[test]
fn networks() {
    let eth0 = fragment(
        "network",
        "{ interface: eth0, addresses: [192.168.2.1/24] }",
    );
    let there = ("/sys/class/net/eth0/mtu", "1500\n");
    let ip = (
        "/bin/ip",
        "#!/bin/sh\ncase \"$*\" in '-o addr show dev eth0 scope global') echo '2: eth0    inet 192.168.2.57/24 brd 192.168.2.255 scope global dynamic eth0';; '-4 route show default dev eth0') echo 'default via 192.168.2.254 proto dhcp metric 100';; esac\n",
    );
    let runs = |unit: &'static str| -> String {
        format!("#!/bin/sh\n[ \"$*\" = 'is-active --quiet {unit}' ]\n")
    };
    let nothing = runs("nothing");
    let end = "address 192.168.2.57/24\ngateway 192.168.2.254\nend\n";
    let with = |files: &[(&str, &str)]| ask(&eth0, &[&[there, ip][..], files].concat());
    assert_eq!(ask(&eth0, &[ip]), "no-interface\nend\n");
    assert_eq!(with(&[("/bin/systemctl", &nothing)]), end);
    let netplan = ("/bin/netplan", "#!/bin/sh\n");
    let cloud = ("/etc/netplan/50-cloud-init.yaml", "network: {}\n");
    assert_eq!(
        with(&[
            ("/bin/systemctl", &nothing),
            netplan,
            cloud,
            ("/etc/netplan/90-picluster-eth0.yaml", "a\nb")
        ]),
        format!("manager netplan\nfile 644 /etc/netplan/90-picluster-eth0.yaml\n|a\n+b\n{end}")
    );
    let nm = runs("NetworkManager");
    let connected = ("/bin/nmcli", "#!/bin/sh\necho '100 (connected)'\n");
    assert_eq!(
        with(&[("/bin/systemctl", &nm), netplan, connected]),
        format!("manager NetworkManager\n{end}")
    );
    // An interface that NetworkManager leaves to others.
    let unmanaged = ("/bin/nmcli", "#!/bin/sh\necho '10 (unmanaged)'\n");
    assert_eq!(with(&[("/bin/systemctl", &nm), unmanaged]), end);
    let dhcpcd = runs("dhcpcd");
    assert_eq!(
        with(&[
            ("/bin/systemctl", &dhcpcd),
            ("/etc/dhcpcd.conf", "hostname\n")
        ]),
        format!("manager dhcpcd\nfile 644 /etc/dhcpcd.conf\n|hostname\n{end}")
    );
    let networkd = runs("systemd-networkd");
    assert_eq!(
        with(&[("/bin/systemctl", &networkd)]),
        format!("manager networkd\n{end}")
    );
    let old = (
        "/etc/network/interfaces",
        "auto eth0\niface eth0 inet dhcp\n",
    );
    assert_eq!(
        with(&[("/bin/systemctl", &nothing), old]),
        format!("manager ifupdown\n{end}")
    );
}

/// What a machine's health is read from, where Linux has it (paths as seen on Raspberry Pi OS on a Pi 4, a Compute Module 4, a
/// Pi 5 with NVMe, and a laptop).
#[test]
fn health_is_read_where_linux_has_it() {
    let health = picluster_resource::health::HEALTH_SH;
    // Not this machine's log.
    let silent = ("/bin/dmesg", "#!/bin/sh\nexit 1\n");
    let root = |device: &str, fs: &str| {
        format!(
            "21 30 0:20 / /sys rw - sysfs sysfs rw\n1 1 0:2 / / rw - rootfs rootfs rw\n30 1 {device} / / rw,noatime shared:1 - {fs} rw\n31 30 0:5 / /dev rw - devtmpfs udev rw\n"
        )
    };
    let mounted = root("179:2", "ext4 /dev/root");
    let card = "/sys/devices/platform/emmc2bus/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0";
    let at = |name: &str| format!("{card}/{name}");
    let pi4 = [
        ("/proc/self/mountinfo", mounted.as_str()),
        (
            "/proc/1/stat",
            "1 (a ) b) S 0 1 1 0 -1 4194560 9 9 9 9 1 1 1 1 20 0 1 0 350 1 1 1\n",
        ),
        ("/proc/uptime", "86403.91 300000.00\n"),
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("/sys/class/thermal/thermal_zone0/temp", "48312\n"),
        ("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
        ("/sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
        ("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n"),
        (
            "/sys/devices/platform/soc/soc:firmware/get_throttled",
            "ffff\n",
        ),
        (
            "/sys/dev/block/179:2",
            "-> ../../devices/platform/emmc2bus/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/mmcblk0p2",
        ),
        (&at("mmcblk0p2/partition"), "2\n"),
        (&at("size"), "62333952\n"),
        (&at("ro"), "0\n"),
        (&at("device"), "-> ../../../mmc0:aaaa"),
        (&format!("{card}/../../type"), "SD\n"),
        (&format!("{card}/../../name"), "SL32G\n"),
        (&format!("{card}/../../date"), "03/2021\n"),
        (&format!("{card}/../../serial"), "0x28e9cae8\n"),
        ("/var/lib/picluster/owned/x.json", "{}"),
    ];
    let applied = |text: &str| -> String {
        let lines = text.lines().filter(|l| !l.starts_with("applied "));
        lines.map(|l| format!("{l}\n")).collect()
    };
    let disk = "filesystem ext4\ndisk mmcblk0 \ndisk.size 62333952\ndisk.ro 0\ndisk.type SD\ndisk.name SL32G\ndisk.date 03/2021\ndisk.serial 0x28e9cae8\n";
    let seen = ask(health, &[&pi4[..], &[silent]].concat());
    assert_eq!(
        applied(&seen),
        format!("up 86400\ntemp 48312 cpu-thermal\nundervoltage 0\n{disk}end\n")
    );
    assert!(seen.contains("\napplied 1"), "{seen}");
    // With the firmware's own tool, and a kernel that had something to say.
    let tool = ("/bin/vcgencmd", "#!/bin/sh\necho throttled=0x50005\n");
    let log = (
        "/bin/dmesg",
        "#!/bin/sh\ncat <<E\n[1.0] hwmon hwmon1: Undervoltage detected!\n[9.0] hwmon hwmon1: Undervoltage detected!\n[9.1] I/O error, dev mmcblk0, sector 9 op 0x0\n[9.2] EXT4-fs error (device mmcblk0p2): x: y\n[9.3] EXT4-fs (mmcblk0p2): mounted\nE\n",
    );
    let seen = ask(health, &[&pi4[..], &[tool, log]].concat());
    assert_eq!(
        applied(&seen),
        format!(
            "up 86400\ntemp 48312 cpu-thermal\nundervoltage 0\nthrottled 0x50005\n{disk}log 1 EXT4-fs error (device mmcblk0p2\nlog 1 I/O error, dev mmcblk0\nlog 2 Undervoltage detected\nend\n"
        )
    );
    // One that may not ask the firmware says nothing of it.
    let tool = (
        "/bin/vcgencmd",
        "#!/bin/sh\necho 'VCHI initialization failed'\nexit 255\n",
    );
    let seen = ask(health, &[&pi4[..3], &[tool, silent]].concat());
    assert_eq!(seen, "up 86400\nfilesystem ext4\nend\n");
    // A kernel from before rpi_volt.
    let seen = ask(health, &[&pi4[..1], &pi4[8..9], &[silent]].concat());
    assert_eq!(seen, "throttled 0xffff\nfilesystem ext4\nend\n");

    // A Compute Module's flash, under encryption.
    let mapped = root("253:0", "ext4 /dev/mapper/root");
    let seen = ask(
        health,
        &[
            ("/proc/self/mountinfo", mapped.as_str()),
            silent,
            (
                "/sys/dev/block/253:0",
                "-> ../../devices/virtual/block/dm-0",
            ),
            (
                "/sys/devices/virtual/block/dm-0/slaves/mmcblk0p2",
                "-> ../../../../soc/mmcblk0/mmcblk0p2",
            ),
            ("/sys/devices/soc/mmcblk0/mmcblk0p2/partition", "2\n"),
            ("/sys/devices/soc/mmcblk0/device/type", "MMC\n"),
            ("/sys/devices/soc/mmcblk0/device/life_time", "0x01 0x02\n"),
            ("/sys/devices/soc/mmcblk0/device/pre_eol_info", "0x01\n"),
        ],
    );
    assert_eq!(
        seen,
        "filesystem ext4\ndisk mmcblk0 \ndisk.type MMC\ndisk.life_time 0x01 0x02\ndisk.pre_eol_info 0x01\nend\n"
    );

    // NVMe below btrfs, which has a device number of its own making; a stick; a root from nowhere.
    let btrfs = root("0:27", "btrfs /dev/nvme0n1p2");
    let nvme = "/sys/devices/pci0000:00/nvme/nvme0/nvme0n1";
    let seen = ask(
        health,
        &[
            ("/proc/self/mountinfo", btrfs.as_str()),
            silent,
            (
                "/sys/class/block/nvme0n1p2",
                "-> ../../devices/pci0000:00/nvme/nvme0/nvme0n1/nvme0n1p2",
            ),
            (&format!("{nvme}/nvme0n1p2/partition"), "2\n"),
            (&format!("{nvme}/device"), "-> ../../nvme0"),
            (&format!("{nvme}/../model"), "Samsung SSD 980 500GB   \n"),
            (&format!("{nvme}/../state"), "live\n"),
        ],
    );
    let name = "disk.model Samsung SSD 980 500GB   ";
    assert_eq!(
        seen,
        format!("filesystem btrfs\ndisk nvme0n1 \n{name}\ndisk.state live\nend\n")
    );
    let stick = root("8:2", "ext4 /dev/sda2");
    let seen = ask(
        health,
        &[
            ("/proc/self/mountinfo", stick.as_str()),
            silent,
            (
                "/sys/dev/block/8:2",
                "-> ../../devices/platform/soc/usb1/1-1/block/sda/sda2",
            ),
            (
                "/sys/devices/platform/soc/usb1/1-1/block/sda/sda2/partition",
                "2\n",
            ),
        ],
    );
    assert_eq!(seen, "filesystem ext4\ndisk sda usb\nend\n");
    let overlay = root("0:33", "overlay overlay");
    let seen = ask(
        health,
        &[("/proc/self/mountinfo", overlay.as_str()), silent],
    );
    assert_eq!(seen, "filesystem overlay\nend\n");
}

#[test]
fn numbers_are_read_from_the_disk_below_the_datastore() {
    let Query::Fragment(numbers) = Numbers::query() else {
        panic!("it is a fragment");
    };
    let findmnt = "#!/bin/sh\necho '179:2 /'\n";
    let stat = "#!/bin/sh\necho 'space 1000 1200 7700 4096'\n";
    let ss = "#!/bin/sh\ncat <<E\nLISTEN 0 511 0.0.0.0:6443 0.0.0.0:* users:((\"nginx\",pid=7,fd=6),(\"nginx\",pid=8,fd=6))\n\
        LISTEN 0 511 [::]:80 [::]:* users:((\"nginx\",pid=7,fd=6))\nLISTEN 0 9 [::]:10250 [::]:*\nE\n";
    let counted = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 3120 48360";
    let mut files = vec![
        ("/bin/findmnt", findmnt),
        ("/bin/stat", stat),
        ("/bin/ss", ss),
        ("/var/lib/", ""),
        (
            "/sys/dev/block/179:2",
            "-> ../../devices/soc/mmcblk0/mmcblk0p2",
        ),
        ("/sys/devices/soc/mmcblk0/mmcblk0p2/partition", "2\n"),
        ("/sys/devices/soc/mmcblk0/queue/rotational", "0\n"),
        ("/sys/devices/soc/mmcblk0/stat", counted),
    ];
    let disk = format!("space 1000 1200 7700 4096\nmount /\ndisk mmcblk0 0 \nstat {counted}\n");
    assert_eq!(
        ask(&numbers, &files),
        format!("place /var/lib\n{disk}port 6443 nginx\nport 10250 \n")
    );
    // Of a member nobody asks for ports.
    files.push(("/var/lib/rancher/k3s/agent/server-ca.crt", ""));
    assert_eq!(
        ask(&numbers, &files),
        format!("member\nplace /var/lib/rancher\n{disk}")
    );
}

#[test]
fn a_flush_is_measured_where_no_datastore_is_and_nothing_stays_of_it() {
    let Query::Fragment(flush) = Numbers::flush_query() else {
        panic!("it is a fragment");
    };
    for shell in ["sh", "dash", "bash"] {
        let root = tree(&[("/var/lib/.picluster-flush.OLD", "left behind")]);
        let script = flush.replacen("\nR=\n", &format!("\nR={}\n", root.path().display()), 1);
        let asked = || {
            let out = Command::new(shell).args(["-uc", &script]).output();
            out.map(|out| {
                assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{shell}");
                String::from_utf8(out.stdout).unwrap()
            })
        };
        let Ok(said) = asked() else { continue };
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"flushed"), "{shell}: {said:?}");
        assert!(words[2].parse::<f64>().unwrap() > 0.0, "{said:?}");
        let left: Vec<_> = fs::read_dir(root.path().join("var/lib")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        // Who has an etcd is not written to.
        fs::create_dir_all(root.path().join("var/lib/etcd/member")).unwrap();
        let before = listing(root.path());
        assert_eq!(asked().unwrap(), "");
        assert_eq!(listing(root.path()), before);
    }
}
