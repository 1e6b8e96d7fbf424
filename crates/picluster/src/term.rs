//! The terminal: colours, width, and the words' clothes.

use std::io::IsTerminal;

use crate::cli::ColorWhen;

/// How to write to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Use colours.
    pub color: bool,
    /// Columns to fit into.
    pub width: usize,
}

impl Style {
    /// For a stream, by flag, environment and what it is.
    pub fn of(when: ColorWhen, stream: &impl IsTerminal, fd: impl rustix::fd::AsFd) -> Self {
        let terminal = stream.is_terminal();
        // https://no-color.org: any non-empty value means no.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !refused,
        };
        let width = terminal
            .then(|| rustix::termios::tcgetwinsize(fd).ok())
            .flatten()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns >= 20)
            .unwrap_or(100);
        Self { color, width }
    }

    /// Neither colours nor a narrow window: for tests and files.
    #[must_use]
    pub fn plain(width: usize) -> Self {
        Self {
            color: false,
            width,
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What is made.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
    /// What is changed, or needs attention.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }
    /// What is taken away, or failed.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
    /// What is run.
    #[must_use]
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
    /// Headings.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    /// What may be skipped.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

/// `1 node`, `2 nodes`.
#[must_use]
pub fn count(n: usize, one: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {one}s")
    }
}

/// The day of an instant, in UTC: `2026-11-21`.
#[must_use]
pub fn day(epoch: i64) -> String {
    // Days to civil date, after H. Hinnant's `civil_from_days` (chrono-compatible low-level date algorithms).
    let days = epoch.div_euclid(86_400) + 719_468;
    let (era, doe) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

/// Bytes for people: `812 B`, `3.4 KB`, `65 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let f = n as f64;
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} KB", f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", f / 1e6),
        _ => format!("{:.1} GB", f / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn days_are_those_of_the_calendar() {
        // date -u -d @N +%F
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_795_255_779), "2026-11-21");
        assert_eq!(day(1_798_761_599), "2026-12-31");
        assert_eq!(day(-1), "1969-12-31");
    }
}
