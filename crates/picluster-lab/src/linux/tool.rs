//! Running the system's own tools, with their complaint in the error.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::{Attempt, Trouble};

/// Where the tools are, also for callers whose `PATH` lacks the sbin directories (Debian's users).
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A tool's command, with no input and a known `PATH`.
pub(crate) fn tool(name: impl AsRef<OsStr>) -> Command {
    let mut c = Command::new(find(name.as_ref()).unwrap_or_else(|| name.as_ref().into()));
    c.stdin(Stdio::null()).env("PATH", PATH).env("LC_ALL", "C");
    c
}

/// The absolute path of a tool.
pub(crate) fn find(name: &OsStr) -> Option<std::path::PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(name.into());
    }
    PATH.split(':')
        .map(|d| std::path::Path::new(d).join(name))
        .find(|p| p.is_file())
}

/// Runs to the end; a failure carries the tool's stderr.
pub(crate) fn run(command: &mut Command) -> Result<(), Trouble> {
    output(command).map(drop)
}

/// Runs to the end and returns stdout.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Trouble> {
    let out = command
        .output()
        .attempt(|| format!("run {}", command.get_program().to_string_lossy()))?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    Err(Trouble(describe(command, out.status, &out.stderr)))
}

/// Runs with `input` on stdin.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Trouble> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that stops reading early says why on stderr, so its status counts, not this write.
        let _ = stdin.write_all(input);
    }
    let out = child
        .wait_with_output()
        .attempt(|| format!("wait for {program}"))?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(Trouble(describe(command, out.status, &out.stderr)))
    }
}

fn describe(command: &Command, status: std::process::ExitStatus, stderr: &[u8]) -> String {
    let args: Vec<_> = command
        .get_args()
        .take(6)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let said = String::from_utf8_lossy(stderr);
    let tail: Vec<&str> = said.trim().lines().rev().take(4).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    format!(
        "{} {}: {status}: {}",
        command.get_program().to_string_lossy(),
        args.join(" "),
        tail.join(" / ")
    )
}
