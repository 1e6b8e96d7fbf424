//! Built-in roles on real nodes.

use std::fs;
use std::path::Path;

use crate::rig::{Desk, Rig};

/// Copies a built-in role into the user's folder under another name.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_copied_built_in_role_works_as_a_user_role() {
    let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../roles");
    let mut names = Vec::new();
    let desk = Desk::new("");
    for entry in fs::read_dir(&roles).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        copy(
            &roles.join(&name),
            &desk.path().join(format!("roles/my-{name}")),
        );
        names.push(name);
    }
    names.sort_unstable();
    let inventory = |prefix: &str| {
        let list: Vec<String> = names.iter().map(|n| format!("{prefix}{n}")).collect();
        format!(
            "cluster: copies\nssh: {{ user: pi }}\nroles: [{}]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n",
            list.join(", ")
        )
    };
    desk.write("inventory.yaml", &inventory("my-"));
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    // The same things under the built-in names are the same things: nothing is left to do.
    rig.desk.write("inventory.yaml", &inventory(""));
    let ran = rig.run(&["plan", "--detailed-exitcode"]).expect(0);
    assert!(ran.out.contains("Nothing to do"), "{}", ran.out);
}

#[test]
fn cgroup_flags_take_effect_after_a_reboot_that_is_proven() {
    let rig = Rig::up(
        "cluster: flags\nssh: { user: pi }\nroles: [cgroups]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
        &["rpi02=rpi-os-bookworm"],
    );
    let boot = |node| {
        rig.on(node, "cat /proc/sys/kernel/random/boot_id")
            .expect(0)
            .out
    };
    let before = [boot("rpi01"), boot("rpi02")];
    for node in ["rpi01", "rpi02"] {
        assert!(
            !rig.on(node, "cat /sys/fs/cgroup/cgroup.controllers")
                .out
                .contains("memory")
        );
    }
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("2 reboots"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    for (node, before) in ["rpi01", "rpi02"].into_iter().zip(before) {
        assert_ne!(boot(node), before);
        assert!(
            rig.on(node, "cat /sys/fs/cgroup/cgroup.controllers")
                .out
                .contains("memory")
        );
        let line = rig.on(node, "cat /boot/firmware/cmdline.txt").out;
        assert!(
            line.contains("cgroup_enable=memory") && line.contains("rootwait"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
        assert!(
            rig.on(node, "cat /boot/cmdline.txt | head -1")
                .out
                .contains("DO NOT EDIT")
        );
    }
    rig.run(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn swap_is_off_now_and_after_a_reboot() {
    let rig = Rig::up(
        "cluster: swap\nssh: { user: pi }\nroles: [swap-off]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
        &["rpi02=rpi-os-bookworm"],
    );
    let lines = |node| {
        rig.on(node, "cat /proc/swaps")
            .expect(0)
            .out
            .lines()
            .count()
    };
    assert_eq!(
        (lines("rpi01"), lines("rpi02")),
        (2, 2),
        "swap is on at first"
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!((lines("rpi01"), lines("rpi02")), (1, 1));
    for node in ["rpi01", "rpi02"] {
        rig.lab.reboot(node, picluster_lab::Wait::Ready).unwrap();
    }
    assert_eq!((lines("rpi01"), lines("rpi02")), (1, 1), "it stays off");
    rig.run(&["plan", "--detailed-exitcode"]).expect(0);
}
