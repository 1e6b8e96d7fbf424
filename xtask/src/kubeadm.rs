//! Clusters of kubeadm with the real programs: a rehearsal that only root of a machine can do.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, machine, process};

/// What the rehearsal runs, by the package of Debian 12 that has it.
const TOOLS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("/usr/lib/go-1.19/bin/go", "golang-1.19-go"),
    (
        "/usr/share/gocode/src/github.com/modern-go/reflect2",
        "golang-github-modern-go-reflect2-dev",
    ),
    ("gcc", "gcc"),
    ("make", "make"),
    ("rsync", "rsync"),
    ("dpkg-source", "dpkg-dev"),
    ("apt-ftparchive", "apt-utils"),
    ("gpg", "gpg"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("/bin/busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("ssh", "openssh-client"),
];

/// Why it cannot be done here. `None`: it can.
fn hindrance() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    if effective != Some("0") {
        return Some("only root can make its machines".into());
    }
    let here = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path);
        Path::new(name).is_absolute() && Path::new(name).exists()
            || folders.any(|folder| folder.join(name).is_file())
    };
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(name, _)| !here(name))
        .map(|(_, package)| *package)
        .collect();
    (!missing.is_empty()).then(|| format!("packages are missing: {}", missing.join(" ")))
}

/// Rehearses where that is possible. Otherwise it gives the words that say that nothing was rehearsed, and why.
pub(crate) fn rehearse() -> Outcome<Option<String>> {
    if let Some(why) = hindrance() {
        return Ok(Some(format!(
            "NOT TESTED: clusters of a real kubeadm (tests/kubeadm/rehearse.sh): {why}"
        )));
    }
    println!(
        "Clusters of a real kubeadm, from what is built in /var/tmp/picluster-kubeadm (half an hour once):"
    );
    let program = process::built("picluster-under-test")?;
    let script = machine::workspace().join("tests/kubeadm/rehearse.sh");
    process::run(Command::new(script).arg(program))?;
    Ok(None)
}
