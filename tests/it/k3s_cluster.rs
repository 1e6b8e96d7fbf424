//! From blank nodes to a k3s cluster, and what becomes of it.

use picluster_lab::Wait;

use crate::k3s::{artifact, release};
use crate::rig::{Desk, Ran, Rig};
use crate::status;

/// An inventory of one server and agents.
pub fn inventory(agents: &[&str]) -> String {
    let mut text = format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [base, swap-off, cgroups]\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n",
        release(),
        artifact(release()).path.display()
    );
    for (n, more) in (2..).zip(agents) {
        text.push_str(&format!(
            "  rpi{n:02}: {{ address: 192.168.2.{n}, kubernetes: agent{more} }}\n"
        ));
    }
    text
}

fn rig(agents: &[&str]) -> Rig {
    Rig::up_from(Desk::new(&inventory(agents)), &[])
}

/// What the cluster says, through kubectl on the server.
fn ask(rig: &Rig, words: &str) -> String {
    rig.on("rpi01", &format!("k3s kubectl {words} 2>/dev/null"))
        .expect(0)
        .out
}

pub fn ready(rig: &Rig) -> usize {
    ask(rig, "get nodes --no-headers")
        .matches(" Ready ")
        .count()
}

#[track_caller]
pub fn nothing_to_do(ran: Ran) {
    let ran = ran.expect(0);
    assert!(ran.out.contains("Nothing to do"), "{}", ran.out);
}

#[test]
fn blank_nodes_become_a_cluster_whose_labels_follow_the_inventory() {
    let worker = ", labels: { node-role.kubernetes.io/worker: \"\", disk: nvme }, taints: [\"slow=yes:NoSchedule\"]";
    let with_images = |agents: &[&str]| {
        inventory(agents).replace("  artifact:", "  images: ./images.tar.zst\n  artifact:")
    };
    let desk = Desk::new(&with_images(&[worker, "", ""]));
    desk.write("images.tar.zst", "what a registry would have\n");
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["plan", "--detailed-exitcode", "--out", "plan.json"])
        .expect(2);
    let first = rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ready(&rig), 4);
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // The images were there before k3s started for the first time.
    for (node, unit) in [("rpi01", "k3s"), ("rpi03", "k3s-agent")] {
        let ask = format!(
            "f=/var/lib/rancher/k3s/agent/images/images.tar.zst; cat $f; t=$(systemctl show -p ExecMainStartTimestamp --value {unit}); [ $(stat -c %Y $f) -le $(date -d \"$t\" +%s) ]"
        );
        let found = rig.on(node, &ask).expect(0).out;
        assert_eq!(found, "what a registry would have\n", "{node}");
    }

    // The token is on the nodes that need it, and nowhere else.
    let token = rig
        .on("rpi01", "cat /var/lib/rancher/k3s/server/agent-token")
        .out;
    let password = token.trim().rsplit(':').next().unwrap().to_owned();
    assert!(password.len() > 8, "{token}");
    assert_eq!(
        rig.on("rpi03", "cat /etc/rancher/k3s/token").out.trim(),
        token.trim()
    );
    let mut seen = first.out + &first.err;
    seen += &std::fs::read_to_string(rig.desk.path().join("plan.json")).unwrap();
    for entry in walk(&rig.store()) {
        seen += &String::from_utf8_lossy(&std::fs::read(entry).unwrap_or_default());
    }
    for node in ["rpi01", "rpi02"] {
        seen += &rig.on(node, "ps axww -o args; journalctl -q --no-pager -o cat -t sudo -t sshd; cat /var/lib/picluster/owned/*").out;
    }
    assert!(!seen.contains(&password), "the token got out");

    // Labels and taints: changed, taken away, and those of others kept.
    ask(&rig, "label node rpi02 theirs=1");
    ask(&rig, "taint node rpi02 theirs=1:PreferNoSchedule");
    let changed = ", labels: { disk: sd }";
    rig.desk
        .write("inventory.yaml", &with_images(&[changed, "", ""]));
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("1 to change on 1 node"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(0);
    let labels = ask(&rig, "get node rpi02 --show-labels --no-headers");
    assert!(
        labels.contains("disk=sd") && labels.contains("theirs=1"),
        "{labels}"
    );
    assert!(
        !labels.contains("node-role.kubernetes.io/worker"),
        "{labels}"
    );
    let taints = ask(&rig, "get node rpi02 -o jsonpath={.spec.taints[*].key}");
    assert_eq!(taints.trim(), "theirs");
    nothing_to_do(rig.run(&["apply", "--yes"]));
    rig.desk.write("inventory.yaml", &inventory(&["", "", ""]));
    rig.run(&["apply", "--yes"]).expect(0);
    rig.on(
        "rpi03",
        "[ ! -e /var/lib/rancher/k3s/agent/images/images.tar.zst ]",
    )
    .expect(0);
    let labels = ask(&rig, "get node rpi02 --show-labels --no-headers");
    assert!(
        labels.contains("theirs=1") && !labels.contains("disk="),
        "{labels}"
    );
    let notes = ask(&rig, "get node rpi02 -o json");
    assert!(!notes.contains("picluster/owned"), "{notes}");
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found
}

