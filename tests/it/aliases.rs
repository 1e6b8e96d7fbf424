//! A unit with an alias: systemd can forget at a reload that it runs, and sshd is such a unit.

use crate::rig::{Desk, Rig};

const ROLE: &str =
    "doc: The way in.\nresources:\n  - unit: { name: ssh.service, enabled: true, active: true }\n";

/// `disable` takes the alias `sshd.service` away. When it came back while sshd runs, systemd would take the unit for dead,
/// at some boots (it depends on the order of a hash table); the next start would end with nobody able to log in.
#[test]
fn systemd_does_not_lose_sight_of_a_unit_that_is_enabled_again() {
    let desk = Desk::new(
        "cluster: aliases\nssh: { user: pi }\nroles: [way-in]\nnodes:\n  rpi[01:04]: { address: \"192.168.2.{n}\" }\n",
    );
    desk.write("roles/way-in/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    let nodes = ["rpi01", "rpi02", "rpi03", "rpi04"];
    for node in nodes {
        rig.on(node, "systemctl disable ssh.service").expect(0);
    }
    rig.run(&["apply", "--yes"]).expect(0);
    for node in nodes {
        // The next reload is the one that would forget.
        let state = "systemctl daemon-reload; systemctl show -p ActiveState,UnitFileState,Result ssh.service";
        assert_eq!(
            rig.on(node, state).expect(0).out,
            "Result=success\nActiveState=active\nUnitFileState=enabled\n",
            "{node}"
        );
    }
    rig.run(&["plan", "--detailed-exitcode"]).expect(0);
}

/// The same by hand: picluster finds a unit that a start would break for good, and leaves it alone.
#[test]
fn a_unit_that_systemd_has_lost_sight_of_is_not_started() {
    let desk = Desk::new(
        "cluster: forgotten\nssh: { user: pi }\nroles: [way-in]\nnodes:\n  rpi[01:04]: { address: \"192.168.2.{n}\" }\n",
    );
    desk.write("roles/way-in/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    let mut lost = 0;
    for node in ["rpi01", "rpi02", "rpi03", "rpi04"] {
        rig.on(
            node,
            "systemctl disable ssh.service; systemctl enable ssh.service",
        )
        .expect(0);
        let forgotten = rig.on(node, "systemctl is-active -q ssh.service").code != 0;
        let applied = rig.run(&["apply", "--yes", "--only", node]);
        if forgotten {
            lost += 1;
            assert!(
                applied.code == 3 && applied.out.contains("lost sight of ssh.service"),
                "{}{}",
                applied.out,
                applied.err
            );
        } else {
            applied.expect(0);
        }
        // Whatever happened, the way in is open.
        rig.on(node, "true").expect(0);
    }
    eprintln!("systemd lost sight of sshd on {lost} of 4 nodes");
}
