//! apt on real nodes: a held lock is waited for, an interrupted dpkg is repaired, versions are pinned.

use std::time::Instant;

use crate::rig::{Desk, Rig};

fn rig(resources: &str) -> Rig {
    let desk = Desk::new(
        "cluster: apt\nssh: { user: pi }\nroles: [r]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
    );
    desk.write(
        "roles/r/role.yaml",
        &format!("doc: d\nresources:\n{resources}"),
    );
    Rig::up_from(desk, &[])
}

#[test]
fn a_held_lock_is_waited_for() {
    let rig = rig("  - package: { names: [tree] }\n");
    rig.lab.hold_apt_lock("rpi01", 6).unwrap();
    let start = Instant::now();
    rig.run(&["apply", "--yes"]).expect(0);
    assert!(start.elapsed().as_secs() >= 4, "the lock was not held");
    rig.on("rpi01", "command -v tree").expect(0);
}

#[test]
fn an_interrupted_dpkg_is_seen_and_repaired() {
    let rig = rig("  - package: { names: [tree, less] }\n");
    rig.run(&["apply", "--yes"]).expect(0);
    // What a power cut in the middle of an installation leaves: unpacked, not configured.
    rig.on(
        "rpi01",
        "cd /tmp && apt-get download tree && dpkg --unpack tree_*.deb",
    )
    .expect(0);
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("tree"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    let state = rig
        .on("rpi01", "dpkg-query -W -f='${db:Status-Abbrev}' tree")
        .out;
    assert_eq!(state, "ii ");
}

#[test]
fn packages_are_pinned_held_and_removed_and_a_missing_one_is_named() {
    let rig = rig(
        "  - package: { names: [tree, nosuchpackage] }\n  - file: { path: /etc/other, content: \"x\\n\" }\n",
    );
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("nosuchpackage"), "{said}");
    // An independent branch went on.
    rig.on("rpi01", "test -e /etc/other").expect(0);
    rig.desk.write(
        "roles/r/role.yaml",
        "doc: d\nresources:\n  - package: { names: [tree], hold: true }\n",
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(rig.on("rpi01", "apt-mark showhold").out, "tree\n");
    // What left the documents left the node: the file that was ours is gone.
    assert_eq!(rig.on("rpi01", "test -e /etc/other").code, 1);
    rig.desk.write(
        "roles/r/role.yaml",
        "doc: d\nresources:\n  - package: { names: [tree], state: absent }\n",
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert_ne!(rig.on("rpi01", "command -v tree").code, 0);
    rig.run(&["plan", "--detailed-exitcode"]).expect(0);
}
