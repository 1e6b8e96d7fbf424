//! Whether a node's roles ask for the program of Kubernetes: seen by rendering them, not by reading them.

use crate::inventory::{Node, Project};
use crate::render::context::ClusterContext;
use crate::render::each_entry;
use crate::render::unknown::Watch;

impl ClusterContext {
    /// Whether some entry of the roles of `node` asks for `kubernetes.artifact`, also by way of a file or
    /// a parameter. Before the node was met (`facts` is none), an entry whose condition
    /// needs facts counts as one that is there.
    ///
    /// It ends at the first that asks, and begins with the last role: where people name no other order,
    /// the distribution's comes after all else.
    #[must_use]
    pub fn asks_for_artifact(
        &self,
        project: &Project,
        node: &Node,
        facts: Option<&serde_json::Value>,
    ) -> bool {
        let asked = Watch::default();
        // What is wrong with its variables is said when its roles are rendered for good.
        let Ok(context) = self.watched_node(node, facts, asked.clone()) else {
            return false;
        };
        node.roles.iter().rev().any(|role_use| {
            if let Some(role) = project.roles.get(&role_use.role) {
                let wanted = |_| !asked.noted();
                each_entry(role, role_use, &context, &wanted, &mut |_| {});
            }
            asked.noted()
        })
    }
}
