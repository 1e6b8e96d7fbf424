//! A running cluster comes to another release of k3s.

use picluster_engine::{EventKind, Outcome};

use crate::k3s::{artifact, following};
use crate::k3s_cluster::nothing_to_do;
use crate::rig::{Desk, Ran, Rig};

const NODES: [&str; 3] = ["rpi01", "rpi02", "rpi03"];

fn inventory(release: &str) -> String {
    format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [swap-off, cgroups]\nkubernetes:\n  distribution: k3s\n  version: {release}\n  artifact: {}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n  rpi02: {{ address: 192.168.2.2, kubernetes: agent }}\n  rpi03: {{ address: 192.168.2.3, kubernetes: agent }}\n",
        artifact(release).path.display()
    )
}

/// Where in the stream of events the first of these comes.
#[track_caller]
fn place(ran: &Ran, wanted: impl Fn(&EventKind) -> bool) -> usize {
    ran.events()
        .iter()
        .position(wanted)
        .unwrap_or_else(|| panic!("no such event in:\n{}", ran.out))
}

#[track_caller]
fn replaced(ran: &Ran, node: &str) -> usize {
    let step = format!("{node}/k3s/artifact[/usr/local/bin/k3s]");
    place(
        ran,
        |e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == step),
    )
}

#[track_caller]
fn ready(ran: &Ran, node: &str) -> usize {
    let step = format!("{node}/k3s/cluster_node[{node}]");
    place(
        ran,
        |e| matches!(e, EventKind::StepFinished { addr, outcome: Outcome::Changed, .. } if addr.to_string() == step),
    )
}

/// The releases of the nodes, as the cluster says them.
fn releases(rig: &Rig) -> String {
    let ask = "k3s kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}' 2>/dev/null";
    rig.on("rpi01", ask).expect(0).out.trim().to_owned()
}

#[test]
fn a_release_goes_to_the_server_then_to_one_agent_after_the_other_and_never_back() {
    let Some((old, new, far)) = following() else {
        eprintln!("there are no two releases that follow each other: nothing was tried");
        return;
    };
    let rig = Rig::up_from(Desk::new(&inventory(&old)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(releases(&rig), [old.as_str(); 3].join(" "));

    // What Kubernetes does not do is refused on all nodes, before anything is written.
    if let Some(far) = far {
        rig.desk.write("inventory.yaml", &inventory(&far));
        let said = rig.run(&["apply", "--yes"]).expect(3);
        let said = said.out + &said.err;
        assert!(
            said.contains(&format!("rpi01 runs {old}, and {far} skips ")),
            "{said}"
        );
        for node in NODES {
            let program = rig.on(node, "k3s --version 2>/dev/null").expect(0).out;
            assert!(program.contains(&old), "{node}: {program}");
        }
        assert_eq!(releases(&rig), [old.as_str(); 3].join(" "));
    }

    // Killed when the server has just come to the new release; the next apply does the rest, in the same order.
    rig.desk.write("inventory.yaml", &inventory(&new));
    let mut first = rig.start(&["apply", "--yes", "--json"]);
    first.until_started("rpi01/k3s/cluster_node[rpi01]");
    first.kill();
    let early = first.end().events().into_iter().any(|e| {
        matches!(e, EventKind::StepStarted { addr } if addr.kind == "artifact" && addr.node.as_str() != "rpi01")
    });
    assert!(!early, "an agent went before the server");
    for node in NODES {
        rig.until_quiet(node);
    }
    let second = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert!(
        ready(&second, "rpi02") < replaced(&second, "rpi03"),
        "two agents at once"
    );
    assert_eq!(releases(&rig), [new.as_str(); 3].join(" "));
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Nor back, also where the server does not run and only its program can say what it is.
    rig.desk.write("inventory.yaml", &inventory(&old));
    for script in ["true", "sudo systemctl stop k3s"] {
        rig.on("rpi01", script).expect(0);
        let back = rig.run(&["plan"]);
        let said = back.out + &back.err;
        assert!(
            said.contains(&format!("rpi01 runs {new}, and {old} is older")),
            "{script}: {said}"
        );
    }
}
