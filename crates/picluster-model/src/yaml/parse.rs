//! From text to the tree. The only code that knows the YAML crate: its event parser, because
//! events carry the exact place of every key, value and tag.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_yaml::granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle};

use crate::diagnostic::Diagnostic;
use crate::span::{SourceFile, Span};
use crate::yaml::{Yaml, YamlKind};

/// The largest document: far above any inventory, far below what hurts.
const MAX_BYTES: usize = 4 << 20;
/// How deep values may nest, aliases included: bounds the recursion of everything behind.
const MAX_DEPTH: usize = 64;
/// How many values a document may have once its aliases are expanded.
const MAX_VALUES: usize = 200_000;

/// Reads a text file, with the reasons people can act on when it is none.
///
/// # Errors
/// One diagnostic when it is missing, a directory, not UTF-8, or too large.
pub fn read(path: &Path, name: &str) -> Result<Arc<SourceFile>, Diagnostic> {
    if path.is_dir() {
        return Err(
            Diagnostic::whole_file(format!("{name} is a directory, not a file")).help(format!(
                "name the file in it, for instance {name}/inventory.yaml"
            )),
        );
    }
    match std::fs::read(path) {
        Ok(bytes) => from_bytes(name, bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Diagnostic::whole_file(format!("{name} does not exist")))
        }
        Err(error) => Err(Diagnostic::whole_file(format!(
            "{name} cannot be read: {error}"
        ))),
    }
}

/// Makes a source file of bytes.
///
/// # Errors
/// One diagnostic when they are not UTF-8 text, or too many.
pub fn from_bytes(name: &str, mut bytes: Vec<u8>) -> Result<Arc<SourceFile>, Diagnostic> {
    if bytes.len() > MAX_BYTES {
        return Err(Diagnostic::whole_file(format!(
            "{name} is larger than {} MiB",
            MAX_BYTES >> 20
        )));
    }
    // A byte order mark is legal and invisible; with it every column of line 1 would be off.
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Arc::new(SourceFile {
            name: name.to_owned(),
            text,
        })),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            Err(
                Diagnostic::whole_file(format!("{name} is not UTF-8 text (line {line})"))
                    .help("save the file as UTF-8"),
            )
        }
    }
}

/// Parses a document.
///
/// # Errors
/// Everything that is wrong with its syntax: one finding when it cannot be read any further,
/// all repeated keys, tags and odd keys otherwise.
pub fn parse(file: &Arc<SourceFile>) -> Result<Yaml, Vec<Diagnostic>> {
    let forbidden = placeholders(file);
    if !forbidden.is_empty() {
        return Err(forbidden);
    }
    let mut builder = Builder::new(file);
    let mut options = Options::default();
    options.disallow_directives = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    for event in Parser::new_from_str_with_options(&file.text, options) {
        match event {
            Ok((event, span)) => {
                let range = builder.bytes(span.start, span.end);
                let tag = span.tag_span().map(|t| builder.bytes(t.start, t.end));
                if !builder.event(event, range, tag) {
                    break;
                }
            }
            Err(error) => {
                let at = builder.byte(*error.marker());
                builder.findings.push(syntax_error(file, at, error.kind()));
                break;
            }
        }
    }
    let Builder {
        mut findings, root, ..
    } = builder;
    if findings.is_empty() {
        match root {
            Some(root) if !(root.is_null() && root.span.start == root.span.end) => {
                return Ok(root);
            }
            _ => findings.push(Diagnostic::whole_file(format!("{} is empty", file.name))),
        }
    }
    Err(findings)
}

/// Documents may not hold the code points that mark secrets in rendered text.
fn placeholders(file: &Arc<SourceFile>) -> Vec<Diagnostic> {
    file.text
        .char_indices()
        .filter(|(_, c)| matches!(c, '\u{F8F0}' | '\u{F8F1}'))
        .map(|(at, c)| {
            Diagnostic::new(
                format!("the character U+{:04X} is reserved", u32::from(c)),
                &Span::at(file, at..at + c.len_utf8()),
            )
            .help("delete this character; it is invisible in most editors")
        })
        .collect()
}

