//! The roles that prepare a node, on real nodes: kernel, storage, boot configuration.

use picluster_lab::LabSpec;

use crate::rig::{Desk, Rig};

fn inventory(roles: &str) -> String {
    format!(
        "cluster: prepare\nssh: {{ user: pi }}\nroles:\n{roles}nodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    )
}

fn say(rig: &Rig, script: &str) -> String {
    rig.on("rpi01", script).expect(0).out.trim().to_owned()
}

/// Nothing is left to do, and the second apply says so.
#[track_caller]
fn settled(rig: &Rig) {
    let ran = rig.run(&["plan", "--detailed-exitcode"]).expect(0);
    assert!(ran.out.contains("Nothing to do"), "{}", ran.out);
}

fn boot_id(rig: &Rig) -> String {
    say(rig, "cat /proc/sys/kernel/random/boot_id")
}

#[test]
fn kernel_parameters_hold_over_a_reboot() {
    let rig = Rig::up(&inventory("  - kernel: { modules: [overlay] }\n"), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    let now = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/fs/inotify/max_user_instances /proc/sys/kernel/panic";
    assert_eq!(say(&rig, now), "1\n512\n10");
    assert_eq!(say(&rig, "cat /etc/modules-load.d/overlay.conf"), "overlay");
    rig.lab.reboot("rpi01", picluster_lab::Wait::Ready).unwrap();
    assert_eq!(say(&rig, now), "1\n512\n10");
    settled(&rig);
    // Two kinds of damage: what runs, and what the next boot would bring.
    rig.on(
        "rpi01",
        "echo 0 > /proc/sys/net/ipv4/ip_forward; rm /etc/modules-load.d/overlay.conf",
    )
    .expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("kernel_module[overlay]"), "{}", plan.out);
    assert!(
        plan.out.contains("sysctl[net.ipv4.ip_forward]"),
        "{}",
        plan.out
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(say(&rig, now), "1\n512\n10");
    settled(&rig);
}

#[test]
fn a_storage_client_has_its_daemon_and_its_rule() {
    let rig = Rig::up(&inventory("  - storage-client\n"), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(
        say(
            &rig,
            "systemctl is-active iscsid; systemctl is-enabled iscsid"
        ),
        "active\nenabled"
    );
    say(&rig, "command -v mount.nfs");
    assert!(say(&rig, "cat /etc/multipath/conf.d/picluster.conf").contains("devnode"));
    settled(&rig);
    rig.on(
        "rpi01",
        "systemctl disable --now iscsid.service iscsid.socket",
    )
    .expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("unit[iscsid.service]"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(
        say(
            &rig,
            "systemctl is-active iscsid; systemctl is-enabled iscsid"
        ),
        "active\nenabled"
    );
    settled(&rig);
}

#[test]
fn boot_settings_take_one_reboot_and_come_back_when_damaged() {
    let model = |name: &'static str| {
        move |spec: &mut LabSpec| {
            for node in &mut spec.nodes {
                node.pi.model = name.into();
            }
        }
    };
    let roles = "  - boot-config: { wifi_off: true, bluetooth_off: true, gpu_mem: 16, pcie_gen3: true, small_pages: true, settings: [{ setting: dtparam=watchdog=on }] }\n";
    let rig = Rig::up_with(
        Desk::new(&inventory(roles)),
        &[],
        model("Raspberry Pi 5 Model B Rev 1.0"),
    );
    let before = boot_id(&rig);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("1 reboot"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    let after = boot_id(&rig);
    assert_ne!(before, after, "the firmware reads it at boot only");
    let text = say(&rig, "cat /boot/firmware/config.txt");
    for line in [
        "dtoverlay=vc4-kms-v3d",
        "dtoverlay=disable-wifi",
        "dtoverlay=disable-bt",
        "[pi5]\ndtoverlay=\ndtparam=pciex1_gen=3\nkernel=kernel8.img\n",
        "dtparam=watchdog=on",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(!text.contains("gpu_mem"), "a Pi 5 has none:\n{text}");
    let stock = say(&rig, "cat /boot/firmware/config.txt.bak");
    assert!(!stock.contains("disable-wifi"), "{stock}");
    settled(&rig);
    // Taken out by hand: seen, put back, and in force only after another reboot.
    rig.on("rpi01", "sed -i /watchdog/d /boot/firmware/config.txt")
        .expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(
        plan.out.contains("config_txt[dtparam=watchdog]"),
        "{}",
        plan.out
    );
    assert!(!plan.out.contains("disable-wifi"), "{}", plan.out);
    // The run is stopped between the edit and the reboot: what is owed is read from the node.
    rig.run(&["apply", "--yes", "--except", "*/picluster/reboot*"])
        .expect(0);
    assert_eq!(boot_id(&rig), after);
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(
        plan.out.contains("counts from the next boot"),
        "{}",
        plan.out
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_ne!(boot_id(&rig), after);
    settled(&rig);
    // What leaves the inventory leaves the file.
    rig.desk.write(
        "inventory.yaml",
        &inventory("  - boot-config: { wifi_off: true, bluetooth_off: true }\n"),
    );
    rig.run(&["apply", "--yes"]).expect(0);
    let text = say(&rig, "cat /boot/firmware/config.txt");
    assert!(
        !text.contains("pciex1_gen") && text.contains("disable-wifi"),
        "{text}"
    );
    settled(&rig);
}

#[test]
fn wifi_stays_on_while_ssh_comes_by_it() {
    let rig = Rig::up(&inventory("  - boot-config: { wifi_off: true }\n"), &[]);
    rig.on("rpi01", "ip link set eth0 down; ip link set eth0 name wlan0; ip link set wlan0 up; ip route add default via 192.168.2.254 2>/dev/null; true")
        .expect(0);
    let before = say(&rig, "sha256sum /boot/firmware/config.txt");
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("SSH reaches this node by wlan0"), "{said}");
    assert_eq!(say(&rig, "sha256sum /boot/firmware/config.txt"), before);
}
