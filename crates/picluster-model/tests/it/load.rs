//! What good documents mean: ranges, groups, precedence, ssh, roles.

use std::path::PathBuf;

use picluster_model::{
    Everything, Expected, Jump, KubernetesRole, Level, NodeName, Project, RoleName, SecretRef,
    SshConfigUse, SudoPassword,
};

use crate::kinds::Folder;

fn inventory(text: &str) -> Project {
    Folder::new(&[("inventory.yaml", text)]).good()
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

#[test]
fn the_inventory_of_the_design_means_what_it_says() {
    let folder = Folder::new(&[
        (
            "inventory.yaml",
            r#"cluster: homelab
ssh: { user: pi, identity: ~/.ssh/id_ed25519 }
kubernetes:
  distribution: k3s
  version: v1.36.3+k3s1
  disable: [traefik, servicelb]
  endpoint: k8s.lan
roles: [base]
groups:
  nvme: { roles: [data-disk], labels: { disk: nvme }, vars: { data_mount: /mnt/data } }
nodes:
  rpi[01:03]: { address: "192.168.2.{n}", kubernetes: server, taints: ["node-role.kubernetes.io/control-plane=true:NoSchedule"] }
  rpi[04:06]: { address: "192.168.2.{n}", kubernetes: agent, groups: [nvme], labels: { node-role.kubernetes.io/worker: "" } }
  rpi07:      { address: 192.168.2.7, kubernetes: agent, expected: absent }
"#,
        ),
        ("roles/base/role.yaml", "resources: []\n"),
        ("roles/data-disk/role.yaml", "resources: []\n"),
    ]);
    let project = folder.good();
    let inventory = &project.inventory;
    assert_eq!(inventory.cluster.as_str(), "homelab");
    let names: Vec<&str> = inventory.nodes.keys().map(NodeName::as_str).collect();
    assert_eq!(
        names,
        [
            "rpi01", "rpi02", "rpi03", "rpi04", "rpi05", "rpi06", "rpi07"
        ]
    );
    let kubernetes = inventory.kubernetes.as_ref().unwrap();
    assert_eq!(kubernetes.version.to_string(), "v1.36.3+k3s1");
    assert_eq!(kubernetes.version.minor, 36);
    assert_eq!(kubernetes.endpoint.as_deref(), Some("k8s.lan"));

    let first = &inventory.nodes["rpi01"];
    assert_eq!(first.address, "192.168.2.1");
    assert_eq!(first.kubernetes, Some(KubernetesRole::Server));
    assert_eq!(
        first.taints[0].to_string(),
        "node-role.kubernetes.io/control-plane=true:NoSchedule"
    );
    assert_eq!(first.ssh.user.as_deref(), Some("pi"));
    assert_eq!(first.ssh.identity, [PathBuf::from("~/.ssh/id_ed25519")]);
    assert_eq!(first.span.line, 12);

    let fifth = &inventory.nodes["rpi05"];
    let labels: Vec<_> = fifth.labels.iter().collect();
    assert_eq!(fifth.labels["disk"], "nvme");
    assert_eq!(fifth.labels["node-role.kubernetes.io/worker"], "");
    assert_eq!(labels.len(), 2);
    let roles: Vec<&str> = fifth.roles.iter().map(|r| r.role.as_str()).collect();
    assert_eq!(roles, ["base", "data-disk"]);
    assert_eq!(
        inventory.groups["nvme"],
        [name("rpi04"), name("rpi05"), name("rpi06")]
    );
    assert_eq!(inventory.nodes["rpi07"].expected, Expected::Absent);
    let used: Vec<&str> = project.roles.keys().map(RoleName::as_str).collect();
    assert_eq!(used, ["base", "data-disk"]);
}

#[test]
fn numbers_go_into_addresses_labels_and_variables() {
    let project = inventory(
        r#"cluster: c
nodes:
  a-[08:10]: { address: "10.0.{n:02}.{n}.lan", labels: { slot: "s{n:03}" }, vars: { ip: ["10.0.0.{n}"], keep: "{{ node.name }}{n}" } }
"#,
    );
    let node = &project.inventory.nodes["a-09"];
    assert_eq!(node.address, "10.0.09.9.lan");
    assert_eq!(node.labels["slot"], "s009");
    assert_eq!(
        node.vars["ip"].value.to_json(),
        serde_json::json!(["10.0.0.9"])
    );
    assert_eq!(node.vars["keep"].value.as_str(), Some("{{ node.name }}9"));
}

#[test]
fn the_nearest_place_wins_and_every_place_is_remembered() {
    let project = inventory(
        r#"cluster: c
vars: { zone: cluster, only: cluster }
groups:
  a: { vars: { zone: a, shared: 1 } }
  b: { vars: { zone: b, shared: 1 } }
nodes:
  pi-1: { address: 10.0.0.1, groups: [a, b], vars: { zone: node } }
  pi-2: { address: 10.0.0.2, groups: [b] }
  pi-3: { address: 10.0.0.3 }
"#,
    );
    let zone = &project.inventory.nodes["pi-1"].vars["zone"];
    assert_eq!(zone.value.as_str(), Some("node"));
    let places: Vec<(String, u32)> = zone
        .origin
        .iter()
        .map(|o| (o.level.to_string(), o.span.line))
        .collect();
    assert_eq!(
        places,
        [
            (String::from("node"), 7),
            (String::from("group a"), 4),
            (String::from("group b"), 5),
            (String::from("cluster"), 2),
        ]
    );
    let of = |node: &str, var: &str| {
        project.inventory.nodes[node].vars[var]
            .value
            .to_json()
            .to_string()
    };
    assert_eq!(of("pi-1", "shared"), "1");
    assert_eq!(of("pi-2", "zone"), "\"b\"");
    assert_eq!(of("pi-3", "zone"), "\"cluster\"");
    assert_eq!(of("pi-2", "only"), "\"cluster\"");
}

#[test]
fn parameters_follow_the_same_rule_with_the_default_below() {
    let folder = Folder::new(&[
        (
            "inventory.yaml",
            r#"cluster: c
roles: [r: { a: 1, b: 1 }, s]
groups:
  g: { roles: [r: { b: 2 }] }
nodes:
  pi-1: { address: 10.0.0.1, groups: [g], roles: [r: { c: 3 }] }
  pi-2: { address: 10.0.0.2 }
"#,
        ),
        (
            "roles/r/role.yaml",
            r#"parameters:
  a: { type: int, doc: A, default: 0 }
  b: { type: int, doc: B, default: 0 }
  c: { type: int, doc: C, default: 0 }
  d: { type: int, doc: D, default: 0 }
  e: { type: int, doc: E }
resources: []
"#,
        ),
        ("roles/s/role.yaml", "resources: []\n"),
    ]);
    let project = folder.good();
    let first = &project.inventory.nodes["pi-1"].roles;
    assert_eq!(first.len(), 2, "a role named three times is there once");
    assert_eq!(first[0].role.as_str(), "r");
    let values: Vec<(String, String)> = first[0]
        .params
        .iter()
        .map(|(name, var)| (name.to_string(), var.value.to_json().to_string()))
        .collect();
    let wanted = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "0")];
    assert_eq!(values, wanted.map(|(k, v)| (k.to_string(), v.to_string())));
    let levels: Vec<Level> = first[0].params["b"]
        .origin
        .iter()
        .map(|o| o.level.clone())
        .collect();
    assert_eq!(
        levels,
        [
            Level::Group("g".parse().unwrap()),
            Level::Cluster,
            Level::Default
        ]
    );
    assert_eq!(first[0].span.line, 6);
    let second = &project.inventory.nodes["pi-2"].roles[0];
    assert_eq!(second.params["b"].value.to_json(), 1);
}

