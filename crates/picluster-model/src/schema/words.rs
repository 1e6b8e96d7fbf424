//! How findings about structure are worded.

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::suggest;
use crate::yaml::{Yaml, YamlKind};

/// What a value is called in messages, and where to point when something is missing in it.
pub struct Place<'a> {
    /// The key, or nothing for the whole document.
    pub name: &'a str,
    /// Where to point when something is missing.
    pub span: &'a Span,
    /// Whether it is an item of the list of that name.
    pub item: bool,
}

impl<'a> Place<'a> {
    /// The whole document.
    pub fn root(value: &'a Yaml) -> Self {
        Self {
            name: "",
            span: &value.span,
            item: false,
        }
    }

    /// The words for it.
    pub fn what(&self) -> String {
        if self.name.is_empty() {
            String::from("this")
        } else if self.item {
            format!("an item of `{}`", self.name)
        } else {
            format!("`{}`", self.name)
        }
    }
}

/// A value of another type than the wanted ones.
pub fn wrong_type(value: &Yaml, wanted: &[&str], place: &Place<'_>) -> Diagnostic {
    let names: Vec<&str> = wanted
        .iter()
        .filter(|name| **name != "null")
        .filter(|name| !(**name == "integer" && wanted.contains(&"number")))
        .map(|name| match *name {
            "string" => "text",
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "array" => "a list",
            "object" => "a mapping",
            other => other,
        })
        .collect();
    let message = format!(
        "{} must be {}, not {}",
        place.what(),
        names.join(" or "),
        value.describe()
    );
    // Nothing has no width: point at the key.
    let span = if value.is_null() && value.span.start == value.span.end {
        place.span
    } else {
        &value.span
    };
    let finding = Diagnostic::new(message, span);
    let source = value.span.text();
    let wants = |name: &str| wanted.contains(&name);
    match &value.kind {
        YamlKind::Bool(_) | YamlKind::Int(_) | YamlKind::Float(_) if wants("string") => {
            // What a template made is in quotation marks already.
            finding.help(if source.starts_with(['"', '\'']) {
                String::from("a template that is one expression gives its value; `| string` makes text of it")
            } else {
                format!("quote it: \"{source}\"")
            })
        }
        YamlKind::String(text) if wants("boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "true" | "y" => finding.help("write `true`"),
            "no" | "off" | "false" | "n" => finding.help("write `false`"),
            _ => finding,
        },
        YamlKind::String(text)
            if (wants("integer") || wants("number")) && text.parse::<i64>().is_ok() =>
        {
            finding.help(format!("remove the quotes: {text}"))
        }
        YamlKind::String(_) | YamlKind::Int(_) if wants("array") => {
            finding.help(format!("write a list: [{source}]"))
        }
        YamlKind::Null
            if wants("object") && !wants("string") && !place.name.is_empty() && !place.item =>
        {
            finding.help(format!(
                "write `{}: {{}}` when there is nothing to say",
                place.name
            ))
        }
        _ => finding,
    }
}

/// A key nobody knows.
pub fn unknown_key<'a>(
    key: &str,
    span: &Span,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    let finding = Diagnostic::new(format!("unknown field `{key}`"), span);
    match suggest::help("known here", key, known) {
        Some(help) => finding.help(help),
        None => finding,
    }
}

/// A value that is none of the choices.
pub fn wrong_choice(value: &Yaml, choices: &[Value], place: &Place<'_>) -> Diagnostic {
    let names: Vec<String> = choices
        .iter()
        .filter(|choice| !choice.is_null())
        .map(|choice| match choice {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    let span = if value.span.start == value.span.end {
        place.span
    } else {
        &value.span
    };
    // A long list is help, not a sentence.
    if names.len() > 8 {
        let finding = Diagnostic::new(
            format!("{} cannot be {}", place.what(), value.describe()),
            span,
        );
        let given = value.as_str().unwrap_or("");
        return match suggest::help("one of", given, names.iter().map(String::as_str)) {
            Some(help) => finding.help(help),
            None => finding,
        };
    }
    let finding = Diagnostic::new(
        format!(
            "{} must be {}, not {}",
            place.what(),
            join_or(&names),
            value.describe()
        ),
        span,
    );
    match value
        .as_str()
        .and_then(|text| suggest::nearest(text, names.iter().map(String::as_str)))
    {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None => finding,
    }
}

fn join_or(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::from("nothing"),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
