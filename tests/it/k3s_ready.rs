//! Nodes that do not become Ready, each for a reason of its own: what they are found to have, and what is said of it.

use crate::k3s::{artifact, release};
use crate::rig::{Desk, Rig};

/// How long a node may take, in seconds: what the log does not give away is waited for.
const TIMEOUT: u32 = 15;

/// One server, and agents with one flaw each.
fn inventory() -> String {
    let agent = |n: u32, roles: &str, environment: &str| {
        format!(
            "  rpi{n:02}: {{ address: 192.168.2.{n}, kubernetes: agent, roles: [{roles}k3s: {{ timeout: {TIMEOUT}{environment} }}] }}\n"
        )
    };
    format!(
        "cluster: rack\nssh: {{ user: pi }}\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\n  agent_config: {{ kubelet-arg: [fail-swap-on=true] }}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n",
        release(),
        artifact(release()).path.display()
    ) + &agent(2, "", "")
        + &agent(3, "cgroups, ", "")
        + &agent(4, "", "")
        + &agent(
            5,
            "",
            ", environment: { SIMULATOR_CLOCK_OFFSET: \"-100000000\" }",
        )
        + &agent(6, "", "")
}

/// Raspberry Pi OS has swap, and its kernel has the memory cgroup off; Debian has neither.
const SYSTEMS: &[&str] = &[
    "rpi01=debian",
    "rpi04=debian",
    "rpi05=debian",
    "rpi06=debian",
];

/// A minute and a half: the texts have tests of their own, this one is about what is found on machines.
#[test]
fn full_who_does_not_become_ready_is_told_why_and_nobody_else_is_kept_from_it() {
    let rig = Rig::up_from(Desk::new(&inventory()), SYSTEMS);
    rig.on("rpi04", "ip route add unreachable 192.168.2.1/32")
        .expect(0);
    // systemd listens itself, and nobody comes.
    rig.on("rpi06", "printf '[Socket]\\nListenStream=127.0.0.1:6444\\n' > /run/systemd/system/other.socket; printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /run/systemd/system/other.service; systemctl daemon-reload; systemctl start other.socket")
        .expect(0);
    let ran = rig.run(&["apply", "--yes"]).expect(3);
    let said = format!("{}{}", ran.out, ran.err);
    for (node, cause, cure) in [
        (
            "rpi02",
            "the kernel has the memory cgroup switched off",
            "add the role `cgroups`",
        ),
        ("rpi03", "swap is on: ", "add the role `swap-off`"),
        (
            "rpi04",
            "https://192.168.2.1:6443 does not answer: ",
            "6443/tcp",
        ),
        (
            "rpi05",
            "a certificate is not valid at the node's time",
            "timedatectl",
        ),
        (
            "rpi06",
            "another program has one of its ports: ",
            "ss -ltnp",
        ),
    ] {
        let what = format!("{node} did not become Ready: {cause}");
        assert!(said.contains(&what), "{what}:\n{said}");
        assert!(said.contains(cure), "{cure}:\n{said}");
    }
    let nodes = rig.on("rpi01", "k3s kubectl get nodes --no-headers 2>/dev/null");
    assert!(nodes.out.contains("rpi01") && nodes.out.contains(" Ready "));
}

/// Agents that start k3s in their own way, each with one thing wrong, and one that is as it should be.
fn tampered() -> String {
    let mut text = format!(
        "cluster: rack\nssh: {{ user: pi }}\nkubernetes:\n  distribution: k3s\n  version: {}\n  artifact: {}\nroles: [k3s: {{ timeout: {TIMEOUT} }}]\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n",
        release(),
        artifact(release()).path.display()
    );
    for n in 2..=6 {
        text += &format!("  rpi{n:02}: {{ address: 192.168.2.{n}, kubernetes: agent }}\n");
    }
    text
}

