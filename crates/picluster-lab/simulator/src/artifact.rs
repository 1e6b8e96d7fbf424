//! A file of the simulator for a release: what tests and demonstrations hand out as k3s.

use std::io;
use std::path::{Path, PathBuf};

use crate::cargo;
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
/// # Errors
///
/// When cargo cannot be run or fails; the text holds what it said.
pub fn build(workspace: &Path) -> io::Result<PathBuf> {
    let (mut command, program) = cargo::static_build(workspace);
    let output = command.arg("--quiet").output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "the k3s simulator could not be built: {said}"
        )));
    }
    Ok(program)
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
