//! What is wrong with a document, where, and what to do about it.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};

use crate::span::Span;

/// One finding in a document. A load returns all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line without a full stop.
    pub message: String,
    /// Where; `None` only for findings about a whole file or its absence.
    pub span: Option<Span>,
    /// Words under the caret.
    pub label: Option<Box<str>>,
    /// Other places that matter ("first defined here").
    pub related: Vec<(Span, String)>,
    /// The next thing to do.
    pub help: Option<String>,
    /// Whether snippets show stars in the place of the value: a password stands where a reference
    /// should.
    pub hidden: bool,
}

impl Diagnostic {
    /// A finding at a place.
    pub fn new(message: impl Into<String>, span: &Span) -> Self {
        Self {
            message: message.into(),
            span: Some(span.clone()),
            label: None,
            related: Vec::new(),
            help: None,
            hidden: false,
        }
    }

    /// A finding about a file as a whole; the message names the file.
    pub fn whole_file(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: None,
            label: None,
            related: Vec::new(),
            help: None,
            hidden: false,
        }
    }

    /// Puts words under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().into_boxed_str());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn related(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.related.push((span.clone(), label.into()));
        self
    }

    /// Keeps what stands at the place out of all snippets.
    #[must_use]
    pub fn hide(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Whether rendered diagnostics carry terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Plain,
    /// ANSI escape sequences.
    Styled,
}

/// Draws diagnostics as rustc draws them: message, `--> file:line:column`, snippet with caret,
/// help. One blank line stands between two, and the text ends with a line feed.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: Color) -> String {
    let renderer = match color {
        Color::Plain => Renderer::plain(),
        Color::Styled => Renderer::styled(),
    };
    // One finding's line may be another's, too.
    let hidden: Vec<&Span> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.hidden)
        .filter_map(|diagnostic| diagnostic.span.as_ref())
        .collect();
    let drawn: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| {
            let mut text = renderer.render(&[group(diagnostic, &hidden)]);
            text.push('\n');
            text
        })
        .collect();
    drawn.join("\n")
}

fn group<'a>(diagnostic: &'a Diagnostic, hidden: &[&Span]) -> Group<'a> {
    let title = Level::ERROR.primary_title(normalize_untrusted_str(&diagnostic.message));
    let mut group = match &diagnostic.span {
        None => Group::with_title(title),
        Some(span) => {
            let mut label = AnnotationKind::Primary.span(first_line(span));
            if let Some(text) = &diagnostic.label {
                label = label.label(normalize_untrusted_str(text));
            }
            let mut here = snippet(span, hidden).annotation(label);
            let mut elsewhere = Vec::new();
            for (place, text) in &diagnostic.related {
                let note = AnnotationKind::Context
                    .span(first_line(place))
                    .label(normalize_untrusted_str(text));
                if place.file == span.file {
                    here = here.annotation(note);
                } else {
                    elsewhere.push(snippet(place, hidden).annotation(note));
                }
            }
            title.element(here).elements(elsewhere)
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    group
}

fn snippet<'a, T: Clone>(span: &'a Span, hidden: &[&Span]) -> Snippet<'a, T> {
    Snippet::source(without(span, hidden)).path(span.file.name.as_str())
}

/// The text of a file with stars in the place of what is hidden. Lengths and lines stay as they
/// are, so that all places do.
fn without<'a>(span: &'a Span, hidden: &[&Span]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(span.file.text.as_str());
    for hidden in hidden.iter().filter(|hidden| hidden.file == span.file) {
        let bytes = hidden.bytes();
        if let Some(value) = text.get(bytes.clone()) {
            let stars: String = value
                .chars()
                .flat_map(|c| {
                    let star = if matches!(c, '\n' | '\r') { c } else { '*' };
                    std::iter::repeat_n(star, c.len_utf8())
                })
                .collect();
            text = Cow::Owned([&text[..bytes.start], &stars, &text[bytes.end..]].concat());
        }
    }
    text
}

/// A value may cover many lines; the caret belongs under its first.
fn first_line(span: &Span) -> std::ops::Range<usize> {
    let bytes = span.bytes();
    let text = span.text();
    let length = text.find(['\n', '\r']).unwrap_or(text.len());
    bytes.start..bytes.start + length
}