#[test]
fn ssh_settings_are_merged_key_by_key() {
    let folder = Folder::new(&[(
        "inventory.yaml",
        r#"cluster: c
ssh:
  user: pi
  port: 2222
  identity: [keys/id, ~/.ssh/other, /etc/key]
  jump: gate
  sudo: { password: { secret: sudo } }
  config: ssh_config
groups:
  g: { ssh: { user: admin, agent: true, sudo: { ask: true } } }
nodes:
  gate: { address: gate.lan }
  pi-1: { address: 10.0.0.1, groups: [g], ssh: { port: 22, config: false, connect_timeout: 5 } }
  pi-2: { address: 10.0.0.2, ssh: { jump: ["root@[fe80::1]:23", gate], host_key: "ssh-ed25519 AAAA" } }
"#,
    )]);
    let project = folder.good();
    let nodes = &project.inventory.nodes;
    let gate = &nodes["gate"].ssh;
    assert!(
        gate.jump.is_empty(),
        "a jump host does not go through itself"
    );
    assert_eq!(
        gate.sudo,
        SudoPassword::Secret(SecretRef::Secret("sudo".into()))
    );
    assert_eq!(
        gate.config,
        SshConfigUse::File(folder.path().join("ssh_config"))
    );
    assert_eq!(
        gate.identity,
        [
            folder.path().join("keys/id"),
            PathBuf::from("~/.ssh/other"),
            PathBuf::from("/etc/key")
        ]
    );
    let first = &nodes["pi-1"].ssh;
    assert_eq!(first.user.as_deref(), Some("admin"));
    assert_eq!((first.port, first.agent), (Some(22), Some(true)));
    assert_eq!(first.jump, [Jump::Node(name("gate"))]);
    assert_eq!(first.sudo, SudoPassword::Ask);
    assert_eq!(first.config, SshConfigUse::Off);
    assert_eq!(first.connect_timeout_s, Some(5));
    let second = &nodes["pi-2"].ssh;
    assert_eq!(
        second.jump,
        [
            Jump::Host {
                user: Some("root".into()),
                host: "fe80::1".into(),
                port: Some(23)
            },
            Jump::Node(name("gate"))
        ]
    );
    assert_eq!(second.host_key.as_deref(), Some("ssh-ed25519 AAAA"));
}

