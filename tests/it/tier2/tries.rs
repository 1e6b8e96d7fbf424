//! Boot files are tried: the firmware starts with them once. A kernel that does not find its root comes back by itself.

use std::time::Instant;

use picluster_engine::Outcome;
use picluster_lab::{OsFlavour, Wait};

use super::{Laps, boot_id, machine, planned, say, settled, wanted};
use crate::guarded::REMAINS;
use crate::rig::{Desk, Rig};

fn inventory(roles: &str) -> String {
    format!(
        "cluster: tries\nssh: {{ user: pi }}\nroles: [{roles}]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    )
}

const WRONG: &str = "\
doc: There is no ninth partition.
resources:
  - kernel_cmdline: { tokens: { present: [\"root=PARTUUID=4d8097e2-09\"] } }
  - file: { path: /srv/behind, content: \"x\\n\" }
    needs: [reboot]
  - file: { path: /srv/beside, content: \"x\\n\" }
";

const RIGHT: &str = "\
doc: Both boot files, and a kernel that starts.
resources:
  - kernel_cmdline: { tokens: { present: [\"cgroup_enable=memory\"] }, controllers: [memory] }
  - config_txt: { setting: arm_boost=0 }
  - file: { path: /srv/behind, content: \"x\\n\" }
    needs: [reboot]
";

const FILES: &str = "cd /boot/firmware; sha256sum cmdline.txt config.txt; ls | grep -i try || true";

/// Whether the running kernel was started in a try.
fn is_try(rig: &Rig) -> bool {
    let flag = "od -An -tu1 /proc/device-tree/chosen/bootloader/tryboot | tr -d ' '";
    match say(rig, flag).as_str() {
        "0000" => false,
        "0001" => true,
        other => panic!("{other}"),
    }
}

fn boots(rig: &Rig) -> u32 {
    rig.lab.status().unwrap()[0].boots
}

#[test]
fn full_a_command_line_that_does_not_boot_is_taken_back_and_one_that_does_stays() {
    if !wanted() {
        return;
    }
    let mut laps = Laps(Instant::now());
    let desk = Desk::new(&inventory("wrong"));
    desk.write("roles/wrong/role.yaml", WRONG);
    desk.write("roles/right/role.yaml", RIGHT);
    let rig = machine(desk, OsFlavour::RpiOsTrixie, &mut laps, |_| {});
    let (files, first, booted) = (say(&rig, FILES), boot_id(&rig), boots(&rig));
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("boot files are tried"), "{}", plan.out);
    laps.lap("plan");

    let ran = rig.run(&["apply", "--yes", "--json"]).expect(7);
    laps.lap("a try that failed, and the start after it");
    for step in [
        "wrong/kernel_cmdline[root=PARTUUID=4d8097e2-09]",
        "picluster/reboot[rpi01]",
    ] {
        let outcome = ran.outcome(&format!("rpi01/{step}"));
        let Outcome::RolledBack { what } = &outcome else {
            panic!("{step}: {outcome:?}\n{}", ran.out)
        };
        assert!(
            what.contains("came back with the boot files from before"),
            "{what}"
        );
    }
    let behind = ran.outcome("rpi01/wrong/file[/srv/behind]");
    assert!(matches!(behind, Outcome::Skipped(_)), "{behind:?}");
    assert_eq!(
        ran.outcome("rpi01/wrong/file[/srv/beside]"),
        Outcome::Changed
    );
    assert_ne!(boot_id(&rig), first);
    assert_eq!(
        boots(&rig),
        booted + 2,
        "one start that failed, and one after it"
    );
    assert!(!is_try(&rig));
    assert!(!say(&rig, "cat /proc/cmdline").contains("4d8097e2-09"));
    assert_eq!(say(&rig, FILES), files);
    rig.until("rpi01", REMAINS);
    // Pending as before, and the plan says what became of it.
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("Rolled back: rpi01"), "{}", plan.out);
    assert!(
        plan.out.contains("because it did not start with it"),
        "{}",
        plan.out
    );
    laps.lap("all as before");

    rig.desk.write("inventory.yaml", &inventory("right"));
    rig.run(&["apply", "--yes"]).expect(0);
    laps.lap("a try that went well");
    assert_eq!(boots(&rig), booted + 3, "one start, not two");
    assert!(is_try(&rig), "this is the one");
    let words = "cat /proc/cmdline /boot/firmware/cmdline.txt";
    assert_eq!(say(&rig, words).matches("cgroup_enable=memory").count(), 2);
    assert!(!say(&rig, "cat /boot/firmware/cmdline.txt").contains("panic="));
    say(&rig, "grep -x arm_boost=0 /boot/firmware/config.txt");
    assert_eq!(say(&rig, "ls /boot/firmware | grep -i try || true"), "");
    rig.on("rpi01", REMAINS).expect(0);
    settled(&rig);
    rig.lab.reboot("rpi01", Wait::Ready).unwrap();
    assert!(!is_try(&rig));
    assert_eq!(say(&rig, words).matches("cgroup_enable=memory").count(), 2);
    assert_eq!(planned(&rig), Vec::<String>::new());
    laps.lap("they stay");

    // By the way: a card that its root has all taken.
    let disks = "right, { data-disk: { disks: [{ label: more, path: /mnt/more, disk: root, size: 512MiB }] } }";
    rig.desk.write("inventory.yaml", &inventory(disks));
    rig.on(
        "rpi01",
        "apt-get -q -y update && apt-get -q -y --no-install-recommends install fdisk",
    )
    .expect(0);
    let plan = rig.run(&["plan"]);
    let said = format!("{}{}", plan.out, plan.err);
    assert!(said.contains("/ has taken the whole disk"), "{said}");
    assert!(said.contains("no `resize` in cmdline.txt"), "{said}");
    laps.lap("no room behind the root");
}
