//! Nodes leave: the inventory, the cluster, picluster.

use crate::k3s_cluster::{inventory, nothing_to_do};
use crate::rig::{Desk, Rig};

/// The names of the cluster's nodes.
fn nodes(rig: &Rig) -> Vec<String> {
    let ask = "k3s kubectl get nodes -o 'jsonpath={.items[*].metadata.name}' 2>/dev/null";
    let said = rig.on("rpi01", ask).expect(0).out;
    said.split_whitespace().map(str::to_owned).collect()
}

/// Nothing of k3s is on a machine, and no record of anything that can be undone.
fn clean(rig: &Rig, node: &str) {
    for line in [
        "! pgrep -x k3s",
        "! ls /usr/local/bin | grep k3s",
        "[ ! -e /var/lib/rancher ] && [ ! -e /var/lib/kubelet ]",
        "[ ! -e /etc/rancher ] || [ -z \"$(ls -A /etc/rancher)\" ]",
        "! ls /etc/systemd/system | grep k3s",
        "! cat /var/lib/picluster/owned/* 2>/dev/null | grep -v '\"removal\":null'",
        "[ -z \"$(ls -A /run/picluster/pending 2>/dev/null)\" ]",
    ] {
        let ran = rig.on(node, line);
        assert_eq!(ran.code, 0, "{node}: {line}: {}", ran.out);
    }
}

#[test]
fn a_node_that_left_the_inventory_leaves_the_cluster_when_somebody_says_so() {
    let rig = Rig::up_from(Desk::new(&inventory(&["", "", ""])), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(nodes(&rig).len(), 4);
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Without a word of consent it stays what it is, and every plan says so.
    let without = |names: &[&str]| {
        let all = inventory(&["", "", ""]);
        let lines = all.lines().filter(|l| !names.iter().any(|n| l.contains(n)));
        lines.map(|l| format!("{l}\n")).collect::<String>()
    };
    rig.desk.write("inventory.yaml", &without(&["rpi04"]));
    let ran = rig.run(&["apply", "--yes"]).expect(0);
    for words in [
        "Left the inventory",
        "rpi04 (pi@192.168.2.4): still a node of the cluster",
        "picluster apply --remove-nodes",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert_eq!(nodes(&rig).len(), 4);
    rig.on("rpi04", "systemctl is-active k3s-agent").expect(0);

    // A node of somebody else is nobody's business; with consent ours is drained, deleted and cleaned.
    let plan = rig.run(&["plan", "--remove-nodes"]).expect(0);
    for words in [
        "node_drained[rpi04]",
        "node_absent[rpi04]",
        "cluster_node[rpi04]",
    ] {
        assert!(plan.out.contains(words), "{words}: {}", plan.out);
    }
    let met = || std::fs::read_to_string(rig.store().join("identities.json")).unwrap();
    assert!(met().contains("rpi04"), "{}", met());
    // Killed when it has just been deleted: the next run finds it gone there, and does the rest.
    let mut first = rig.start(&["apply", "--yes", "--remove-nodes", "--json"]);
    first.until_started("rpi04/k3s/cluster_node[rpi04]");
    first.kill();
    first.end();
    rig.until_quiet("rpi01");
    rig.until_quiet("rpi04");
    assert_eq!(nodes(&rig), ["rpi01", "rpi02", "rpi03"]);
    let half = rig.run(&["plan"]).expect(0);
    assert!(half.out.contains("not cleaned"), "{}", half.out);
    rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    clean(&rig, "rpi04");
    assert!(!met().contains("rpi04"), "{}", met());
    let after = rig.run(&["apply", "--yes", "--remove-nodes"]);
    assert!(!after.out.contains("Left the inventory"), "{}", after.out);
    nothing_to_do(after);

    // One that is away is deleted, and it is said what stays on its card.
    rig.lab.kill("rpi03").unwrap();
    rig.until(
        "rpi01",
        "k3s kubectl get node rpi03 --no-headers | grep -q NotReady",
    );
    rig.desk
        .write("inventory.yaml", &without(&["rpi04", "rpi03"]));
    // All that was asked for is done, so that it is no failure.
    let gone = rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    assert!(gone.out.contains("wipe the card first"), "{}", gone.out);
    assert_eq!(nodes(&rig), ["rpi01", "rpi02"]);
    let known = rig.run(&["apply", "--yes"]);
    assert!(known.out.contains("not cleaned"), "{}", known.out);
    nothing_to_do(known);
    // It never comes back: said once more, nobody speaks of it any longer.
    rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    let forgotten = rig.run(&["apply", "--yes"]);
    assert!(!forgotten.out.contains("rpi03"), "{}", forgotten.out);
    nothing_to_do(forgotten);

    // A node that stays in the inventory and is no longer to be in the cluster: the same.
    let machine = inventory(&[""]).replace(", kubernetes: agent", "");
    rig.desk.write("inventory.yaml", &machine);
    let held = rig.run(&["apply", "--yes"]).expect(3);
    assert!(
        held.out.contains("apply --remove-nodes takes it out"),
        "{}",
        held.out
    );
    rig.on("rpi02", "systemctl is-active k3s-agent").expect(0);
    rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    assert_eq!(nodes(&rig), ["rpi01"]);
    rig.on("rpi02", "! pgrep -x k3s && [ ! -e /var/lib/rancher ]")
        .expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));
    // And back.
    rig.desk.write("inventory.yaml", &inventory(&[""]));
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(nodes(&rig), ["rpi01", "rpi02"]);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

#[test]
fn reset_takes_ours_off_nodes_and_nothing_else() {
    let rig = Rig::up_from(Desk::new(&inventory(&["", ""])), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    rig.on("rpi03", "echo theirs > /etc/theirs.conf").expect(0);

    // Nobody is there, the wrong cluster, no such node: nothing happens.
    for (args, words) in [
        (vec!["reset", "rpi03"], "--yes --confirm rack"),
        (vec!["reset", "--yes", "rpi03"], "--confirm"),
        (
            vec!["reset", "--yes", "--confirm", "other", "rpi03"],
            "describes cluster rack",
        ),
        (
            vec!["reset", "--yes", "--confirm", "rack", "rpi9"],
            "there is no node \"rpi9\"",
        ),
    ] {
        let ran = rig.run(&args);
        assert!(ran.code == 1 || ran.code == 2, "{args:?}: {}", ran.code);
        let said = ran.out + &ran.err;
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(nodes(&rig).len(), 3);

    rig.run(&["reset", "--yes", "--confirm", "rack", "rpi03"])
        .expect(0);
    assert_eq!(nodes(&rig), ["rpi01", "rpi02"]);
    clean(&rig, "rpi03");
    rig.on("rpi03", "grep -q theirs /etc/theirs.conf").expect(0);
    // It was asked for one node, and the inventory still has it.
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("cluster_node[rpi03]"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(nodes(&rig).len(), 3);

    rig.run(&["reset", "--yes", "--confirm", "rack"]).expect(0);
    for node in ["rpi01", "rpi02", "rpi03"] {
        clean(&rig, node);
    }
}