#[test]
fn the_same_private_address_may_exist_behind_two_gates() {
    inventory(
        r#"cluster: c
nodes:
  pi-1: { address: 10.0.0.1, ssh: { jump: a.lan } }
  pi-2: { address: 10.0.0.1, ssh: { jump: b.lan } }
  pi-3: { address: 10.0.0.1, ssh: { port: 23, jump: b.lan } }
"#,
    );
}

#[test]
fn taints_of_the_node_win_over_those_of_its_groups() {
    let project = inventory(
        r#"cluster: c
groups:
  g: { taints: ["a=1:NoSchedule", "b:NoExecute", "a=1:NoExecute"] }
nodes:
  pi-1: { address: 10.0.0.1, groups: [g], taints: ["a=2:NoSchedule"] }
"#,
    );
    let taints: Vec<String> = project.inventory.nodes["pi-1"]
        .taints
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(taints, ["a=2:NoSchedule", "b:NoExecute", "a=1:NoExecute"]);
}

#[test]
fn a_role_of_the_user_overrides_a_built_in_one_and_may_use_all_it_uses() {
    use picluster_model::{RoleLibrary, load};
    static FILES: &[(&str, &[u8])] = &[
        (
            "r/role.yaml",
            b"doc: built in\nresources:\n  - file: { path: /x, template: x.j2 }\n",
        ),
        ("r/templates/x.j2", b"{{ node.name }}\n"),
        ("r/README.md", b"# r\n"),
        ("other/role.yaml", b"resources: []\n"),
    ];
    let library = RoleLibrary::builtin(FILES);
    let text = "cluster: c\nroles: [r]\nnodes:\n  pi-1: { address: 10.0.0.1 }\n";
    let read = |files: &[(&str, &str)]| {
        let folder = Folder::new(files);
        let path = folder.path().join("inventory.yaml");
        let project = load(&path, &library, &crate::kinds::Few, &Everything).unwrap();
        project.roles["r"].clone()
    };
    let built_in = read(&[("inventory.yaml", text)]);
    assert!(built_in.builtin);
    assert_eq!(built_in.file.name, "roles/r/role.yaml (built in)");
    let own = read(&[
        ("inventory.yaml", text),
        (
            "roles/r/role.yaml",
            std::str::from_utf8(FILES[0].1).unwrap(),
        ),
        (
            "roles/r/templates/x.j2",
            std::str::from_utf8(FILES[1].1).unwrap(),
        ),
    ]);
    assert!(!own.builtin);
    assert_eq!(own.entries.len(), built_in.entries.len());
    assert_eq!(
        own.templates.keys().collect::<Vec<_>>(),
        built_in.templates.keys().collect::<Vec<_>>()
    );
    assert_eq!(library.names(), ["other", "r"]);
}

#[test]
fn roles_of_groups_without_nodes_are_checked_too() {
    let folder = Folder::new(&[(
        "inventory.yaml",
        "cluster: c\ngroups:\n  spare: { roles: [nowhere] }\nnodes:\n  pi-1: { address: 10.0.0.1 }\n",
    )]);
    assert!(folder.bad().contains("unknown role `nowhere`"));
}

#[test]
fn every_value_has_its_place_and_every_secret_is_known() {
    let folder = Folder::new(&[
        (
            "inventory.yaml",
            "cluster: c\nroles: [r: { a: { env: A } }]\nssh: { sudo: { password: { secret: sudo } } }\nvars: { v: [{ sops: f }], w: { command: [pass, x] } }\nnodes:\n  pi-1: { address: 10.0.0.1 }\n",
        ),
        (
            "roles/r/role.yaml",
            "parameters:\n  a: { type: secret, doc: A }\nresources:\n  - command: { run: x, command: [a], environment: { B: { env: B } } }\n",
        ),
    ]);
    let project = folder.good();
    let node = &project.inventory.nodes["pi-1"];
    assert!(node.vars.contains_key("v") && node.vars.contains_key("w"));
    let param = &node.roles[0].params["a"];
    assert_eq!(param.origin[0].span.line, 2);
    assert_eq!(node.given["ssh.sudo"].origin[0].span.line, 3);
    assert_eq!(node.given["address"].origin[0].span.line, 6);
    let secrets: Vec<String> = project.secrets().iter().map(ToString::to_string).collect();
    assert_eq!(
        secrets,
        ["secret sudo", "env A", "env B", "sops f", "command pass"]
    );
}
