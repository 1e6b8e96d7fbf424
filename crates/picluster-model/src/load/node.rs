//! Nodes: ranges expanded, groups looked up, and everything said about them brought together.

use std::collections::HashMap;
use std::net::IpAddr;

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::inventory::NodeDocument;
use crate::inventory::Node;
use crate::label;
use crate::load::layers::{Layer, merge};
use crate::load::{Scope, ssh};
use crate::name::{GroupName, NodeName, VarName};
use crate::range;
use crate::span::Span;
use crate::suggest;
use crate::taint::Taint;
use crate::vars::{Level, Origin, Var};
use crate::yaml::{Yaml, YamlKind};

/// A node as written, with the number of its range put in.
pub struct Draft {
    /// Its name.
    pub name: String,
    /// The place of its key.
    pub span: Span,
    /// What is said of it.
    pub yaml: Yaml,
    /// Whether its key holds a range.
    pub ranged: bool,
}

/// Expands the keys of `nodes`.
pub fn expand(root: &Yaml, out: &mut Vec<Diagnostic>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut seen: HashMap<String, Span> = HashMap::new();
    for (key, span, yaml) in root.get("nodes").map(Yaml::entries).unwrap_or_default() {
        let names = match range::expand(key) {
            Ok(names) => names,
            Err(rule) => {
                out.push(Diagnostic::new(format!("`{key}` is not a node name"), span).help(rule));
                continue;
            }
        };
        for (name, number) in names {
            if let Err(error) = NodeName::new(name.clone()) {
                out.push(Diagnostic::new(error.to_string(), span));
                continue;
            }
            if let Some(first) = seen.get(&name) {
                out.push(
                    Diagnostic::new(format!("node {name} is given twice"), span)
                        .label("again here")
                        .related(first, "first here")
                        .help("rename one of the two, or change the range"),
                );
                continue;
            }
            seen.insert(name.clone(), span.clone());
            drafts.push(Draft {
                yaml: match number {
                    Some(n) => numbered(yaml, n),
                    None => yaml.clone(),
                },
                name,
                span: span.clone(),
                ranged: number.is_some(),
            });
        }
    }
    drafts
}

/// Puts the number of a node into its address, labels and variables.
fn numbered(yaml: &Yaml, n: u32) -> Yaml {
    let YamlKind::Map(entries) = &yaml.kind else {
        return yaml.clone();
    };
    let entries = entries
        .iter()
        .map(|(key, span, value)| {
            let value = match key.as_str() {
                "address" | "labels" | "vars" => {
                    value.map_strings(&mut |text| range::number(text, n))
                }
                _ => value.clone(),
            };
            (key.clone(), span.clone(), value)
        })
        .collect();
    Yaml::new(YamlKind::Map(entries), &yaml.span)
}

