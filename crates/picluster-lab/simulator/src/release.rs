//! Which release of k3s the simulator says it is.
//!
//! The release stands at the end of the program file, after the last byte that the loader reads. So one program serves
//! every release, and a file of another release has another checksum, as real ones do.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

const MARK: &str = "\nk3s-simulator-release ";
const LONGEST: i64 = 128;

/// A release such as `v1.33.5+k3s1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release(String);

/// A text that is no release of k3s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRelease(String);

impl fmt::Display for NoRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no release of k3s; releases look like v1.33.5+k3s1",
            self.0
        )
    }
}

impl std::error::Error for NoRelease {}

impl Release {
    /// Reads `v<major>.<minor>.<patch>+k3s<n>`, with `-rc<n>` before or after the `+k3s<n>`.
    ///
    /// # Errors
    ///
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, NoRelease> {
        let fail = || NoRelease(text.to_owned());
        let rest = text.strip_prefix('v').ok_or_else(fail)?;
        let (kubernetes, build) = rest.split_once('+').ok_or_else(fail)?;
        let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let base = kubernetes.split_once('-').map_or(kubernetes, |(b, _)| b);
        let parts: Vec<&str> = base.split('.').collect();
        let build = build
            .strip_prefix("k3s")
            .or_else(|| build.split_once("+k3s").map(|p| p.1));
        let build = build
            .map(|b| b.split_once('-').map_or(b, |(n, _)| n))
            .ok_or_else(fail)?;
        if text.len() <= 64 && parts.len() == 3 && parts.iter().all(|p| number(p)) && number(build)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(fail())
        }
    }

    /// As it was asked for.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The minor version of Kubernetes, such as 33.
    pub(crate) fn minor(&self) -> u32 {
        self.0
            .split('.')
            .nth(1)
            .and_then(|m| m.parse().ok())
            .unwrap_or(33)
    }

    /// The Go that upstream builds this minor version with.
    pub(crate) fn go(&self) -> &'static str {
        match self.minor() {
            ..=30 => "go1.22.12",
            31 | 32 => "go1.23.12",
            33 | 34 => "go1.24.6",
            _ => "go1.25.5",
        }
    }

    /// The program, with this release at its end.
    #[must_use]
    pub fn stamp(&self, program: &[u8]) -> Vec<u8> {
        let bare = position(program).map_or(program, |at| &program[..at]);
        let mut out = bare.to_vec();
        out.extend_from_slice(MARK.as_bytes());
        out.extend_from_slice(self.0.as_bytes());
        out.push(b'\n');
        out
    }

    /// The release of the running program; one without a stamp takes a fixed one.
    pub(crate) fn ours() -> Self {
        stamped().unwrap_or_else(|| Self("v1.33.5+k3s1".into()))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn position(program: &[u8]) -> Option<usize> {
    let from = program.len().saturating_sub(usize::try_from(LONGEST).ok()?);
    let tail = &program[from..];
    tail.windows(MARK.len())
        .rposition(|w| w == MARK.as_bytes())
        .map(|at| from + at)
}

fn stamped() -> Option<Release> {
    let mut file = File::open("/proc/self/exe").ok()?;
    file.seek(SeekFrom::End(-LONGEST)).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let at = position(&tail)?;
    let text = std::str::from_utf8(&tail[at + MARK.len()..]).ok()?;
    Release::parse(text.trim_end()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_from_other_text() {
        for good in [
            "v1.33.5+k3s1",
            "v1.36.3+k3s12",
            "v1.37.0-rc1+k3s1",
            "v1.37.0+k3s1-rc2",
        ] {
            assert_eq!(Release::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "1.33.5+k3s1",
            "v1.33.5",
            "v1.33+k3s1",
            "v1.33.5+rke2r1",
            "stable",
            "v1.33.5+k3s",
        ] {
            assert!(Release::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_stamp_takes_the_place_of_the_first() {
        let one = Release::parse("v1.33.5+k3s1").unwrap().stamp(b"program");
        let two = Release::parse("v1.34.1+k3s1").unwrap().stamp(&one);
        assert_eq!(two, b"program\nk3s-simulator-release v1.34.1+k3s1\n");
    }
}
