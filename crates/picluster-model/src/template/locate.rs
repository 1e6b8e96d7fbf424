//! From a place in a value's text to the place in the document it was written in.

use std::ops::Range;

use crate::span::Span;
use crate::yaml::Yaml;

/// The place of a part of a text value; the whole value when escapes or folding hide it.
pub fn locate(value: &Yaml, range: Range<usize>) -> Span {
    let Some(text) = value.as_str() else {
        return value.span.clone();
    };
    let source = value.span.text();
    let base = value.span.start as usize;
    // Plain, and quoted without escapes: the text stands there as it is.
    if let Some(at) = source.find(text) {
        return part(value, base + at + range.start, range.len());
    }
    // Block style: the same lines, indented.
    let before = text.get(..range.start).unwrap_or(text);
    let number = before.matches('\n').count();
    let column = before.len() - before.rfind('\n').map_or(0, |n| n + 1);
    let wanted = text.lines().nth(number).unwrap_or("");
    let mut offset = 0;
    for (index, line) in source.split_inclusive('\n').enumerate() {
        let bare = line.trim_end_matches(['\n', '\r']);
        if index == number && bare.ends_with(wanted) {
            let indent = bare.len() - wanted.len();
            return part(value, base + offset + indent + column, range.len());
        }
        offset += line.len();
    }
    value.span.clone()
}

fn part(value: &Yaml, start: usize, length: usize) -> Span {
    let end = (start + length).min(value.span.end as usize);
    Span::at(&value.span.file, start..end.max(start))
}
