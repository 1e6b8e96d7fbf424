//! Ranges in node names: `rpi[01:03]` is rpi01, rpi02, rpi03; and `{n}` in what is said of them.

use std::collections::BTreeSet;

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

/// Few node keys that stand for exactly these names, in the order of the names: what [`expand`] undoes. Fewer than three in
/// a row stay names.
#[must_use]
pub fn compact(names: &[&str]) -> Vec<String> {
    let mut left: BTreeSet<&str> = names.iter().copied().collect();
    let mut by_number: Vec<(Option<u32>, &str)> = left
        .iter()
        .map(|name| (split(name).1.parse().ok(), *name))
        .collect();
    by_number.sort_unstable();
    // Each with the name it begins with.
    let mut keys: Vec<(&str, String)> = Vec::new();
    for (_, first) in by_number {
        if !left.contains(first) {
            continue;
        }
        let run: Vec<String> = series(first)
            .take_while(|name| left.contains(name.as_str()))
            .collect();
        match run.as_slice() {
            [_, _, .., last] => {
                let ((before, from, after), (_, to, _)) = (split(first), split(last));
                keys.push((first, format!("{before}[{from}:{to}]{after}")));
                for name in &run {
                    left.remove(name.as_str());
                }
            }
            _ => {
                keys.push((first, first.to_owned()));
                left.remove(first);
            }
        }
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, key)| key).collect()
}

/// A name at its last number: what stands before, the digits, what stands behind.
fn split(name: &str) -> (&str, &str, &str) {
    let digit = |c: char| c.is_ascii_digit();
    let end = name.rfind(digit).map_or(name.len(), |last| last + 1);
    let (head, after) = name.split_at(end);
    let (before, digits) = head.split_at(head.trim_end_matches(digit).len());
    (before, digits, after)
}

/// The names of the longest range that begins with this one; itself alone where it has no number.
fn series(first: &str) -> impl Iterator<Item = String> {
    let (before, digits, after) = split(first);
    let padded = digits.len() > 1 && digits.starts_with('0');
    let width = if padded { digits.len() } else { 0 };
    let from: Option<u32> = digits.parse().ok();
    let more = from
        .into_iter()
        .flat_map(|n| n.saturating_add(1)..=n.saturating_add(MOST - 1))
        .map(move |n| format!("{n:0width$}"))
        // Leading zeros end where a number needs more digits.
        .take_while(move |n| !padded || n.len() == width)
        .map(move |n| format!("{before}{n}{after}"));
    std::iter::once(first.to_owned()).chain(more)
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
    fn names_become_keys() {
        let compact = |names: &[&str]| compact(names).join(" ");
        assert_eq!(compact(&["b1", "a03", "a02", "a01"]), "a[01:03] b1");
        assert_eq!(compact(&["a1", "a2", "a4", "a5", "a6"]), "a1 a2 a[4:6]");
        assert_eq!(compact(&["a9", "a10", "a8", "a08"]), "a08 a[8:10]");
        assert_eq!(compact(&["a98", "a099", "a100", "a101"]), "a[099:101] a98");
        assert_eq!(compact(&["n1-x", "n2-x", "n3-x", "n3-y"]), "n[1:3]-x n3-y");
        assert_eq!(compact(&["solo", "depot"]), "depot solo");
        let long = "n99999999999";
        assert_eq!(compact(&[long, "n4294967295"]), "n4294967295 n99999999999");
    }

    proptest::proptest! {
        #[test]
        fn keys_stand_for_the_names_they_were_made_of(
            names in proptest::collection::btree_set("[ab]-?[0-9]{0,3}-?", 0..60)
        ) {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            let keys = compact(&all);
            let back: Vec<String> = keys
                .iter()
                .flat_map(|key| super::tests::names(key))
                .collect();
            proptest::prop_assert_eq!(back.len(), names.len());
            proptest::prop_assert_eq!(back.into_iter().collect::<std::collections::BTreeSet<_>>(), names);
        }
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
