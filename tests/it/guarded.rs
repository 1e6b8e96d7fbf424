//! Changes that shut us out: the node takes them back by itself, the run ends with exit code 7, and
//! nothing of it remains; also when the controller is killed or the node reboots in the middle.

use std::time::Duration;

use picluster_engine::{EventKind, Outcome};
use picluster_lab::Wait;
use picluster_plan::{NodeState, Plan};

use crate::rig::{Desk, Rig};

/// How long nodes wait, in seconds: long enough for a slow machine to come in again, short enough
/// for a test.
const WITHIN: &str = "20";

const INVENTORY: &str = "
cluster: guarded
ssh: { user: pi }
nodes:
  addr: { address: 192.168.2.1, roles: [address] }
  sshd: { address: 192.168.2.2, roles: [sshd] }
  sudo: { address: 192.168.2.3, roles: [sudo] }
  wall: { address: 192.168.2.4, roles: [wall] }
  good: { address: 192.168.2.5, roles: [good] }
";

/// Each shuts us out in its own way. Behind the change stands a step that needs it, and one that
/// does not.
const ROLES: &[(&str, &str)] = &[
    (
        "address",
        r#"
doc: Another address, which nobody knows.
resources:
  - command:
      name: address
      run: "ip addr add 192.168.2.77/24 dev eth0; ip addr del 192.168.2.1/24 dev eth0"
      probe: "ip -4 addr show dev eth0 | grep -q 192.168.2.77/"
      undo: "ip addr add 192.168.2.1/24 dev eth0; ip addr del 192.168.2.77/24 dev eth0"
  - file: { path: /srv/behind, content: "x\n" }
    needs: ["command[address]"]
  - file: { path: /srv/beside, content: "x\n" }
"#,
    ),
    (
        "sshd",
        r#"
doc: sshd's own check finds nothing wrong with this.
resources:
  - file: { path: /etc/ssh/sshd_config.d/50-shut.conf, content: "AllowUsers nobody\n", validate: "sshd -t -f {}" }
  - unit: { name: ssh.service, reload_on: [/etc/ssh/sshd_config.d/50-shut.conf] }
  - file: { path: /srv/behind, content: "x\n" }
    needs: ["file[/etc/ssh/sshd_config.d/50-shut.conf]"]
  - file: { path: /srv/beside, content: "x\n" }
"#,
    ),
    (
        "sudo",
        r#"
doc: The last word of sudoers(5) counts.
resources:
  - file: { path: /etc/sudoers.d/zz-shut, content: "pi ALL=(ALL) !ALL\n", mode: "0440", validate: "visudo -cf {}" }
  - file: { path: /srv/behind, content: "x\n" }
    needs: ["file[/etc/sudoers.d/zz-shut]"]
  - file: { path: /srv/beside, content: "x\n" }
"#,
    ),
    (
        "wall",
        r#"
doc: A firewall that drops everything.
resources:
  - file: { path: /etc/nftables.conf, content: "flush ruleset\ntable inet wall {\n chain in { type filter hook input priority 0; policy drop; }\n}\n", mode: "0755" }
  - unit: { name: nftables.service, active: true, enabled: true, restart_on: [/etc/nftables.conf] }
  - file: { path: /srv/behind, content: "x\n" }
    needs: ["file[/etc/nftables.conf]"]
  - file: { path: /srv/beside, content: "x\n" }
"#,
    ),
    (
        "good",
        r#"
doc: Touches the way in and leaves it open.
resources:
  - file: { path: /etc/ssh/sshd_config.d/50-fine.conf, content: "MaxAuthTries 5\n" }
  - unit: { name: ssh.service, reload_on: [/etc/ssh/sshd_config.d/50-fine.conf] }
  - file: { path: /srv/own, content: "x\n" }
    guarded: true
  - file: { path: /srv/behind, content: "x\n" }
    needs: ["file[/srv/own]"]
"#,
    ),
];

