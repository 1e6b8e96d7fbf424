//! `roles.md`: the built-in roles and their parameters, from their `role.yaml`.

use std::fmt::Write as _;

use picluster_model::{ParamType, Parameter, RoleLibrary, RoleName};
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
            .map(|(name, p)| row(name.as_str(), p))
            .collect();
        page.push_str(&table(&["parameter", "type", "default", "meaning"], &rows));
    }
    Ok(page)
}

fn row(name: &str, parameter: &Parameter) -> Vec<String> {
    let kind = if parameter.values.is_empty() {
        kind(parameter.kind).to_owned()
    } else {
        let values: Vec<String> = parameter
            .values
            .iter()
            .map(|v| format!("`{}`", v.to_json()))
            .collect();
        values.join(" or ").replace('"', "")
    };
    let default = match &parameter.default {
        Some(value) => format!("`{}`", cell(&value.to_json().to_string())),
        None if parameter.required => "**required**".into(),
        None => String::new(),
    };
    vec![
        format!("`{name}`"),
        kind,
        default,
        cell(parameter.doc.as_deref().unwrap_or_default()),
    ]
}

fn kind(kind: ParamType) -> &'static str {
    match kind {
        ParamType::String => "text",
        ParamType::Bool => "`true` or `false`",
        ParamType::Int => "whole number",
        ParamType::Number => "number",
        ParamType::List => "list",
        ParamType::Map => "mapping",
        ParamType::Secret => "secret",
        ParamType::Any => "anything",
    }
}
