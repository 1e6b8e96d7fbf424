//! Nodes are switched off: seen from outside.

use picluster_engine::EventKind;
use picluster_lab::{Power, Wait};

use crate::k3s_cluster::{inventory, nothing_to_do, ready};
use crate::rig::{Desk, Rig};

fn power(rig: &Rig, node: &str) -> (Power, String) {
    let all = rig.lab.status().unwrap();
    let found = all.into_iter().find(|n| n.name == node).unwrap();
    (found.power, found.note.unwrap_or_default())
}

/// It has switched itself off, as opposed to having been killed.
#[track_caller]
fn is_off(rig: &Rig, node: &str) {
    let (power, note) = power(rig, node);
    assert_eq!(power, Power::Off, "{node}: {note}");
    assert!(note.contains("powered itself off"), "{node}: {note}");
}

#[test]
fn nodes_go_off_without_a_cluster_and_an_unreachable_one_is_named() {
    let rig = Rig::up(
        "cluster: off\nssh: { user: pi }\nroles: [base]\nnodes:\n  rpi[01:03]: { address: \"192.168.2.{n}\" }\n",
        &[],
    );
    // Nobody is there to say yes.
    let refused = rig.run(&["shutdown"]).expect(1);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    let wrong = rig.run(&["shutdown", "--yes", "rpi09"]).expect(1);
    assert!(
        wrong.err.contains("nothing was switched off"),
        "{}",
        wrong.err
    );
    assert_eq!(power(&rig, "rpi01").0, Power::On);

    rig.lab.kill("rpi03").unwrap();
    let ran = rig.run(&["shutdown", "--yes"]).expect(4);
    is_off(&rig, "rpi01");
    is_off(&rig, "rpi02");
    for words in [
        "rpi03: unreachable",
        "power off",
        "To start again",
        "1. rpi02 rpi01",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    rig.lab.start("rpi01", Wait::Ready).unwrap();
    rig.run(&["facts", "--on", "rpi01"]).expect(0);
}

#[test]
fn full_a_cluster_is_switched_off_in_part_and_whole_and_starts_again() {
    let rig = Rig::up_from(Desk::new(&inventory(&["", ""])), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ready(&rig), 3);

    // One agent: its pods go elsewhere before, and it takes pods again with the next apply.
    rig.run(&["shutdown", "--yes", "rpi03"]).expect(0);
    is_off(&rig, "rpi03");
    let node =
        "k3s kubectl get node rpi03 -o jsonpath='{.spec.unschedulable} {.metadata.annotations}'";
    let said = rig.on("rpi01", node).expect(0).out;
    assert!(
        said.starts_with("true") && said.contains("shutdown"),
        "{said}"
    );
    rig.lab.start("rpi03", Wait::Ready).unwrap();
    let back = rig.run(&["apply", "--yes"]).expect(0);
    assert!(
        back.out.contains("cordoned it for shutdown"),
        "{}",
        back.out
    );
    let said = rig.on("rpi01", node).expect(0).out;
    assert!(
        !said.starts_with("true") && !said.contains("picluster/"),
        "{said}"
    );
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // All of it, one of them away: the server goes when the agent is off.
    rig.lab.kill("rpi02").unwrap();
    let ran = rig.run(&["shutdown", "--yes", "--json"]).expect(4);
    is_off(&rig, "rpi03");
    is_off(&rig, "rpi01");
    let events = ran.events();
    let place = |wanted: &dyn Fn(&EventKind) -> bool| events.iter().position(wanted).unwrap();
    let agent =
        place(&|e| matches!(e, EventKind::NodeOff { node, .. } if node.as_str() == "rpi03"));
    let server = place(
        &|e| matches!(e, EventKind::StepStarted { addr } if addr.node.as_str() == "rpi01" && addr.kind == "power_off"),
    );
    assert!(agent < server, "{}", ran.out);

    for node in ["rpi01", "rpi02", "rpi03"] {
        rig.lab.start(node, Wait::Ready).unwrap();
    }
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ready(&rig), 3);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}
