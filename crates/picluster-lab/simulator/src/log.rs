//! Lines as k3s writes them to standard error: logrus' text form, and klog's for what the kubelet says.

use std::fmt::Display;
use std::io::Write as _;

use crate::clock;

/// Go's `%q`, near enough for messages.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn line(level: &str, message: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    let message = if !message.is_empty() && message.chars().all(plain) {
        message.to_owned()
    } else {
        quoted(message)
    };
    let _ = writeln!(
        std::io::stderr(),
        "time=\"{}\" level={level} msg={message}",
        clock::stamp()
    );
}

pub(crate) fn info(message: impl Display) {
    line("info", &message.to_string());
}

pub(crate) fn warn(message: impl Display) {
    line("warning", &message.to_string());
}

pub(crate) fn error(message: impl Display) {
    line("error", &message.to_string());
}

/// A line of a child, as it wrote it.
pub(crate) fn raw(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says why, and ends the process with code 1, as `logrus.Fatal` does.
pub(crate) fn fatal(message: impl Display) -> ! {
    line("fatal", &message.to_string());
    std::process::exit(1)
}

/// `E1121 10:00:00.000000    1234 file.go:1] text`.
pub(crate) fn klog(severity: char, place: &str, text: impl Display) {
    let t = clock::now();
    let _ = writeln!(
        std::io::stderr(),
        "{severity}{:02}{:02} {:02}:{:02}:{:02}.000000 {:>7} {place}] {text}",
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        std::process::id()
    );
}
