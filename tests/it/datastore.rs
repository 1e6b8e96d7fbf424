//! Two servers whose cluster is in an etcd outside of it: somebody else's, on a machine that is no node of the cluster.

use crate::k3s::{artifact, release};
use crate::k3s_cluster::nothing_to_do;
use crate::rig::{Desk, Rig};

/// What nobody may see of the endpoint, and what is written in no inventory as it is; there is no such host, and it is never
/// asked, because the first one answers.
const WORD: &str = "hunter2";

fn inventory() -> String {
    format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [cgroups]\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\n  token: {{ command: [printf, sesame] }}\n  config: {{ datastore-endpoint: {{ command: [printf, \"http://192.168.2.20:2379,http://%s%s.invalid:2379\", hunt, er2] }} }}\nnodes:\n  s[1:2]: {{ address: \"192.168.2.{{n}}\", kubernetes: server }}\n  a1: {{ address: 192.168.2.11, kubernetes: agent }}\n  db: {{ address: 192.168.2.20 }}\n",
        release(),
        artifact(release()).path.display()
    )
}

/// Debian's etcd, as the lab gives it to nodes, in the open. Its machine reboots for the role like the others.
const ETCD: &str = "cat >/etc/systemd/system/outside.service <<'X'
[Service]
ExecStart=/usr/local/lib/kubernetes/etcd --data-dir /var/lib/outside --listen-client-urls http://192.168.2.20:2379 --advertise-client-urls http://192.168.2.20:2379
Restart=always
[Install]
WantedBy=multi-user.target
X
systemctl enable --now outside.service";

fn ca(rig: &Rig, node: &str) -> String {
    let ask = "sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt | cut -c1-64";
    rig.on(node, ask).expect(0).out
}

fn ready(rig: &Rig, server: &str) -> usize {
    let ask = "k3s kubectl get nodes --no-headers 2>/dev/null | grep -c ' Ready '";
    rig.on(server, ask).out.trim().parse().unwrap_or(0)
}

#[test]
fn full_two_servers_share_a_datastore_outside_of_their_cluster() {
    let rig = Rig::up_with(Desk::new(&inventory()), &[], |spec| spec.etcd = true);
    rig.on("db", ETCD).expect(0);
    let plan = rig.run(&["plan", "--detailed-exitcode", "--out", "today.plan"]);
    let plan = plan.expect(2);
    let first = rig.run(&["apply", "--yes", "--json"]).expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));
    assert_eq!(ready(&rig, "s1"), 3);
    assert_eq!(ready(&rig, "s2"), 3);
    let cluster = ca(&rig, "s1");
    assert_eq!(ca(&rig, "s2"), cluster);
    for node in ["s1", "s2"] {
        let own = "ls -d /var/lib/rancher/k3s/server/db/etcd /var/lib/rancher/k3s/server/db/state.db /etc/rancher/k3s/config.yaml.d";
        assert_eq!(rig.on(node, own).out, "", "{node} has one of its own");
    }

    // The endpoint is where k3s reads it, for root alone, and nowhere else.
    let file = std::fs::read_to_string(rig.desk.path().join("today.plan")).unwrap();
    for text in [plan.out, plan.err, file, first.out, first.err] {
        assert!(!text.contains(WORD), "{text}");
    }
    for node in ["s1", "s2"] {
        // sudo writes down what it is asked to run, and this is not to find itself.
        let search = "w=unter2; grep -rl \"h$w\" /etc /var/lib/picluster /var/log /run/picluster 2>/dev/null; ps -eo args | grep -c \"[h]$w\"";
        let found = rig.on(node, search);
        assert_eq!(
            found.out.trim(),
            "/etc/rancher/k3s/config.yaml\n0",
            "{node}"
        );
    }

    // The first one gets a new card: it founds nothing, and finds all in the datastore. The other one goes on.
    rig.lab.wipe("s1", picluster_lab::Wait::Ready).unwrap();
    rig.run(&["forget-key", "--yes", "s1"]).expect(0);
    rig.on("s2", "k3s kubectl delete node s1").expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ca(&rig, "s1"), cluster);
    assert_eq!(ready(&rig, "s2"), 3);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}
