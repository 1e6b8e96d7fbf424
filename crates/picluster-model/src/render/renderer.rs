//! Values, entries and files of a role, rendered for one node.

use minijinja::Value;

use super::unknown::Watch;
use super::{Attempt, RenderedEntry, context};
use crate::diagnostic::Diagnostic;
use crate::role::{Entry, Role};
use crate::schema::{is_templated, secret_reference};
use crate::secret::placeholders_whole;
use crate::span::Span;
use crate::template::{Engine, Problem, locate, single_expression};
use crate::yaml::{Yaml, YamlKind};

/// Runs templates for one node.
pub(crate) struct Renderer<'a> {
    /// The engine, which knows the files of the role.
    pub engine: &'a Engine,
    /// The node, for messages.
    pub node: &'a str,
    /// The role whose files `template` names.
    pub files: Option<&'a Role>,
    /// Notices when something is asked for that is not known yet; without it everything is.
    pub watch: Option<&'a Watch>,
    /// Whether what is not known to be there is rendered as well, to see what it asks for.
    pub curious: bool,
}

impl Renderer<'_> {
    /// What templates gave, unless they asked for something that is not known yet.
    pub fn known<T>(&self, given: T) -> Option<T> {
        let asked = self.watch.is_some_and(Watch::take);
        (!asked).then_some(given)
    }

    /// Renders an entry whose condition holds; `None` when it does not, or is not known yet, or
    /// the entry is not.
    pub(super) fn made(&self, entry: &Entry, when: Option<&Yaml>, names: &Value) -> Attempt {
        match self.holds(when, names)? {
            Some(true) => {}
            None if self.curious => {}
            _ => return Ok(None),
        }
        self.known(self.entry(entry, names)).transpose()
    }

    /// Evaluates `when`; `None` when the answer is not known yet.
    pub(super) fn holds(
        &self,
        when: Option<&Yaml>,
        names: &Value,
    ) -> Result<Option<bool>, Vec<Diagnostic>> {
        let Some(when) = when else {
            return Ok(Some(true));
        };
        let text = match &when.kind {
            YamlKind::Bool(constant) => return Ok(Some(*constant)),
            YamlKind::String(text) => text,
            _ => return Ok(Some(true)),
        };
        let Some(value) = self.known(self.engine.evaluate(text, names)) else {
            return Ok(None);
        };
        let value = value.map_err(|problem| vec![self.problem(problem, when)])?;
        match value.kind() {
            minijinja::value::ValueKind::Bool => Ok(Some(value.is_true())),
            kind => Err(vec![
                Diagnostic::new(
                    format!("`when` must be true or false, not a {kind}"),
                    &when.span,
                )
                .label(format!("on node {}", self.node))
                .help("compare it with something, or use `is defined` or `| length > 0`"),
            ]),
        }
    }

    /// Evaluates `each`.
    pub(super) fn list(&self, each: &Yaml, names: &Value) -> Result<Vec<Value>, Vec<Diagnostic>> {
        let Some(text) = each.as_str() else {
            let items = self.value(each, names)?;
            return Ok(items.items().iter().map(context::to_value).collect());
        };
        let value = self
            .engine
            .evaluate(text, names)
            .map_err(|problem| vec![self.problem(problem, each)])?;
        let is_list = matches!(
            value.kind(),
            minijinja::value::ValueKind::Seq | minijinja::value::ValueKind::Iterable
        );
        match value.try_iter() {
            Ok(items) if is_list => Ok(items.collect()),
            _ => Err(vec![
                Diagnostic::new(
                    format!("`each` must be a list, not a {}", value.kind()),
                    &each.span,
                )
                .label(format!("on node {}", self.node))
                .help("give a list; `| items` and `| dictsort` make one of a mapping"),
            ]),
        }
    }

    fn entry(&self, entry: &Entry, names: &Value) -> Result<RenderedEntry, Vec<Diagnostic>> {
        let mut findings = Vec::new();
        let mut keep = |result: Result<Yaml, Vec<Diagnostic>>| match result {
            Ok(value) => Some(value),
            Err(found) => {
                findings.extend(found);
                None
            }
        };
        let body = keep(self.body(&entry.body, names));
        let id = entry.id.as_ref().map(|id| keep(self.text(id, names)));
        let needs: Vec<_> = entry
            .needs
            .iter()
            .map(|need| keep(self.text(need, names)))
            .collect();
        match body {
            Some(body) if findings.is_empty() => Ok(RenderedEntry {
                kind: entry.kind.clone(),
                body,
                id: id.flatten().and_then(|id| id.as_str().map(str::to_owned)),
                needs: needs
                    .into_iter()
                    .flatten()
                    .filter_map(|need| need.as_str().map(str::to_owned))
                    .collect(),
                barrier: entry.barrier,
                guarded: entry.guarded,
                doc: entry.doc.clone(),
                span: entry.span.clone(),
            }),
            _ => Err(findings),
        }
    }

    /// Renders a body. Its own keys are never taken for a reference to a secret: a kind may
    /// well have a field `command`.
    fn body(&self, body: &Yaml, names: &Value) -> Result<Yaml, Vec<Diagnostic>> {
        let YamlKind::Map(entries) = &body.kind else {
            return self.value(body, names);
        };
        let mut rendered = Vec::new();
        let mut findings = Vec::new();
        for (key, span, value) in entries {
            match self.value(value, names) {
                Ok(value) => rendered.push((key.clone(), span.clone(), value)),
                Err(found) => findings.extend(found),
            }
        }
        if let Some(at) = self.template_key(entries)
            && let Some(name) = rendered.get(at).and_then(|(_, _, name)| name.as_str())
        {
            match self.file(name, &entries[at].2, names) {
                Ok(text) => {
                    let (_, span, value) = &entries[at];
                    rendered[at] = (
                        String::from("content"),
                        span.clone(),
                        Yaml::string(text, &value.span),
                    );
                }
                Err(found) => findings.push(found),
            }
        }
        if findings.is_empty() {
            Ok(Yaml::new(YamlKind::Map(rendered), &body.span))
        } else {
            Err(findings)
        }
    }

    /// Where `template` stands in a body, when it means a file of the role.
    fn template_key(&self, entries: &[(String, Span, Yaml)]) -> Option<usize> {
        self.files?;
        entries
            .iter()
            .position(|(key, _, value)| key == "template" && value.as_str().is_some())
    }

    fn file(&self, name: &str, place: &Yaml, names: &Value) -> Result<String, Diagnostic> {
        let known = self
            .files
            .is_some_and(|role| role.templates.contains_key(name));
        if !known {
            return Err(
                Diagnostic::new(format!("there is no templates/{name}"), &place.span)
                    .label(format!("on node {}", self.node)),
            );
        }
        let text = self
            .engine
            .render_file(name, names)
            .map_err(|mut problem| {
                problem.file.get_or_insert_with(|| name.to_owned());
                self.problem(problem, place)
            })?;
        self.whole(text, place)
    }

    /// Renders a value, at any depth.
    pub fn value(&self, value: &Yaml, names: &Value) -> Result<Yaml, Vec<Diagnostic>> {
        if let Some(reference) = secret_reference(value) {
            return Ok(Yaml::string(reference.placeholder(), &value.span));
        }
        let mut findings = Vec::new();
        let kind = match &value.kind {
            YamlKind::String(text) if is_templated(text) || text.contains("{#") => {
                return self
                    .template(text, value, names)
                    .map_err(|found| vec![found]);
            }
            YamlKind::Seq(items) => YamlKind::Seq(
                items
                    .iter()
                    .filter_map(|item| {
                        self.value(item, names)
                            .map_err(|found| findings.extend(found))
                            .ok()
                    })
                    .collect(),
            ),
            YamlKind::Map(entries) => YamlKind::Map(
                entries
                    .iter()
                    .filter_map(|(key, span, item)| {
                        self.value(item, names)
                            .map(|item| (key.clone(), span.clone(), item))
                            .map_err(|found| findings.extend(found))
                            .ok()
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        if findings.is_empty() {
            Ok(Yaml::new(kind, &value.span))
        } else {
            Err(findings)
        }
    }

    /// Renders text that stays text, such as an id.
    fn text(&self, value: &Yaml, names: &Value) -> Result<Yaml, Vec<Diagnostic>> {
        let Some(text) = value.as_str() else {
            return Ok(value.clone());
        };
        self.engine
            .render(text, names)
            .map(|text| Yaml::string(text, &value.span))
            .map_err(|problem| vec![self.problem(problem, value)])
    }

    fn template(&self, text: &str, value: &Yaml, names: &Value) -> Result<Yaml, Diagnostic> {
        if let Some(expression) = single_expression(text) {
            let offset = text.find(expression).unwrap_or(0);
            // Two tags beside each other are no expression, but good text.
            if let Some(result) = self.engine.evaluate_if_one(expression, names) {
                let found = result.map_err(|mut problem| {
                    problem.range = problem.range.map(|r| r.start + offset..r.end + offset);
                    self.problem(problem, value)
                })?;
                return self.native(&found, value);
            }
        }
        let rendered = self
            .engine
            .render(text, names)
            .map_err(|problem| self.problem(problem, value))?;
        self.whole(rendered, value)
            .map(|text| Yaml::string(text, &value.span))
    }

    /// A value of an expression, as a value of a document.
    fn native(&self, found: &Value, place: &Yaml) -> Result<Yaml, Diagnostic> {
        let json = serde_json::to_value(found).map_err(|error| {
            Diagnostic::new(
                format!("the value cannot be used here: {error}"),
                &place.span,
            )
            .label(format!("on node {}", self.node))
        })?;
        let value = Yaml::from_json(&json, &place.span);
        let mut broken = false;
        let _ = value.map_strings(&mut |text| {
            broken |= !placeholders_whole(text);
            String::new()
        });
        if broken {
            return Err(self.broken(place));
        }
        Ok(value)
    }

    fn whole(&self, text: String, place: &Yaml) -> Result<String, Diagnostic> {
        if placeholders_whole(&text) {
            Ok(text)
        } else {
            Err(self.broken(place))
        }
    }

    fn broken(&self, place: &Yaml) -> Diagnostic {
        Diagnostic::new("a filter or function changed a secret", &place.span)
            .label(format!("on node {}", self.node))
            .help("the value of a secret is not known while templates run: print it as it is, or with `| tojson`")
    }

    /// A problem at its place: in the value, or in a file of the role.
    fn problem(&self, problem: Problem, value: &Yaml) -> Diagnostic {
        let file = problem
            .file
            .as_ref()
            .and_then(|name| self.files?.templates.get(name));
        let span = match (file, &problem.range) {
            (Some(file), Some(range)) => Span::at(file, range.clone()),
            (Some(file), None) => line(file, problem.line),
            (None, Some(range)) => locate(value, range.clone()),
            (None, None) => value.span.clone(),
        };
        let finding =
            Diagnostic::new(problem.message, &span).label(format!("on node {}", self.node));
        if file.is_some() {
            finding.related(&value.span, "rendered here")
        } else {
            finding
        }
    }
}

fn line(file: &std::sync::Arc<crate::span::SourceFile>, line: Option<usize>) -> Span {
    let starts = Span::line_starts(&file.text);
    let at = line
        .and_then(|line| starts.get(line.saturating_sub(1)))
        .copied()
        .unwrap_or(0);
    let length = file.text[at..].lines().next().map_or(0, str::len);
    Span::at(file, at..at + length)
}
