//! The template engine with everything switched on that finds mistakes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Expression, UndefinedBehavior, Value};

use crate::span::SourceFile;
use crate::template::inspect::Form;

/// Steps one template may take; a hosts file of a thousand nodes needs about twenty thousand.
const FUEL: u64 = 5_000_000;

/// An engine with the files of one role (or none).
#[derive(Clone)]
pub struct Engine {
    environment: Arc<Environment<'static>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// What went wrong in a template, and where in its text.
#[derive(Debug, Clone)]
pub struct Problem {
    /// What went wrong.
    pub message: String,
    /// The template file, when it was not the text itself.
    pub file: Option<String>,
    /// The place in the text, when it is known.
    pub range: Option<Range<usize>>,
    /// The line in the text, from 1, when it is known.
    pub line: Option<usize>,
}

/// The name text is given that is no file.
const INLINE: &str = "(text)";

static PLAIN: LazyLock<Engine> = LazyLock::new(|| Engine {
    environment: Arc::new(environment()),
});

impl Engine {
    /// The engine for text outside of roles.
    pub fn plain() -> &'static Self {
        &PLAIN
    }

    /// An engine with the templates of a role; what is wrong with their syntax comes second.
    pub fn with_files(files: &BTreeMap<String, Arc<SourceFile>>) -> (Self, Vec<(String, Problem)>) {
        let mut environment = environment();
        let mut problems = Vec::new();
        for (name, file) in files {
            if let Err(error) = environment.add_template_owned(name.clone(), file.text.clone()) {
                problems.push((name.clone(), problem(&error)));
            }
        }
        let engine = Self {
            environment: Arc::new(environment),
        };
        (engine, problems)
    }

    /// Renders text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn render(&self, text: &str, context: &Value) -> Result<String, Problem> {
        self.environment
            .render_named_str(INLINE, text, context.clone())
            .map_err(|error| problem(&error))
    }

    /// Renders a file of the role.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn render_file(&self, name: &str, context: &Value) -> Result<String, Problem> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context.clone()))
            .map_err(|error| problem(&error))
    }

    /// Evaluates an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where; an undefined result is wrong.
    pub fn evaluate(&self, expression: &str, context: &Value) -> Result<Value, Problem> {
        let compiled = self
            .environment
            .compile_expression(expression)
            .map_err(|error| problem(&error))?;
        result(&compiled, expression, context)
    }

    /// Evaluates text if it is an expression; `None` when it is none.
    pub fn evaluate_if_one(
        &self,
        expression: &str,
        context: &Value,
    ) -> Option<Result<Value, Problem>> {
        let compiled = self.environment.compile_expression(expression).ok()?;
        Some(result(&compiled, expression, context))
    }

    /// The names a text asks for that it does not define itself, with attributes:
    /// `vars.zone`, `facts.os.id`.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub fn undeclared(&self, text: &str, form: Form) -> Result<Vec<String>, Problem> {
        let names = match form {
            Form::Template => self
                .environment
                .template_from_named_str(INLINE, text)
                .map(|template| template.undeclared_variables(true)),
            Form::Expression => self
                .environment
                .compile_expression(text)
                .map(|expression| expression.undeclared_variables(true)),
        };
        let mut names: Vec<String> = names
            .map_err(|error| problem(&error))?
            .into_iter()
            .filter(|name| !self.is_global(name))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn is_global(&self, name: &str) -> bool {
        matches!(name, "super" | "caller" | "loop" | "self")
            || self.environment.globals().any(|(known, _)| known == name)
    }

    /// Whether there is a filter or test of this name.
    pub fn knows(&self, what: &'static str, name: &str) -> bool {
        let question = format!("name is {what}");
        self.environment
            .compile_expression(&question)
            .and_then(|e| e.eval(minijinja::context! { name }))
            .is_ok_and(|answer| answer.is_true())
    }
}

