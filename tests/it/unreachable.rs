//! Nodes that do not answer: the rest converges, the exit code says so, and the next apply carries on.

use std::collections::BTreeSet;

use picluster_engine::{EventKind, Outcome};

use crate::rig::{Desk, Rig};

const ROLE: &str = r#"
doc: Small, with one step that waits to be let go.
resources:
  - directory: { path: /srv/t }
  - file: { path: /srv/t/first, content: "{{ node.name }}\n" }
    needs: ["directory[/srv/t]"]
  - command: { name: slow, run: "until [ -e /run/go ]; do sleep 0.1; done; touch /srv/t/slow", creates: /srv/t/slow }
    needs: ["file[/srv/t/first]"]
  - file: { path: /srv/t/last, content: "{{ node.name }}\n" }
    needs: ["command[slow]"]
"#;

const LET_GO: &str = "touch /run/go";

fn desk(cluster: &str, nodes: &str) -> Desk {
    // Two seconds are long in a network of one bridge, and short enough to wait for.
    let desk = Desk::new(&format!(
        "cluster: {cluster}\nssh: {{ user: pi, connect_timeout: 2 }}\nroles: [small]\nnodes:\n{nodes}"
    ));
    desk.write("roles/small/role.yaml", ROLE);
    desk
}

fn has(rig: &Rig, node: &str, file: &str) -> bool {
    let read = rig.on(node, &format!("cat {file}"));
    read.code == 0 && read.out == format!("{node}\n")
}

#[test]
fn a_cut_node_stops_nobody_and_an_absent_one_is_not_even_dialled() {
    let rig = Rig::up_from(
        desk(
            "cut",
            "  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n  rpi03: { address: 192.168.2.3 }\n  rpi04: { address: 192.168.2.4, expected: absent }\n",
        ),
        &[],
    );
    for node in ["rpi01", "rpi02", "rpi03"] {
        rig.on(node, LET_GO).expect(0);
    }
    rig.lab.cut("rpi02").unwrap();
    let first = rig.run(&["-vv", "apply", "--yes"]).expect(4);
    assert!(has(&rig, "rpi01", "/srv/t/last") && has(&rig, "rpi03", "/srv/t/last"));
    assert!(
        first.out.contains("rpi02") && first.out.contains("unreachable"),
        "{}",
        first.out
    );
    assert!(!first.out.contains("rpi04  unreachable"), "{}", first.out);
    assert!(
        first.err.contains("192.168.2.1") && !first.err.contains("192.168.2.4"),
        "{}",
        first.err
    );

    rig.lab.heal("rpi02").unwrap();
    let second = rig.run(&["apply", "--yes", "--json"]).expect(0);
    let touched: BTreeSet<String> = second
        .events()
        .iter()
        .filter_map(|e| match e {
            EventKind::NodeConnecting { node } => Some(node.to_string()),
            EventKind::StepStarted { addr } | EventKind::StepFinished { addr, .. } => {
                Some(addr.node.to_string())
            }
            _ => None,
        })
        .collect();
    assert_eq!(touched, BTreeSet::from(["rpi02".to_owned()]));
    assert!(has(&rig, "rpi02", "/srv/t/last"));
    assert!(
        rig.run(&["apply", "--yes"])
            .expect(0)
            .out
            .contains("Nothing to do")
    );
}

#[test]
fn a_node_cut_in_the_middle_loses_its_step_in_bounded_time_and_the_next_apply_carries_on() {
    let rig = Rig::up_from(
        desk(
            "midway",
            "  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
        ),
        &[],
    );
    rig.on("rpi02", LET_GO).expect(0);
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until_started("rpi01/small/command[slow]");
    rig.lab.cut("rpi01").unwrap();
    // Bounded: `end` gives up after twice the time in which a dead connection is to be noticed.
    let ended = run.end().expect(3);
    let slow = ended.outcome("rpi01/small/command[slow]");
    assert!(matches!(slow, Outcome::Lost { .. }), "{slow:?}");
    let last = ended.outcome("rpi01/small/file[/srv/t/last]");
    assert!(matches!(last, Outcome::Skipped(_)), "{last:?}");
    assert_eq!(
        ended.outcome("rpi02/small/file[/srv/t/last]"),
        Outcome::Changed
    );
    assert!(has(&rig, "rpi02", "/srv/t/last"));

    rig.lab.heal("rpi01").unwrap();
    rig.on("rpi01", LET_GO).expect(0);
    let next = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert_eq!(
        next.outcome("rpi01/small/file[/srv/t/last]"),
        Outcome::Changed
    );
    assert!(has(&rig, "rpi01", "/srv/t/last"));
    assert!(
        rig.run(&["apply", "--yes"])
            .expect(0)
            .out
            .contains("Nothing to do")
    );
}