/// Half a minute of waiting for the causes a log gives away only in the end.
#[test]
fn full_who_is_refused_is_told_why() {
    let rig = Rig::up(&tampered(), &["debian"]);
    let drop_in = |node: &str, lines: &str| {
        let unit = "/etc/systemd/system/k3s-agent.service.d";
        rig.on(
            node,
            &format!("mkdir -p {unit} && printf '[Service]\\n{lines}\\n' > {unit}/odd.conf"),
        )
        .expect(0);
    };
    let starts = |with: &str| format!("ExecStart=\\nExecStart=/usr/local/bin/k3s agent {with}");
    // Nobody has given this password out.
    rig.on("rpi03", "echo nonsense > /etc/wrong").expect(0);
    drop_in("rpi03", &starts("--token-file /etc/wrong"));
    // A token of a cluster with another CA.
    let hash = "0123456789abcdef".repeat(4);
    rig.on("rpi04", &format!("echo K10{hash}::node:x > /etc/wrong"))
        .expect(0);
    drop_in("rpi04", &starts("--token-file /etc/wrong"));
    // Two machines of one name: this one comes when the other is there.
    drop_in("rpi05", &starts("--node-name rpi02"));
    // A card from a board with another processor: ELF's e_machine says so, 183 for aarch64 (elf.h).
    drop_in(
        "rpi06",
        "ExecStartPre=/bin/sh -c \"echo t3M= | base64 -d | dd of=/usr/local/bin/k3s bs=1 seek=18 count=1 conv=notrunc\"",
    );
    let first = rig.run(&["apply", "--yes", "--except", "rpi05"]);
    let second = rig.run(&["apply", "--yes"]);
    let said = [first.expect(3), second.expect(3)]
        .map(|ran| ran.out + &ran.err)
        .concat();
    for (node, cause, cure) in [
        (
            "rpi03",
            "the server does not accept its token",
            "check kubernetes.token",
        ),
        (
            "rpi04",
            "its token belongs to another cluster: ",
            "compare https://192.168.2.1:6443/cacerts",
        ),
        (
            "rpi05",
            "the cluster knows a node rpi05 with another password (/etc/rancher/node/password): a card that was flashed anew, or two machines of one name",
            "kubectl delete node",
        ),
        (
            "rpi06",
            "/usr/local/bin/k3s is built for arm64, and this machine is x86_64",
            "give the artifact for this architecture",
        ),
    ] {
        let what = format!("{node} did not become Ready: {cause}");
        assert!(said.contains(&what), "{what}:\n{said}");
        assert!(said.contains(cure), "{cure}:\n{said}");
    }
    let nodes = rig.on("rpi01", "k3s kubectl get nodes --no-headers 2>/dev/null");
    assert_eq!(nodes.out.matches(" Ready ").count(), 2, "{}", nodes.out);
}

/// In front of the server's kubectl: the first patch and the two questions after it get no answer, in kubectl's words.
const SLOW: &str = r#"
d=/var/lib/rancher/k3s/data/current/bin
mkdir -p $d /run/slow
rm -f $d/kubectl
cat > $d/kubectl <<'X'
#!/bin/sh
late() { echo "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)" >&2; exit 1; }
case " $* " in
  *" patch "*) [ -e /run/slow/patched ] || { : > /run/slow/patched; late; };;
  *" get "*) [ ! -e /run/slow/patched ] || for n in 1 2; do mkdir /run/slow/asked$n 2>/dev/null && late; done;;
esac
exec /usr/local/bin/kubectl "$@"
X
chmod +x $d/kubectl
"#;

/// A server that a hundred nodes join at once is slow for minutes, and not gone.
#[test]
fn full_a_server_that_is_slow_to_answer_is_asked_again() {
    let text = tampered();
    let (head, _) = text.split_once("  rpi02:").unwrap();
    let agent = |more: &str| {
        format!("{head}  rpi02: {{ address: 192.168.2.2, kubernetes: agent{more} }}\n")
    };
    let rig = Rig::up(&agent(""), &["debian"]);
    rig.run(&["apply", "--yes"]).expect(0);
    rig.on("rpi01", SLOW).expect(0);
    rig.desk
        .write("inventory.yaml", &agent(", labels: { disk: nvme }"));
    rig.run(&["apply", "--yes"]).expect(0);
    rig.on("rpi01", "[ -e /run/slow/asked2 ]").expect(0);
    let labels = rig.on("rpi01", "k3s kubectl get node rpi02 -L disk --no-headers");
    assert!(labels.out.contains("nvme"), "{}", labels.out);
    crate::k3s_cluster::nothing_to_do(rig.run(&["apply", "--yes"]));
}
