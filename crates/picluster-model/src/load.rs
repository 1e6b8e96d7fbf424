//! From files to a [`Project`], or to everything that is wrong with them.

mod agreement;
mod bodies;
mod groups;
mod jumps;
mod kubernetes;
mod layers;
mod node;
mod packages;
mod roles;
mod source;
mod ssh;
mod variables;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::inventory::InventoryDocument;
use crate::inventory::{Inventory, Node, Project};
use crate::kinds::Kinds;
use crate::library::RoleLibrary;
use crate::name::{ClusterName, GroupName, NodeName};
use crate::schema::{Templated, check_rough, inventory_schema_ref};
use crate::span::Span;
use crate::yaml::{Yaml, parse};

pub(crate) use roles::check_rendered;

/// What documents name beside themselves on the controller, and whether it is there.
pub trait Local {
    /// Whether a file (or folder) that the documents name is there. `~/` is not expanded.
    fn exists(&self, path: &Path) -> bool;

    /// The names of what is in a folder; `None` when it is not known.
    fn list(&self, folder: &Path) -> Option<Vec<String>>;

    /// Whether an ssh agent may hold keys, so that none of the files has to.
    fn has_agent(&self) -> bool;
}

/// Takes everything documents name for given: for who only wants to know what they say.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Local for Everything {
    fn exists(&self, _: &Path) -> bool {
        true
    }

    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }

    fn has_agent(&self) -> bool {
        true
    }
}

/// Reads the inventory at `path` and the roles it uses, and checks everything that can be
/// checked without a node.
///
/// Roles are looked for in `roles/` beside the inventory, then in `library`. `local` is asked
/// for the other files the documents name.
///
/// # Errors
/// Every finding in every document: the inventory's first, then those of each role, from top to
/// bottom.
pub fn load(
    path: &Path,
    library: &RoleLibrary,
    kinds: &dyn Kinds,
    local: &dyn Local,
) -> Result<Project, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let file = parse::read(path, &name).map_err(|finding| vec![finding])?;
    let root =
        parse::parse(&file).map_err(|found| found.into_iter().map(begin).collect::<Vec<_>>())?;
    let (mut out, patterns) = check_rough(&root, inventory_schema_ref(), Templated::No);
    let structural = out.len();
    let folder = path.parent().unwrap_or(Path::new(""));

    let document = InventoryDocument::from_yaml(&root);
    let outside = Outside {
        library,
        kinds,
        local,
    };
    let project =
        document.and_then(|document| project(&root, &document, path, folder, &outside, &mut out));
    let mut out = tidy(&out, structural, &patterns);
    match project {
        Some(project) if out.is_empty() => Ok(project),
        _ => {
            if out.is_empty() {
                out.push(Diagnostic::new(
                    format!("{name} is not an inventory"),
                    &root.span,
                ));
            }
            sort(&mut out, &file.name);
            Err(out)
        }
    }
}

/// A file without anything in it has no place to point at: says how one begins instead.
fn begin(finding: Diagnostic) -> Diagnostic {
    if finding.span.is_some() || finding.help.is_some() {
        return finding;
    }
    finding.help(
        "the smallest inventory is `{ cluster: home, nodes: { pi-1: { address: 192.168.2.1 } } }`",
    )
}

/// Drops what was said twice: once by a pattern and better by a check behind it, or of every
/// node of a range or group.
fn tidy(findings: &[Diagnostic], structural: usize, patterns: &[Span]) -> Vec<Diagnostic> {
    let mut kept: Vec<Diagnostic> = Vec::new();
    for (index, finding) in findings.iter().enumerate() {
        let said_better = index < structural
            && finding.span.as_ref().is_some_and(|span| {
                patterns.contains(span)
                    && findings[structural..]
                        .iter()
                        .any(|other| other.span.as_ref() == Some(span))
            });
        // Of findings that differ only in the node they name, the first will do.
        let said_before = kept.iter().any(|other| {
            other == finding
                || (finding.span.is_some()
                    && other.span == finding.span
                    && other.help == finding.help
                    && other.label == finding.label
                    && other.related == finding.related
                    && other.help.is_some())
        });
        if !said_better && !said_before {
            kept.push(finding.clone());
        }
    }
    kept
}

/// The inventory first, then other files by name; in each from top to bottom.
fn sort(findings: &mut [Diagnostic], inventory: &str) {
    findings.sort_by_key(|finding| {
        finding.span.as_ref().map_or((0, String::new(), 0), |span| {
            let other = u8::from(span.file.name != inventory);
            (other, span.file.name.clone(), span.start)
        })
    });
}

/// What the parts of the loader share.
pub(crate) struct Scope<'a> {
    /// The whole inventory.
    pub root: &'a Yaml,
    /// The same, read.
    pub document: &'a InventoryDocument,
    /// The folder of the inventory.
    pub folder: &'a Path,
    /// Every node name, ranges expanded, whether or not the node is otherwise good.
    pub names: IndexMap<String, Span>,
    /// The files the inventory names, each with the place of its name.
    pub files: RefCell<Vec<(PathBuf, Span)>>,
    /// Where the first key file of each node is named.
    pub identities: RefCell<IndexMap<NodeName, Span>>,
}

