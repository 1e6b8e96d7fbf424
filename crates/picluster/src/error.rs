//! The one boundary where errors become words: what, where, what was not done, what next.

use std::fmt;

use picluster_engine::ExitCode;
use picluster_model::Diagnostic;

/// Why a verb ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: ExitCode,
    /// What is wrong.
    pub message: String,
    /// What was not done, and the next command.
    pub hints: Vec<String>,
    /// Findings in documents, each with its place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    /// A usage, configuration or tool error before any write.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::with(ExitCode::Usage, message)
    }

    /// With another exit code.
    pub fn with(exit: ExitCode, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hints: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Errors in documents.
    #[must_use]
    pub fn documents(diagnostics: Vec<Diagnostic>) -> Self {
        let n = diagnostics.len();
        Self {
            exit: ExitCode::Usage,
            message: format!("{} in the documents", crate::term::count(n, "error")),
            hints: vec!["no node was contacted; nothing was changed".into()],
            diagnostics,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
