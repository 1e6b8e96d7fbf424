//! What values look like, as `role.yaml` says it, and whether that makes sense.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::role::{ShapeBody, UniqueDocument};
use crate::role::{Field, ParamType, Shape, Unique};
use crate::schema::{Named, Templated, check_named, is_templated};
use crate::suggest;
use crate::yaml::{Yaml, YamlKind};

/// Reads a type by its name, or a mapping that says more.
pub fn read(name: &str, yaml: &Yaml, out: &mut Vec<Diagnostic>) -> Shape {
    if let Some(text) = yaml.as_str() {
        // A type that could not be read is one finding, not one for every use.
        return Shape::of(ParamType::from_name(text).unwrap_or(ParamType::Any));
    }
    let Some(body) = ShapeBody::from_yaml(yaml) else {
        let kind = yaml.get("type").and_then(Yaml::as_str);
        let kind = kind.and_then(ParamType::from_name);
        return Shape::of(kind.unwrap_or(ParamType::Any));
    };
    let kind = body.r#type.unwrap_or(ParamType::Any);
    misplaced(kind, yaml, out);
    let mut shape = Shape {
        pattern: pattern(yaml, out),
        min: body.min.map(|bound| bound.0),
        max: body.max.map(|bound| bound.0),
        unique: match body.unique {
            None | Some(UniqueDocument::Items(false)) => Unique::No,
            Some(UniqueDocument::Items(true)) => Unique::Items,
            Some(UniqueDocument::Key(key)) => Unique::Key(key),
        },
        ..Shape::of(kind)
    };
    if let (Some(min), Some(max), Some(place)) = (shape.min, shape.max, yaml.key_span("min"))
        && min > max
    {
        out.push(
            Diagnostic::new("`min` is greater than `max`", place)
                .help("no value is good then: exchange the two"),
        );
    }
    if let Some(items) = yaml.get("items") {
        for key in ["default", "required"] {
            if let Some(place) = items.key_span(key) {
                out.push(
                    Diagnostic::new(format!("an item has no `{key}`"), place)
                        .help(format!("remove it, or write `{key}` beside `items`")),
                );
            }
        }
        shape.items = Some(Box::new(read(name, items, out)));
    }
    shape.fields = fields(yaml, out);
    unique_key(&shape, yaml, out);
    for value in body.values.iter().flatten() {
        out.extend(fits(name, &shape, value));
    }
    shape.values = body.values.unwrap_or_default();
    shape
}

/// What `value` has that `shape` does not allow.
fn fits(name: &str, shape: &Shape, value: &Yaml) -> Vec<Diagnostic> {
    let named = Named {
        name,
        span: &value.span,
    };
    check_named(value, &shape.schema(false), &named, Templated::Yes)
}

/// Checks the default of a parameter or a field.
pub fn default(
    name: &str,
    shape: &Shape,
    value: &Yaml,
    required: bool,
    yaml: Option<&Yaml>,
    out: &mut Vec<Diagnostic>,
) {
    if required {
        let place = yaml
            .and_then(|y| y.key_span("default"))
            .unwrap_or(&value.span);
        out.push(
            Diagnostic::new("a required parameter has no default", place)
                .help("remove `required: true` or `default`"),
        );
    }
    if shape.kind == ParamType::Secret && crate::schema::secret_reference(value).is_none() {
        out.push(
            Diagnostic::new("a secret has no default in the open", &value.span)
                .help("leave the default out, or write a reference: { secret: NAME }")
                .hide(),
        );
    } else {
        out.extend(fits(name, shape, value));
    }
}

