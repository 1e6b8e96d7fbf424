//! Walks a schema over a document and collects everything that does not fit.

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::role::ParamType;
use crate::schema::words::{Place, unknown_key, wrong_choice, wrong_type};
use crate::secret::{SecretRef, SecretText};
use crate::span::Span;
use crate::suggest;
use crate::yaml::{Yaml, YamlKind};

/// Whether text may still hold templates, whose results nobody knows yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Templated {
    /// Text that holds `{{` or `{%` passes every check, and so does a reference to a secret
    /// where text is wanted.
    Yes,
    /// Text is final.
    No,
    /// Text is final, but for placeholders of secrets: they pass wherever a secret or text may
    /// stand.
    Rendered,
}

/// Checks `value` against `schema` and returns everything that is wrong, each at its place.
///
/// Understood are the keywords schemars writes: `$ref` within the schema, `type`, `enum`,
/// `const`, `properties`, `required`, `additionalProperties`, `patternProperties`,
/// `propertyNames`, `minProperties`, `maxProperties`, `items`, `prefixItems`, `minItems`,
/// `maxItems`, `uniqueItems`, `uniqueBy` (our own: items differ by this key), `pattern`, `minLength`, `maxLength`, `minimum`, `maximum` (also
/// exclusive), `allOf`, `anyOf`, `oneOf`. Others are ignored.
#[must_use]
pub fn check(value: &Yaml, schema: &Value, templated: Templated) -> Vec<Diagnostic> {
    check_rough(value, schema, templated).0
}

/// As [`check`], and the places where only a pattern did not match: whoever knows the form
/// better can say so better.
pub(crate) fn check_rough(
    value: &Yaml,
    schema: &Value,
    templated: Templated,
) -> (Vec<Diagnostic>, Vec<Span>) {
    let walk = Walk {
        root: schema,
        templated,
        patterns: RefCell::new(Vec::new()),
    };
    let mut found = Vec::new();
    walk.value(value, schema, &Place::root(value), &mut found);
    (found, walk.patterns.into_inner())
}

/// What a value is called, and where to point when there is nothing to point at.
pub(crate) struct Named<'a> {
    /// Its key.
    pub name: &'a str,
    /// The place of the key.
    pub span: &'a Span,
}

/// As [`check`], of a value that has a name.
pub(crate) fn check_named(
    value: &Yaml,
    schema: &Value,
    named: &Named<'_>,
    templated: Templated,
) -> Vec<Diagnostic> {
    let walk = Walk {
        root: schema,
        templated,
        patterns: RefCell::new(Vec::new()),
    };
    let place = Place {
        name: named.name,
        span: named.span,
        item: false,
    };
    let mut found = Vec::new();
    walk.value(value, schema, &place, &mut found);
    found
}

/// Text that still holds a template.
pub(crate) fn is_templated(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// A reference to a secret, when `value` has the form of one.
pub(crate) fn secret_reference(value: &Yaml) -> Option<SecretRef> {
    match value.entries() {
        [(key, _, _)]
            if matches!(
                key.as_str(),
                "secret" | "env" | "sops" | "command" | "cluster_value"
            ) =>
        {
            value.decode().ok()
        }
        _ => None,
    }
}

struct Walk<'s> {
    root: &'s Value,
    templated: Templated,
    patterns: RefCell<Vec<Span>>,
}

