//! Where the values a template put together were written.

use crate::diagnostic::Diagnostic;
use crate::inventory::{Node, RoleUse};
use crate::role::{Entry, Role};
use crate::span::Span;
use crate::template::{Engine, Form};
use crate::vars::{Level, Var};
use crate::yaml::{Yaml, YamlKind};

/// More places than these explain nothing.
const MOST: usize = 3;

/// The places in the inventory that `finding`, made of `entry`, may be mended at: the arguments and
/// variables that the templates there ask for.
pub fn of(
    entry: &Entry,
    index: Option<usize>,
    finding: &Diagnostic,
    role: &Role,
    role_use: &RoleUse,
    node: &Node,
) -> Vec<(Span, String)> {
    let asked = Asked {
        entry,
        index,
        role,
        role_use,
        node,
    };
    let mut found: Vec<(Span, String)> = Vec::new();
    for (text, form) in asked.texts(finding) {
        for name in Engine::plain().undeclared(&text, form).unwrap_or_default() {
            for place in asked.places(&name) {
                if !found.iter().any(|(span, _)| *span == place.0) {
                    found.push(place);
                }
            }
        }
    }
    found.truncate(MOST);
    found
}

struct Asked<'a> {
    entry: &'a Entry,
    index: Option<usize>,
    role: &'a Role,
    role_use: &'a RoleUse,
    node: &'a Node,
}

impl Asked<'_> {
    /// The templates at the place of a finding; all of the body when it is about the whole.
    fn texts(&self, finding: &Diagnostic) -> Vec<(String, Form)> {
        let place = finding.span.as_ref();
        let at = |value: &Yaml| place.is_some_and(|place| holds(&value.span, place));
        for expression in [&self.entry.when, &self.entry.each].into_iter().flatten() {
            if at(expression) {
                return match expression.as_str() {
                    Some(text) => vec![(text.to_owned(), Form::Expression)],
                    None => strings(expression),
                };
            }
        }
        if let Some(value) = self
            .entry
            .needs
            .iter()
            .chain(&self.entry.id)
            .find(|v| at(v))
        {
            return strings(value);
        }
        let mut value = &self.entry.body;
        while let Some(inner) = value
            .entries()
            .iter()
            .map(|(_, _, inner)| inner)
            .chain(value.items())
            .find(|inner| at(inner))
        {
            value = inner;
        }
        // What a file gave stands at the file's name.
        let file = self.entry.body.get("template").filter(|name| {
            at(name)
                || value.span == self.entry.body.span
                || place.is_some_and(|p| in_file(self.role, p))
        });
        let mut texts = strings(value);
        if let Some(file) = file
            .and_then(Yaml::as_str)
            .and_then(|name| self.role.templates.get(name))
        {
            texts.push((file.text.clone(), Form::Template));
        }
        texts
    }

    /// Where what a template calls `name` is written, when that is in the inventory.
    fn places(&self, name: &str) -> Vec<(Span, String)> {
        let mut parts = name.split('.');
        match (parts.next(), parts.next()) {
            (Some("params"), Some(key)) => self.argument(key, &parts.collect::<Vec<_>>(), None),
            (Some("vars"), Some(key)) => match self.node.vars.get(key) {
                Some(var) => vec![(
                    follow(&var.value, &parts.collect::<Vec<_>>()).span.clone(),
                    format!("`vars.{key}` is given here"),
                )],
                None => Vec::new(),
            },
            (Some("item"), first) => {
                let path: Vec<&str> = first.into_iter().chain(parts).collect();
                self.item(&path)
            }
            _ => Vec::new(),
        }
    }

    /// Where the item of this repetition is written.
    fn item(&self, path: &[&str]) -> Vec<(Span, String)> {
        let Some(text) = self.entry.each.as_ref().and_then(Yaml::as_str) else {
            return Vec::new();
        };
        // `params.users`, or the pairs of a mapping.
        let (list, filter) = text.split_once('|').unwrap_or((text, ""));
        let whole = matches!(filter.trim(), "" | "items");
        let names = Engine::plain()
            .undeclared(text, Form::Expression)
            .unwrap_or_default();
        let mut found = Vec::new();
        for name in names {
            let mut parts = name.split('.');
            if parts.next() != Some("params") {
                found.extend(self.places(&name));
                continue;
            }
            let Some(key) = parts.next() else { continue };
            let inner: Vec<&str> = parts.collect();
            let index = self.index.filter(|_| whole && list.trim() == name);
            found.extend(self.argument(key, &inner, index.map(|index| (index, path))));
        }
        found
    }

    /// Where the argument `key` is written, or a part of it: `inner` leads to a value in it, and
    /// `item` to one of its items and a value in that.
    fn argument(
        &self,
        key: &str,
        inner: &[&str],
        item: Option<(usize, &[&str])>,
    ) -> Vec<(Span, String)> {
        let Some(var) = self.role_use.params.get(key).filter(|var| given(var)) else {
            return Vec::new();
        };
        let value = follow(&var.value, inner);
        let span = match item {
            Some((index, path)) => match &value.kind {
                YamlKind::Seq(items) => {
                    items.get(index).map(|item| follow(item, path).span.clone())
                }
                // A pair: its key and its value.
                YamlKind::Map(entries) => entries.get(index).map(|(_, key, value)| {
                    let end = value.span.bytes().end;
                    Span::at(&key.file, key.bytes().start..end)
                }),
                _ => None,
            },
            None => None,
        };
        vec![(
            span.unwrap_or_else(|| value.span.clone()),
            format!("`{key}` of role {} is given here", self.role_use.role),
        )]
    }
}

/// Whether a value stands in the inventory.
fn given(var: &Var) -> bool {
    var.origin
        .first()
        .is_some_and(|origin| origin.level != Level::Default)
}

/// The value a path leads to, as far as it leads.
fn follow<'y>(value: &'y Yaml, path: &[&str]) -> &'y Yaml {
    let mut at = value;
    for key in path {
        match at.get(key) {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

/// Every text in a value that is a template.
fn strings(value: &Yaml) -> Vec<(String, Form)> {
    let mut found = Vec::new();
    let _ = value.map_strings(&mut |text| {
        if crate::schema::is_templated(text) {
            found.push((text.to_owned(), Form::Template));
        }
        String::new()
    });
    found
}

fn holds(outer: &Span, inner: &Span) -> bool {
    outer.file == inner.file && outer.start <= inner.start && inner.end <= outer.end
}

fn in_file(role: &Role, place: &Span) -> bool {
    role.templates.values().any(|file| *file == place.file)
}
