//! Ranges in node names: `rpi[01:03]` is rpi01, rpi02, rpi03; and `{n}` in what is said of them.

/// More nodes than this in one range is a slip of the fingers.
const MOST: u32 = 10_000;

/// The names a node key stands for, each with its number when the key holds a range.
///
/// Zeros are kept: when the first number is written with leading zeros, all names have numbers
/// of its width.
///
/// # Errors
/// What is wrong with the range, in words.
pub fn expand(key: &str) -> Result<Vec<(String, Option<u32>)>, String> {
    let Some((before, rest)) = key.split_once('[') else {
        if key.contains(']') {
            return Err(String::from("a `]` without `[`"));
        }
        return Ok(vec![(key.to_owned(), None)]);
    };
    let Some((range, after)) = rest.split_once(']') else {
        return Err(String::from("the range is not closed: a `]` is missing"));
    };
    if after.contains('[') || after.contains(']') {
        return Err(String::from("only one range is allowed in a name"));
    }
    let Some((from, to)) = range.split_once(':') else {
        return Err(format!(
            "`[{range}]` is not a range: write [first:last], for instance [01:03]"
        ));
    };
    let number = |text: &str| -> Result<u32, String> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is not a number"));
        }
        text.parse()
            .map_err(|_| format!("{text} is too large a number"))
    };
    let (first, last) = (number(from)?, number(to)?);
    if last < first {
        return Err(format!("the range runs downwards; write [{to}:{from}]"));
    }
    if last - first >= MOST {
        return Err(format!("the range has more than {MOST} nodes"));
    }
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    if (padded(from) || padded(to)) && from.len() != to.len() {
        return Err(String::from(
            "with leading zeros both ends need the same number of digits",
        ));
    }
    let width = if padded(from) { from.len() } else { 0 };
    Ok((first..=last)
        .map(|n| (format!("{before}{n:0width$}{after}"), Some(n)))
        .collect())
}

/// Puts the number of a node in place of `{n}` (no leading zeros) and `{n:0W}` (padded to W
/// digits). Braces of templates (`{{ n }}`, `{{n}}`) stay.
#[must_use]
pub fn number(text: &str, n: u32) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{n") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let template = out.ends_with('{');
        match placeholder(found) {
            Some((width, length)) if !template => {
                out.push_str(&format!("{n:0width$}"));
                rest = &found[length..];
            }
            _ => {
                out.push_str("{n");
                rest = &found[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether `text` holds `{n}` or `{n:0W}`.
#[must_use]
pub fn has_number(text: &str) -> bool {
    number(text, 1) != text
}

/// The width and the length of the placeholder `text` begins with.
fn placeholder(text: &str) -> Option<(usize, usize)> {
    let end = text.find('}')?;
    if text[end..].starts_with("}}") {
        return None;
    }
    match &text[2..end] {
        "" => Some((0, end + 1)),
        format => {
            let digits = format.strip_prefix(":0")?;
            match digits.parse::<usize>() {
                Ok(width @ 1..=9) => Some((width, end + 1)),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(key: &str) -> Vec<String> {
        expand(key)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn zeros_are_kept() {
        assert_eq!(names("rpi[01:03]"), ["rpi01", "rpi02", "rpi03"]);
        assert_eq!(names("rpi[8:11]"), ["rpi8", "rpi9", "rpi10", "rpi11"]);
        assert_eq!(names("a[098:100]-x"), ["a098-x", "a099-x", "a100-x"]);
        assert_eq!(names("solo"), ["solo"]);
    }

    #[test]
    fn numbers_are_put_in_and_templates_left_alone() {
        assert_eq!(number("192.168.2.{n}", 7), "192.168.2.7");
        assert_eq!(number("10.0.{n:02}.{n:03}", 7), "10.0.07.007");
        assert_eq!(number("{{n}} {{ n }} {n", 7), "{{n}} {{ n }} {n");
        assert_eq!(number("{n:2} {name} {n}", 7), "{n:2} {name} 7");
    }

    #[test]
    fn nonsense_is_named() {
        for key in [
            "a[1:2",
            "a1:2]",
            "a[2:1]",
            "a[1]",
            "a[x:2]",
            "a[1:2]b[1:2]",
            "a[1:20000]",
            "a[01:100]",
            "a[1:99999999999]",
        ] {
            assert!(expand(key).is_err(), "{key}");
        }
    }
}
