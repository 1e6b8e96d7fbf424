//! Where a value stands in its document.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A document as it was read: its name for people and its text.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFile {
    /// Path as the user gave it, or `roles/<name>/role.yaml (built in)`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({})", self.name)
    }
}

/// A place in a document. Lines and columns start at 1; columns count characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The document.
    pub file: Arc<SourceFile>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte offset of the first byte.
    pub start: u32,
    /// Byte offset behind the last byte (equal to `start` when the length is not known).
    pub end: u32,
}

impl Span {
    /// The place of a byte range of `file`. Ends that do not stand between two characters are
    /// moved down to one that does.
    #[must_use]
    pub fn at(file: &Arc<SourceFile>, bytes: Range<usize>) -> Self {
        Self::at_lines(file, &Self::line_starts(&file.text), bytes)
    }

    /// As [`Span::at`], with the line starts computed once for many places.
    #[must_use]
    pub fn at_lines(file: &Arc<SourceFile>, lines: &[usize], bytes: Range<usize>) -> Self {
        let start = floor(&file.text, bytes.start);
        let end = floor(&file.text, bytes.end).max(start);
        let line = lines.partition_point(|at| *at <= start).max(1);
        let line_start = lines.get(line - 1).copied().unwrap_or(0);
        let column = file.text[line_start..start].chars().count() + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            file: Arc::clone(file),
            line: small(line),
            column: small(column),
            start: small(start),
            end: small(end),
        }
    }

    /// The byte offset at which each line begins.
    #[must_use]
    pub fn line_starts(text: &str) -> Vec<usize> {
        std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect()
    }

    /// The text this place covers.
    #[must_use]
    pub fn text(&self) -> &str {
        self.file
            .text
            .get(self.start as usize..self.end as usize)
            .unwrap_or("")
    }

    /// The place as bytes.
    #[must_use]
    pub fn bytes(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line, self.column)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
