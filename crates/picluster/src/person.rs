//! Who is at the keyboard.

use std::process::{Command, Stdio};

/// The login name: `USER`, `LOGNAME`, else what the system's accounts say (`id -un` asks NSS, which a
/// static binary cannot), else the bare number.
#[must_use]
pub fn login_name() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
        .or_else(account)
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn account() -> Option<String> {
    let output = Command::new("id")
        .arg("-un")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|o| o.status.success())?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}
