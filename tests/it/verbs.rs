//! `facts`, `exec`, `graph`, `plan --only`: small verbs against real nodes.

use crate::rig::{Desk, Rig};
use crate::unchanged::ROLE;

fn three() -> Rig {
    let desk = Desk::new(
        "cluster: verbs\nssh: { user: pi }\nroles: [one]\ngroups: { odd: {} }\nnodes:\n  rpi01: { address: rpi01.lan, groups: [odd] }\n  rpi02: { address: 10.20.30.40 }\n  rpi03: { address: 192.168.7.3, groups: [odd], expected: absent }\n",
    );
    desk.write("roles/one/role.yaml", ROLE);
    Rig::up_from(desk, &["rpi02=ubuntu-24.04"])
}

#[test]
fn facts_exec_graph_and_parts_of_plans() {
    let rig = three();
    // DNS names are resolved inside the lab; addresses of any network live side by side.
    let facts = rig.run(&["facts", "--json"]).expect(0);
    let facts: serde_json::Value = serde_json::from_str(&facts.out).unwrap();
    assert_eq!(
        facts["nodes"]["rpi01"]["observed"]["facts"]["os"]["raspberry_pi_os"],
        true
    );
    let second = &facts["nodes"]["rpi02"]["observed"]["facts"];
    assert_eq!(second["os"]["id"], "ubuntu");
    assert_eq!(second["os"]["cloud_init"], true);
    assert!(
        facts["nodes"]["rpi01"]["observed"]["facts"]["board"]["model"]
            .as_str()
            .unwrap()
            .starts_with("Raspberry Pi")
    );
    assert_eq!(facts["nodes"]["rpi03"], "absent");

    let ran = rig.run(&["exec", "--", "echo", "a  b", "$HOME"]).expect(0);
    let mut lines: Vec<&str> = ran.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["rpi01 a  b $HOME", "rpi02 a  b $HOME"],
        "several words are quoted"
    );
    let ran = rig
        .run(&[
            "exec",
            "--on",
            "odd",
            "--root",
            "--",
            "id -u; echo oops >&2; exit 3",
        ])
        .expect(3);
    assert_eq!(ran.out, "rpi01 0\n");
    assert!(
        ran.err.contains("rpi01 oops") && ran.err.contains("rpi01: exit 3"),
        "{}",
        ran.err
    );
    let ran = rig.run(&["exec", "--on", "nobody", "--", "true"]).expect(1);
    assert!(
        ran.err.contains("names no node and no group"),
        "{}",
        ran.err
    );

    let dot = rig.run(&["graph"]).expect(0).out;
    assert!(dot.starts_with("digraph plan {"), "{dot}");
    assert!(
        dot.contains("\"rpi01/one/directory[/srv/app]\" -> \"rpi01/one/file[/srv/app/conf]\""),
        "{dot}"
    );

    // --only takes what is needed along; --except takes dependents away.
    let only = rig
        .run(&["plan", "--json", "--only", "rpi01/one/file[/srv/app/conf]"])
        .expect(0);
    let plan: picluster_plan::Plan = serde_json::from_str(&only.out).unwrap();
    let addrs: Vec<String> = plan.steps.iter().map(|s| s.addr.to_string()).collect();
    assert_eq!(
        addrs,
        [
            "rpi01/one/directory[/srv/app]",
            "rpi01/one/file[/srv/app/conf]"
        ]
    );
    // One step needs what was left out and cannot say so: to carry on means the same part again.
    let part = ["--except", "*/one/directory[/srv/app]", "--only", "rpi02"];
    let ran = rig
        .run(&[&["apply", "--yes"], &part[..]].concat())
        .expect(3);
    assert!(
        ran.out.contains(
            "next: picluster apply --only rpi02 --except '*/one/directory[/srv/app]' inventory.yaml"
        ),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("\n  rpi01  not selected\n")
            && ran.out.contains("\n  rpi03  nothing to do\n"),
        "{}",
        ran.out
    );
    let rest = ["--except", "*/one/command[*]"];
    rig.run(&[&["apply", "--yes"], &part[..], &rest[..]].concat())
        .expect(0);
    assert_eq!(rig.on("rpi02", "test -e /srv/app").code, 1);
    assert_eq!(rig.on("rpi02", "cat /etc/hostname").out, "rpi02\n");
    assert_eq!(rig.on("rpi01", "cat /etc/hostname").out, "raspberrypi\n");
    let ran = rig.run(&["plan", "--only", "rpi9*"]).expect(1);
    assert!(ran.err.contains("matches no node"), "{}", ran.err);
}

#[test]
fn a_jump_host_is_gone_through_and_pinned_under_its_own_name() {
    let desk = Desk::new(
        "cluster: jump\nssh: { user: pi, jump: \"pi@10.9.9.9\" }\nnodes:\n  a: { address: 192.168.2.1 }\n  b: { address: 192.168.2.2 }\n",
    );
    let rig = Rig::up_from(desk, &[]);
    let ran = rig.run(&["exec", "--", "echo $SSH_CLIENT"]).expect(0);
    // The nodes see the jump host as their client, not the controller.
    let clients: Vec<&str> = ran
        .out
        .lines()
        .map(|l| l.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(clients.len(), 2);
    assert!(clients.iter().all(|c| *c == clients[0]), "{}", ran.out);
    let pins = std::fs::read_dir(rig.store())
        .unwrap()
        .filter_map(|e| std::fs::read_to_string(e.unwrap().path()).ok())
        .find(|t| t.contains("ssh-ed25519"))
        .unwrap();
    assert!(pins.contains("jump:10.9.9.9:22"), "{pins}");
}
