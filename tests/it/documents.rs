//! Bad input: clear errors at the right line, before any connection; nothing written.

use crate::rig::Desk;

#[test]
fn a_valid_inventory_is_said_to_be_valid() {
    let desk = Desk::new("cluster: c\nnodes:\n  a: { address: 192.0.2.1 }\n");
    let ran = desk.run(&["validate"]).expect(0);
    assert_eq!(ran.out, "valid c: 1 node, 0 roles: none\n");
}

#[test]
fn all_errors_come_at_once_with_exit_code_1_and_nothing_is_written() {
    let desk = Desk::new(
        "cluster: c\nnode: 1\nnodes:\n  a: { adress: 192.0.2.1 }\n  b: { address: 192.0.2.2, roles: [nope] }\n",
    );
    for verb in ["validate", "plan", "apply"] {
        let ran = desk.run(&[verb]).expect(1);
        for part in [
            "unknown field `node`",
            "inventory.yaml:2:1",
            "adress",
            "inventory.yaml:4:",
            "unknown role `nope`",
            "no node was contacted",
        ] {
            assert!(
                ran.err.contains(part),
                "{verb}: {part:?} is missing in:\n{}",
                ran.err
            );
        }
        assert_eq!(ran.out, "");
    }
    let left: Vec<_> = std::fs::read_dir(desk.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["inventory.yaml"]);
}

/// What built-in roles make of arguments is held against their kinds, as far as no facts are needed.
#[test]
fn a_body_that_an_argument_makes_wrong_is_found_before_any_connection() {
    let desk = Desk::new(
        r#"cluster: c
roles:
  - kernel: { sysctls: { vm.swappiness: "10", "vm.dirty ratio": "5" } }
  - mine: { people: [{ name: ada, home: /srv/ada }, { name: bob, home: home/bob }] }
nodes:
  a-[1:3]: { address: "192.0.2.{n}" }
"#,
    );
    desk.write(
        "roles/mine/role.yaml",
        r#"parameters:
  people:
    type: list
    doc: Who is there
    items: { type: map, fields: { name: user-name, home: string } }
resources:
  - directory: { path: "{{ item.home }}", mode: "0750" }
    each: params.people
"#,
    );
    let ran = desk.run(&["validate"]).expect(1);
    insta::assert_snapshot!(ran.err);
    assert_eq!(desk.run(&["plan"]).expect(1).err, ran.err);
}

#[test]
fn every_verb_has_an_example_in_its_help() {
    let desk = Desk::new("");
    for verb in [
        "validate", "plan", "apply", "facts", "exec", "explain", "graph", "lab",
    ] {
        let ran = desk.run(&[verb, "--help"]).expect(0);
        assert!(
            ran.out.contains(&format!("picluster {verb}")),
            "{verb}:\n{}",
            ran.out
        );
        assert!(ran.out.contains("Example"), "{verb}");
    }
}

#[test]
fn starters_and_examples_are_valid_and_name_the_schema_first() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("inventories")).unwrap() {
        files.push(entry.unwrap().path());
    }
    assert_eq!(files.len(), 3);
    let examples = crate::examples::ALL.map(|e| e.complete());
    files.extend(examples.iter().map(Desk::inventory));
    let desk = Desk::new("");
    // The starters name the key that most people have.
    desk.write(".home/.ssh/id_ed25519", "");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("# yaml-language-server: $schema=../"),
            "{}",
            file.display()
        );
        desk.run(&["validate", file.to_str().unwrap()]).expect(0);
    }
}

#[test]
fn a_key_that_is_not_there_is_said_at_its_line_unless_another_or_an_agent_has_one() {
    let inventory = |ssh: &str| {
        format!(
            "cluster: c\nssh: {{ {ssh} }}\nnodes:\n  a-[1:2]: {{ address: \"192.0.2.{{n}}\" }}\n"
        )
    };
    let desk = Desk::new(&inventory("identity: ~/.ssh/id_rack"));
    let ran = desk.run(&["validate"]).expect(1);
    for part in [
        "there is no key ~/.ssh/id_rack",
        "inventory.yaml:2:18",
        "ssh-keygen -t ed25519 -f ~/.ssh/id_rack",
        "agent: true",
        "1 error in the documents",
    ] {
        assert!(
            ran.err.contains(part),
            "{part:?} is missing in:\n{}",
            ran.err
        );
    }
    for ssh in [
        "identity: ~/.ssh/id_rack, agent: true",
        "identity: [~/.ssh/id_rack, ./keys/rack]",
    ] {
        let desk = Desk::new(&inventory(ssh));
        desk.write("keys/rack", "");
        desk.run(&["validate"]).expect(0);
    }
    let desk = Desk::new(&inventory("identity: ~/.ssh/id_rack"));
    desk.write(
        ".home/.ssh/config",
        "Host *\n  IdentityAgent ~/agent.sock\n",
    );
    desk.run(&["validate"]).expect(0);
    // Questions about the documents alone need no key.
    let desk = Desk::new(&inventory("identity: ~/.ssh/id_rack, agent: false"));
    desk.run(&["validate"]).expect(1);
    let ran = desk.run(&["explain", "a-1", "nothing"]).expect(1);
    assert!(!ran.err.contains("there is no key"), "{}", ran.err);
}

#[test]
fn files_the_kubernetes_section_names_are_looked_for() {
    let desk = Desk::new(
        "cluster: c\nkubernetes: { distribution: k3s, version: v1.36.3+k3s1, artifact: ./k3s-arm64, manifests: [{ name: m, path: m.yaml }] }\nnodes:\n  a: { address: 192.0.2.1, kubernetes: server }\n",
    );
    let ran = desk.run(&["validate"]).expect(1);
    assert_eq!(
        ran.err.matches("there is no file").count(),
        2,
        "{}",
        ran.err
    );
    desk.write("k3s-arm64", "");
    desk.write("m.yaml", "");
    desk.run(&["validate"]).expect(0);
}

#[test]
fn what_is_no_inventory_says_what_to_do_instead() {
    let desk = Desk::new("cluster: c\nnodes:\n  a: { address: 192.0.2.1 }\n");
    let ran = desk.run(&["validate", "nowhere.yaml"]).expect(1);
    for part in [
        "nowhere.yaml does not exist",
        "nothing was changed",
        "inventories/one.yaml",
    ] {
        assert!(
            ran.err.contains(part),
            "{part:?} is missing in:\n{}",
            ran.err
        );
    }
    let plan = PLAN.replace("INVENTORY", desk.inventory().to_str().unwrap());
    desk.write("rack.plan", &plan);
    for verb in ["validate", "plan"] {
        let ran = desk.run(&[verb, "rack.plan"]).expect(1);
        for part in [
            "rack.plan is a plan file, not an inventory",
            "picluster apply rack.plan",
        ] {
            assert!(
                ran.err.contains(part),
                "{verb}: {part:?} is missing in:\n{}",
                ran.err
            );
        }
    }
}

/// The smallest plan there is.
const PLAN: &str =
    r#"{ "format": 1, "cluster": "c", "inventory": "INVENTORY", "nodes": {}, "steps": [] }"#;
