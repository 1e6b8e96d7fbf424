//! From documents and facts to the resources a node should have.

use std::collections::BTreeMap;

use picluster_model::inventory::{Node, Project};
use picluster_model::render::{ClusterContext, render_role};
use picluster_model::{Diagnostic, Span};
use picluster_resource::{Action, Change, Facts, Resource};

use crate::addr::StepAddr;

/// One resource a node should have, and where it is said.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its address.
    pub addr: StepAddr,
    /// What should be.
    pub resource: Resource,
    /// `id` of the entry, for `needs`.
    pub id: Option<String>,
    /// Ids, or `kind[name]`: of this role first, then of any role of the node.
    pub needs: Vec<String>,
    /// Everything behind it waits for everything before it.
    pub barrier: bool,
    /// The node takes its change back unless it is confirmed.
    pub guarded: bool,
    /// The place of the entry.
    pub span: Option<Span>,
}

/// Renders every role of `node` against its facts. `cluster` is made once a project: it holds what
/// all nodes share.
///
/// # Errors
/// Everything that is wrong, at its place: templates that fail, bodies that do not fit their kind,
/// one thing declared twice with different content.
pub fn declare(
    project: &Project,
    cluster: &ClusterContext,
    node: &Node,
    facts: &Facts,
) -> Result<Vec<Declared>, Vec<Diagnostic>> {
    let context = cluster.node(node, &facts.constant())?;
    let mut declared: Vec<Declared> = Vec::new();
    let mut wrong = Vec::new();
    for role_use in &node.roles {
        let Some(role) = project.roles.get(&role_use.role) else {
            continue;
        };
        let entries = match render_role(role, role_use, &context) {
            Ok(entries) => entries,
            Err(diagnostics) => {
                wrong.extend(diagnostics);
                continue;
            }
        };
        for entry in entries {
            match Resource::from_yaml(&entry.kind, &entry.body) {
                Ok(resource)
                    if entry.guarded
                        && resource.undo(None, &Change::new(Action::Run)).is_none() =>
                {
                    let kind = resource.kind();
                    wrong.push(
                        Diagnostic::new(
                            format!("a {kind} cannot be guarded: nobody knows how to take it back"),
                            &entry.span,
                        )
                        .help("files, links, lines, units and boot files can; so can a command that says how: `undo`"),
                    );
                }
                Ok(resource) => declared.push(Declared {
                    addr: StepAddr {
                        node: node.name.clone(),
                        role: role_use.role.clone(),
                        kind: resource.kind().to_owned(),
                        key: resource.key(),
                    },
                    resource,
                    id: entry.id,
                    needs: entry.needs,
                    barrier: entry.barrier,
                    guarded: entry.guarded,
                    span: Some(entry.span),
                }),
                Err(diagnostics) => wrong.extend(diagnostics),
            }
        }
    }
    let declared = without_twins(declared, &mut wrong);
    if wrong.is_empty() {
        Ok(declared)
    } else {
        Err(wrong)
    }
}

/// Two roles may ask for the very same thing; two different wishes for one thing are an error.
fn without_twins(declared: Vec<Declared>, wrong: &mut Vec<Diagnostic>) -> Vec<Declared> {
    let mut first: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut kept: Vec<Declared> = Vec::new();
    for item in declared {
        let key = (item.addr.kind.clone(), item.addr.key.clone());
        match first.get(&key) {
            None => {
                first.insert(key, kept.len());
                kept.push(item);
            }
            Some(&at) if kept[at].resource == item.resource => {}
            Some(&at) => {
                let message = format!(
                    "{}: `{}[{}]` is declared twice with different content",
                    item.addr.node, item.addr.kind, item.addr.key
                );
                let mut diagnostic = match &item.span {
                    Some(span) => Diagnostic::new(message, span),
                    None => Diagnostic::whole_file(message),
                }
                .help("keep one of the two, or make them equal");
                if let Some(span) = &kept[at].span {
                    diagnostic = diagnostic.related(span, "first declared here");
                }
                wrong.push(diagnostic);
            }
        }
    }
    kept
}
