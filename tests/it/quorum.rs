//! No server goes down unless all others were seen serving, also those a run has nothing to do on.

use picluster_engine::report::SkipReason;
use picluster_engine::{EventKind, Outcome};

use crate::k3s::{artifact, release};
use crate::rig::{Desk, Ran, Rig};

/// Three servers, each a cluster of its own: this version sets up one server, and what is tried here is what a run
/// does with several that serve. What they serve, and how they stop, is real.
const ROLE: &str = r#"
doc: A k3s server that shares its datastore with nobody.
resources:
  - artifact: { path: /usr/local/bin/k3s, sha256: "{{ kubernetes.artifact.sha256 }}", size: "{{ kubernetes.artifact.size }}" }
  - directory: { path: /etc/rancher }
  - directory: { path: /etc/rancher/k3s }
  - file: { path: /etc/rancher/k3s/config.yaml, mode: "0600", content: "write-kubeconfig-mode: \"{{ vars.mode }}\"\n" }
  - file:
      path: /etc/systemd/system/k3s.service
      content: |
        [Service]
        Type=notify
        KillMode=process
        Delegate=yes
        ExecStart=/usr/local/bin/k3s server
        [Install]
        WantedBy=multi-user.target
  - unit: { name: k3s.service, enabled: true, active: true, restart_on: [/etc/rancher/k3s/config.yaml] }
    needs: [reboot]
  - cluster_server:
      name: "{{ node.name }}"
      unit: k3s.service
      data: /var/lib/rancher/k3s/server/tls/server-ca.crt
      check: /usr/local/bin/k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml --request-timeout 5s get --raw /readyz
      timeout: 60
"#;

fn three(mode: &str) -> String {
    format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [cgroups]\nvars: {{ mode: \"{mode}\" }}\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\nnodes:\n  rpi[01:03]: {{ address: \"192.168.2.{{n}}\", kubernetes: server }}\n",
        release(),
        artifact(release()).path.display()
    )
}

/// What happened, in the order it did: who was asked, and which server's unit began and ended.
fn told(ran: &Ran) -> Vec<String> {
    let unit = |addr: &picluster_plan::StepAddr| addr.kind == "unit";
    ran.events()
        .iter()
        .filter_map(|e| match e {
            EventKind::NodeProved { node, serves, .. } => Some(format!("{node} {serves}")),
            EventKind::StepStarted { addr } if unit(addr) => Some(format!("{} goes", addr.node)),
            EventKind::StepFinished { addr, .. } if unit(addr) => {
                Some(format!("{} done", addr.node))
            }
            _ => None,
        })
        .collect()
}

fn started(rig: &Rig, node: &str) -> String {
    rig.on(
        node,
        "systemctl show -p ExecMainStartTimestampMonotonic k3s.service",
    )
    .expect(0)
    .out
}

#[test]
fn full_servers_restart_one_by_one_and_none_while_another_does_not_serve() {
    let desk = Desk::new(&three("0600"));
    desk.write("roles/k3s/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    // Blank servers are nobody's members: they reboot and start at once, and nobody is asked.
    let first = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert!(
        told(&first).iter().all(|t| !t.ends_with("true")),
        "{:?}",
        told(&first)
    );
    rig.run(&["apply", "--yes"]).expect(0);

    // All restart: each only behind the proof, since the one before, that the other two serve.
    rig.desk.write("inventory.yaml", &three("0640"));
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("a server goes down"), "{}", plan.out);
    let all = told(&rig.run(&["apply", "--yes", "--json"]).expect(0));
    let mut since = Vec::new();
    let mut away = None;
    let mut restarts = 0;
    for what in &all {
        let (node, how) = what.split_once(' ').unwrap();
        match how {
            "true" => since.push(node),
            "goes" => {
                assert_eq!(away, None, "two at once: {all:?}");
                let others = ["rpi01", "rpi02", "rpi03"]
                    .into_iter()
                    .filter(|n| *n != node);
                for other in others {
                    assert!(since.contains(&other), "{what} unproven: {all:?}");
                }
                since.clear();
                away = Some(node);
                restarts += 1;
            }
            _ => away = None,
        }
    }
    assert_eq!(restarts, 3, "{all:?}");
    // Each was seen serving again at the end.
    assert!(all.last().unwrap().ends_with(" true"), "{all:?}");

    // One answers ssh, its unit is active, and yet it does not serve: a run for another server's sake finds out.
    rig.desk.write("inventory.yaml", &three("0600"));
    rig.on("rpi02", "kill -STOP $(systemctl show -p MainPID --value k3s.service) && systemctl is-active k3s.service")
        .expect(0);
    let before = started(&rig, "rpi01");
    let refused = rig.run(&["apply", "--yes", "--only", "rpi01"]).expect(3);
    for words in [
        "held back: server rpi02 does not serve",
        "this step was not begun",
        "picluster apply --only rpi01",
    ] {
        assert!(refused.out.contains(words), "{words}: {}", refused.out);
    }
    assert_eq!(started(&rig, "rpi01"), before, "it was restarted");

    // It serves again: the same command carries on, and so do the others.
    rig.on(
        "rpi02",
        "kill -CONT $(systemctl show -p MainPID --value k3s.service)",
    )
    .expect(0);
    rig.run(&["apply", "--yes", "--only", "rpi01"]).expect(0);
    assert_ne!(started(&rig, "rpi01"), before, "it was not restarted");

    // One that is down may be brought up while all others serve; and while it is down, they stay.
    rig.on("rpi03", "systemctl stop k3s.service").expect(0);
    let refused = rig
        .run(&["apply", "--yes", "--json", "--only", "rpi02"])
        .expect(3);
    let held = refused.outcome("rpi02/k3s/unit[k3s.service]");
    assert!(
        matches!(&held, Outcome::Skipped(SkipReason::Guard(why)) if why.contains("rpi03")),
        "{held:?}"
    );
    rig.run(&["apply", "--yes"]).expect(0);
    let rest = rig.run(&["apply", "--yes"]).expect(0);
    assert!(rest.out.contains("Nothing to do"), "{}", rest.out);
}

#[test]
fn the_only_server_may_restart_and_is_seen_serving_again() {
    let inventory = |mode: &str| {
        format!(
            "cluster: rack\nssh: {{ user: pi }}\nroles: [cgroups]\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\n  kubeconfig: {{ mode: \"{mode}\" }}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n",
            release(),
            artifact(release()).path.display()
        )
    };
    let rig = Rig::up(&inventory("0600"), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    rig.desk.write("inventory.yaml", &inventory("0640"));
    let plan = rig.run(&["plan"]).expect(0);
    assert!(
        plan.out
            .contains("rpi01 the only server: the API does not answer meanwhile"),
        "{}",
        plan.out
    );
    let all = told(&rig.run(&["apply", "--yes", "--json"]).expect(0));
    assert_eq!(all, ["rpi01 goes", "rpi01 done", "rpi01 true"]);
    let rest = rig.run(&["apply", "--yes"]).expect(0);
    assert!(rest.out.contains("Nothing to do"), "{}", rest.out);
}