fn fields(yaml: &Yaml, out: &mut Vec<Diagnostic>) -> IndexMap<String, Field> {
    let mut fields = IndexMap::new();
    for (key, span, written) in yaml.get("fields").map(Yaml::entries).unwrap_or_default() {
        let shape = read(key, written, out);
        let body = ShapeBody::from_yaml(written);
        let required = body.as_ref().and_then(|b| b.required).unwrap_or(false);
        let unsaid = body
            .as_ref()
            .and_then(|b| b.default.clone())
            .filter(|value| !value.is_null());
        if let Some(value) = &unsaid {
            default(key, &shape, value, required, Some(written), out);
            if holds_template(value) {
                out.push(
                    Diagnostic::new("the default of a field is no template", &value.span)
                        .help("leave it out, and write `| default(…)` where the field is used"),
                );
            }
        }
        fields.insert(
            key.clone(),
            Field {
                shape,
                required,
                default: unsaid,
                doc: body.and_then(|b| b.doc).map(|doc| doc.0),
                span: span.clone(),
            },
        );
    }
    fields
}

fn holds_template(value: &Yaml) -> bool {
    let mut found = false;
    let _ = value.map_strings(&mut |text| {
        found |= is_templated(text);
        String::new()
    });
    found
}

/// Keys that say nothing for this type.
fn misplaced(kind: ParamType, yaml: &Yaml, out: &mut Vec<Diagnostic>) {
    let is_number = matches!(kind, ParamType::Int | ParamType::Number | ParamType::Port);
    let has_length =
        kind.is_text() || is_number || matches!(kind, ParamType::List | ParamType::Map);
    let bound = "numbers, text, lists and mappings";
    let rules = [
        (
            "items",
            matches!(kind, ParamType::List | ParamType::Map),
            "lists and mappings",
        ),
        ("fields", kind == ParamType::Map, "mappings"),
        ("unique", kind == ParamType::List, "lists"),
        (
            "pattern",
            kind == ParamType::String,
            "text without a form of its own",
        ),
        ("min", has_length, bound),
        ("max", has_length, bound),
        ("values", kind.is_text() || is_number, "text and numbers"),
    ];
    for (key, good, whose) in rules {
        if let Some(place) = yaml.key_span(key)
            && !good
            && kind != ParamType::Any
        {
            out.push(
                Diagnostic::new(
                    format!("`{key}` says nothing for the type `{}`", kind.name()),
                    place,
                )
                .help(format!("it is for {whose}")),
            );
        }
    }
    if let (Some(_), Some(place)) = (yaml.get("items"), yaml.key_span("fields"))
        && kind == ParamType::Map
    {
        out.push(
            Diagnostic::new("`items` and `fields` exclude each other", place)
                .help("`fields` names all keys, `items` is for mappings with any keys"),
        );
    }
}

fn pattern(yaml: &Yaml, out: &mut Vec<Diagnostic>) -> Option<String> {
    let written = yaml.get("pattern")?;
    let text = written.as_str()?;
    if let Err(error) = regex_lite::Regex::new(text) {
        out.push(
            Diagnostic::new("this is no regular expression", &written.span)
                .label(error.to_string())
                .help("the syntax: https://docs.rs/regex-lite/latest/regex_lite/#syntax"),
        );
        return None;
    }
    Some(text.to_owned())
}

/// The key by which items differ is one of theirs.
fn unique_key(shape: &Shape, yaml: &Yaml, out: &mut Vec<Diagnostic>) {
    let (Unique::Key(key), Some(written)) = (&shape.unique, yaml.get("unique")) else {
        return;
    };
    let known: Vec<&str> = shape
        .items
        .iter()
        .flat_map(|items| items.fields.keys().map(String::as_str))
        .collect();
    if !known.contains(&key.as_str()) {
        let finding = Diagnostic::new(format!("the items have no field `{key}`"), &written.span);
        out.push(match suggest::help("their fields", key, known) {
            Some(help) => finding.help(help),
            None => finding.help("write `true`, or give the items `fields`"),
        });
    }
    if matches!(written.kind, YamlKind::Null) {
        out.push(Diagnostic::new(
            "`unique` is true, false or a key",
            &written.span,
        ));
    }
}
