//! Packages are upgraded for real: from a repository of two versions on the node itself, with a real reboot.

use picluster_engine::{EventKind, Outcome};

use crate::k3s::{artifact, release};
use crate::k3s_cluster::{nothing_to_do, ready};
use crate::rig::{Desk, Rig};

/// A repository with two versions of each of two packages, of which the first asks for a reboot when it comes to the second
/// version; the first version of both is installed, and one is on hold. Other repositories are taken away: what Debian has
/// today is nothing a test can know.
const REPOSITORY: &str = r#"set -e
mkdir -p /srv/repo; cd /srv/repo
for p in lab-a lab-h; do for v in 1 2; do
  mkdir -p b/DEBIAN
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: lab <lab@localhost>\nDescription: of the lab\n' $p $v > b/DEBIAN/control
  printf '#!/bin/sh\n[ %s != lab-a2 ] || { echo lab-a > /run/reboot-required.pkgs; touch /run/reboot-required; }\n' $p$v > b/DEBIAN/postinst
  chmod 755 b/DEBIAN/postinst
  dpkg-deb -b b ${p}_$v.deb >/dev/null
  { cat b/DEBIAN/control; echo "Filename: ./${p}_$v.deb"; echo "Size: $(stat -c %s ${p}_$v.deb)"; echo "SHA256: $(sha256sum ${p}_$v.deb | cut -c1-64)"; echo; } >> Packages
  rm -r b
done; done
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list.d/lab.list
apt-get -qq update
apt-get -qq -y install lab-a=1 lab-h=1 >/dev/null
apt-mark hold lab-h"#;

fn versions(rig: &Rig, node: &str) -> String {
    rig.on(
        node,
        "dpkg-query -W -f='${Package} ${Version} ' lab-a lab-h",
    )
    .expect(0)
    .out
}

fn boots(rig: &Rig, node: &str) -> u32 {
    let all = rig.lab.status().unwrap();
    all.into_iter().find(|n| n.name == node).unwrap().boots
}

#[test]
fn packages_come_to_their_newest_versions_and_the_node_reboots_when_one_asks_for_it() {
    let rig = Rig::up(
        "cluster: apt\nssh: { user: pi }\nroles:\n  - base: { upgrade: all, packages: [] }\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
        &[],
    );
    rig.on("rpi01", REPOSITORY).expect(0);
    let before = rig.outside("rpi01");
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("package_upgrade[apt]"), "{}", plan.out);
    assert!(plan.out.contains("lab-a  1 → 2"), "{}", plan.out);
    assert!(!plan.out.contains("lab-h"), "{}", plan.out);
    assert_eq!(rig.outside("rpi01"), before, "a plan has written something");

    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(versions(&rig, "rpi01"), "lab-a 2 lab-h 1 ");
    assert_eq!(boots(&rig, "rpi01"), 2);
    assert_eq!(rig.on("rpi01", "apt-mark showhold").out, "lab-h\n");
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Old lists are fetched again, and say what they bring in the next plan only.
    rig.on(
        "rpi01",
        "touch -d '3 days ago' /var/lib/apt/lists/partial; rm -rf /var/lib/apt/periodic/update*stamp",
    )
    .expect(0);
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("3 days old → fetched"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));
    assert_eq!(boots(&rig, "rpi01"), 2);
}

#[test]
fn full_nodes_of_a_cluster_are_upgraded_one_after_the_other_drained_also_when_the_run_is_killed() {
    let rig = Rig::up_from(
        Desk::new(&format!(
            "cluster: rack\nssh: {{ user: pi }}\nroles:\n  - base: {{ upgrade: all, packages: [] }}\n  - swap-off\n  - cgroups\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n  rpi[02:03]: {{ address: \"192.168.2.{{n}}\", kubernetes: agent }}\n",
            release(),
            artifact(release()).path.display()
        )),
        &[],
    );
    let nodes = ["rpi01", "rpi02", "rpi03"];
    // Before they are a cluster they have nothing to upgrade.
    for node in nodes {
        rig.on(node, REPOSITORY).expect(0);
        rig.on(node, "apt-mark hold lab-a").expect(0);
    }
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ready(&rig), 3);
    nothing_to_do(rig.run(&["apply", "--yes"]));
    for node in nodes {
        rig.on(node, "apt-mark unhold lab-a").expect(0);
    }

    // One boot more for the memory cgroup.
    let before = nodes.map(|node| boots(&rig, node));
    let mut first = rig.start(&["apply", "--yes", "--json"]);
    first.until_started("rpi02/base/package_upgrade[apt]");
    first.kill();
    first.end();
    rig.until_quiet("rpi01");
    rig.until_quiet("rpi02");
    let held = "k3s kubectl get nodes -o jsonpath='{.items[*].spec.unschedulable}'";
    assert_eq!(rig.on("rpi01", held).expect(0).out.trim(), "true");

    let second = rig.run(&["apply", "--yes", "--json"]).expect(0);
    for (node, before) in nodes.into_iter().zip(before) {
        assert_eq!(versions(&rig, node), "lab-a 2 lab-h 1 ", "{node}");
        assert_eq!(boots(&rig, node), before + 1, "{node}");
    }
    assert_eq!(rig.on("rpi01", held).expect(0).out.trim(), "");
    assert_eq!(ready(&rig), 3);
    // The last one is drained when the one before it takes pods again.
    let events = second.events();
    let ended = |step: &str| {
        events.iter().position(
            |e| matches!(e, EventKind::StepFinished { addr, outcome: Outcome::Changed, .. } if addr.to_string() == step),
        )
    };
    let began = |step: &str| {
        events
            .iter()
            .position(|e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == step))
    };
    let (open, drain) = (
        ended("rpi01/k3s/node_schedulable[rpi02]").unwrap(),
        began("rpi01/k3s/node_drained[rpi03]").unwrap(),
    );
    assert!(open < drain, "{}", second.out);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}
