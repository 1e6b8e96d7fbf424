//! The inventories people start from.

use std::path::Path;

use picluster_model::{Color, RoleLibrary, load, render};

use crate::kinds::Few;

/// Roles are judged with the real kinds elsewhere; here only the inventories are.
#[test]
fn starters_are_good_and_name_the_schema_first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut nodes = Vec::new();
    for name in ["one", "three", "six"] {
        let path = root.join(format!("inventories/{name}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(
                "# yaml-language-server: $schema=../docs/schema/inventory.schema.json\n"
            )
        );
        match load(&path, &RoleLibrary::default(), &Few) {
            Ok(project) => nodes.push(project.inventory.nodes.len()),
            Err(findings) => panic!("{}", render(&findings, Color::Plain)),
        }
    }
    assert_eq!(nodes, [1, 3, 7]);
}