impl<'s> Walk<'s> {
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        // A chain of references longer than this is a circle.
        for _ in 0..32 {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                return schema;
            };
            let Some(target) = reference
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
            else {
                return schema;
            };
            schema = target;
        }
        schema
    }

    fn value(&self, value: &Yaml, schema: &'s Value, place: &Place<'_>, out: &mut Vec<Diagnostic>) {
        let schema = self.resolve(schema);
        let object = match schema {
            Value::Bool(false) => {
                out.push(Diagnostic::new(
                    format!("{} is not allowed here", place.what()),
                    &value.span,
                ));
                return;
            }
            Value::Object(object) => object,
            _ => return,
        };
        if self.templated == Templated::Yes {
            if value.as_str().is_some_and(is_templated) {
                return;
            }
            if secret_reference(value).is_some()
                && self.accepts(schema, "string")
                && !self.accepts(schema, "object")
            {
                return;
            }
        }
        if self.templated == Templated::Rendered
            && value.as_str().is_some_and(holds_secret)
            && (self.accepts(schema, "string") || self.wants_secret(schema))
        {
            return;
        }
        if let Some(all) = object.get("allOf").and_then(Value::as_array) {
            for part in all {
                self.value(value, part, place, out);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = object.get(keyword).and_then(Value::as_array) {
                self.one_of(value, schema, branches, place, out);
            }
        }
        if !self.has_type(value, object) {
            // `pi-1:` with nothing behind it: say what is missing, not that nothing is nothing.
            if value.is_null() && types_of(object) == ["object"] {
                let before = out.len();
                self.object(&[], value, object, place, out);
                if out.len() > before {
                    return;
                }
            }
            let mut finding = wrong_type(value, &types_of(object), place);
            // Quotation marks alone do not help where text has a form.
            if let (Some(pattern), Some(rule)) = (
                object.get("pattern").and_then(Value::as_str),
                object.get("patternErrorMessage").and_then(Value::as_str),
            ) && matches!(
                value.kind,
                YamlKind::Int(_) | YamlKind::Float(_) | YamlKind::Bool(_)
            ) && !matches(pattern, value.span.text())
            {
                finding.help = Some(rule.to_owned());
            }
            out.push(finding);
            return;
        }
        if let Some(wanted) = object.get("const")
            && value.to_json() != *wanted
        {
            out.push(wrong_choice(value, std::slice::from_ref(wanted), place));
            return;
        }
        if let Some(choices) = object.get("enum").and_then(Value::as_array)
            && !choices.contains(&value.to_json())
        {
            out.push(wrong_choice(value, choices, place));
            return;
        }
        match &value.kind {
            YamlKind::String(text) => self.string(text, value, object, place, out),
            YamlKind::Int(n) => number(*n as f64, value, object, place, out),
            YamlKind::Float(n) => number(*n, value, object, place, out),
            YamlKind::Seq(items) => self.array(items, value, object, place, out),
            YamlKind::Map(entries) => self.object(entries, value, object, place, out),
            YamlKind::Null | YamlKind::Bool(_) => {}
        }
    }

    fn has_type(&self, value: &Yaml, schema: &Map<String, Value>) -> bool {
        let types = types_of(schema);
        types.is_empty() || types.iter().any(|name| is_type(value, name))
    }

    /// Whether some value of this JSON type could pass.
    fn accepts(&self, schema: &'s Value, type_name: &str) -> bool {
        let schema = self.resolve(schema);
        match schema {
            Value::Bool(pass) => *pass,
            Value::Object(object) => {
                let types = types_of(object);
                let named = types.is_empty()
                    || types.contains(&type_name)
                    || (type_name == "integer" && types.contains(&"number"));
                if !named {
                    return false;
                }
                if let Some(constant) = object.get("const") {
                    return json_type(constant) == type_name;
                }
                if let Some(choices) = object.get("enum").and_then(Value::as_array) {
                    return choices.iter().any(|c| json_type(c) == type_name);
                }
                ["anyOf", "oneOf"].iter().all(|keyword| {
                    object
                        .get(*keyword)
                        .and_then(Value::as_array)
                        .is_none_or(|all| all.iter().any(|b| self.accepts(b, type_name)))
                }) && object
                    .get("allOf")
                    .and_then(Value::as_array)
                    .is_none_or(|all| all.iter().all(|b| self.accepts(b, type_name)))
            }
            _ => true,
        }
    }

    fn one_of(
        &self,
        value: &Yaml,
        whole: &'s Value,
        branches: &'s [Value],
        place: &Place<'_>,
        out: &mut Vec<Diagnostic>,
    ) {
        let fitting: Vec<&'s Value> = branches
            .iter()
            .map(|branch| self.resolve(branch))
            .filter(|branch| self.accepts(branch, yaml_type(value)))
            .collect();
        if fitting.is_empty() {
            let only_secrets = !["string", "boolean", "number", "integer", "array"]
                .iter()
                .any(|name| self.accepts(whole, name));
            if only_secrets && self.wants_secret(whole) {
                // What was meant to be secret is not said once more.
                let found = match &value.kind {
                    YamlKind::String(_) => String::from("text"),
                    YamlKind::Int(_) | YamlKind::Float(_) => String::from("a number"),
                    _ => value.describe(),
                };
                let message = format!(
                    "{} must be a reference to a secret, not {found}",
                    place.what()
                );
                let finding = Diagnostic::new(message, pointed(value, place))
                    .help(crate::secret::REFERENCE_FORMS);
                out.push(if value.is_null() {
                    finding
                } else {
                    finding.hide()
                });
                return;
            }
            let mut types = Vec::new();
            for name in [
                "string", "boolean", "integer", "number", "array", "object", "null",
            ] {
                if self.accepts(whole, name) {
                    types.push(name);
                }
            }
            out.push(wrong_type(value, &types, place));
            return;
        }
        // Choices written as one `const` or `enum` a branch: report them together.
        if fitting.iter().all(|b| choices_of(b).is_some()) {
            let choices: Vec<Value> = fitting
                .iter()
                .filter_map(|b| choices_of(b))
                .flatten()
                .collect();
            if !choices.contains(&value.to_json()) {
                out.push(wrong_choice(value, &choices, place));
            }
            return;
        }
        // An externally tagged enum: the one key tells which branch is meant.
        if let YamlKind::Map(entries) = &value.kind {
            let tags: Vec<(&str, &'s Value)> = fitting
                .iter()
                .filter_map(|branch| tag_of(branch).map(|tag| (tag, *branch)))
                .collect();
            if tags.len() == fitting.len() {
                match entries.as_slice() {
                    [(key, key_span, _)] => match tags.iter().find(|(tag, _)| tag == key) {
                        Some((_, branch)) => self.value(value, branch, place, out),
                        None => {
                            out.push(unknown_key(key, key_span, tags.iter().map(|(tag, _)| *tag)))
                        }
                    },
                    _ => out.push(
                        Diagnostic::new(
                            format!(
                                "{} wants exactly one key, {} are given",
                                place.what(),
                                entries.len()
                            ),
                            &value.span,
                        )
                        .help(format!(
                            "use one of: {}",
                            tags.iter()
                                .map(|(tag, _)| *tag)
                                .collect::<Vec<_>>()
                                .join(", ")
                        )),
                    ),
                }
                return;
            }
        }
        let mut best: Option<Vec<Diagnostic>> = None;
        for branch in fitting {
            let mut found = Vec::new();
            self.value(value, branch, place, &mut found);
            if found.is_empty() {
                return;
            }
            if best.as_ref().is_none_or(|best| found.len() < best.len()) {
                best = Some(found);
            }
        }
        out.extend(best.unwrap_or_default());
    }

    fn string(
        &self,
        text: &str,
        value: &Yaml,
        schema: &Map<String, Value>,
        place: &Place<'_>,
        out: &mut Vec<Diagnostic>,
    ) {
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !matches(pattern, text)
        {
            let finding = Diagnostic::new(
                match place.name {
                    "" => format!("`{text}` is not a good name here"),
                    name if place.item => format!("{text:?} is not a valid item of `{name}`"),
                    name => format!("{text:?} is not a valid `{name}`"),
                },
                &value.span,
            );
            let rule = schema
                .get("patternErrorMessage")
                .and_then(Value::as_str)
                .map_or_else(|| format!("it must match {pattern}"), str::to_owned);
            self.patterns.borrow_mut().push(value.span.clone());
            out.push(finding.help(rule));
            return;
        }
        // What a pattern cannot say of a form of text.
        let form = schema.get("format").and_then(Value::as_str);
        if let Some(form) = form.and_then(ParamType::from_name)
            && let Err(rule) = form.check(text)
        {
            out.push(
                Diagnostic::new(
                    match place.name {
                        "" => format!("{text:?} is not valid here"),
                        name if place.item => format!("{text:?} is not a valid item of `{name}`"),
                        name => format!("{text:?} is not a valid `{name}`"),
                    },
                    &value.span,
                )
                .help(rule),
            );
            return;
        }
        let length = text.chars().count() as u64;
        if let Some(least) = schema.get("minLength").and_then(Value::as_u64)
            && length < least
        {
            out.push(Diagnostic::new(
                if length == 0 {
                    format!("{} must not be empty", place.what())
                } else {
                    format!("{} needs at least {least} characters", place.what())
                },
                &value.span,
            ));
        }
        if let Some(most) = schema.get("maxLength").and_then(Value::as_u64)
            && length > most
        {
            out.push(Diagnostic::new(
                format!("{} takes at most {most} characters", place.what()),
                &value.span,
            ));
        }
    }

    /// Whether a schema is that of [`SecretRef`], perhaps an optional one.
    fn wants_secret(&self, schema: &'s Value) -> bool {
        ["anyOf", "oneOf"].iter().any(|keyword| {
            self.resolve(schema)
                .get(*keyword)
                .and_then(Value::as_array)
                .is_some_and(|branches| {
                    branches.iter().any(|branch| {
                        tag_of(self.resolve(branch)) == Some("secret") || self.wants_secret(branch)
                    })
                })
        })
    }

    fn array(
        &self,
        items: &[Yaml],
        value: &Yaml,
        schema: &'s Map<String, Value>,
        place: &Place<'_>,
        out: &mut Vec<Diagnostic>,
    ) {
        let (prefix, rest) = match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(prefix)), rest) => (prefix.as_slice(), rest),
            (_, Some(Value::Array(prefix))) => (prefix.as_slice(), schema.get("additionalItems")),
            (_, rest) => (&[][..], rest),
        };
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = prefix.get(index).or(rest) {
                let place = Place {
                    name: place.name,
                    span: &item.span,
                    item: true,
                };
                self.value(item, schema, &place, out);
            }
        }
        let count = items.len() as u64;
        if let Some(least) = schema.get("minItems").and_then(Value::as_u64)
            && count < least
        {
            out.push(Diagnostic::new(
                format!("{} needs at least {least} items", place.what()),
                &value.span,
            ));
        }
        if let Some(most) = schema.get("maxItems").and_then(Value::as_u64)
            && count > most
        {
            out.push(Diagnostic::new(
                format!("{} takes at most {most} items", place.what()),
                &value.span,
            ));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            for (index, item) in items.iter().enumerate() {
                if let Some(first) = items[..index].iter().find(|other| other.same(item)) {
                    out.push(
                        Diagnostic::new("this is listed twice", &item.span)
                            .label("again here")
                            .related(&first.span, "first here"),
                    );
                }
            }
        }
        if let Some(key) = schema.get("uniqueBy").and_then(Value::as_str) {
            for (index, item) in items.iter().enumerate() {
                let Some(own) = item.get(key).filter(|own| !own.is_null()) else {
                    continue;
                };
                if self.templated == Templated::Yes && own.as_str().is_some_and(is_templated) {
                    continue;
                }
                let first = items[..index]
                    .iter()
                    .filter_map(|other| other.get(key))
                    .find(|other| other.same(own));
                if let Some(first) = first {
                    out.push(
                        Diagnostic::new(
                            format!("two items of `{}` have this `{key}`", place.name),
                            &own.span,
                        )
                        .label("again here")
                        .related(&first.span, "first here")
                        .help("change one of the two, or make one item of them"),
                    );
                }
            }
        }
    }

    fn object(
        &self,
        entries: &[(String, Span, Yaml)],
        value: &Yaml,
        schema: &'s Map<String, Value>,
        place: &Place<'_>,
        out: &mut Vec<Diagnostic>,
    ) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        for (key, key_span, entry) in entries {
            if let Some(names) = schema.get("propertyNames") {
                let name = Yaml::string(key.clone(), key_span);
                self.value(
                    &name,
                    names,
                    &Place {
                        name: "",
                        span: key_span,
                        item: false,
                    },
                    out,
                );
            }
            let inner = Place {
                name: key,
                span: key_span,
                item: false,
            };
            let mut known = false;
            if let Some(schema) = properties.and_then(|p| p.get(key)) {
                known = true;
                self.value(entry, schema, &inner, out);
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if matches(pattern, key) {
                    known = true;
                    self.value(entry, schema, &inner, out);
                }
            }
            if known {
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => out.push(unknown_key(
                    key,
                    key_span,
                    properties
                        .into_iter()
                        .flat_map(|p| p.keys().map(String::as_str)),
                )),
                Some(schema) => self.value(entry, schema, &inner, out),
                None => {}
            }
        }
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            // A misspelt key is one finding, not two.
            let misspelt = entries.iter().any(|(key, _, _)| {
                properties.is_some_and(|p| !p.contains_key(key))
                    && suggest::nearest(key, [name]).is_some()
            });
            if !misspelt && !entries.iter().any(|(key, _, _)| key == name) {
                let message = if place.name.is_empty() {
                    format!("`{name}` is missing")
                } else {
                    format!("{} has no `{name}`", place.what())
                };
                let mut finding = Diagnostic::new(message, place.span);
                if let Some(doc) = properties
                    .and_then(|p| p.get(name))
                    .and_then(|s| self.description(s))
                {
                    finding = finding.help(format!("add `{name}: …` ({doc})"));
                }
                out.push(finding);
            }
        }
        let count = entries.len() as u64;
        if let Some(least) = schema.get("minProperties").and_then(Value::as_u64)
            && count < least
        {
            out.push(Diagnostic::new(
                format!("{} must not be empty", place.what()),
                place.span,
            ));
        }
        if let Some(most) = schema.get("maxProperties").and_then(Value::as_u64)
            && count > most
        {
            out.push(Diagnostic::new(
                format!("{} takes at most {most} keys", place.what()),
                &value.span,
            ));
        }
    }

    /// The first sentence of a description.
    fn description(&self, schema: &'s Value) -> Option<String> {
        let text = schema
            .get("description")
            .or_else(|| self.resolve(schema).get("description"))?
            .as_str()?;
        let first = text.split(". ").next()?.lines().next()?;
        Some(first.trim_end_matches('.').to_owned())
    }
}

