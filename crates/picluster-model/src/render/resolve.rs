//! Variables that refer to variables, and parameters that refer to parameters.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use minijinja::Value;

use crate::diagnostic::Diagnostic;
use crate::inventory::{Node, RoleUse};
use crate::name::VarName;
use crate::render::Renderer;
use crate::render::context::{Names, RenderContext, to_value};
use crate::role::Role;
use crate::span::Span;
use crate::template::{Engine, Form};
use crate::vars::Var;
use crate::yaml::{Yaml, YamlKind};

/// Renders the variables of a node, each after those it refers to.
pub fn vars(node: &Node, names: &Names, out: &mut Vec<Diagnostic>) -> Value {
    let renderer = Renderer {
        engine: Engine::plain(),
        node: node.name.as_str(),
        files: None,
        watch: names.watch.as_ref(),
        curious: false,
    };
    let order = match order("vars", &node.vars) {
        Ok(order) => order,
        Err(circle) => {
            out.push(circle);
            return Value::UNDEFINED;
        }
    };
    let as_it_is = |_: &VarName, value: Yaml, _: &mut Vec<Diagnostic>| value;
    all("vars", &order, &node.vars, names, &renderer, &as_it_is, out)
}

/// Renders the parameters of a use of a role; those without a value are `none`.
pub fn params(
    role: &Role,
    role_use: &RoleUse,
    context: &RenderContext,
    out: &mut Vec<Diagnostic>,
) -> Value {
    let renderer = Renderer {
        engine: Engine::plain(),
        node: context.node(),
        files: None,
        watch: context.names().watch.as_ref(),
        curious: false,
    };
    let mut given = role_use.params.clone();
    for (name, parameter) in &role.parameters {
        given.entry(name.clone()).or_insert_with(|| Var {
            value: Yaml::new(YamlKind::Null, &parameter.span),
            origin: Vec::new(),
        });
    }
    let order = match order("params", &given) {
        Ok(order) => order,
        Err(circle) => {
            out.push(circle);
            return Value::UNDEFINED;
        }
    };
    let before = out.len();
    // What templates promised is only known now; and what was left out has its default.
    let finish = |name: &VarName, value: Yaml, out: &mut Vec<Diagnostic>| -> Yaml {
        let (Some(parameter), Some(var)) = (role.parameters.get(name), given.get(name)) else {
            return value;
        };
        if !var.value.is_null() {
            let value = value.with_places_of(&var.value);
            let found = crate::load::check_rendered(name, parameter, &value);
            out.extend(found.into_iter().map(|finding| {
                if finding.label.is_some() {
                    finding
                } else {
                    finding.label(format!("on node {}", context.node()))
                }
            }));
        }
        parameter.shape.complete(&value)
    };
    let params = all(
        "params",
        &order,
        &given,
        context.names(),
        &renderer,
        &finish,
        out,
    );
    if out.len() > before {
        return Value::UNDEFINED;
    }
    params
}

/// What is done with each value when it is rendered.
type Finish<'a> = dyn Fn(&VarName, Yaml, &mut Vec<Diagnostic>) -> Yaml + 'a;

fn all(
    root: &'static str,
    order: &[&VarName],
    values: &IndexMap<VarName, Var>,
    names: &Names,
    renderer: &Renderer<'_>,
    finish: &Finish<'_>,
    out: &mut Vec<Diagnostic>,
) -> Value {
    let mut done: IndexMap<String, Value> = IndexMap::new();
    let mut unknown = BTreeSet::new();
    for name in order {
        let Some(var) = values.get(*name) else {
            continue;
        };
        // What holds no template needs no scope; most values do not.
        let scope = if templated(&var.value) {
            names.with(root, partly(&done, &unknown, renderer)).value()
        } else {
            Value::UNDEFINED
        };
        match renderer.known(renderer.value(&var.value, &scope)) {
            Some(Ok(value)) => {
                let value = finish(name, value, out);
                done.insert(name.to_string(), to_value(&value));
            }
            Some(Err(found)) => out.extend(found),
            None => {
                unknown.insert(name.to_string());
            }
        }
    }
    partly(&done, &unknown, renderer)
}

/// A mapping of the values that are known.
fn partly(
    done: &IndexMap<String, Value>,
    unknown: &BTreeSet<String>,
    renderer: &Renderer<'_>,
) -> Value {
    let known = Value::from_pairs(done.clone());
    match renderer.watch {
        Some(watch) => watch.without(known, unknown.clone()),
        None => known,
    }
}

/// Whether some text in a value holds a template.
pub fn templated(value: &Yaml) -> bool {
    let mut found = false;
    let _ = value.map_strings(&mut |text| {
        found |= crate::schema::is_templated(text) || text.contains("{#");
        String::new()
    });
    found
}

/// The names in an order in which each stands behind those it refers to.
///
/// # Errors
/// A circle, by name, at the place of its first member.
pub fn order<'a>(
    root: &str,
    values: &'a IndexMap<VarName, Var>,
) -> Result<Vec<&'a VarName>, Diagnostic> {
    let mut order = Vec::new();
    let mut path = Vec::new();
    for name in values.keys() {
        visit(root, name, values, &mut path, &mut order)?;
    }
    Ok(order)
}

fn visit<'a>(
    root: &str,
    name: &'a VarName,
    values: &'a IndexMap<VarName, Var>,
    path: &mut Vec<&'a VarName>,
    order: &mut Vec<&'a VarName>,
) -> Result<(), Diagnostic> {
    if order.contains(&name) {
        return Ok(());
    }
    if let Some(start) = path.iter().position(|seen| *seen == name) {
        return Err(circle(root, &path[start..], values));
    }
    let Some(var) = values.get(name) else {
        return Ok(());
    };
    path.push(name);
    for wanted in references(root, &var.value) {
        if let Some((next, _)) = values.get_key_value(wanted.as_str()) {
            visit(root, next, values, path, order)?;
        }
    }
    path.pop();
    order.push(name);
    Ok(())
}

fn circle(root: &str, members: &[&VarName], values: &IndexMap<VarName, Var>) -> Diagnostic {
    let names: Vec<String> = members
        .iter()
        .chain(members.first())
        .map(|name| format!("{root}.{name}"))
        .collect();
    let place = |name: &VarName| -> Option<Span> {
        let var = values.get(name)?;
        Some(var.value.span.clone())
    };
    let message = format!(
        "these refer to each other in a circle: {}",
        names.join(" → ")
    );
    let mut places = members.iter().filter_map(|name| place(name));
    let Some(first) = places.next() else {
        return Diagnostic::whole_file(message);
    };
    let mut finding = Diagnostic::new(message, &first).help("give one of them a value of its own");
    for other in places {
        finding = finding.related(&other, "in the circle");
    }
    finding
}

/// The names behind `root.` that the templates in a value ask for.
fn references(root: &str, value: &Yaml) -> Vec<String> {
    let mut found = Vec::new();
    let _ = value.map_strings(&mut |text| {
        if crate::schema::is_templated(text) {
            let names = Engine::plain()
                .undeclared(text, Form::Template)
                .unwrap_or_default();
            found.extend(names.iter().filter_map(|name| {
                let rest = name.strip_prefix(root)?.strip_prefix('.')?;
                Some(rest.split('.').next().unwrap_or(rest).to_owned())
            }));
        }
        String::new()
    });
    found
}
