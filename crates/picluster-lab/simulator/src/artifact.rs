//! A file of the simulator for a release: what tests and demonstrations hand out as k3s.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::release::Release;
use crate::text;

/// A program file and its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// Builds the simulator as one static file, and returns where it is. Cargo does nothing when it is up to date.
///
/// Static, because it runs on nodes whose C library may be older than this machine's. A target directory of its own
/// keeps the other flags from invalidating the ordinary builds.
///
/// # Errors
///
/// When cargo cannot be run or fails; the text holds what it said.
pub fn build(workspace: &Path) -> io::Result<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = workspace.join("target/simulator");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args(["build", "--quiet", "--locked"]);
    command.args([
        "--package",
        "picluster-k3s-simulator",
        "--bin",
        "k3s-simulator",
    ]);
    command
        .args(["--profile", "simulator", "--target", &host, "--target-dir"])
        .arg(&folder);
    // What cargo sets for the program that calls us would look to this build like a change of its environment.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_") && name_text != "CARGO_HOME" || name_text == "RUSTFLAGS"
        {
            command.env_remove(&name);
        }
    }
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        host.to_uppercase().replace('-', "_")
    );
    command.env(variable, "-C target-feature=+crt-static");
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "the k3s simulator could not be built: {said}"
        )));
    }
    Ok(folder.join(host).join("simulator/k3s-simulator"))
}

/// A k3s for tests: the simulator, or a real one when `PICLUSTER_K3S_DIR` names a folder that has it.
///
/// Such a folder holds `<release>/k3s`, or `<release>/k3s-arm64` for an aarch64 machine, as upstream names them.
///
/// # Errors
///
/// When the simulator cannot be built or written, or the folder has no such release.
pub fn k3s(workspace: &Path, release: &Release) -> io::Result<Artifact> {
    if let Some(folder) = std::env::var_os("PICLUSTER_K3S_DIR").filter(|f| !f.is_empty()) {
        let name = if std::env::consts::ARCH == "aarch64" {
            "k3s-arm64"
        } else {
            "k3s"
        };
        let path = Path::new(&folder).join(release.as_str()).join(name);
        let bytes = std::fs::read(&path).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("PICLUSTER_K3S_DIR has no {}: {e}", path.display()),
            )
        })?;
        let sha256 = text::sha256(&bytes);
        return Ok(Artifact { path, sha256 });
    }
    write(
        &build(workspace)?,
        release,
        &workspace.join("target/simulator/artifacts"),
    )
}

/// Writes `program`, stamped with a release, into a folder, as `k3s-simulator-<release>`.
///
/// The same program and release give the same bytes. A file that is already right is left alone, so that several
/// callers may ask at once.
///
/// # Errors
///
/// When the program cannot be read or the file cannot be written.
pub fn write(program: &Path, release: &Release, folder: &Path) -> io::Result<Artifact> {
    use std::os::unix::fs::PermissionsExt as _;
    let bytes = release.stamp(&std::fs::read(program)?);
    let sha256 = text::sha256(&bytes);
    let path = folder.join(format!("k3s-simulator-{release}"));
    if std::fs::read(&path)
        .map(|old| text::sha256(&old))
        .ok()
        .as_deref()
        != Some(&sha256)
    {
        std::fs::create_dir_all(folder)?;
        let beside = folder.join(format!(".{}-{}", std::process::id(), &sha256[..12]));
        std::fs::write(&beside, &bytes)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&beside, &path)?;
    }
    Ok(Artifact { path, sha256 })
}
