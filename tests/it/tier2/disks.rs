//! Partitions and mounts on disks of the kernel's own: behind `/` on the card, on a second disk, over a reboot.

use std::time::Instant;

use picluster_lab::{OsFlavour, Wait};

use super::{Laps, machine, planned, say, settled, wanted};
use crate::rig::{Desk, Rig};

const LOGS: &str = "{ label: logs, path: /mnt/logs, disk: root, size: 128MiB }";
const DATA: &str =
    "{ label: data, path: /mnt/data, disk: /dev/disk/by-id/virtio-lab-data, size: 256MiB }";

fn inventory(disks: &[&str]) -> String {
    format!(
        "cluster: disks\nssh: {{ user: pi }}\nroles:\n  - data-disk: {{ disks: [{}] }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n",
        disks.join(", ")
    )
}

fn declare(rig: &Rig, disks: &[&str]) {
    rig.desk.write("inventory.yaml", &inventory(disks));
}

/// The partition and the file system of `/`: how large they are.
fn root_size(rig: &Rig) -> String {
    say(
        rig,
        "cat /sys/class/block/vda1/size /sys/class/block/vda2/size; dumpe2fs -h /dev/vda2 2>/dev/null | grep '^Block count'",
    )
}

/// Where the files of the two disks are, as the kernel has it.
#[track_caller]
fn mounted(rig: &Rig, path: &str, source: &str, file: &str) {
    let now = format!("findmnt -n -o SOURCE,FSTYPE,OPTIONS {path}; cat {path}/file");
    let seen = say(rig, &now);
    assert!(
        seen.starts_with(source) && seen.contains("ext4") && seen.contains("noatime"),
        "{path}: {seen}"
    );
    assert!(seen.ends_with(file), "{path}: {seen}");
}

#[test]
fn full_disks_are_partitioned_behind_the_root_and_mounted_by_name_at_every_boot() {
    if !wanted() {
        return;
    }
    let mut laps = Laps(Instant::now());
    let desk = Desk::new(&inventory(&[LOGS, DATA]));
    // A card whose first boot was kept from growing the root, and an SSD out of the box.
    let rig = machine(desk, OsFlavour::RpiOsTrixie, &mut laps, |node| {
        node.spare_mib = 256;
        node.data_mib = Some(512);
    });
    let root = root_size(&rig);
    assert_eq!(
        say(&rig, "ls /sys/class/block/vdb | grep -c vdb || true"),
        "0"
    );

    let plan = rig.run(&["plan"]).expect(0);
    eprintln!("{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    laps.lap("first apply: packages, two partitions, two mounts");
    for (path, device) in [("/mnt/logs", "/dev/vda3"), ("/mnt/data", "/dev/vdb1")] {
        say(&rig, &format!("echo kept > {path}/file"));
        mounted(&rig, path, device, "kept");
    }
    assert_eq!(
        root_size(&rig),
        root,
        "the root is neither shrunk nor moved"
    );
    assert_eq!(
        say(
            &rig,
            "sfdisk --json /dev/vdb | grep -c '\"label\": *\"gpt\"'"
        ),
        "1"
    );
    assert_eq!(say(&rig, "cat /sys/class/block/vda3/size"), "262144");
    settled(&rig);
    laps.lap("second apply");

    // A partition that somebody made by hand, named by its number; what is on it is theirs.
    let by_hand = "printf 'size=64M\\n' | sfdisk -q --no-reread --no-tell-kernel --append /dev/vdb && partx -u /dev/vdb && udevadm settle && mkfs.ext4 -q -L theirs /dev/vdb2 && mount /dev/vdb2 /media && echo precious > /media/file && umount /media && udevadm settle && blkid -p -s PART_ENTRY_UUID -o value /dev/vdb2";
    let id = say(&rig, by_hand);
    let old = format!("{{ source: \"PARTUUID={id}\", path: /mnt/old }}");
    declare(&rig, &[LOGS, DATA, &old]);
    assert_eq!(planned(&rig), ["data-disk/mount[/mnt/old]"]);
    rig.run(&["apply", "--yes"]).expect(0);
    mounted(&rig, "/mnt/old", "/dev/vdb2", "precious");
    laps.lap("a mount by PARTUUID");

    // Damage of every kind at once, and what heals it: exactly that. A file system that is gone is made again, in the
    // same place.
    let place = "cat /sys/class/block/vda3/start /sys/class/block/vda3/size";
    let before = say(&rig, place);
    say(
        &rig,
        "umount /mnt/data /mnt/logs && sed -i '/mnt.old/d' /etc/fstab && wipefs -q --all /dev/vda3 && udevadm settle",
    );
    let mut steps = planned(&rig);
    steps.sort();
    assert_eq!(
        steps,
        [
            "data-disk/mount[/mnt/data]",
            "data-disk/mount[/mnt/logs]",
            "data-disk/mount[/mnt/old]",
            "data-disk/partition[logs]"
        ]
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(say(&rig, place), before);
    say(&rig, "echo anew > /mnt/logs/file");
    mounted(&rig, "/mnt/logs", "/dev/vda3", "anew");
    mounted(&rig, "/mnt/data", "/dev/vdb1", "kept");
    mounted(&rig, "/mnt/old", "/dev/vdb2", "precious");
    laps.lap("damage healed");

    // A file system by another name is somebody's; so is what a deleted partition has left in space that belongs to
    // nobody.
    say(
        &rig,
        "e2label /dev/vdb1 other && udevadm trigger --settle /dev/vdb1",
    );
    // Behind the last partition, at the next MiB.
    let gap = say(
        &rig,
        "cd /sys/class/block/vda3; echo $((($(cat start) + $(cat size) + 2047) / 2048 * 2048))",
    );
    say(
        &rig,
        &format!(
            "truncate -s 32M /var/tmp/x && mkfs.ext4 -q -L lost /var/tmp/x && dd if=/var/tmp/x of=/dev/vda bs=512 seek={gap} count=8192 conv=notrunc,fsync status=none && rm /var/tmp/x"
        ),
    );
    let sum =
        format!("dd if=/dev/vda bs=512 skip={gap} count=8192 iflag=direct status=none | sha256sum");
    let lost = say(&rig, &sum);
    let more = "{ label: more, path: /mnt/more, disk: root, size: 64MiB }";
    declare(&rig, &[LOGS, DATA, &old, more]);
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    // The disk may learn the new name half a minute later: what is told is what the kernel has. The mount follows from it.
    assert!(
        said.contains("/dev/vdb1 is called data and holds ext4 named other; it was not formatted"),
        "{said}"
    );
    assert!(!said.contains("LABEL=data does not exist"), "{said}");
    assert!(
        said.contains("of a partition that was deleted; nothing was formatted"),
        "{said}"
    );
    assert_eq!(say(&rig, &sum), lost);
    mounted(&rig, "/mnt/data", "/dev/vdb1", "kept");
    say(
        &rig,
        "e2label /dev/vdb1 data && udevadm trigger --settle /dev/vdb1",
    );
    declare(&rig, &[LOGS, DATA, &old]);
    laps.lap("nothing with a signature is formatted");

    rig.lab.reboot("rpi01", Wait::Ready).unwrap();
    laps.lap("reboot");
    for (path, device, file) in [
        ("/mnt/logs", "/dev/vda3", "anew"),
        ("/mnt/data", "/dev/vdb1", "kept"),
        ("/mnt/old", "/dev/vdb2", "precious"),
    ] {
        mounted(&rig, path, device, file);
    }
    assert_eq!(root_size(&rig), root);
    settled(&rig);
    laps.lap("apply after the reboot");
}
