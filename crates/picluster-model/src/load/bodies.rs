//! Bodies of resources, as far as they are known before the first connection: rendered and held
//! against their kinds, so that a mistake in an argument is found at its line of the inventory.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::Diagnostic;
use crate::inventory::{Node, Project, RoleUse};
use crate::kinds::Kinds;
use crate::load::source;
use crate::name::{NodeName, RoleName, VarName};
use crate::render::{ClusterContext, each_entry, mentions};
use crate::role::{Entry, Role};
use crate::span::Span;
use crate::vars::{Level, Var};
use crate::yaml::Yaml;

/// Nobody mends more at a time; on a thousand nodes there may be very many.
const ENOUGH: usize = 50;

/// Renders the roles of every node without facts and checks what comes of it. What asks for facts
/// is left to the plan.
///
/// Nodes that a role cannot tell apart are rendered once.
pub fn check(project: &Project, kinds: &dyn Kinds, out: &mut Vec<Diagnostic>) {
    let cluster = ClusterContext::new(project);
    let mut likeness = Likeness::new(project);
    let mut said = Said::default();
    for node in project.inventory.nodes.values() {
        if said.count >= ENOUGH {
            return;
        }
        let fresh = likeness.fresh(node);
        if fresh.is_empty() && !likeness.fresh_vars(node) {
            continue;
        }
        let context = match cluster.unmet_node(node) {
            Ok(context) => context,
            Err(found) => {
                for finding in found {
                    said.say(finding, &node.name, out);
                }
                continue;
            }
        };
        for Fresh {
            role,
            role_use,
            entries,
        } in fresh
        {
            let wanted = |index: usize| entries.get(index).copied().unwrap_or(true);
            each_entry(role, role_use, &context, &wanted, &mut |made| {
                let found = match &made.result {
                    Ok(entry) => kinds.check(&entry.kind, &entry.body),
                    Err(found) => found.clone(),
                };
                for mut finding in found {
                    if finding.label.is_none() {
                        finding = finding.label(format!("on node {}", node.name));
                    }
                    if let Some(entry) = made.entry {
                        let places = source::of(entry, made.index, &finding, role, role_use, node);
                        for (place, what) in places {
                            finding = finding.related(&place, what);
                        }
                    }
                    said.say(finding, &node.name, out);
                }
            });
        }
    }
}

/// What was found, by place: the same mistake on a hundred nodes is one mistake, though its words
/// name what each of them has.
#[derive(Default)]
struct Said {
    places: HashMap<Vec<Span>, NodeName>,
    count: usize,
}

impl Said {
    fn say(&mut self, finding: Diagnostic, node: &NodeName, out: &mut Vec<Diagnostic>) {
        let related = finding.related.iter().map(|(span, _)| span);
        let places: Vec<Span> = finding.span.iter().chain(related).cloned().collect();
        let first = self.places.entry(places).or_insert_with(|| node.clone());
        if first == node {
            self.count += 1;
            out.push(finding);
        }
    }
}

/// Tells which nodes a role cannot tell apart.
struct Likeness<'a> {
    project: &'a Project,
    /// What each entry of a role asks for.
    roles: HashMap<&'a RoleName, Vec<Asks>>,
    /// Whether values in the `kubernetes` section are templates, which may ask for anything.
    kubernetes: bool,
    seen: HashSet<(&'a RoleName, Vec<Place>, String)>,
    vars: HashSet<String>,
}

/// A role of a node, and which of its entries were not rendered yet for a node like it.
struct Fresh<'a> {
    role: &'a Role,
    role_use: &'a RoleUse,
    entries: Vec<bool>,
}

