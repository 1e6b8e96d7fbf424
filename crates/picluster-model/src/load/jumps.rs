//! Nodes that are reached through other nodes.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::inventory::Node;
use crate::load::node::Draft;
use crate::name::NodeName;
use crate::ssh::Jump;

/// Finds nodes that can only be reached through themselves.
pub fn check(nodes: &IndexMap<NodeName, Node>, drafts: &[Draft], out: &mut Vec<Diagnostic>) {
    let mut reported: Vec<NodeName> = Vec::new();
    for start in nodes.values() {
        let mut path = vec![&start.name];
        if let Some(circle) = walk(nodes, start, &mut path) {
            if circle.iter().any(|name| reported.contains(name)) {
                continue;
            }
            let names: Vec<&str> = circle.iter().map(NodeName::as_str).collect();
            let span = drafts
                .iter()
                .find(|draft| draft.name == circle[0].as_str())
                .and_then(|draft| draft.yaml.get("ssh"))
                .and_then(|ssh| ssh.get("jump"))
                .map_or(&start.span, |jump| &jump.span);
            out.push(
                Diagnostic::new(
                    format!(
                        "jump hosts go in a circle: {} → {}",
                        names.join(" → "),
                        names[0]
                    ),
                    span,
                )
                .help("one of them must be reached without the others"),
            );
            reported.extend(circle);
        }
    }
}

/// Depth first; a chain of jumps longer than the cluster has come back to itself.
fn walk<'a>(
    nodes: &'a IndexMap<NodeName, Node>,
    node: &'a Node,
    path: &mut Vec<&'a NodeName>,
) -> Option<Vec<NodeName>> {
    for hop in &node.ssh.jump {
        let Jump::Node(name) = hop else { continue };
        if let Some(at) = path.iter().position(|seen| *seen == name) {
            return Some(path[at..].iter().map(|n| (*n).clone()).collect());
        }
        let Some((name, next)) = nodes.get_key_value(name) else {
            continue;
        };
        path.push(name);
        let found = walk(nodes, next, path);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}
