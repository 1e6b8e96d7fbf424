//! Which roles each node has, and with which parameters.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::inventory::RoleUseDocument;
use crate::inventory::{Node, RoleUse};
use crate::kinds::Kinds;
use crate::library::RoleLibrary;
use crate::load::Scope;
use crate::load::layers::{Layer, merge};
use crate::load::node::Draft;
use crate::name::{NodeName, RoleName, VarName};
use crate::role::{Parameter, Role};
use crate::schema::{Named, Templated, check_named};
use crate::span::Span;
use crate::suggest;
use crate::vars::{Level, Origin};
use crate::yaml::Yaml;

/// Reads every role some place of the inventory names, and gives each node its own.
pub fn read(
    scope: &Scope<'_>,
    nodes: &mut IndexMap<NodeName, Node>,
    drafts: &[Draft],
    library: &RoleLibrary,
    kinds: &dyn Kinds,
    out: &mut Vec<Diagnostic>,
) -> IndexMap<RoleName, Role> {
    let mut library = library.clone();
    library.folders.insert(0, scope.folder.join("roles"));
    let mut roles: IndexMap<RoleName, Role> = IndexMap::new();
    let cluster = uses(scope.root);
    for (_, _, group) in scope
        .root
        .get("groups")
        .map(Yaml::entries)
        .unwrap_or_default()
    {
        // Also of groups without nodes: a mistake there is still one.
        lookup(&uses(group), &library, kinds, &mut roles, out);
    }
    lookup(&cluster, &library, kinds, &mut roles, out);
    let mut checked = Vec::new();
    for draft in drafts {
        let own = uses(&draft.yaml);
        lookup(&own, &library, kinds, &mut roles, out);
        let Some(node) = nodes.get_mut(draft.name.as_str()) else {
            continue;
        };
        let mut all: Vec<(Level, RoleUseDocument)> = Vec::new();
        all.extend(cluster.iter().cloned().map(|u| (Level::Cluster, u)));
        for group in &node.groups {
            let of_group = scope.group(group).map(uses).unwrap_or_default();
            all.extend(
                of_group
                    .into_iter()
                    .map(|u| (Level::Group(group.clone()), u)),
            );
        }
        all.extend(own.into_iter().map(|u| (Level::Node, u)));
        // A member of the cluster runs its distribution, after all else where nobody says where.
        if let Some(implied) = implied(scope, node, draft)
            && !all.iter().any(|(_, u)| u.role == implied.role)
            && library.names().contains(&implied.role)
        {
            lookup(
                std::slice::from_ref(&implied),
                &library,
                kinds,
                &mut roles,
                out,
            );
            all.push((Level::Node, implied));
        }
        node.roles = combine(&node.name, &all, &roles, &mut checked, out);
    }
    // Declaration order of first use, whatever order they were read in.
    let mut used: Vec<&RoleName> = Vec::new();
    for node in nodes.values() {
        for role_use in &node.roles {
            if !used.contains(&&role_use.role) {
                used.push(&role_use.role);
            }
        }
    }
    let used: Vec<RoleName> = used.into_iter().cloned().collect();
    used.into_iter()
        .filter_map(|name| roles.shift_remove_entry(&name))
        .collect()
}

/// The role of the distribution on a node of the cluster, named by its `kubernetes: server` or
/// `agent`.
fn implied(scope: &Scope<'_>, node: &Node, draft: &Draft) -> Option<RoleUseDocument> {
    node.kubernetes?;
    let kubernetes = scope.root.get("kubernetes")?;
    let distribution = kubernetes.get("distribution").and_then(Yaml::as_str);
    let role = ["k3s", "kubeadm"]
        .into_iter()
        .find(|name| distribution == Some(*name))?;
    let place = draft.yaml.get("kubernetes")?;
    Some(RoleUseDocument {
        role: role.to_owned(),
        params: Vec::new(),
        span: place.span.clone(),
    })
}

fn uses(body: &Yaml) -> Vec<RoleUseDocument> {
    body.get("roles")
        .map(Yaml::items)
        .unwrap_or_default()
        .iter()
        .filter_map(RoleUseDocument::from_yaml)
        .collect()
}

