//! The examples in the documentation.

use std::path::Path;

use crate::kinds::Folder;

/// The documentation shows what is accepted.
#[test]
fn examples_in_the_documentation_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let example = |name: &str| -> String {
        let text = std::fs::read_to_string(root.join("docs").join(name)).unwrap();
        let (_, rest) = text.split_once("```yaml\n").unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let empty = "resources: []\n";
    let inventory = Folder::new(&[
        ("inventory.yaml", &example("inventory.md")),
        ("roles/base/role.yaml", empty),
        ("roles/swap-off/role.yaml", empty),
        ("roles/cgroups/role.yaml", empty),
    ])
    .good();
    assert_eq!(inventory.inventory.nodes.len(), 7);
    let role = Folder::new(&[
        (
            "inventory.yaml",
            "cluster: c\nroles: [greeting]\nnodes:\n  pi-1: { address: 10.0.0.1 }\n",
        ),
        ("roles/greeting/role.yaml", &example("roles.md")),
        ("roles/greeting/templates/motd.j2", "{{ params.text }}\n"),
    ])
    .good();
    assert_eq!(role.roles["greeting"].entries.len(), 2);
}

/// Invariant 12 counts on it: absent servers are servers, agents are none.
#[test]
fn the_declared_servers_are_found() {
    let inventory = "cluster: c
kubernetes: { distribution: k3s, version: v1.36.3+k3s1 }
nodes:
  pi-1: { address: 10.0.0.1, kubernetes: server }
  pi-2: { address: 10.0.0.2, kubernetes: agent }
  pi-3: { address: 10.0.0.3, kubernetes: server, expected: absent }
  pi-4: { address: 10.0.0.4 }
  pi-5: { address: 10.0.0.5, kubernetes: server }
";
    let project = Folder::new(&[("inventory.yaml", inventory)]).good();
    let servers: Vec<String> = project.inventory.servers().map(|n| n.to_string()).collect();
    assert_eq!(servers, ["pi-1", "pi-3", "pi-5"]);
}
