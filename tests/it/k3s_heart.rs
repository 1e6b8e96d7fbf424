//! k3s on lab nodes by hand, on what the roles stand: the built-in API, or a real Kubernetes when
//! `PICLUSTER_TEST_KUBERNETES` is set (docs/simulator.md).

use std::process::Stdio;

use crate::k3s;
use crate::rig::{Rig, ran};

const INVENTORY: &str = "cluster: heart\nssh: { user: pi, identity: ~/.ssh/id_ed25519 }\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n";

/// Starts a unit, and says what the journal says if it does not come up.
#[track_caller]
fn unit(rig: &Rig, node: &str, words: &str) {
    let started = rig.on(
        node,
        &format!(
            "systemd-run --quiet --unit=k3s --property=Type=notify --property=KillMode=process --property=TimeoutStartSec=240 k3s {words} --node-name {node} || {{ journalctl --no-pager -u k3s | tail -n 60; exit 1; }}"
        ),
    );
    assert_eq!(started.code, 0, "{}{}", started.out, started.err);
}

#[track_caller]
fn kubectl(rig: &Rig, words: &str) -> String {
    let said = rig.on("rpi01", &format!("k3s kubectl {words}"));
    assert_eq!(said.code, 0, "{words}: {}{}", said.out, said.err);
    said.out.trim().to_owned()
}

#[test]
fn a_server_and_an_agent_make_a_cluster() {
    let file = k3s::artifact(k3s::release());
    let rig = Rig::up(INVENTORY, &["debian"]);
    for node in ["rpi01", "rpi02"] {
        let script = "sudo -n sh -c 'cat >/usr/local/bin/k3s && chmod 755 /usr/local/bin/k3s'";
        let program = std::fs::File::open(&file.path).unwrap();
        let sent = rig
            .ssh(node, script)
            .stdin(Stdio::from(program))
            .output()
            .unwrap();
        ran(&sent).expect(0);
    }
    unit(&rig, "rpi01", "server");
    let token = rig
        .on("rpi01", "cat /var/lib/rancher/k3s/server/token")
        .expect(0);
    let agent = format!(
        "agent --server https://192.168.2.1:6443 --token {} --node-label disk=nvme --node-taint arm=true:NoSchedule",
        token.out.trim()
    );
    unit(&rig, "rpi02", &agent);
    kubectl(&rig, "wait --for=condition=Ready nodes --all --timeout=90s");
    let show = "get node rpi02 -o 'jsonpath={.metadata.labels.disk} {.spec.taints[0].key} {.status.nodeInfo.kubeletVersion} {.status.addresses[0].address}'";
    let expected = format!("nvme arm {} 192.168.2.2", k3s::release());
    assert_eq!(kubectl(&rig, show), expected);
    let role =
        "get node rpi01 -o 'jsonpath={.metadata.labels.node-role\\.kubernetes\\.io/control-plane}'";
    rig.until("rpi01", &format!("[ \"$(k3s kubectl {role})\" = true ]"));
    // What is packaged is there, and its pods run.
    kubectl(&rig, "-n kube-system get addons.k3s.cattle.io coredns");
    rig.until(
        "rpi01",
        "k3s kubectl -n kube-system get pods -l k8s-app=kube-dns | grep -q Running",
    );

    // A new card under the same name is not let in, until the node is deleted.
    rig.on("rpi02", "systemctl kill --kill-whom=all --signal=KILL k3s; while pidof k3s; do sleep 0.1; done; systemctl reset-failed k3s; rm -r /var/lib/rancher /etc/rancher/node");
    let later = format!("systemd-run --quiet --unit=k3s k3s {agent} --node-name rpi02");
    rig.on("rpi02", &later).expect(0);
    rig.until(
        "rpi02",
        "journalctl -u k3s | grep -q 'Node password rejected'",
    );
    kubectl(&rig, "delete node rpi02");
    rig.until("rpi01", "k3s kubectl get node rpi02");
    kubectl(&rig, "wait --for=condition=Ready node/rpi02 --timeout=90s");

    // A restart keeps what there was, and no process of before is in the way.
    kubectl(&rig, "label node rpi01 keep=me");
    rig.on("rpi01", "systemctl stop k3s").expect(0);
    unit(&rig, "rpi01", "server");
    let keep = "get node rpi01 -o 'jsonpath={.metadata.labels.keep}'";
    assert_eq!(kubectl(&rig, keep), "me");
}
