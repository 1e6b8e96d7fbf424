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
