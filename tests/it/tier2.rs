//! What only a kernel of its own can show: one emulated arm64 machine, prepared from a blank card.
//!
//! Minutes of emulation, so these run in the full suite alone (`PICLUSTER_FULL=1`, `cargo xtask test --full`); their
//! names start with `full_`, by which nextest's default profile leaves them out and says so.

mod disks;
mod tries;

use std::time::Instant;

use picluster_lab::{LabOptions, NodeSpec, OsFlavour, Progress, Wait, ensure_vm_image};

use crate::rig::{Desk, PROGRAM, Rig};

const INVENTORY: &str = "\
cluster: tier2
ssh: { user: pi }
roles: [base, swap-off, cgroups, kernel]
nodes:
  rpi01: { address: 192.168.2.1 }
";

const KERNEL: &str = "\
doc: Parameters and modules that belong to the kernel alone.
resources:
  - kernel_module: { name: overlay }
  - kernel_module: { name: br_netfilter }
    id: bridge
  - sysctl: { key: vm.swappiness, value: \"10\" }
  - sysctl: { key: kernel.panic, value: \"10\" }
  - sysctl: { key: net.bridge.bridge-nf-call-iptables, value: \"1\" }
    needs: [bridge]
";

/// Whether virtual machines are wanted; says why not.
fn wanted() -> bool {
    let full = std::env::var_os("PICLUSTER_FULL").is_some_and(|v| v == "1");
    if !full {
        eprintln!(
            "not run: minutes of emulation; PICLUSTER_FULL=1 or `cargo xtask test --full` runs it"
        );
    }
    full
}

/// A stop watch that prints its laps.
struct Laps(Instant);

impl Laps {
    fn lap(&mut self, what: &str) {
        eprintln!("{what}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// A virtual machine with the card of this OS, and the image it needs; `tweak` has a say in what it is.
fn machine(desk: Desk, os: OsFlavour, laps: &mut Laps, tweak: impl Fn(&mut NodeSpec)) -> Rig {
    let mut options = LabOptions::from_environment().unwrap();
    options.program = PROGRAM.into();
    let mut show = |p: Progress| match p {
        Progress::ImageLine { line, .. } => eprintln!("  {line}"),
        other => eprintln!("{other:?}"),
    };
    ensure_vm_image(os.image(), &options, &mut show).unwrap_or_else(|e| panic!("{e}"));
    laps.lap("image");
    let word = match os {
        OsFlavour::RpiOsTrixie => "rpi-os-trixie",
        _ => "rpi-os-bookworm",
    };
    let rig = Rig::up_with(desk, &[&format!("rpi01={word}")], |spec| {
        for node in &mut spec.nodes {
            *node = node.clone().as_vm();
            // A quarter of it is the size of the OS's swap file.
            node.disk_mib = Some(1536);
            tweak(node);
        }
    });
    laps.lap("flash, boot, ssh");
    rig
}

fn say(rig: &Rig, script: &str) -> String {
    rig.on("rpi01", script).expect(0).out.trim().to_owned()
}

/// The steps a plan shows, without node names.
fn planned(rig: &Rig) -> Vec<String> {
    let ran = rig.run(&["plan", "--json"]).expect(0);
    let plan: picluster_plan::Plan =
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out));
    plan.steps.iter().map(|s| s.addr.local()).collect()
}

/// All that a run says when there is nothing to do.
#[track_caller]
fn settled(rig: &Rig) {
    let again = rig.run(&["apply", "--yes"]).expect(0);
    assert!(again.out.contains("Nothing to do"), "{}", again.out);
}

fn boot_id(rig: &Rig) -> String {
    say(rig, "cat /proc/sys/kernel/random/boot_id")
}

/// Lines of `/proc/swaps` but its heading.
fn swaps(rig: &Rig) -> Vec<String> {
    say(rig, "cat /proc/swaps")
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect()
}

fn controllers(rig: &Rig) -> Vec<String> {
    say(rig, "cat /sys/fs/cgroup/cgroup.controllers")
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// What the roles promise, asked of the kernel.
#[track_caller]
fn assert_prepared(rig: &Rig) {
    assert_eq!(swaps(rig), Vec::<String>::new());
    assert_eq!(say(rig, "awk '/^SwapTotal/ {print $2}' /proc/meminfo"), "0");
    assert!(
        controllers(rig).contains(&"memory".to_owned()),
        "{:?}",
        controllers(rig)
    );
    // Not the name alone: a limit is taken by the kernel and counts.
    let limit = "d=/sys/fs/cgroup/tier2; mkdir $d && echo 32M > $d/memory.max && cat $d/memory.max; rmdir $d";
    assert_eq!(say(rig, limit), "33554432");
    for (key, value) in [
        ("vm/swappiness", "10"),
        ("kernel/panic", "10"),
        ("net/bridge/bridge-nf-call-iptables", "1"),
    ] {
        assert_eq!(say(rig, &format!("cat /proc/sys/{key}")), value, "{key}");
    }
    for module in ["overlay", "br_netfilter"] {
        say(rig, &format!("grep -q '^{module} ' /proc/modules"));
    }
}

/// From blank to prepared, over reboots, and nothing left to do.
fn prove(os: OsFlavour, swap: &str) {
    if !wanted() {
        return;
    }
    let mut laps = Laps(Instant::now());
    let desk = Desk::new(INVENTORY);
    desk.write("roles/kernel/role.yaml", KERNEL);
    let rig = machine(desk, os, &mut laps, |_| {});

    // Blank: a kernel of its own, with all that is to be changed as the OS has it.
    assert_eq!(
        say(&rig, "uname -m; dpkg --print-architecture"),
        "aarch64\narm64"
    );
    assert_eq!(say(&rig, "findmnt -n -o FSTYPE /boot/firmware"), "vfat");
    rig.until("rpi01", &format!("grep -q '^{swap} ' /proc/swaps"));
    assert!(
        !controllers(&rig).contains(&"memory".to_owned()),
        "{:?}",
        controllers(&rig)
    );
    assert!(say(&rig, "cat /proc/cmdline").contains("cgroup_disable=memory"));
    assert_eq!(
        say(
            &rig,
            "cat /proc/sys/kernel/panic; grep -c '^br_netfilter ' /proc/modules || true"
        ),
        "0\n0"
    );
    let blank = boot_id(&rig);
    laps.lap("looked at while blank");

    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    eprintln!("{}", plan.out);
    laps.lap("plan");
    rig.run(&["apply", "--yes"]).expect(0);
    laps.lap("apply, with its reboot");
    let applied = boot_id(&rig);
    assert_ne!(applied, blank, "the flags need a reboot");
    assert_prepared(&rig);

    rig.lab.reboot("rpi01", Wait::Ready).unwrap();
    laps.lap("further reboot");
    assert_ne!(boot_id(&rig), applied);
    assert_prepared(&rig);

    settled(&rig);
    laps.lap("second apply");

    // A power cut and a new card: all of it is to be done again.
    rig.lab.wipe("rpi01", Wait::Ready).unwrap();
    assert!(!controllers(&rig).contains(&"memory".to_owned()));
    laps.lap("new card, boot, ssh");
}

#[test]
fn full_swap_cgroups_sysctls_and_modules_are_the_kernels_own() {
    prove(OsFlavour::RpiOsBookworm, "/var/swap");
}

#[test]
fn full_zram_swap_is_off_and_stays_off() {
    prove(OsFlavour::RpiOsTrixie, "/dev/zram0");
}

/// What namespaces can show of the same role: parameters of the network are a node's own there.
#[test]
fn parameters_share_a_file() {
    let desk = Desk::new(
        "cluster: parameters\nssh: { user: pi }\nroles: [net]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
    );
    let role = "doc: Parameters of one file, of more than one digit.\nresources:\n  - sysctl: { key: net.core.somaxconn, value: \"1234\" }\n  - sysctl: { key: net.ipv4.tcp_keepalive_time, value: \"600\" }\n  - sysctl: { key: net.ipv4.ip_forward, value: \"1\" }\n";
    desk.write("roles/net/role.yaml", role);
    let rig = Rig::up_from(desk, &["rpi-os-bookworm"]);
    rig.run(&["apply", "--yes"]).expect(0);
    let now = "cd /proc/sys/net; cat core/somaxconn ipv4/tcp_keepalive_time ipv4/ip_forward";
    assert_eq!(say(&rig, now), "1234\n600\n1");
    settled(&rig);
}
