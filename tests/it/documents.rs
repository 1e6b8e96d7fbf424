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
fn explain_names_the_winner_and_the_losers_with_their_lines() {
    let desk = Desk::new(
        "cluster: c\nvars: { disk: sda }\ngroups:\n  g: { vars: { disk: nvme0n1 } }\nnodes:\n  a: { address: 192.0.2.1, groups: [g] }\n",
    );
    let ran = desk.run(&["explain", "a", "disk"]).expect(0);
    insta::assert_snapshot!(ran.out);
}

#[test]
fn starters_and_examples_are_valid_and_name_the_schema_first() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["inventories", "examples/quickstart", "examples/kraken"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                files.push(path);
            }
        }
    }
    assert_eq!(files.len(), 5);
    let desk = Desk::new("");
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