fn syntax_error(file: &Arc<SourceFile>, at: usize, kind: &ErrorKind) -> Diagnostic {
    let line_start = file.text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line_end = file.text[at..]
        .find('\n')
        .map_or(file.text.len(), |n| at + n);
    let line = &file.text[line_start..line_end];
    let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
    // The scanner reports tabs under several names, some of them one line too late.
    if let Some(tab) = line[..indent].find('\t') {
        let place = line_start + tab;
        return Diagnostic::new(
            "a tab is used for indentation",
            &Span::at(file, place..place + 1),
        )
        .label("tab")
        .help("indent with spaces; YAML allows no tabs here");
    }
    if let ErrorKind::UnknownAnchor = kind {
        return Diagnostic::new(
            "this alias has no anchor before it",
            &Span::at(file, at..at),
        )
        .help("define it first with `&name`, or write the value out");
    }
    let reason = kind.to_string();
    if reason.contains("recursion limit") {
        return Diagnostic::new("values are nested too deeply", &Span::at(file, at..at));
    }
    if at >= file.text.trim_end().len() {
        return Diagnostic::new(
            format!("the file ends too early: {reason}"),
            &Span::at(file, at..at),
        );
    }
    let mut found = Diagnostic::new(format!("not valid YAML: {reason}"), &Span::at(file, at..at));
    if line.trim_start().contains(": {{") || line.contains(": {%") {
        found = found.help("a value that starts with `{{` must be quoted: \"{{ … }}\"");
    } else if line.contains(": *") || line.contains(": @") || line.contains(": `") {
        found = found.help("quote the value");
    } else if reason.contains("quoted scalar") {
        found = found.help("is a closing quote missing above?");
    } else if reason.contains("expected key") || reason.contains("indent") {
        found = found.help("check the indentation of this line against the lines above");
    }
    found
}

/// A container that is still open.
struct Open {
    kind: OpenKind,
    start: usize,
    anchor: usize,
    /// Ends at the last child for block style, at the bracket for flow style.
    end: usize,
}

enum OpenKind {
    Seq(Vec<Yaml>),
    Map {
        entries: Vec<(String, Span, Yaml)>,
        seen: HashMap<String, Span>,
        key: Option<Key>,
    },
}

/// A mapping key waiting for its value.
enum Key {
    Good(String, Span),
    /// Reported already; its value is dropped.
    Bad,
}

struct Builder<'f> {
    file: &'f Arc<SourceFile>,
    findings: Vec<Diagnostic>,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Yaml, usize)>,
    root: Option<Yaml>,
    documents: usize,
    values: usize,
    lines: Vec<usize>,
}

impl<'f> Builder<'f> {
    fn new(file: &'f Arc<SourceFile>) -> Self {
        Self {
            file,
            findings: Vec::new(),
            stack: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            values: 0,
            lines: Span::line_starts(&file.text),
        }
    }