/// Reads one node; `None` when it has no usable address.
pub fn read(scope: &Scope<'_>, draft: &Draft, out: &mut Vec<Diagnostic>) -> Option<Node> {
    let name = NodeName::new(draft.name.clone()).ok()?;
    let document = NodeDocument::from_yaml(&draft.yaml)?;
    let groups = groups(scope, &document, out);
    let bodies: Vec<(Level, Option<&Yaml>)> = groups
        .iter()
        .map(|group| (Level::Group(group.clone()), scope.group(group)))
        .chain([(Level::Node, Some(&draft.yaml))])
        .collect();
    // What a group or the node says under `key`, weakest first.
    let layers = |key: &str, with_cluster: bool| -> Vec<Layer<'_>> {
        let cluster = with_cluster.then_some((Level::Cluster, Some(scope.root)));
        cluster
            .into_iter()
            .chain(bodies.iter().cloned())
            .filter_map(|(level, body)| {
                Some(Layer {
                    level,
                    entries: body?.get(key)?.entries(),
                })
            })
            .collect()
    };

    let mut given = plain(draft);
    let merged = merge("ssh setting", name.as_str(), &layers("ssh", true), out);
    let ssh = ssh::settings(
        &name,
        &merged,
        &|text| scope.names.contains_key(text),
        scope.folder,
        out,
    );

    // The value may be one file or a list of them.
    if let Some(var) = merged.get("identity") {
        let first = var.value.items().first().unwrap_or(&var.value);
        let mut identities = scope.identities.borrow_mut();
        identities.insert(name.clone(), first.span.clone());
    }
    given.extend(under("ssh", merged));

    let vars = merge("variable", name.as_str(), &layers("vars", true), out)
        .into_iter()
        .filter_map(|(key, var)| Some((VarName::new(key).ok()?, var)))
        .collect();

    let mut labels = IndexMap::new();
    let merged = merge("label", name.as_str(), &layers("labels", false), out);
    for (key, var) in &merged {
        let Some(text) = var.value.as_str() else {
            continue;
        };
        if let (Err(rule), Some(origin)) = (label::check_key(key), var.origin.first()) {
            out.push(Diagnostic::new(format!("`{key}` is not a label"), &origin.span).help(rule));
        }
        if let Some(origin) = var.origin.first().filter(|_| label::is_kept_label(key)) {
            out.push(
                Diagnostic::new(
                    format!("the cluster keeps the label `{key}` itself"),
                    &origin.span,
                )
                .help("remove it, or choose a key of your own"),
            );
        }
        if let Err(rule) = label::check_value(text) {
            out.push(
                Diagnostic::new(format!("{text:?} is not a label value"), &var.value.span)
                    .help(rule),
            );
        }
        labels.insert(key.clone(), text.to_owned());
    }
    given.extend(under("labels", merged));
    let (taints, merged) = taints(scope, &name, &groups, &document, out);
    given.extend(under("taints", merged));

    if let (Some(role), None) = (&document.kubernetes, &scope.document.kubernetes) {
        out.push(
            Diagnostic::new(
                format!(
                    "there is no cluster for this {}: the inventory has no `kubernetes` section",
                    role.value
                ),
                &role.span,
            )
            .help("add `kubernetes: { distribution: k3s, version: … }` at the top, or remove this"),
        );
    }

    let address = document.address.as_ref()?;
    if let Err(rule) = check_address(&address.value.0, draft.ranged) {
        out.push(
            Diagnostic::new(
                format!("{:?} is not an address", address.value.0),
                &address.span,
            )
            .help(rule),
        );
        return None;
    }
    Some(Node {
        name,
        address: address.value.0.clone(),
        ssh,
        expected: document.expected.unwrap_or_default(),
        kubernetes: document.kubernetes.as_ref().map(|role| role.value),
        groups,
        labels,
        taints,
        vars,
        given,
        roles: Vec::new(),
        span: draft.span.clone(),
    })
}

/// What only the node itself can say of itself.
fn plain(draft: &Draft) -> IndexMap<String, Var> {
    let mut given = IndexMap::new();
    for key in ["address", "expected", "kubernetes", "groups"] {
        let (Some(span), Some(value)) = (draft.yaml.key_span(key), draft.yaml.get(key)) else {
            continue;
        };
        let origin = Origin {
            level: Level::Node,
            span: span.clone(),
            value: value.clone(),
        };
        given.insert(
            key.to_owned(),
            Var {
                value: value.clone(),
                origin: vec![origin],
            },
        );
    }
    given
}

/// The keys of a section, each by its full name.
fn under(section: &str, keys: IndexMap<String, Var>) -> impl Iterator<Item = (String, Var)> {
    keys.into_iter()
        .map(move |(key, var)| (format!("{section}.{key}"), var))
}

fn groups(scope: &Scope<'_>, document: &NodeDocument, out: &mut Vec<Diagnostic>) -> Vec<GroupName> {
    let known: Vec<&str> = scope
        .root
        .get("groups")
        .map(Yaml::entries)
        .unwrap_or_default()
        .iter()
        .map(|(name, _, _)| name.as_str())
        .collect();
    let mut groups: Vec<(GroupName, Span)> = Vec::new();
    for group in document.groups.iter().flatten() {
        let text = group.value.0.as_str();
        if !known.contains(&text) {
            let finding = Diagnostic::new(format!("unknown group `{text}`"), &group.span);
            out.push(
                match suggest::help("groups of this inventory", text, known.iter().copied()) {
                    Some(help) => finding.help(help),
                    None => finding.help("this inventory has no `groups` yet"),
                },
            );
            continue;
        }
        let Ok(name) = GroupName::new(text) else {
            continue;
        };
        if let Some((_, first)) = groups.iter().find(|(other, _)| *other == name) {
            out.push(
                Diagnostic::new(format!("group `{text}` is listed twice"), &group.span)
                    .related(first, "first here"),
            );
            continue;
        }
        groups.push((name, group.span.clone()));
    }
    groups.into_iter().map(|(name, _)| name).collect()
}

