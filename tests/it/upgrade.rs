//! A running cluster comes to another release of k3s.

use picluster_engine::{EventKind, Outcome};

use crate::k3s::{artifact, following};
use crate::k3s_cluster::nothing_to_do;
use crate::rig::{Desk, Ran, Rig};

const NODES: [&str; 3] = ["rpi01", "rpi02", "rpi03"];

fn inventory(release: &str) -> String {
    format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [swap-off, cgroups, {{ k3s: {{ drain_timeout: 6 }} }}]\nkubernetes:\n  distribution: k3s\n  version: {release}\n  artifact: {}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n  rpi02: {{ address: 192.168.2.2, kubernetes: agent }}\n  rpi03: {{ address: 192.168.2.3, kubernetes: agent }}\n",
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

/// Two pods of one owner, and a budget that lets none of them go.
const WEB: &str = r#"
cat > /run/web.yaml <<'EOF'
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: web }] }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web }
spec: { minAvailable: 2, selector: { matchLabels: { app: web } } }
EOF
k3s kubectl apply -f /run/web.yaml
"#;

const SLOW_TO_START: &str = "d=/etc/systemd/system/k3s.service.d && mkdir -p $d && \
    printf '[Service]\\nExecStartPre=/bin/sleep 2\\n' >$d/slow.conf && systemctl daemon-reload";

/// Which nodes take no pods, and which of them picluster cordoned.
fn cordoned(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let nodes = rig.on("rpi01", "k3s kubectl get nodes -o json 2>/dev/null");
    let nodes: serde_json::Value = serde_json::from_str(&nodes.expect(0).out).unwrap();
    let named = |pick: &dyn Fn(&serde_json::Value) -> bool| -> Vec<String> {
        let all = nodes["items"].as_array().unwrap().iter();
        all.filter(|n| pick(n))
            .map(|n| n["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    (
        named(&|n| n["spec"]["unschedulable"] == true),
        named(&|n| !n["metadata"]["annotations"]["picluster/cordoned"].is_null()),
    )
}

#[track_caller]
fn done(ran: &Ran, step: &str) -> usize {
    place(
        ran,
        |e| matches!(e, EventKind::StepFinished { addr, outcome: Outcome::Changed, .. } if addr.to_string() == step),
    )
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

    // Pods that may not go keep their node at its release, are named, and the node takes pods as before.
    rig.on("rpi01", WEB).expect(0);
    let running = "[ \"$(k3s kubectl get pods -l app=web -o 'jsonpath={.items[*].status.phase}')\" = 'Running Running' ]";
    rig.until("rpi01", running);
    rig.desk.write("inventory.yaml", &inventory(&new));
    let shown = rig.run(&["plan"]).expect(0).out;
    for words in ["drains rpi01: ", "drains rpi03: ", "copy"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let blocked = rig.run(&["apply", "--yes"]).expect(3);
    let said = blocked.out + &blocked.err;
    assert!(
        said.contains("a disruption budget kept pods there for 6 s: default/web-"),
        "{said}"
    );
    assert!(said.contains("kubectl get pdb -A"), "{said}");
    assert_eq!(releases(&rig), [old.as_str(); 3].join(" "));
    assert_eq!(cordoned(&rig), (vec![], vec![]));

    // Killed when the server has just come to the new release; the next apply does the rest, in the same order. Who was
    // cordoned by somebody else stays so.
    let budget = "k3s kubectl patch pdb web --type merge -p '{\"spec\":{\"minAvailable\":1}}' && k3s kubectl cordon rpi03";
    rig.on("rpi01", budget).expect(0);
    // A server of a Pi takes seconds to answer after a restart; steps that restart it must not count on its word at once.
    rig.on("rpi01", SLOW_TO_START).expect(0);
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
    let kept = format!(
        "cd /var/lib/rancher/k3s/server/db/snapshots/picluster-{} && [ -s state.db ] && [ -s token ] && [ -s tls/server-ca.key ]",
        old.replace('+', "-")
    );
    if rig
        .on("rpi01", "[ -e /var/lib/rancher/k3s/server/db/state.db ]")
        .code
        == 0
    {
        rig.on("rpi01", &kept).expect(0);
    }
    let second = rig.run(&["apply", "--yes", "--json"]).expect(0);
    for node in ["rpi02", "rpi03"] {
        let drained = done(&second, &format!("rpi01/k3s/node_drained[{node}]"));
        let open = done(&second, &format!("rpi01/k3s/node_schedulable[{node}]"));
        assert!(
            drained < replaced(&second, node) && ready(&second, node) < open,
            "{node}: {}",
            second.out
        );
    }
    assert!(
        ready(&second, "rpi02") < replaced(&second, "rpi03"),
        "two agents at once"
    );
    assert_eq!(releases(&rig), [new.as_str(); 3].join(" "));
    assert_eq!(cordoned(&rig), (vec!["rpi03".to_owned()], vec![]));
    rig.until("rpi01", running);
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
