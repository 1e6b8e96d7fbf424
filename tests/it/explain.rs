//! Where the values of a node come from: every kind of value, every level, the lines.

use crate::rig::Desk;

const INVENTORY: &str = r#"cluster: home
ssh: { user: pi, sudo: { password: { secret: sudo } } }
vars: { disk: sda, mount: "/mnt/{{ vars.disk }}", wifi_password: hunter2 }
kubernetes:
  distribution: k3s
  version: v1.33.5+k3s1
  disable: [traefik]
  token: { env: K3S_TOKEN }
  kubeconfig: { mode: "0640" }
  config: { flannel-backend: host-gw, datastore-endpoint: "postgres://k3s:hunter2@db.lan/k3s" }
  agent_config: { kubelet-arg: [max-pods=60] }
roles: [base: { time_zone: Europe/Berlin, packages: [less] }]
groups:
  nvme:
    ssh: { user: ubuntu, identity: ./keys/nvme }
    labels: { disk: nvme, zone: attic }
    taints: ["dedicated=db:NoSchedule"]
    vars: { disk: nvme0n1 }
    roles: [base: { time_zone: Europe/Paris }]
  wide: { labels: { disk: nvme } }
nodes:
  a-1: { address: 192.0.2.1, kubernetes: server, ssh: { port: 2222, jump: ops@gate.lan } }
  b-[2:3]:
    address: "b-{n}.lan"
    kubernetes: agent
    groups: [nvme, wide]
    ssh: { user: root }
    labels: { zone: "cellar-{n}" }
    taints: ["dedicated=web:NoSchedule", "slow:PreferNoSchedule"]
    vars: { disk: "nvme{n}n1" }
    roles: [base: { time_zone: Europe/Rome }]
"#;

const SSH_CONFIG: &str = "Host *.lan
  HostName %h.home.arpa
  User nobody
  IdentityFile ~/.ssh/lan_%r
  ProxyJump door,second:2222

Host *
  Port 2022
  ConnectTimeout 3
";

fn desk() -> Desk {
    let desk = Desk::new(INVENTORY);
    desk.write(".home/.ssh/config", SSH_CONFIG);
    desk
}

/// What is shown, without where the desk stands.
fn shown(desk: &Desk, args: &[&str]) -> String {
    let ran = desk.run(args).expect(0);
    assert_eq!(ran.err, "");
    ran.out.replace(desk.path().to_str().unwrap(), "DESK")
}

#[test]
fn all_values_of_a_node_each_with_the_place_that_decides() {
    let desk = desk();
    insta::assert_snapshot!("explain_a_server", shown(&desk, &["explain", "a-1"]));
    insta::assert_snapshot!("explain_an_agent", shown(&desk, &["explain", "b-3"]));
}

#[test]
fn one_value_with_everything_it_wins_over() {
    let desk = desk();
    let mut all = String::new();
    for name in [
        "disk",
        "vars.mount",
        "ssh.host",
        "ssh.user",
        "ssh.port",
        "ssh.identity",
        "ssh.jump",
        "ssh.sudo",
        "ssh.connect_timeout",
        "address",
        "labels.disk",
        "labels.zone",
        "taints.dedicated:NoSchedule",
        "base.time_zone",
        "base.packages.0",
        "kubernetes.agent_config.kubelet-arg",
    ] {
        all.push_str(&shown(&desk, &["explain", "b-2", name]));
    }
    for name in [
        "ssh.jump",
        "kubernetes.config.datastore-endpoint",
        "kubernetes.token",
        "kubernetes.kubeconfig.mode",
        "kubernetes.cluster_cidr",
        "wifi_password",
    ] {
        all.push_str(&shown(&desk, &["explain", "a-1", name]));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn parts_of_the_list_are_named_by_what_they_stand_under_or_by_a_pattern() {
    let desk = desk();
    let all = shown(&desk, &["explain", "b-2"]);
    for (name, count) in [("taints", 2), ("base", 5), ("labels.*", 2), ("*.*zone", 2)] {
        let part = shown(&desk, &["explain", "b-2", name]);
        let lines: Vec<&str> = part.lines().skip(1).collect();
        assert_eq!(lines.len(), count, "{name}:\n{part}");
        for line in lines {
            let name = line.split_whitespace().next().unwrap();
            assert!(all.contains(name), "{name}");
        }
    }
}

#[test]
fn no_secret_is_shown_wherever_it_was_written_down() {
    let desk = desk();
    for node in ["a-1", "b-2"] {
        for args in [&["explain", node][..], &["explain", "--json", node]] {
            let text = shown(&desk, args);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn as_json_with_files_and_lines() {
    let desk = desk();
    insta::assert_snapshot!(shown(&desk, &["explain", "--json", "b-2", "ssh.user"]));
    let all: serde_json::Value =
        serde_json::from_str(&shown(&desk, &["explain", "--json", "b-2"])).unwrap();
    let values = all["values"].as_array().unwrap();
    assert!(values.len() > 20);
    for value in values {
        let sources = value["sources"].as_array().unwrap();
        assert!((1..=5).contains(&sources.len()), "{value}");
        assert_eq!(value["value"], sources[0]["value"]);
    }
}

#[test]
fn who_is_not_known_is_told_what_is_near() {
    let desk = desk();
    for (args, hint) in [
        (&["b_2", "disk"], "did you mean `b-2`?"),
        (&["b-2", "dsk"], "did you mean `disk`?"),
        (&["b-2", "ssh.usr"], "did you mean `ssh.user`?"),
        (&["b-2", "time_zone"], "did you mean `base.time_zone`?"),
        (
            &["b-2", "kubernetes.config.flannel-backend"],
            "`kubernetes.config` is for servers, and b-2 is none",
        ),
        (&["b-2", "xyz"], "all its values: picluster explain b-2"),
    ] {
        let ran = desk.run(&["explain", args[0], args[1]]).expect(1);
        assert!(ran.err.contains(hint), "{hint} is missing in:\n{}", ran.err);
        assert_eq!(ran.out, "");
    }
}

/// What the inventory says is worth knowing when the other file is broken, too.
#[test]
fn a_broken_ssh_configuration_is_named_and_the_rest_is_shown() {
    let desk = desk();
    desk.write(".home/.ssh/config", "Host *\n  Port many\n");
    let ran = desk.run(&["explain", "b-2", "ssh.user"]).expect(0);
    assert!(
        ran.err
            .contains(".ssh/config:2: `port`: \"many\" is not a port"),
        "{}",
        ran.err
    );
    assert!(ran.out.starts_with("ssh.user \"root\"\n"), "{}", ran.out);
}
