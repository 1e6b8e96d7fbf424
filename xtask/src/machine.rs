//! What this machine is and has.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    // Cargo says where the package is now; the folder may have moved since it was compiled.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    // The second number is the effective user; where there is no /proc, there is no lab either.
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

/// Where a program is, if it is installed. System folders count even when they are not in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The number in a file of `/proc/sys`.
pub(crate) fn sysctl(key: &str) -> Option<u64> {
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The system, as `/etc/os-release` has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    id: String,
    version: String,
    name: String,
}

impl System {
    /// Of this machine.
    pub(crate) fn here() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
                .map(|v| v.trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        Self {
            id: value("ID"),
            version: value("VERSION_ID"),
            name: value("PRETTY_NAME"),
        }
    }

    /// Whether its packages are known to be named and new enough: Debian 12, Ubuntu 22.04, and later.
    pub(crate) fn is_known(&self) -> bool {
        let major: u32 = self
            .version
            .split('.')
            .next()
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        match self.id.as_str() {
            // Testing and unstable have no number.
            "debian" => self.version.is_empty() || major >= 12,
            "ubuntu" => major >= 22,
            _ => false,
        }
    }

    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        if self.name.is_empty() {
            "this system"
        } else {
            &self.name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::System;

    #[test]
    fn old_and_foreign_systems_are_not_touched() {
        let known = |text: &str| System::parse(text).is_known();
        assert!(known(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"
        ));
        assert!(known(
            "PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\n"
        ));
        assert!(known("ID=ubuntu\nVERSION_ID=\"22.04\"\nID_LIKE=debian\n"));
        assert!(!known("ID=debian\nVERSION_ID=\"11\"\n"));
        assert!(!known("ID=ubuntu\nVERSION_ID=\"20.04\"\n"));
        assert!(!known("ID=fedora\nVERSION_ID=42\n"));
        assert!(!known(""));
    }
}