    fn byte(&self, marker: serde_yaml::granit_parser::Marker) -> usize {
        // Markers of a text input carry bytes; characters are the fall-back.
        let at = marker.byte_offset().unwrap_or_else(|| {
            self.file
                .text
                .char_indices()
                .nth(marker.index())
                .map_or(self.file.text.len(), |(at, _)| at)
        });
        let mut at = at.min(self.file.text.len());
        while !self.file.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn bytes(
        &self,
        start: serde_yaml::granit_parser::Marker,
        end: serde_yaml::granit_parser::Marker,
    ) -> Range<usize> {
        let start = self.byte(start);
        start..self.byte(end).max(start)
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span::at_lines(self.file, &self.lines, range)
    }

    /// Takes one event; `false` stops the parse.
    fn event(&mut self, event: Event<'_>, range: Range<usize>, tag: Option<Range<usize>>) -> bool {
        if let Some(tag) = tag {
            self.tag(tag);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let span = self.span(range);
                    self.findings.push(
                        Diagnostic::new("a second document begins here", &span)
                            .help("keep one document a file; remove this `---`"),
                    );
                    return false;
                }
                true
            }
            Event::Scalar(text, style, anchor, _) => {
                let kind = self.scalar(&text, style, &range);
                // The scanner's span of a block scalar runs into the next line's indentation.
                let end = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        range.start + self.file.text[range.clone()].trim_end().len()
                    }
                    _ => range.end,
                };
                let value = Yaml {
                    kind,
                    span: self.span(range.start..end),
                };
                self.finish(value, anchor, 1, style == ScalarStyle::Plain)
            }
            Event::Alias(id) => match self.anchors.get(&id) {
                Some((value, size)) => {
                    let (value, size) = (value.clone(), *size);
                    let span = self.span(range);
                    if self.stack.len() + depth(&value) > MAX_DEPTH {
                        self.findings
                            .push(Diagnostic::new("values are nested too deeply", &span));
                        return false;
                    }
                    if self.values + size > MAX_VALUES {
                        self.findings.push(
                            Diagnostic::new(
                                format!("aliases expand to more than {MAX_VALUES} values"),
                                &span,
                            )
                            .help("write the values out, or use groups and variables"),
                        );
                        return false;
                    }
                    self.finish(value, 0, size, false)
                }
                None => {
                    let span = self.span(range);
                    self.findings.push(Diagnostic::new(
                        "an alias refers to what it stands in",
                        &span,
                    ));
                    false
                }
            },
            Event::SequenceStart(_, anchor, _) => {
                self.open(OpenKind::Seq(Vec::new()), range, anchor)
            }
            Event::MappingStart(_, anchor, _) => self.open(
                OpenKind::Map {
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                },
                range,
                anchor,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(&range),
            _ => true,
        }
    }

    fn tag(&mut self, tag: Range<usize>) {
        let text = self.file.text[tag.clone()].to_owned();
        let help = match text.trim_start_matches('!') {
            "secret" | "env" | "sops" | "vault" => {
                "write a secret as `{ secret: NAME }`, `{ env: NAME }`, `{ sops: PATH }` or `{ command: [ARGV] }`"
            }
            "str" => "quote the value to make it text",
            _ => "remove the tag",
        };
        let span = self.span(tag);
        self.findings.push(
            Diagnostic::new(
                format!("YAML tags such as `{text}` are not used here"),
                &span,
            )
            .help(help),
        );
    }

    fn open(&mut self, kind: OpenKind, range: Range<usize>, anchor: usize) -> bool {
        if self.stack.len() >= MAX_DEPTH {
            let span = self.span(range);
            self.findings
                .push(Diagnostic::new("values are nested too deeply", &span));
            return false;
        }
        self.stack.push(Open {
            kind,
            start: range.start,
            end: range.end,
            anchor,
        });
        true
    }

    fn close(&mut self, range: &Range<usize>) -> bool {
        let Some(open) = self.stack.pop() else {
            return true;
        };
        let is_flow = matches!(self.file.text.as_bytes().get(open.start), Some(b'{' | b'['))
            && range.end > range.start;
        let end = if is_flow { range.end } else { open.end };
        let span = self.span(open.start..end.max(open.start));
        let (kind, size) = match open.kind {
            OpenKind::Seq(items) => {
                let size = items.iter().map(count).sum::<usize>();
                (YamlKind::Seq(items), size)
            }
            OpenKind::Map { entries, .. } => {
                let size = entries.iter().map(|(_, _, v)| count(v)).sum::<usize>();
                (YamlKind::Map(entries), size)
            }
        };
        let total = if open.anchor == 0 { 1 } else { size + 1 };
        let value = Yaml { kind, span };
        if open.anchor != 0 {
            self.anchors.insert(open.anchor, (value.clone(), total));
        }
        self.finish(value, 0, 1, false)
    }

    /// Puts a complete value where it belongs.
    fn finish(&mut self, value: Yaml, anchor: usize, size: usize, plain: bool) -> bool {
        self.values += size;
        if self.values > MAX_VALUES {
            self.findings.push(Diagnostic::new(
                format!("the document has more than {MAX_VALUES} values"),
                &value.span,
            ));
            return false;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(value);
            return true;
        };
        let value_end = value.span.end as usize;
        if value_end > open.end && value.span.start as usize >= open.start {
            open.end = value_end;
        }
        match &mut open.kind {
            OpenKind::Seq(items) => items.push(value),
            OpenKind::Map { entries, seen, key } => match key.take() {
                None => {
                    *key = Some(match key_text(&value, plain) {
                        Err(finding) => {
                            self.findings.push(finding);
                            Key::Bad
                        }
                        Ok(text) => match seen.get(&text) {
                            Some(first) => {
                                self.findings.push(
                                    Diagnostic::new(
                                        format!("`{text}` is given twice"),
                                        &value.span,
                                    )
                                    .label("again here")
                                    .related(first, "first here")
                                    .help("keep one of the two"),
                                );
                                Key::Bad
                            }
                            None => {
                                seen.insert(text.clone(), value.span.clone());
                                Key::Good(text, value.span)
                            }
                        },
                    });
                }
                Some(Key::Good(text, span)) => entries.push((text, span, value)),
                Some(Key::Bad) => {}
            },
        }
        true
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, range: &Range<usize>) -> YamlKind {
        if style != ScalarStyle::Plain {
            return YamlKind::String(text.to_owned());
        }
        match resolve(text) {
            Ok(kind) => kind,
            Err(()) => {
                let span = self.span(range.clone());
                self.findings.push(
                    Diagnostic::new("this number does not fit into 64 bits", &span)
                        .help("quote it if it is text"),
                );
                YamlKind::Null
            }
        }
    }
}

