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