/// Everything that a guard may leave on a node, by name; nothing may be found.
pub const REMAINS: &str = "[ -z \"$(ls -d /var/lib/picluster/guard /run/picluster/guard* /etc/systemd/system/picluster-guard* \
     /etc/systemd/system/sysinit.target.wants/picluster-guard* 2>/dev/null)\" ] && \
     [ -z \"$(systemctl list-units --all --no-legend 'picluster-guard*')\" ]";

fn rig(inventory: &str) -> Rig {
    let desk = Desk::new(inventory);
    for (name, text) in ROLES {
        desk.write(&format!("roles/{name}/role.yaml"), text);
    }
    Rig::up_from(desk, &[])
}

fn plan(rig: &Rig) -> Plan {
    let ran = rig.run(&["plan", "--json"]);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {} {}", ran.out, ran.err))
}

fn words(rig: &Rig) -> String {
    rig.run(&["plan"]).out
}

#[test]
fn what_shuts_us_out_is_taken_back_by_the_node_and_the_rest_goes_on() {
    let rig = rig(INVENTORY);
    let before = words(&rig);
    assert!(
        before.contains("guarded: taken back by the node itself"),
        "{before}"
    );
    let mut run = rig.start(&["apply", "--yes", "--json", "--confirm-within", WITHIN]);
    // Longer than any other test waits: nodes are given their time.
    while !matches!(run.event(), None | Some(EventKind::RunFinished { .. })) {}
    let ran = run.end().expect(7);
    for (node, step) in [
        ("addr", "address/command[address]"),
        ("sshd", "sshd/file[/etc/ssh/sshd_config.d/50-shut.conf]"),
        ("sshd", "sshd/unit[ssh.service]"),
        ("sudo", "sudo/file[/etc/sudoers.d/zz-shut]"),
        ("wall", "wall/file[/etc/nftables.conf]"),
        ("wall", "wall/unit[nftables.service]"),
    ] {
        let outcome = ran.outcome(&format!("{node}/{step}"));
        let Outcome::RolledBack { what } = &outcome else {
            panic!("{node}/{step}: {outcome:?}\n{}", ran.out)
        };
        assert!(what.contains(node) && what.contains(step), "{what}");
    }
    for node in ["addr", "sshd", "sudo", "wall"] {
        let role = if node == "addr" { "address" } else { node };
        let of = |path: &str| ran.outcome(&format!("{node}/{role}/file[{path}]"));
        assert!(
            matches!(of("/srv/behind"), Outcome::Skipped(_)),
            "{node}: {:?}",
            of("/srv/behind")
        );
        assert_eq!(of("/srv/beside"), Outcome::Changed, "{node}");
        rig.until(node, REMAINS);
    }
    // As it was: also the records, so that nobody takes it for done.
    rig.on("sshd", "[ ! -e /etc/ssh/sshd_config.d/50-shut.conf ]")
        .expect(0);
    rig.on("sudo", "[ ! -e /etc/sudoers.d/zz-shut ]").expect(0);
    rig.on("wall", "dpkg --verify nftables && ! systemctl -q is-active nftables && ! systemctl -q is-enabled nftables")
        .expect(0);
    rig.on("addr", "! ip addr | grep -q 192.168.2.77").expect(0);
    // The one that left the door open is done, and nothing of the guard is left there either.
    let good = |step: &str| ran.outcome(&format!("good/good/{step}"));
    for step in [
        "file[/etc/ssh/sshd_config.d/50-fine.conf]",
        "unit[ssh.service]",
        "file[/srv/own]",
        "file[/srv/behind]",
    ] {
        assert_eq!(good(step), Outcome::Changed, "{step}");
    }
    rig.on("good", REMAINS).expect(0);
    rig.on("good", "[ ! -e /var/lib/picluster/rolled-back ]")
        .expect(0);

    // Pending as before, and the plan says what became of it.
    let again = plan(&rig);
    assert!(again.steps.iter().all(|s| s.addr.node.as_str() != "good"));
    let pending = |step: &str| again.steps.iter().any(|s| s.addr.to_string() == step);
    assert!(pending("sudo/sudo/file[/etc/sudoers.d/zz-shut]"));
    assert!(pending("sshd/sshd/unit[ssh.service]"));
    let shown = words(&rig);
    assert!(
        shown.contains("Rolled back: sudo took this back by itself on 2"),
        "{shown}"
    );
    assert!(!shown.contains("drift"), "{shown}");
}

