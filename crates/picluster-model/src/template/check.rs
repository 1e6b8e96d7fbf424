//! Everything about templates that can be known before the first connection.

use std::ops::Range;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::kinds::Kinds;
use crate::role::{Entry, ParamType, Role, Shape};
use crate::schema::is_templated;
use crate::span::{SourceFile, Span};
use crate::suggest;
use crate::template::engine::{Engine, Problem};
use crate::template::inspect::{Form, Use, places, uses};
use crate::template::locate;
use crate::template::names::{FILTERS, Names, TESTS, unknown};
use crate::yaml::{Yaml, YamlKind};

/// Checks one text: syntax, filters, tests, names.
pub fn check_text(
    engine: &Engine,
    text: &str,
    form: Form,
    names: &Names<'_>,
    place: &dyn Fn(Range<usize>) -> Span,
    out: &mut Vec<Diagnostic>,
) {
    let undeclared = match engine.undeclared(text, form) {
        Ok(undeclared) => undeclared,
        Err(problem) => {
            out.push(syntax(text, &problem, place));
            return;
        }
    };
    for found in uses(text, form) {
        let (what, range, known): (_, _, &[&str]) = match found {
            Use::Filter(range) => ("filter", range, &FILTERS),
            Use::Test(range) => ("test", range, &TESTS),
            Use::File(_) => continue,
        };
        let name = &text[range.clone()];
        if !engine.knows(what, name) {
            let finding =
                Diagnostic::new(format!("unknown {what} `{name}`"), &place(range.clone()));
            out.push(match suggest::nearest(name, known.iter().copied()) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help(format!("{what}s: {}", known.join(", "))),
            });
        }
    }
    for name in &undeclared {
        let Some((message, help)) = unknown(name, names) else {
            continue;
        };
        let found = places(text, form, name);
        // A variable or parameter that may be missing is allowed to be.
        let may_be_missing = name.starts_with("vars.") || name.starts_with("facts.");
        if may_be_missing && !found.is_empty() && found.iter().any(|(_, spared)| *spared) {
            continue;
        }
        let span = match found.first() {
            Some((range, _)) => place(range.clone()),
            None => place(0..text.len()),
        };
        let finding = Diagnostic::new(message, &span);
        out.push(match help {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
}

fn syntax(text: &str, problem: &Problem, place: &dyn Fn(Range<usize>) -> Span) -> Diagnostic {
    let range = problem
        .range
        .clone()
        .filter(|range| range.end <= text.len())
        .or_else(|| {
            let line = problem.line?;
            let start: usize = text
                .split_inclusive('\n')
                .take(line - 1)
                .map(str::len)
                .sum();
            Some(start..start + text[start..].lines().next().map_or(0, str::len))
        })
        .unwrap_or(0..text.len());
    Diagnostic::new(problem.message.clone(), &place(range))
}

/// Checks every template and expression of a role as far as that goes without a node.
pub fn check_role(role: &Role, kinds: &dyn Kinds, out: &mut Vec<Diagnostic>) {
    let facts = kinds.facts_schema();
    let check = RoleCheck {
        role,
        facts: &facts,
        vars: None,
        node: None,
    };
    check.run(out);
}

/// The check of a role, with or without the variables of a node.
pub struct RoleCheck<'a> {
    /// The role.
    pub role: &'a Role,
    /// What may follow `facts.`.
    pub facts: &'a Value,
    /// The variables of the node.
    pub vars: Option<Vec<&'a str>>,
    /// The node.
    pub node: Option<&'a str>,
}

impl RoleCheck<'_> {
    fn names(&self, each: bool, partial: bool) -> Names<'_> {
        Names {
            params: Some(
                self.role
                    .parameters
                    .keys()
                    .map(crate::name::VarName::as_str)
                    .collect(),
            ),
            facts: self.facts,
            vars: self.vars.clone(),
            each,
            item: None,
            partial,
            node: self.node,
        }
    }

    /// What the items of an entry's list look like, when the list is a parameter or a part of one.
    fn item(&self, entry: &Entry) -> Option<&Shape> {
        let mut parts = entry.each.as_ref()?.as_str()?.trim().split('.');
        let name = parts
            .next()
            .filter(|root| *root == "params")
            .and(parts.next())?;
        let mut shape = &self.role.parameters.get(name)?.shape;
        for part in parts {
            shape = &shape.fields.get(part)?.shape;
        }
        let list = shape.kind == ParamType::List;
        shape.items.as_deref().filter(|_| list)
    }

    /// Everything that is wrong.
    pub fn run(&self, out: &mut Vec<Diagnostic>) {
        let engine = &self.role.engine;
        for parameter in self.role.parameters.values() {
            if let Some(default) = &parameter.default {
                self.value(default, &self.names(false, false), out);
            }
        }
        for entry in &self.role.entries {
            let once = self.names(false, false);
            let names = Names {
                item: self.item(entry),
                ..self.names(entry.each.is_some(), false)
            };
            for (key, value, names) in [("when", &entry.when, &names), ("each", &entry.each, &once)]
            {
                if let Some(value) = value {
                    match value.as_str() {
                        Some(text) if is_templated(text) => out.push(
                            Diagnostic::new(
                                format!("`{key}` is an expression already"),
                                &value.span,
                            )
                            .help("remove `{{` and `}}`"),
                        ),
                        Some(text) => check_text(
                            engine,
                            text,
                            Form::Expression,
                            names,
                            &|range| locate(value, range),
                            out,
                        ),
                        None => self.value(value, names, out),
                    }
                }
            }
            for value in entry.id.iter().chain(&entry.needs).chain([&entry.body]) {
                self.value(value, &names, out);
            }
        }
        self.files(out);
    }

    fn value(&self, value: &Yaml, names: &Names<'_>, out: &mut Vec<Diagnostic>) {
        check_value(&self.role.engine, value, names, out);
    }

    fn files(&self, out: &mut Vec<Diagnostic>) {
        for (name, file) in &self.role.templates {
            let users: Vec<_> = self
                .role
                .entries
                .iter()
                .filter(|entry| {
                    entry.body.get("template").and_then(Yaml::as_str) == Some(name.as_str())
                })
                .collect();
            let each = users.iter().any(|entry| entry.each.is_some());
            let mut names = self.names(each, users.is_empty());
            if let [only] = users[..] {
                names.item = self.item(only);
            }
            let place = |range: Range<usize>| Span::at(file, range);
            check_text(
                &self.role.engine,
                &file.text,
                Form::Template,
                &names,
                &place,
                out,
            );
            self.includes(file, out);
        }
    }

    fn includes(&self, file: &std::sync::Arc<SourceFile>, out: &mut Vec<Diagnostic>) {
        for found in uses(&file.text, Form::Template) {
            let Use::File(range) = found else { continue };
            let name = &file.text[range.clone()];
            if !self.role.templates.contains_key(name) {
                let finding = Diagnostic::new(
                    format!("there is no templates/{name}"),
                    &Span::at(file, range.clone()),
                );
                out.push(
                    match suggest::help(
                        "templates of this role",
                        name,
                        self.role.templates.keys().map(String::as_str),
                    ) {
                        Some(help) => finding.help(help),
                        None => finding,
                    },
                );
            }
        }
    }
}

/// Checks every text in a value.
pub fn check_value(engine: &Engine, value: &Yaml, names: &Names<'_>, out: &mut Vec<Diagnostic>) {
    match &value.kind {
        YamlKind::String(text) if is_templated(text) || text.contains("{#") => check_text(
            engine,
            text,
            Form::Template,
            names,
            &|range| locate(value, range),
            out,
        ),
        YamlKind::Seq(items) => {
            for item in items {
                check_value(engine, item, names, out);
            }
        }
        YamlKind::Map(entries) => {
            for (_, _, entry) in entries {
                check_value(engine, entry, names, out);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suggested_exists() {
        for filter in FILTERS {
            assert!(Engine::plain().knows("filter", filter), "{filter}");
        }
        for test in TESTS {
            assert!(Engine::plain().knows("test", test), "{test}");
        }
        assert!(!Engine::plain().knows("filter", "to_nice_yaml"));
    }
}
