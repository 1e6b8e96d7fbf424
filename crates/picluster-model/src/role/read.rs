//! From `role.yaml` to a [`Role`].

mod shape;

use indexmap::IndexMap;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::role::{META_KEYS, ParameterDocument, RoleDocument};
use crate::kinds::Kinds;
use crate::library::Files;
use crate::name::{RoleName, VarName};
use crate::role::{Entry, Parameter, Role, needs};
use crate::schema::{Templated, allow_template_file, check, role_document_schema_ref};
use crate::span::Span;
use crate::suggest;
use crate::yaml::{Yaml, YamlKind, parse};

/// Reads and checks one role; `None` when it is no role at all.
pub fn role(
    name: &RoleName,
    files: Files,
    kinds: &dyn Kinds,
    out: &mut Vec<Diagnostic>,
) -> Option<Role> {
    let root = match parse::parse(&files.role) {
        Ok(root) => root,
        Err(findings) => {
            out.extend(findings);
            return None;
        }
    };
    out.extend(check(&root, role_document_schema_ref(), Templated::No));
    let document = RoleDocument::from_yaml(&root)?;
    let mut parameters = IndexMap::new();
    for (key, span, written) in document.parameters.iter().flat_map(|p| &p.0) {
        let Ok(name) = VarName::new(key.clone()) else {
            continue;
        };
        let place = root.get("parameters").and_then(|p| p.get(key));
        parameters.insert(name, parameter(key, span, written, place, out));
    }
    let mut entries = Vec::new();
    for written in document.resources.iter().flatten() {
        if let Some(entry) = entry(&written.0, kinds, &files, out) {
            entries.push(entry);
        }
    }
    needs::check(&entries, kinds, out);
    let (engine, _) = crate::template::Engine::with_files(&files.templates);
    let role = Role {
        name: name.clone(),
        doc: document.doc.map(|doc| doc.0),
        parameters,
        entries,
        templates: files.templates,
        file: files.role,
        builtin: files.builtin,
        engine,
    };
    crate::template::check_role(&role, kinds, out);
    Some(role)
}

fn parameter(
    name: &str,
    span: &Span,
    written: &ParameterDocument,
    yaml: Option<&Yaml>,
    out: &mut Vec<Diagnostic>,
) -> Parameter {
    let required = written.required.unwrap_or(false);
    let empty = Yaml::new(YamlKind::Null, span);
    let shape = shape::read(name, yaml.unwrap_or(&empty), out);
    // `default: null` is a default, too: the template sees `none` either way.
    let default = written.default.clone().filter(|value| !value.is_null());
    let schema = shape.schema(!required && default.is_none());
    if let Some(value) = &default {
        shape::default(name, &shape, value, required, yaml, out);
    }
    Parameter {
        shape,
        default,
        doc: written.doc.as_ref().map(|doc| doc.0.clone()),
        required,
        span: span.clone(),
        schema,
    }
}

fn entry(
    yaml: &Yaml,
    kinds: &dyn Kinds,
    files: &Files,
    out: &mut Vec<Diagnostic>,
) -> Option<Entry> {
    let mut own: Vec<&(String, Span, Yaml)> = yaml
        .entries()
        .iter()
        .filter(|(key, _, _)| !META_KEYS.contains(&key.as_str()))
        .collect();
    let names = kinds.names();
    let known = |key: &str| names.contains(&key);
    let all = || names.iter().copied().chain(META_KEYS);
    for (key, span, _) in own.iter().filter(|(key, _, _)| !known(key)) {
        let finding = Diagnostic::new(format!("unknown kind `{key}`"), span);
        out.push(match suggest::help("known here", key, all()) {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
    let any = own.len();
    own.retain(|(key, _, _)| known(key));
    let (kind, kind_span, body) = match own.as_slice() {
        [one] => one,
        [first, second, ..] => {
            out.push(
                Diagnostic::new(
                    format!(
                        "an entry has one kind, and this has `{}` and `{}`",
                        first.0, second.0
                    ),
                    &second.1,
                )
                .related(&first.1, "the first")
                .help(format!("begin a new entry: `- {}: …`", second.0)),
            );
            return None;
        }
        [] => {
            if any == 0 {
                out.push(
                    Diagnostic::new("this entry has no kind", &yaml.span)
                        .help(format!("kinds: {}", names.join(", "))),
                );
            }
            return None;
        }
    };
    if let Some(schema) = kinds.schema(kind) {
        check_body(kind, kind_span, body, schema, files, out);
    }
    Some(Entry {
        kind: kind.clone(),
        kind_span: kind_span.clone(),
        body: body.clone(),
        id: yaml.get("id").cloned(),
        when: yaml.get("when").cloned(),
        each: yaml.get("each").cloned(),
        needs: match yaml.get("needs") {
            None => Vec::new(),
            Some(one) => match &one.kind {
                YamlKind::Seq(items) => items.clone(),
                _ => vec![one.clone()],
            },
        },
        barrier: matches!(
            yaml.get("barrier").map(|b| &b.kind),
            Some(YamlKind::Bool(true))
        ),
        guarded: matches!(
            yaml.get("guarded").map(|g| &g.kind),
            Some(YamlKind::Bool(true))
        ),
        doc: yaml.get("doc").and_then(Yaml::as_str).map(str::to_owned),
        span: yaml.span.clone(),
    })
}

fn check_body(
    kind: &str,
    kind_span: &Span,
    body: &Yaml,
    mut schema: Value,
    files: &Files,
    out: &mut Vec<Diagnostic>,
) {
    let takes_template = schema.as_object_mut().is_some_and(allow_template_file);
    let found = check(body, &schema, Templated::Yes);
    // What is missing in a body is missing under its kind.
    out.extend(found.into_iter().map(|mut finding| {
        if finding.span.as_ref() == Some(&body.span) && !body.entries().is_empty() {
            finding.span = Some(kind_span.clone());
            finding.message = finding.message.replacen("`", &format!("{kind}: `"), 1);
        }
        finding
    }));
    if !takes_template {
        return;
    }
    let Some(template) = body.get("template") else {
        return;
    };
    if let (Some(_), Some(place)) = (body.get("content"), body.key_span("content")) {
        out.push(
            Diagnostic::new("`content` and `template` exclude each other", place)
                .help("keep one of the two"),
        );
    }
    if let Some(name) = template.as_str()
        && !crate::schema::is_templated(name)
        && !files.templates.contains_key(name)
    {
        let finding = Diagnostic::new(format!("there is no templates/{name}"), &template.span);
        out.push(
            match suggest::help(
                "templates of this role",
                name,
                files.templates.keys().map(String::as_str),
            ) {
                Some(help) => finding.help(help),
                None => finding.help("this role has no folder `templates` yet"),
            },
        );
    }
}