#[test]
fn a_blank_server_founds_no_second_cluster_and_a_blank_agent_is_told_why_it_may_not_come_back() {
    let rig = rig(&[""]);
    let nodes = ["rpi01", "rpi02"];
    status::of_blank_nodes(&rig, &nodes);
    status::without_a_release(&rig, &nodes);
    rig.run(&["apply", "--yes"]).expect(0);
    status::of_a_cluster(&rig, "rpi01", &nodes);
    status::with_a_root_that_takes_no_writes(&rig, "rpi02");
    // The cluster may give up one that was cut off, even some seconds after it is back.
    status::with_one_away(&rig, "rpi02", &["rpi01"]);
    // A new card in the agent: the cluster knows its name with another password.
    rig.lab.wipe("rpi02", Wait::Ready).unwrap();
    rig.run(&["forget-key", "--yes", "rpi02"]).expect(0);
    let failed = rig.run(&["apply", "--yes"]).expect(3);
    let all = failed.out.clone() + &failed.err;
    assert!(all.contains("kubectl delete node rpi02"), "{all}");
    assert!(all.contains("/etc/rancher/node/password"), "{all}");
    ask(&rig, "delete node rpi02");
    // It joins by itself as soon as it may. What the plan saw of it may be no longer so when its step comes, and then the
    // step is refused, and apply says to apply again.
    let mut again = rig.run(&["apply", "--yes"]);
    if again.code == 5 {
        again = rig.run(&["apply", "--yes"]);
    }
    again.expect(0);
    assert_eq!(ready(&rig), 2);

    // A new card in the server: nothing of k3s is written anywhere.
    rig.lab.wipe("rpi01", Wait::Ready).unwrap();
    rig.run(&["forget-key", "--yes", "rpi01"]).expect(0);
    let plan = rig.run(&["plan"]).expect(3);
    assert!(
        plan.out
            .contains("rpi01 is blank, and rpi02 remembers a cluster"),
        "{}",
        plan.out
    );
    assert!(plan.out.contains("--bootstrap rpi01"), "{}", plan.out);
    rig.run(&["apply", "--yes"]).expect(3);
    rig.on("rpi01", "[ ! -e /etc/rancher ] && [ ! -e /usr/local/bin/k3s ] && [ ! -e /etc/systemd/system/k3s.service ]")
        .expect(0);
    rig.on(
        "rpi01",
        "[ -s /etc/hostname ] && grep -q rpi01 /etc/hostname",
    )
    .expect(0);
    rig.run(&["plan", "--bootstrap", "rpi02"]).expect(1);
    let plan = rig.run(&["plan", "--bootstrap", "rpi01"]).expect(0);
    assert!(plan.out.contains("cluster_node[rpi01]"), "{}", plan.out);
}

#[test]
fn full_a_blank_server_asks_at_the_registration_address_before_it_founds_anything() {
    // Two inventories, one rack: the first has founded a cluster that the second knows by its address only.
    let text = |endpoint: &str, role: &str| {
        format!(
            "cluster: rack\nssh: {{ user: pi }}\nroles: [cgroups]\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\n  endpoint: {endpoint}\nnodes:\n{role}",
            release(),
            artifact(release()).path.display()
        )
    };
    let first = "  rpi01: { address: 192.168.2.1, kubernetes: server }\n";
    let second = "  rpi02: { address: 192.168.2.2, kubernetes: server }\n";
    let both = format!("{first}{}", second.replace(", kubernetes: server", ""));
    let rig = Rig::up_from(Desk::new(&text("192.168.2.1", &both)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    rig.desk
        .write("inventory.yaml", &text("192.168.2.1", second));
    let plan = rig.run(&["plan"]).expect(3);
    for words in [
        "rpi02 is blank, and",
        "192.168.2.1:6443",
        "--bootstrap rpi02",
    ] {
        assert!(plan.out.contains(words), "{words}: {}", plan.out);
    }
    rig.run(&["apply", "--yes"]).expect(3);
    rig.on(
        "rpi02",
        "[ ! -e /etc/rancher ] && [ ! -e /usr/local/bin/k3s ]",
    )
    .expect(0);
    // Who has a program that speaks TLS also learns which cluster it is.
    let ca = rig.on(
        "rpi01",
        "sha256sum < /var/lib/rancher/k3s/server/tls/server-ca.crt",
    );
    rig.on(
        "rpi02",
        "apt-get -qq update && apt-get -qq -y install openssl",
    )
    .expect(0);
    let plan = rig.run(&["plan"]).expect(3);
    let named = format!(
        "a cluster answers at 192.168.2.1:6443 (CA {}…)",
        &ca.out[..12]
    );
    assert!(plan.out.contains(&named), "{named}: {}", plan.out);
    // Told to, it founds; and where nobody answers, nobody has to tell it.
    let plan = rig.run(&["plan", "--bootstrap", "rpi02"]).expect(0);
    assert!(plan.out.contains("cluster_node[rpi02]"), "{}", plan.out);
    rig.on("rpi01", "systemctl stop k3s").expect(0);
    let plan = rig.run(&["plan"]).expect(0);
    assert!(plan.out.contains("cluster_node[rpi02]"), "{}", plan.out);
}
