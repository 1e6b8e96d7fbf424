//! `roles.md`: the built-in roles and their parameters, from their `role.yaml`.

use std::fmt::Write as _;

use picluster_model::{ParamType, Parameter, RoleLibrary, RoleName, Shape, Yaml};
use picluster_resource::Vocabulary;

use super::{cell, paragraphs, table};
use crate::Outcome;

/// The page.
pub(super) fn page() -> Outcome<String> {
    let library = RoleLibrary::builtin(picluster::builtin::ROLES);
    let mut page = String::from(
        "# Built-in roles\n\nA folder of the same name beside your inventory, `roles/NAME/`, takes a built-in role's place.\n\n",
    );
    for name in library.names() {
        let role_name = RoleName::new(&name).map_err(|e| format!("role {name}: {e}"))?;
        let mut wrong = Vec::new();
        let role = library.read(&role_name, &Vocabulary, &mut wrong).flatten();
        let Some(role) = role.filter(|_| wrong.is_empty()) else {
            let wrong: Vec<String> = wrong.iter().map(|d| format!("{d:?}")).collect();
            return Err(format!(
                "the built-in role {name} cannot be read: {}",
                wrong.join("; ")
            ));
        };
        let _ = write!(page, "## {name}\n\n");
        page.push_str(&paragraphs(role.doc.as_deref().unwrap_or_default()));
        let _ = write!(
            page,
            "More: [roles/{name}/README.md](../../roles/{name}/README.md)\n\n"
        );
        let rows: Vec<Vec<String>> = role
            .parameters
            .iter()
            .flat_map(|(name, p)| rows(name.as_str(), p))
            .collect();
        page.push_str(&table(&["parameter", "type", "default", "meaning"], &rows));
    }
    Ok(page)
}

/// A row of the table, and one for each field inside, by its path.
fn rows(path: &str, parameter: &Parameter) -> Vec<Vec<String>> {
    let mut rows = vec![vec![
        format!("`{path}`"),
        kind(&parameter.shape),
        unsaid(parameter.default.as_ref(), parameter.required),
        cell(parameter.doc.as_deref().unwrap_or_default()),
    ]];
    fields(path, &parameter.shape, &mut rows);
    rows
}

fn fields(path: &str, shape: &Shape, rows: &mut Vec<Vec<String>>) {
    if let Some(items) = &shape.items {
        let any = if shape.kind == ParamType::List {
            "[]"
        } else {
            ".*"
        };
        fields(&format!("{path}{any}"), items, rows);
    }
    for (name, field) in &shape.fields {
        let path = format!("{path}.{name}");
        rows.push(vec![
            format!("`{path}`"),
            kind(&field.shape),
            unsaid(field.default.as_ref(), field.required),
            cell(field.doc.as_deref().unwrap_or_default()),
        ]);
        fields(&path, &field.shape, rows);
    }
}

/// What holds when nothing is said.
fn unsaid(default: Option<&Yaml>, required: bool) -> String {
    match default {
        Some(value) => format!("`{}`", cell(&value.to_json().to_string())),
        None if required => "**required**".into(),
        None => String::new(),
    }
}

fn kind(shape: &Shape) -> String {
    if !shape.values.is_empty() {
        let values: Vec<String> = shape
            .values
            .iter()
            .map(|v| format!("`{}`", v.to_json()))
            .collect();
        return values.join(" or ").replace('"', "");
    }
    let inside = |what: &str| match &shape.items {
        Some(items) => format!("{what} of {}", kind(items)),
        None => what.to_owned(),
    };
    match shape.kind {
        ParamType::String => "text".into(),
        ParamType::Bool => "`true` or `false`".into(),
        ParamType::Int => "whole number".into(),
        ParamType::List => inside("list"),
        ParamType::Map => inside("mapping"),
        ParamType::Any => "anything".into(),
        other => other.name(),
    }
}