/// Nothing has no width: then the key is what to point at.
fn pointed<'a>(value: &'a Yaml, place: &Place<'a>) -> &'a Span {
    if value.span.start == value.span.end {
        place.span
    } else {
        &value.span
    }
}

/// Text with the placeholder of a secret in it.
fn holds_secret(text: &str) -> bool {
    !SecretText::from(text).references().is_empty()
}

fn number(
    n: f64,
    value: &Yaml,
    schema: &Map<String, Value>,
    place: &Place<'_>,
    out: &mut Vec<Diagnostic>,
) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let low = bound("minimum").is_some_and(|least| n < least)
        || bound("exclusiveMinimum").is_some_and(|least| n <= least);
    let high = bound("maximum").is_some_and(|most| n > most)
        || bound("exclusiveMaximum").is_some_and(|most| n >= most);
    if low || high {
        let least = bound("minimum").or(bound("exclusiveMinimum"));
        let most = bound("maximum").or(bound("exclusiveMaximum"));
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("between {least} and {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => String::from("in range"),
        };
        out.push(Diagnostic::new(
            format!("{} must be {range}, not {n}", place.what()),
            &value.span,
        ));
    }
}

/// The types a schema names; none means any.
fn types_of(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(value: &Yaml, name: &str) -> bool {
    yaml_type(value) == name || (name == "number" && matches!(value.kind, YamlKind::Int(_)))
}

fn yaml_type(value: &Yaml) -> &'static str {
    match &value.kind {
        YamlKind::Null => "null",
        YamlKind::Bool(_) => "boolean",
        YamlKind::Int(_) => "integer",
        YamlKind::Float(_) => "number",
        YamlKind::String(_) => "string",
        YamlKind::Seq(_) => "array",
        YamlKind::Map(_) => "object",
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn choices_of(schema: &Value) -> Option<Vec<Value>> {
    if let Some(constant) = schema.get("const") {
        return Some(vec![constant.clone()]);
    }
    schema.get("enum").and_then(Value::as_array).cloned()
}

/// The key of one variant of an externally tagged enum.
fn tag_of(schema: &Value) -> Option<&str> {
    let properties = schema.get("properties")?.as_object()?;
    match (
        properties.len(),
        schema.get("required").and_then(Value::as_array)?.as_slice(),
    ) {
        (1, [Value::String(name)]) if properties.contains_key(name) => Some(name),
        _ => None,
    }
}

/// Matches as JSON Schema does: anywhere in the text unless the pattern is anchored. A pattern
/// that cannot be compiled matches everything; a test compiles all of ours.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Option<regex_lite::Regex>>> =
            RefCell::new(HashMap::new());
    }
    COMPILED.with_borrow_mut(|compiled| {
        compiled
            .entry(pattern.to_owned())
            .or_insert_with(|| regex_lite::Regex::new(pattern).ok())
            .as_ref()
            .is_none_or(|regex| regex.is_match(text))
    })
}
