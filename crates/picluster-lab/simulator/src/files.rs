//! Writing files whole, with a mode.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::fault::{Outcome, at};

/// Makes a folder and its parents.
pub(crate) fn folder(path: &Path, mode: u32) -> Outcome {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| at("mkdir", path, &e))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| at("chmod", path, &e))
}

/// Writes in place, as Go's `os.WriteFile`: the mode counts only for a new file.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut f| f.write_all(bytes))
        .map_err(|e| at("open", path, &e))
}

/// Writes beside and renames, so that a reader sees all or nothing.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let beside = path.with_extension("tmp");
    write(&beside, bytes, mode)?;
    fs::rename(&beside, path).map_err(|e| at("rename", path, &e))
}

/// Writes only what is not there.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    if path.exists() {
        Ok(())
    } else {
        write(path, bytes, mode)
    }
}

/// Writes only what differs, so that a restart leaves still files alone.
pub(crate) fn write_changed(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    write(path, bytes, mode)
}

/// Text of a file.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| at("open", path, &e))
}