fn key_text(key: &Yaml, plain: bool) -> Result<String, Diagnostic> {
    match &key.kind {
        YamlKind::String(text) if plain && text == "<<" => Err(Diagnostic::new(
            "merge keys (`<<`) are not supported",
            &key.span,
        )
        .help("write the values out, or use groups and variables")),
        YamlKind::String(text) => Ok(text.clone()),
        YamlKind::Seq(_) | YamlKind::Map(_) => Err(Diagnostic::new(
            "a key must be text, not a list or mapping",
            &key.span,
        )
        .help("if this is a template, quote it: \"{{ … }}\"")),
        YamlKind::Null => Err(Diagnostic::new("a key is missing here", &key.span)),
        _ => {
            let source = key.span.text();
            Err(
                Diagnostic::new(format!("the key `{source}` is not text"), &key.span)
                    .help(format!("quote it: \"{source}\"")),
            )
        }
    }
}

/// The YAML 1.2 core schema, with the two exceptions of the module's documentation.
fn resolve(text: &str) -> Result<YamlKind, ()> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => YamlKind::Null,
        "true" | "True" | "TRUE" => YamlKind::Bool(true),
        "false" | "False" | "FALSE" => YamlKind::Bool(false),
        _ => return number(text),
    })
}

fn number(text: &str) -> Result<YamlKind, ()> {
    let string = || Ok(YamlKind::String(text.to_owned()));
    let all = |digits: &str, good: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(good)
    };
    for (prefix, radix, good) in [
        ("0x", 16, u8::is_ascii_hexdigit as fn(&u8) -> bool),
        ("0o", 8, |b: &u8| matches!(b, b'0'..=b'7')),
    ] {
        if let Some(digits) = text.strip_prefix(prefix) {
            if !all(digits, good) {
                return string();
            }
            return i64::from_str_radix(digits, radix)
                .map(YamlKind::Int)
                .map_err(|_| ());
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all(unsigned, u8::is_ascii_digit) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return string();
        }
        return text.parse().map(YamlKind::Int).map_err(|_| ());
    }
    // [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let exponent_good =
        exponent.is_none_or(|e| all(e.strip_prefix(['+', '-']).unwrap_or(e), u8::is_ascii_digit));
    let mantissa_good = match mantissa.split_once('.') {
        Some(("", fraction)) => all(fraction, u8::is_ascii_digit),
        Some((whole, fraction)) => {
            all(whole, u8::is_ascii_digit)
                && (fraction.is_empty() || all(fraction, u8::is_ascii_digit))
        }
        None => all(mantissa, u8::is_ascii_digit),
    };
    if !exponent_good || !mantissa_good {
        return string();
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(YamlKind::Float(value)),
        _ => Err(()),
    }
}

fn count(value: &Yaml) -> usize {
    match &value.kind {
        YamlKind::Seq(items) => 1 + items.iter().map(count).sum::<usize>(),
        YamlKind::Map(entries) => 1 + entries.iter().map(|(_, _, v)| count(v)).sum::<usize>(),
        _ => 1,
    }
}

fn depth(value: &Yaml) -> usize {
    match &value.kind {
        YamlKind::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        YamlKind::Map(entries) => 1 + entries.iter().map(|(_, _, v)| depth(v)).max().unwrap_or(0),
        _ => 1,
    }
}