/// What the loader knows beside the inventory.
struct Outside<'a> {
    library: &'a RoleLibrary,
    kinds: &'a dyn Kinds,
    local: &'a dyn Local,
}

impl Scope<'_> {
    /// Says that the inventory names a file, which is therefore to be there.
    pub fn wants_file(&self, path: &Path, span: &Span) {
        self.files
            .borrow_mut()
            .push((path.to_owned(), span.clone()));
    }

    /// What stands in a group, key by key.
    pub fn group(&self, name: &GroupName) -> Option<&Yaml> {
        self.root.get("groups")?.get(name.as_str())
    }
}

/// Some key there must be. As with OpenSSH one of the files is enough, and none is needed where an
/// agent may hold the key.
fn keys(
    scope: &Scope<'_>,
    nodes: &IndexMap<NodeName, Node>,
    local: &dyn Local,
    out: &mut Vec<Diagnostic>,
) {
    if nodes.is_empty() {
        return;
    }
    let agent = local.has_agent();
    let named = scope.identities.borrow();
    for node in nodes.values() {
        let files = &node.ssh.identity;
        let by_agent = match node.ssh.agent {
            Some(named) => named,
            None => agent,
        };
        if by_agent || files.iter().any(|file| local.exists(file)) {
            continue;
        }
        let (Some(first), Some(span)) = (files.first(), named.get(&node.name)) else {
            continue;
        };
        let name = first.display();
        let message = match files.len() {
            1 => format!("there is no key {name}"),
            n => format!("none of the {n} keys is there, neither {name}"),
        };
        out.push(Diagnostic::new(message, span).help(format!(
            "make it with `ssh-keygen -t ed25519 -f {name}`, name another file, or write `agent: true` when an ssh agent holds the key"
        )));
    }
}

fn project(
    root: &Yaml,
    document: &InventoryDocument,
    path: &Path,
    folder: &Path,
    outside: &Outside<'_>,
    out: &mut Vec<Diagnostic>,
) -> Option<Project> {
    let Outside {
        library,
        kinds,
        local,
    } = *outside;
    let cluster = document
        .cluster
        .as_ref()
        .and_then(|name| ClusterName::new(name.value.0.clone()).ok());
    let drafts = node::expand(root, out);
    let scope = Scope {
        root,
        document,
        folder,
        names: drafts
            .iter()
            .map(|draft| (draft.name.clone(), draft.span.clone()))
            .collect(),
        files: RefCell::default(),
        identities: RefCell::default(),
    };
    groups::check(&scope, out);
    let mut kubernetes = kubernetes::read(&scope, out);
    let mut nodes = IndexMap::new();
    for draft in &drafts {
        if let Some(node) = node::read(&scope, draft, out) {
            nodes.insert(node.name.clone(), node);
        }
    }
    node::addresses(&nodes, &drafts, out);
    jumps::check(&nodes, &drafts, out);
    keys(&scope, &nodes, local, out);
    if let Some(kubernetes) = &mut kubernetes {
        kubernetes.by_ipv6 = kubernetes::is_by_ipv6(&nodes);
        kubernetes::check_nodes(kubernetes, &nodes, &drafts, out);
    }
    let packages = packages::read(&scope, local, out);
    let roles = roles::read(&scope, &mut nodes, &drafts, library, kinds, out);
    if let Some(packages) = &packages {
        packages::check_nodes(packages, &nodes, out);
    }

    let mut members: IndexMap<GroupName, Vec<NodeName>> = scope
        .document
        .groups
        .iter()
        .flat_map(|groups| &groups.0)
        .filter_map(|(name, _, _)| GroupName::new(name.clone()).ok())
        .map(|name| (name, Vec::new()))
        .collect();
    for node in nodes.values() {
        for group in &node.groups {
            if let Some(members) = members.get_mut(group) {
                members.push(node.name.clone());
            }
        }
    }
    let inventory = Inventory {
        path: path.to_owned(),
        cluster: cluster?,
        kubernetes,
        packages,
        nodes,
        leaving: IndexMap::new(),
        groups: members,
    };
    variables::check(&inventory, &roles, kinds, out);
    for (path, span) in scope.files.borrow().iter() {
        if !local.exists(path) {
            out.push(
                Diagnostic::new(format!("there is no file {}", path.display()), span)
                    .help("paths are meant from the folder of the inventory; `~/` is your home"),
            );
        }
    }
    let project = Project { inventory, roles };
    // Whatever is wrong already would only be said again, of every value made from it.
    if out.is_empty() {
        bodies::check(&project, kinds, out);
        agreement::check(&project, out);
    }
    Some(project)
}
