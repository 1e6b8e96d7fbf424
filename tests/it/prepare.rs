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
    rig.on("rpi01", "ip link set eth0 down; ip link set eth0 name wlan0; ip link set wlan0 up; ip route add default via 192.168.2.254 2>/dev/null; ip -o addr show dev wlan0")
        .expect(0);
    let facts = rig.run(&["facts", "--json"]).expect(0);
    assert!(
        facts.out.contains("\"ssh_wifi\": \"wlan0\""),
        "{}",
        facts.out
    );
    let before = say(&rig, "sha256sum /boot/firmware/config.txt");
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("SSH reaches this node by wlan0"), "{said}");
    assert_eq!(say(&rig, "sha256sum /boot/firmware/config.txt"), before);
}

#[test]
fn a_card_is_spared_and_data_lives_elsewhere() {
    let roles = "  - sd-care: { journal: volatile, tmp_in_ram: true, apt_daily_off: true, data_dirs: [{ path: /var/lib/rancher, source: /srv/data/rancher }] }\n";
    let two = |roles: &str| inventory(roles) + "  rpi02: { address: 192.168.2.2 }\n";
    let desk = Desk::new(&two(&format!("  - disk\n{roles}")));
    // Where `data-disk` would mount a disk: its parent is all a bind mount needs.
    desk.write(
        "roles/disk/role.yaml",
        "doc: A place for data.\nresources:\n  - directory: { path: /srv/data }\n",
    );
    let rig = Rig::up_from(desk, &["rpi01=rpi-os-bookworm", "rpi02=ubuntu-24.04"]);
    let ubuntu = |script: &str| rig.on("rpi02", script).expect(0).out;
    // Raspberry Pi OS has noatime from the start, Ubuntu has /tmp in memory in its newer releases.
    assert!(say(&rig, "findmnt -n -o OPTIONS /").contains("noatime"));
    assert!(!ubuntu("findmnt -n -o OPTIONS /").contains("noatime"));
    assert_eq!(rig.on("rpi01", "findmnt /tmp").code, 1);
    let before = boot_id(&rig);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_ne!(boot_id(&rig), before, "/tmp changes with a boot");
    let check = |rig: &Rig| {
        assert_eq!(say(rig, "findmnt -n -o FSTYPE /tmp"), "tmpfs");
        say(
            rig,
            "touch /var/lib/rancher/x && test -e /srv/data/rancher/x",
        );
        say(rig, "journalctl --header | grep -q 'File path: /run/log'");
        assert_eq!(say(rig, "systemctl is-active fstrim.timer"), "active");
        assert!(ubuntu("findmnt -n -o OPTIONS /").contains("noatime"));
        assert!(
            ubuntu("cat /etc/fstab").contains("LABEL=writable\t/\text4\tdefaults,noatime\t0\t1")
        );
    };
    check(&rig);
    for node in ["rpi01", "rpi02"] {
        rig.lab.reboot(node, picluster_lab::Wait::Ready).unwrap();
    }
    check(&rig);
    settled(&rig);
    for (damage, step) in [
        ("umount /var/lib/rancher", "mount[/var/lib/rancher]"),
        ("sed -i '/rancher/d' /etc/fstab", "mount[/var/lib/rancher]"),
        ("sed -i 's/,noatime//' /etc/fstab", "mount[/]"),
        ("mount -o remount,relatime overlay /", "mount[/]"),
        ("sed -i '/^tmpfs/d' /etc/fstab", "mount[/tmp]"),
        ("systemctl disable --now fstrim.timer", "unit[fstrim.timer]"),
    ] {
        rig.on("rpi01", damage).expect(0);
        let plan = rig.run(&["plan"]).expect(0);
        assert!(plan.out.contains(step), "{damage}:\n{}", plan.out);
        assert!(
            plan.out.contains("Plan: 1 to change"),
            "{damage}:\n{}",
            plan.out
        );
        rig.run(&["apply", "--yes"]).expect(0);
        settled(&rig);
    }
    // Files are not hidden below a mount.
    rig.on(
        "rpi01",
        "umount /var/lib/rancher && touch /var/lib/rancher/precious",
    )
    .expect(0);
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    assert!(format!("{}{}", ran.out, ran.err).contains("holds files, which the mount would hide"));
    rig.on("rpi01", "rm /var/lib/rancher/precious").expect(0);
    // What leaves the inventory is unmounted; the data stays.
    rig.desk.write(
        "inventory.yaml",
        &two("  - disk\n  - sd-care: { journal: keep }\n"),
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(rig.on("rpi01", "findmnt /var/lib/rancher").code, 1);
    say(
        &rig,
        "test -e /srv/data/rancher/x; ! grep -q rancher /etc/fstab",
    );
    settled(&rig);
}

#[test]
fn a_partition_is_made_once_and_never_over_anything() {
    let desk = Desk::new(&inventory("  - disk\n"));
    desk.write(
        "roles/disk/role.yaml",
        "doc: A partition on the image of a disk.\nresources:\n  - package: { names: [fdisk, e2fsprogs] }\n  - partition: { disk: /srv/disk.img, label: data, size: 64MiB }\n",
    );
    let rig = Rig::up_from(desk, &[]);
    rig.on("rpi01", "truncate -s 128M /srv/disk.img").expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    let table = say(&rig, "sfdisk -d /srv/disk.img");
    assert!(table.contains("name=\"data\""), "{table}");
    settled(&rig);
    // A lost superblock is a file system that has to be made again, in the same place.
    rig.on(
        "rpi01",
        "dd if=/dev/zero of=/srv/disk.img bs=1M seek=1 count=1 conv=notrunc",
    )
    .expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(
        plan.out.contains("partition[data]") && !plan.out.contains("in its GPT"),
        "{}",
        plan.out
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(say(&rig, "sfdisk -d /srv/disk.img"), table);
    settled(&rig);
    // The entry is lost, the file system is not: nothing is written over it.
    rig.on("rpi01", "sfdisk -q --delete /srv/disk.img")
        .expect(0);
    let sum = say(&rig, "sha256sum /srv/disk.img");
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("of a partition that was deleted"), "{said}");
    assert_eq!(say(&rig, "sha256sum /srv/disk.img"), sum);
}

#[test]
fn a_second_network_gets_its_address_and_no_default_route() {
    let roles = "  - network: { interfaces: [{ interface: eth1, addresses: [10.9.0.1/24] }] }\n";
    let rig = Rig::up(&inventory(roles), &["debian"]);
    // A cable that leads nowhere, on a system whose interfaces systemd-networkd rules.
    rig.on("rpi01", "ip link add eth1 type veth peer name far; ip link set far up; ip link set eth1 up; systemctl enable --now systemd-networkd").expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(
        plan.out.contains("eth1 gets its addresses anew"),
        "{}",
        plan.out
    );
    rig.run(&["apply", "--yes"]).expect(0);
    let addresses = "ip -o -4 addr show dev eth1 | tr -s ' ' | cut -d' ' -f4";
    assert_eq!(say(&rig, addresses), "10.9.0.1/24");
    assert_eq!(say(&rig, "ip route show default dev eth1"), "");
    settled(&rig);
    let file = "/etc/systemd/network/10-picluster-eth1.network";
    for damage in [
        "ip addr del 10.9.0.1/24 dev eth1".to_owned(),
        format!("sed -i s/0.1/0.7/ {file}"),
        format!("rm {file}"),
    ] {
        rig.on("rpi01", &damage).expect(0);
        let plan = rig.run(&["plan"]).expect(0);
        assert!(
            plan.out.contains("network[eth1]"),
            "{damage}:\n{}",
            plan.out
        );
        rig.run(&["apply", "--yes"]).expect(0);
        assert_eq!(say(&rig, addresses), "10.9.0.1/24", "{damage}");
        settled(&rig);
    }
    rig.desk
        .write("inventory.yaml", &inventory("  - network\n"));
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(rig.on("rpi01", &format!("test -e {file}")).code, 1);
    settled(&rig);
}
