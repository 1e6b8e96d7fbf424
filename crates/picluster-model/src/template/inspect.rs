//! What a template asks for, found without running it.

use std::ops::Range;

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Text with `{{ … }}` and `{% … %}` in it.
    Template,
    /// One expression, as in `when`.
    Expression,
}

/// Something a template uses by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// `value | name`.
    Filter(Range<usize>),
    /// `value is name`.
    Test(Range<usize>),
    /// `{% include "name" %}`, `import`, `from`, `extends`: the place of the name without
    /// quotes.
    File(Range<usize>),
}

/// One word of the language inside of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Range<usize>),
    Text(Range<usize>),
    Pipe,
    Other,
    /// A tag begins.
    Begin,
}

/// The filters, tests and files a text names.
pub fn uses(text: &str, form: Form) -> Vec<Use> {
    let tokens = tokens(text, form);
    let word = |token: Option<&Token>| -> Option<Range<usize>> {
        match token {
            Some(Token::Word(range)) => Some(range.clone()),
            _ => None,
        }
    };
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let next = word(tokens.get(index + 1));
        match token {
            Token::Pipe => found.extend(next.map(Use::Filter)),
            Token::Word(range) => match &text[range.clone()] {
                "is" => {
                    let mut name = next;
                    if name.as_ref().is_some_and(|r| &text[r.clone()] == "not") {
                        name = word(tokens.get(index + 2));
                    }
                    found.extend(name.map(Use::Test));
                }
                "filter" if index > 0 && tokens[index - 1] == Token::Begin => {
                    found.extend(next.map(Use::Filter));
                }
                "include" | "import" | "from" | "extends"
                    if index > 0 && tokens[index - 1] == Token::Begin =>
                {
                    if let Some(Token::Text(range)) = tokens.get(index + 1) {
                        found.push(Use::File(range.clone()));
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    found
}

/// Where a dotted name stands in a text as a word of the language, and whether it may be
/// undefined there (`is defined`, `| default`).
pub fn places(text: &str, form: Form, name: &str) -> Vec<(Range<usize>, bool)> {
    tokens(text, form)
        .iter()
        .enumerate()
        .filter_map(|(index, token)| match token {
            Token::Word(range) => Some((index, range)),
            _ => None,
        })
        .filter_map(|(_, range)| {
            let written = text.get(range.start..range.start + name.len())?;
            if written != name || name.len() > range.len() {
                return None;
            }
            // `vars.a` must not be found in `vars.ab`.
            let after = &text[range.start + name.len()..];
            if after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                return None;
            }
            let behind = text[range.end..].trim_start();
            let spared = behind.strip_prefix('|').is_some_and(|rest| {
                let filter = rest.trim_start();
                ["default", "d"].iter().any(|known| {
                    filter.strip_prefix(known).is_some_and(|rest| {
                        !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                })
            }) || behind.strip_prefix("is ").is_some_and(|rest| {
                let test = rest.trim_start();
                let test = test.strip_prefix("not ").map_or(test, str::trim_start);
                test.starts_with("defined") || test.starts_with("undefined")
            });
            Some((range.start..range.start + name.len(), spared))
        })
        .collect()
}

/// The expression inside, when `text` is exactly one `{{ expression }}`.
///
/// Whether it is one only the compiler knows: of `{{ a }}{{ b }}` this gives `a }}{{ b`, which
/// is none.
pub fn single_expression(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    if inner.trim().is_empty() {
        return None;
    }
    Some(inner)
}

fn tokens(text: &str, form: Form) -> Vec<Token> {
    let mut found = Vec::new();
    match form {
        Form::Expression => {
            found.push(Token::Begin);
            inside(text, 0, None, &mut found);
        }
        Form::Template => {
            let mut at = 0;
            while let Some(open) = text[at..].find('{').map(|n| at + n) {
                let rest = &text[open..];
                at = if rest.starts_with("{#") {
                    text[open..].find("#}").map_or(text.len(), |n| open + n + 2)
                } else if rest.starts_with("{{") {
                    found.push(Token::Begin);
                    inside(text, open + 2, Some("}}"), &mut found)
                } else if rest.starts_with("{%") {
                    found.push(Token::Begin);
                    let first = found.len();
                    let end = inside(text, open + 2, Some("%}"), &mut found);
                    let raw = matches!(found.get(first), Some(Token::Word(r)) if &text[r.clone()] == "raw");
                    if raw {
                        text[end..].find("endraw").map_or(text.len(), |n| end + n)
                    } else {
                        end
                    }
                } else {
                    open + 1
                };
            }
        }
    }
    found
}

/// Reads words up to `close`; returns the offset behind it.
fn inside(text: &str, start: usize, close: Option<&str>, found: &mut Vec<Token>) -> usize {
    let mut at = start;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(close) = close
            && rest.starts_with(close)
        {
            return at + close.len();
        }
        let Some(c) = rest.chars().next() else { break };
        if c == '"' || c == '\'' {
            let mut escaped = false;
            let end = rest[1..]
                .char_indices()
                .find(|(_, inner)| {
                    let closes = *inner == c && !escaped;
                    escaped = *inner == '\\' && !escaped;
                    closes
                })
                .map_or(text.len(), |(n, _)| at + 1 + n);
            found.push(Token::Text(at + 1..end));
            at = end + 1;
        } else if c.is_alphabetic() || c == '_' {
            let length = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(rest.len());
            found.push(Token::Word(at..at + length));
            at += length;
        } else {
            // Marks of whitespace control are no operators at the edge of a tag.
            let edge = at == start && matches!(c, '-' | '+');
            if c == '|' {
                found.push(Token::Pipe);
            } else if !c.is_whitespace() && !edge {
                found.push(Token::Other);
            }
            at += c.len_utf8();
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, form: Form) -> Vec<String> {
        uses(text, form)
            .into_iter()
            .map(|found| match found {
                Use::Filter(r) => format!("filter {}", &text[r]),
                Use::Test(r) => format!("test {}", &text[r]),
                Use::File(r) => format!("file {}", &text[r]),
            })
            .collect()
    }

    #[test]
    fn filters_tests_and_files_are_found_where_they_are_meant() {
        assert_eq!(
            named(
                "a | b {{ x | upper }} {# y | lower #} {%- if z is not defined or \"p | q\" %}{% include 'f.j2' %}{% raw %}{{ k | w }}{% endraw %}{{ u|v(1)|w }}",
                Form::Template
            ),
            [
                "filter upper",
                "test defined",
                "file f.j2",
                "filter v",
                "filter w"
            ]
        );
        assert_eq!(
            named("a.b | length > 0 and c is odd", Form::Expression),
            ["filter length", "test odd"]
        );
        assert_eq!(
            named("{% filter trim %}x{% endfilter %}", Form::Template),
            ["filter trim"]
        );
    }

    #[test]
    fn names_are_found_with_what_spares_them() {
        let find = |text: &str, name: &str| places(text, Form::Template, name);
        assert_eq!(
            find("vars.a {{ vars.ab + vars.a }}", "vars.a"),
            [(20..26, false)]
        );
        assert_eq!(find("{{ vars.a | default(1) }}", "vars.a"), [(3..9, true)]);
        assert_eq!(
            find("{{ vars.a is not defined }}", "vars.a"),
            [(3..9, true)]
        );
        assert_eq!(find("{{ vars.a | dictsort }}", "vars.a"), [(3..9, false)]);
    }

    #[test]
    fn one_expression_is_told_from_two() {
        assert_eq!(single_expression("{{ a }}"), Some(" a "));
        assert_eq!(single_expression("{{- a -}}"), Some(" a "));
        assert_eq!(single_expression("x{{ a }}"), None);
        assert_eq!(single_expression("{{ a }} "), None);
        assert_eq!(single_expression("{{}}"), None);
    }
}