/// Guarded, and slow enough to be interrupted.
const SLOW: &str = r#"
doc: Stops in the middle of a guarded change.
resources:
  - file: { path: /etc/ssh/sshd_config.d/50-x.conf, content: "MaxAuthTries 5\n" }
  - command: { name: slow, run: "touch /run/within; until [ -e /run/go ]; do sleep 0.1; done; touch /srv/slow", creates: /srv/slow, undo: "touch /srv/undone" }
    needs: ["file[/etc/ssh/sshd_config.d/50-x.conf]"]
"#;

const CONF: &str = "/etc/ssh/sshd_config.d/50-x.conf";

/// Starts the change and kills the controller in the middle of it.
fn killed(cluster: &str) -> Rig {
    let desk = Desk::new(&format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [slow]\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    ));
    desk.write("roles/slow/role.yaml", SLOW);
    let rig = Rig::up_from(desk, &[]);
    rig.on("rpi01", "echo 'MaxAuthTries 4' > /etc/ssh/sshd_config.d/50-x.conf; chmod 0600 /etc/ssh/sshd_config.d/50-x.conf")
        .expect(0);
    let mut run = rig.start(&["apply", "--yes", "--json", "--confirm-within", WITHIN]);
    run.until_started("rpi01/slow/command[slow]");
    rig.until("rpi01", "[ -e /run/within ]");
    run.kill();
    rig.on("rpi01", &format!("grep -q 5 {CONF}")).expect(0);
    rig
}

/// Back as it was; the next plan says so, and the next apply carries on.
fn carried_on(rig: &Rig) {
    rig.on("rpi01", REMAINS).expect(0);
    rig.on(
        "rpi01",
        &format!("[ \"$(stat -c %a {CONF})\" = 600 ] && [ -e /srv/undone ]"),
    )
    .expect(0);
    let shown = words(rig);
    assert!(shown.contains("Rolled back: rpi01"), "{shown}");
    assert!(
        shown.contains("slow/file[/etc/ssh/sshd_config.d/50-x.conf]"),
        "{shown}"
    );
    rig.on("rpi01", "touch /run/go").expect(0);
    rig.until_quiet("rpi01");
    rig.run(&["apply", "--yes"]).expect(0);
    rig.on("rpi01", &format!("grep -q 5 {CONF}")).expect(0);
    rig.on("rpi01", REMAINS).expect(0);
    assert!(!words(rig).contains("Rolled back"));
}

#[test]
fn a_controller_that_is_killed_leaves_a_node_that_takes_the_change_back() {
    let rig = killed("left");
    // Nothing is planned on shifting ground.
    let open = plan(&rig);
    let NodeState::Blocked { problems } = &open.nodes.values().next().unwrap().state else {
        panic!("{:?}", open.nodes)
    };
    assert!(
        problems[0].what.contains("takes it back by itself within"),
        "{}",
        problems[0].what
    );
    rig.until("rpi01", &format!("grep -q 4 {CONF}"));
    rig.until("rpi01", REMAINS);
    carried_on(&rig);
}

#[test]
fn full_a_reboot_in_the_middle_does_not_keep_a_node_from_taking_the_change_back() {
    let rig = killed("rebooted");
    rig.lab.reboot("rpi01", Wait::Ready).unwrap();
    rig.on("rpi01", &format!("grep -q 5 {CONF}")).expect(0);
    // A third more than three times as long as without a reboot.
    std::thread::sleep(Duration::from_secs(45));
    rig.until("rpi01", &format!("grep -q 4 {CONF}"));
    rig.until("rpi01", REMAINS);
    carried_on(&rig);
}
