//! Whether every name a template uses exists on the nodes that use it, and no variable needs
//! itself.

use std::collections::HashSet;

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::inventory::{Inventory, Node};
use crate::kinds::Kinds;
use crate::name::{RoleName, VarName};
use crate::render::order;
use crate::role::Role;
use crate::template::{Engine, Names, RoleCheck, check_value};
use crate::vars::{Level, Var};

/// Checks the templates in values of the inventory, and the variables roles ask for.
pub fn check(
    inventory: &Inventory,
    roles: &IndexMap<RoleName, Role>,
    kinds: &dyn Kinds,
    out: &mut Vec<Diagnostic>,
) {
    let facts = kinds.facts_schema();
    // Nodes of a range have the same variables: a role is checked once for each set of names.
    let mut checked: HashSet<(&RoleName, Vec<&str>)> = HashSet::new();
    for node in inventory.nodes.values() {
        let vars: Vec<&str> = node.vars.keys().map(VarName::as_str).collect();
        let names = Names {
            params: None,
            facts: &facts,
            vars: Some(vars.clone()),
            each: false,
            item: None,
            partial: false,
            node: Some(node.name.as_str()),
        };
        values(node, &node.vars, "vars", &names, out);
        if let Some(kubernetes) = inventory
            .kubernetes
            .as_ref()
            .filter(|_| node.kubernetes.is_some())
        {
            let configs = kubernetes
                .config
                .values()
                .chain(kubernetes.agent_config.values());
            for value in configs {
                check_value(Engine::plain(), value, &names, out);
            }
        }
        for role_use in &node.roles {
            let given: IndexMap<VarName, Var> = role_use
                .params
                .iter()
                .filter(|(_, var)| {
                    // Defaults are checked with their role.
                    var.origin
                        .first()
                        .is_some_and(|o| o.level != Level::Default)
                })
                .map(|(name, var)| (name.clone(), var.clone()))
                .collect();
            values(node, &given, "params", &names, out);
            if let Err(circle) = order("params", &role_use.params) {
                out.push(circle);
            }
            let Some(role) = roles.get(&role_use.role) else {
                continue;
            };
            if checked.insert((&role.name, vars.clone())) {
                let check = RoleCheck {
                    role,
                    facts: &facts,
                    vars: Some(vars.clone()),
                    node: Some(node.name.as_str()),
                };
                check.run(out);
            }
        }
    }
}

fn values(
    node: &Node,
    values: &IndexMap<VarName, Var>,
    root: &str,
    names: &Names<'_>,
    out: &mut Vec<Diagnostic>,
) {
    let _ = node;
    for var in values.values() {
        check_value(Engine::plain(), &var.value, names, out);
    }
    if root == "vars"
        && let Err(circle) = order(root, values)
    {
        out.push(circle);
    }
}