/// A value of a parameter: where it is written is what it is.
type Place = (&'static str, u32, u32);

/// Whether templates ask for what differs from node to node.
#[derive(Clone, Copy)]
struct Asks {
    vars: bool,
    node: bool,
}

impl Asks {
    /// As the text says. An alias stands for text elsewhere, which may ask for anything.
    fn of_value(text: &str) -> Self {
        if text.contains('*') {
            Self {
                vars: true,
                node: true,
            }
        } else {
            Self::of(text)
        }
    }

    fn of(text: &str) -> Self {
        Self {
            vars: mentions(text, "vars"),
            node: mentions(text, "node"),
        }
    }

    /// Of an entry, with the file it names; all files when that one may name others.
    fn of_entry(entry: &Entry, role: &Role) -> Self {
        let mut asks = Self::of_value(entry.span.text());
        let named = entry.body.get("template");
        let file = named
            .and_then(Yaml::as_str)
            .and_then(|name| role.templates.get(name))
            .filter(|file| {
                let others = ["include", "import", "extends", "from"];
                !others.iter().any(|word| mentions(&file.text, word))
            });
        match file {
            Some(file) => asks = asks.and(Self::of(&file.text)),
            None if named.is_some() => {
                for file in role.templates.values() {
                    asks = asks.and(Self::of(&file.text));
                }
            }
            None => {}
        }
        asks
    }

    fn any(self) -> bool {
        self.vars || self.node
    }

    fn and(self, other: Self) -> Self {
        Self {
            vars: self.vars || other.vars,
            node: self.node || other.node,
        }
    }
}

impl<'a> Likeness<'a> {
    fn new(project: &'a Project) -> Self {
        let roles = project
            .roles
            .iter()
            .map(|(name, role)| {
                let entries = role.entries.iter();
                (name, entries.map(|e| Asks::of_entry(e, role)).collect())
            })
            .collect();
        let kubernetes = project
            .inventory
            .kubernetes
            .as_ref()
            .is_some_and(|section| {
                let written = section.written.span.text();
                ["{{", "{%", "*"].iter().any(|mark| written.contains(mark))
            });
        Self {
            project,
            roles,
            kubernetes,
            seen: HashSet::new(),
            vars: HashSet::new(),
        }
    }

    /// The roles of `node`, as far as they were not rendered yet for a node like it.
    fn fresh(&mut self, node: &'a Node) -> Vec<Fresh<'a>> {
        let mut vars = None;
        let mut fresh = Vec::new();
        for role_use in &node.roles {
            let (Some(role), Some(entries)) = (
                self.project.roles.get(&role_use.role),
                self.roles.get(&role_use.role),
            ) else {
                continue;
            };
            // What a parameter asks for, every entry may ask for with it.
            let mut given = Asks::of("");
            for var in role_use.params.values() {
                given = given.and(Asks::of_value(var.value.span.text()));
            }
            given.node |= self.kubernetes;
            let places: Vec<Place> = role_use.params.values().map(place).collect();
            let all = entries.iter().fold(given, |all, entry| all.and(*entry));
            let own = all.any() && {
                let mut rest = vars.get_or_insert_with(|| written(node)).clone();
                if all.node || mentions(&rest, "node") {
                    rest.push_str(node.name.as_str());
                }
                self.seen.insert((&role_use.role, places.clone(), rest))
            };
            let alike = self.seen.insert((&role_use.role, places, String::new()));
            if own || alike {
                let wanted = |asks: &Asks| {
                    if asks.and(given).any() { own } else { alike }
                };
                fresh.push(Fresh {
                    role,
                    role_use,
                    entries: entries.iter().map(wanted).collect(),
                });
            }
        }
        fresh
    }

    /// Whether the variables of `node` were not rendered yet.
    fn fresh_vars(&mut self, node: &Node) -> bool {
        let mut key = written(node);
        if mentions(&key, "node") {
            key.push_str(node.name.as_str());
        }
        !node.vars.is_empty() && self.vars.insert(key)
    }
}

/// Variables of a range have its numbers in them: what they say counts, not where.
fn written(node: &Node) -> String {
    let all: Vec<(&VarName, serde_json::Value)> = node
        .vars
        .iter()
        .map(|(name, var)| (name, var.value.to_json()))
        .collect();
    serde_json::to_string(&all).unwrap_or_else(|_| node.name.to_string())
}

fn place(var: &Var) -> Place {
    let of_role = var
        .origin
        .first()
        .is_some_and(|origin| origin.level == Level::Default);
    let Yaml { span, .. } = &var.value;
    (
        if of_role { "role" } else { "inventory" },
        span.start,
        span.end,
    )
}