fn lookup(
    uses: &[RoleUseDocument],
    library: &RoleLibrary,
    kinds: &dyn Kinds,
    roles: &mut IndexMap<RoleName, Role>,
    out: &mut Vec<Diagnostic>,
) {
    for role_use in uses {
        let Ok(name) = RoleName::new(role_use.role.clone()) else {
            continue;
        };
        if roles.contains_key(&name) {
            continue;
        }
        if let Some(folder) = library.hollow(&name) {
            let folder = folder.display();
            out.push(
                Diagnostic::new(format!("{folder} has no file role.yaml"), &role_use.span)
                    .label("named here")
                    .help(format!("write {folder}/role.yaml, or remove the folder")),
            );
            continue;
        }
        match library.read(&name, kinds, out) {
            Some(Some(role)) => {
                roles.insert(name, role);
            }
            // It is there and wrong: that was said at its own place.
            Some(None) => {}
            None => {
                let finding = Diagnostic::new(format!("unknown role `{name}`"), &role_use.span);
                let names = library.names();
                out.push(
                    match suggest::help(
                        "roles that exist",
                        name.as_str(),
                        names.iter().map(String::as_str),
                    ) {
                        Some(help) => finding.help(help),
                        None => finding.help(format!(
                            "make a folder roles/{name} with a role.yaml beside the inventory"
                        )),
                    },
                );
            }
        }
    }
}

/// Each role once, at its first place, its parameters merged: the nearest to the node wins.
fn combine(
    node: &NodeName,
    all: &[(Level, RoleUseDocument)],
    roles: &IndexMap<RoleName, Role>,
    checked: &mut Vec<(RoleName, VarName, Span)>,
    out: &mut Vec<Diagnostic>,
) -> Vec<RoleUse> {
    let mut combined: Vec<RoleUse> = Vec::new();
    for (_, first) in all {
        let Some((name, role)) = roles.get_key_value(first.role.as_str()) else {
            continue;
        };
        if combined.iter().any(|done| done.role == *name) {
            continue;
        }
        let uses: Vec<&(Level, RoleUseDocument)> =
            all.iter().filter(|(_, u)| u.role == first.role).collect();
        let layers: Vec<Layer<'_>> = uses
            .iter()
            .map(|(level, u)| Layer {
                level: level.clone(),
                entries: &u.params,
            })
            .collect();
        let what = format!("parameter of role {name}:");
        let mut merged = merge(&what, node.as_str(), &layers, out);
        let span = uses.last().map_or(&first.span, |(_, u)| &u.span);
        let mut params = IndexMap::new();
        for (key, parameter) in &role.parameters {
            let given = merged.shift_remove(key.as_str());
            if let Some(var) = &given {
                for origin in &var.origin {
                    // Written at the top, a value is the same for every node.
                    let place = (name.clone(), key.clone(), origin.value.span.clone());
                    if !checked.contains(&place) {
                        checked.push(place);
                        check_value(key, parameter, origin, out);
                    }
                }
            }
            let default = parameter.default.as_ref().map(|value| Origin {
                level: Level::Default,
                span: parameter.span.clone(),
                value: value.clone(),
            });
            match (given, default) {
                (Some(mut var), default) => {
                    var.origin.extend(default);
                    params.insert(key.clone(), var);
                }
                (None, Some(default)) => {
                    params.insert(
                        key.clone(),
                        crate::vars::Var {
                            value: default.value.clone(),
                            origin: vec![default],
                        },
                    );
                }
                (None, None) if parameter.required => out.push(
                    Diagnostic::new(format!("role `{name}` needs the parameter `{key}`"), span)
                        .related(&parameter.span, "required here")
                        .help(format!("write `{name}: {{ {key}: … }}`")),
                ),
                (None, None) => {}
            }
        }
        for (key, var) in merged {
            for origin in &var.origin {
                let finding = Diagnostic::new(
                    format!("role `{name}` has no parameter `{key}`"),
                    &origin.span,
                );
                out.push(
                    match suggest::help(
                        "its parameters",
                        &key,
                        role.parameters.keys().map(VarName::as_str),
                    ) {
                        Some(help) => finding.help(help),
                        None => finding.help("it takes no parameters"),
                    },
                );
            }
        }
        combined.push(RoleUse {
            role: name.clone(),
            params,
            span: span.clone(),
        });
    }
    combined
}

/// What is wrong with the value of a parameter that one place gives.
fn check_value(name: &VarName, parameter: &Parameter, origin: &Origin, out: &mut Vec<Diagnostic>) {
    let named = Named {
        name: name.as_str(),
        span: &origin.span,
    };
    let found = check_named(&origin.value, parameter.schema(), &named, Templated::Yes);
    out.extend(
        found
            .into_iter()
            .map(|finding| finding.related(&parameter.span, "declared here")),
    );
}

/// The same for a value whose templates were rendered.
pub(crate) fn check_rendered(
    name: &VarName,
    parameter: &Parameter,
    value: &Yaml,
) -> Vec<Diagnostic> {
    let named = Named {
        name: name.as_str(),
        span: &value.span,
    };
    check_named(value, parameter.schema(), &named, Templated::Rendered)
        .into_iter()
        .map(|finding| finding.related(&parameter.span, "declared here"))
        .collect()
}
