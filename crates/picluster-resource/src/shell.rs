//! The one place that turns data into shell text.

/// Quotes `text` as one POSIX shell word that no shell interprets.
///
/// NUL cannot be passed to a program at all and is dropped; callers check for it where it could
/// occur.
#[must_use]
pub fn quote(text: &str) -> String {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&b));
    // A leading '=' or '%' is harmless to sh, but `a=b` in command position is an assignment:
    // words are only ever used as arguments.
    if plain {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("'\\''"),
            '\0' => {}
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Quotes words and joins them with spaces.
pub fn words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|w| quote(w.as_ref())).collect();
    quoted.join(" ")
}
