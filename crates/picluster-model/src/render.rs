//! From a role and a node to the bodies of resources: the only place templates run.

use crate::diagnostic::Diagnostic;
use crate::inventory::{Node, Project, RoleUse};
use crate::role::Role;
use crate::span::Span;
use crate::yaml::Yaml;

/// What templates of one node may name. Made once a node.
#[derive(Debug, Clone)]
pub struct RenderContext {
    pub(crate) _facts: serde_json::Value,
}

impl RenderContext {
    /// Resolves the variables of `node` (which may refer to each other) against its facts.
    ///
    /// `facts` holds only what no apply changes; it is what `facts.` may be followed by.
    ///
    /// # Errors
    /// Variables that refer to each other in a circle, or whose templates fail.
    pub fn new(
        project: &Project,
        node: &Node,
        facts: &serde_json::Value,
    ) -> Result<Self, Vec<Diagnostic>> {
        let _ = (project, node);
        Ok(Self {
            _facts: facts.clone(),
        })
    }
}

/// One resource of a role on a node, ready to become a typed resource.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedEntry {
    /// The kind, for instance `file`.
    pub kind: String,
    /// The body: all templates rendered, all secrets as placeholders.
    pub body: Yaml,
    /// The name other entries need it by.
    pub id: Option<String>,
    /// Ids, or `kind[name]`, of what must be done before.
    pub needs: Vec<String>,
    /// Whether everything behind it waits for everything before it.
    pub barrier: bool,
    /// Why it is there.
    pub doc: Option<String>,
    /// The place of the entry in `role.yaml`.
    pub span: Span,
}

/// Renders the entries of `role` for one node: `when` and `each` evaluated, templates rendered.
///
/// # Errors
/// Every template or expression that fails, at its place, naming the node.
pub fn render_role(
    role: &Role,
    role_use: &RoleUse,
    context: &RenderContext,
) -> Result<Vec<RenderedEntry>, Vec<Diagnostic>> {
    let _ = (role, role_use, context);
    Ok(Vec::new())
}