type Entries = Vec<(String, Span, Yaml)>;

/// Taints, and the value of each by its key and effect: the node decides over its groups, groups
/// may not disagree.
fn taints(
    scope: &Scope<'_>,
    node: &NodeName,
    groups: &[GroupName],
    document: &NodeDocument,
    out: &mut Vec<Diagnostic>,
) -> (Vec<Taint>, IndexMap<String, Var>) {
    let mut read: HashMap<String, Taint> = HashMap::new();
    let mut entry = |taint: Taint, span: &Span| {
        let id = format!("{}:{}", taint.key, taint.effect);
        let value = Yaml::string(taint.value.clone(), span);
        read.entry(id.clone()).or_insert(taint);
        (id, span.clone(), value)
    };
    let mut said: Vec<(Level, Entries)> = Vec::new();
    for group in groups {
        let listed = scope.group(group).and_then(|g| g.get("taints"));
        let entries = listed.map(Yaml::items).unwrap_or_default().iter();
        // What is wrong with it was said at the group.
        let entries = entries.filter_map(|taint| {
            let read = Taint::parse(taint.as_str()?).ok()?;
            Some(entry(read, &taint.span))
        });
        said.push((Level::Group(group.clone()), entries.collect()));
    }
    let mut own = Vec::new();
    for taint in document.taints.iter().flatten() {
        match Taint::parse(&taint.value.0) {
            Ok(read) => own.push(entry(read, &taint.span)),
            Err(rule) => out.push(
                Diagnostic::new(format!("{:?} is not a taint", taint.value.0), &taint.span)
                    .help(rule),
            ),
        }
    }
    said.push((Level::Node, own));
    let layers: Vec<Layer<'_>> = said
        .iter()
        .map(|(level, entries)| Layer {
            level: level.clone(),
            entries,
        })
        .collect();
    let merged = merge("taint", node.as_str(), &layers, out);
    let taints = merged
        .iter()
        .filter_map(|(id, var)| {
            Some(Taint {
                value: var.value.as_str()?.to_owned(),
                ..read.get(id)?.clone()
            })
        })
        .collect();
    (taints, merged)
}

fn check_address(text: &str, ranged: bool) -> Result<(), String> {
    if text.contains(['{', '}']) {
        return Err(if range::has_number(text) && !ranged {
            String::from("{n} is the number of a range, and this node's name has none")
        } else {
            String::from("write {n}, or {n:02} for two digits")
        });
    }
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    if address.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let digits = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    if text.split('.').all(digits) {
        return Err(String::from("an IPv4 address has four numbers of 0 to 255"));
    }
    if text.contains(':') {
        return Err(String::from(
            "write an IP address or a DNS name; the port goes to `ssh: { port: … }`",
        ));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(())
    } else {
        Err(String::from("write an IP address or a DNS name"))
    }
}

/// Two nodes may not be dialled at the same place.
pub fn addresses(nodes: &IndexMap<NodeName, Node>, drafts: &[Draft], out: &mut Vec<Diagnostic>) {
    let place = |node: &Node| -> Span {
        drafts
            .iter()
            .find(|draft| draft.name == node.name.as_str())
            .and_then(|draft| draft.yaml.get("address"))
            .map_or_else(|| node.span.clone(), |address| address.span.clone())
    };
    let mut seen: HashMap<(String, u16, String), &Node> = HashMap::new();
    for node in nodes.values() {
        let address = node
            .address
            .parse::<IpAddr>()
            .map_or_else(|_| node.address.to_lowercase(), |ip| ip.to_string());
        // The same private address may exist behind two jump hosts.
        let key = (
            address,
            node.ssh.port.unwrap_or(22),
            format!("{:?}", node.ssh.jump),
        );
        match seen.get(&key) {
            None => {
                seen.insert(key, node);
            }
            Some(first) => {
                let (here, there) = (place(node), place(first));
                let finding = Diagnostic::new(
                    format!("{} and {} have the same address", first.name, node.name),
                    &here,
                );
                out.push(if here == there {
                    finding.help("use {n}, the number of the range, for instance \"192.168.2.{n}\"")
                } else {
                    finding
                        .label(format!("of {}", node.name))
                        .related(&there, format!("of {}", first.name))
                        .help("give each node its own address (or port)")
                });
            }
        }
    }
}
