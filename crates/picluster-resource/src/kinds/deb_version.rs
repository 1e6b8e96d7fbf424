//! The order of Debian package versions, as dpkg sees it.
//!
//! After deb-version(7): an optional epoch, the upstream version, an optional revision; inside
//! each, runs of non-digits and of digits are compared by turns, `~` sorts before everything,
//! even before the end, and letters sort before other characters.

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, rest_a), (epoch_b, rest_b)) = (epoch(a), epoch(b));
    let ((up_a, rev_a), (up_b, rev_b)) = (revision(rest_a), revision(rest_b));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| part(up_a, up_b))
        .then_with(|| part(rev_a, rev_b))
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// The weight of a character between digits: `~` < end < letters < the rest.
fn weight(c: Option<u8>) -> i32 {
    match c {
        None => 0,
        Some(c) if c.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    }
}

fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let not_digit = |s: &[u8]| s.first().is_some_and(|c| !c.is_ascii_digit());
        while not_digit(a) || not_digit(b) {
            match weight(a.first().copied()).cmp(&weight(b.first().copied())) {
                Ordering::Equal => {
                    a = a.get(1..).unwrap_or_default();
                    b = b.get(1..).unwrap_or_default();
                }
                unequal => return unequal,
            }
        }
        let (digits_a, rest_a) = digits(a);
        let (digits_b, rest_b) = digits(b);
        // Without leading zeros the longer run is the larger number, however long it is.
        let order = (digits_a.len().cmp(&digits_b.len())).then_with(|| digits_a.cmp(digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// The leading run of digits without its zeros, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|c| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    let zeros = run.iter().take_while(|c| **c == b'0').count();
    (&run[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ascending; each neighbour pair was put to `dpkg --compare-versions` of dpkg 1.21.22.
    const ASCENDING: &[&str] = &[
        "0~~",
        "0~",
        "0",
        "0+b",
        "1.0~rc1-1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1.1",
        "1.0a-1",
        "1.0+dfsg-1",
        "1.2-1",
        "1.9.9-1",
        "1.10-1",
        "1.33.2-1.1",
        "1.33.10-1.1",
        "7.88.1-10+deb12u5",
        "7.88.1-10+deb12u12",
        "1:0.1-1",
        "2:0",
    ];

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        for pair in ASCENDING.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("1.0-1", "1.00-01"), Ordering::Equal);
        assert_eq!(compare("0:1.0", "1.0"), Ordering::Equal);
    }
}