fn result(compiled: &Expression<'_, '_>, source: &str, context: &Value) -> Result<Value, Problem> {
    let value = compiled
        .eval(context.clone())
        .map_err(|error| problem(&error))?;
    if value.is_undefined() {
        let start = source.len() - source.trim_start().len();
        return Err(Problem {
            message: format!("`{}` is not defined", source.trim()),
            file: None,
            range: Some(start..source.trim_end().len()),
            line: None,
        });
    }
    Ok(value)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    // Prints the whole context: never what a role wants to write to a node.
    environment.remove_global("debug");
    environment.add_filter("tojson", to_json);
    environment.set_formatter(|out, state, value| {
        let refuse = |detail: &'static str| Err(Error::new(ErrorKind::InvalidOperation, detail));
        match value.kind() {
            ValueKind::None => refuse(
                "the value is none and cannot be printed; give it one, or use `| default(…, true)`",
            ),
            ValueKind::Seq | ValueKind::Iterable => {
                refuse("a list cannot be printed; use `| join(…)` or `| tojson`, or a loop")
            }
            ValueKind::Map => refuse("a mapping cannot be printed; name a key, or use `| tojson`"),
            // Not `True`: files on a node are seldom Python.
            ValueKind::Bool => minijinja::escape_formatter(
                out,
                state,
                &Value::from(if value.is_true() { "true" } else { "false" }),
            ),
            _ => minijinja::escape_formatter(out, state, value),
        }
    });
    environment
}

/// JSON without the HTML-safe escapes of the built-in filter, with secrets kept whole.
///
/// `indent` gives the number of blanks a level is indented by.
fn to_json(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let text = match indent {
        None | Some(0) => serde_json::to_string(&json),
        Some(width) => {
            let blanks = " ".repeat(width.min(16));
            let mut out = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
            serde::Serialize::serialize(&json, &mut serializer)
                .map(|()| String::from_utf8_lossy(&out).into_owned())
        }
    }
    .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(crate::secret::requote_in_json(&text))
}

/// The innermost error is the one people can act on: the outer ones say "could not include".
fn problem(error: &Error) -> Problem {
    let mut innermost = error;
    while let Some(next) =
        std::error::Error::source(innermost).and_then(|source| source.downcast_ref::<Error>())
    {
        innermost = next;
    }
    let source = innermost.template_source();
    let range = innermost.range().map(|range| whole_name(source, range));
    let culprit = match (source, &range) {
        (Some(source), Some(range)) => source.get(range.clone()),
        _ => None,
    };
    let message = match (innermost.kind(), innermost.detail(), culprit) {
        (ErrorKind::UndefinedError, _, Some(culprit)) => {
            format!("`{}` is not defined", clean(culprit))
        }
        (ErrorKind::UndefinedError, Some(detail), None) => format!("{detail} is not defined"),
        (ErrorKind::SyntaxError, Some(detail), _) => format!("template syntax: {detail}"),
        (ErrorKind::OutOfFuel, _, _) => String::from("the template does not come to an end"),
        (_, Some(detail), _) => detail.to_owned(),
        (kind, None, _) => kind.to_string(),
    };
    let file = innermost
        .name()
        .filter(|name| *name != INLINE && *name != "<expression>" && *name != "<string>")
        .map(str::to_owned);
    Problem {
        message,
        file,
        range,
        line: innermost.line(),
    }
}

/// The engine points at `.labels.disk` of `node.labels.disk`; people want the whole name.
fn whole_name(source: Option<&str>, range: Range<usize>) -> Range<usize> {
    let before = source.and_then(|text| {
        text.get(range.clone())?
            .starts_with('.')
            .then(|| &text[..range.start])
    });
    let Some(before) = before else { return range };
    let start = before
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
        .map_or(0, |at| {
            at + before[at..].chars().next().map_or(1, char::len_utf8)
        });
    start..range.end
}

fn clean(expression: &str) -> &str {
    expression
        .trim()
        .trim_start_matches("{{")
        .trim_end_matches("}}")
        .trim_matches(['-', '+'])
        .trim()
}
