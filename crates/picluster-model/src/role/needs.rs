//! What entries of a role need of each other.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::kinds::Kinds;
use crate::role::Entry;
use crate::schema::is_templated;
use crate::span::Span;
use crate::suggest;
use crate::yaml::Yaml;

/// Checks that ids are unique, that what is needed exists, and that nothing needs itself.
///
/// `kind[name]` is only known when the resources are made; here only its kind is checked. Ids
/// that hold templates are checked when they are rendered.
pub fn check(entries: &[Entry], kinds: &dyn Kinds, out: &mut Vec<Diagnostic>) {
    let mut ids: HashMap<&str, (usize, &Span)> = HashMap::new();
    let mut any_template = false;
    for (index, entry) in entries.iter().enumerate() {
        let Some(id) = &entry.id else { continue };
        let Some(text) = id.as_str() else { continue };
        if is_templated(text) {
            any_template = true;
            continue;
        }
        if text.contains('[') {
            out.push(
                Diagnostic::new(format!("`{text}` cannot be an id"), &id.span).help(
                    "leave out brackets; kind[name] is what entries are called without an id",
                ),
            );
        }
        if let Some((_, first)) = ids.get(text) {
            out.push(
                Diagnostic::new(format!("the id `{text}` is given twice"), &id.span)
                    .label("again here")
                    .related(first, "first here"),
            );
        } else {
            ids.insert(text, (index, &id.span));
        }
    }
    let mut edges: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    for (index, entry) in entries.iter().enumerate() {
        for need in &entry.needs {
            let Some(text) = need.as_str() else { continue };
            if is_templated(text) {
                continue;
            }
            if let Some((kind, _)) = bracketed(text) {
                if !kinds.names().contains(&kind) {
                    let finding = Diagnostic::new(format!("unknown kind `{kind}`"), &need.span);
                    out.push(match suggest::help("kinds", kind, kinds.names()) {
                        Some(help) => finding.help(help),
                        None => finding,
                    });
                }
                continue;
            }
            if text == "reboot" && !ids.contains_key(text) {
                // The reboot of its node, should there be one.
                continue;
            }
            match ids.get(text) {
                Some((target, _)) => edges[index].push(*target),
                None if any_template => {}
                None => {
                    let finding =
                        Diagnostic::new(format!("nothing has the id `{text}`"), &need.span);
                    out.push(
                        match suggest::help("ids of this role", text, sorted(&ids)) {
                            Some(help) => finding.help(help),
                            None => finding.help(format!("give an entry `id: {text}`")),
                        },
                    );
                }
            }
        }
    }
    if let Some(circle) = circle(&edges) {
        let names: Vec<&str> = circle
            .iter()
            .map(|index| {
                entries[*index]
                    .id
                    .as_ref()
                    .and_then(Yaml::as_str)
                    .unwrap_or("?")
            })
            .collect();
        let first = &entries[circle[0]];
        let span = first.needs.first().map_or(&first.span, |need| &need.span);
        let mut finding = Diagnostic::new(
            format!(
                "entries need each other in a circle: {} → {}",
                names.join(" → "),
                names[0]
            ),
            span,
        )
        .help("remove one of these `needs`");
        for index in &circle[1..] {
            if let Some(id) = &entries[*index].id {
                finding = finding.related(&id.span, "in the circle");
            }
        }
        out.push(finding);
    }
}

/// Takes `kind[name]` apart.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix(']')?.split_once('[')
}

fn sorted<'a>(ids: &HashMap<&'a str, (usize, &Span)>) -> Vec<&'a str> {
    let mut names: Vec<&str> = ids.keys().copied().collect();
    names.sort_unstable();
    names
}

/// The first circle in document order, by depth-first search.
fn circle(edges: &[Vec<usize>]) -> Option<Vec<usize>> {
    fn visit(
        at: usize,
        edges: &[Vec<usize>],
        path: &mut Vec<usize>,
        done: &mut [bool],
    ) -> Option<Vec<usize>> {
        if let Some(start) = path.iter().position(|seen| *seen == at) {
            return Some(path[start..].to_vec());
        }
        if done[at] {
            return None;
        }
        path.push(at);
        for next in &edges[at] {
            if let Some(found) = visit(*next, edges, path, done) {
                return Some(found);
            }
        }
        path.pop();
        done[at] = true;
        None
    }
    let mut done = vec![false; edges.len()];
    (0..edges.len()).find_map(|start| visit(start, edges, &mut Vec::new(), &mut done))
}
