//! Where roles come from: embedded in the binary, or folders of the user.

use std::path::PathBuf;

/// The places roles are looked for.
///
/// A folder of the user overrides a built-in role of the same name; earlier folders override
/// later ones. Nothing else tells the two apart.
#[derive(Debug, Clone, Default)]
pub struct RoleLibrary {
    /// Built-in files: `base/role.yaml`, `base/templates/hosts.j2`, …
    pub builtin: &'static [(&'static str, &'static [u8])],
    /// Folders that hold one folder a role, looked through in order.
    pub folders: Vec<PathBuf>,
}

impl RoleLibrary {
    /// A library of the embedded files alone; [`crate::load`] adds `roles/` beside the inventory.
    #[must_use]
    pub fn builtin(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self {
            builtin: files,
            folders: Vec::new(),
        }
    }

    /// Adds a folder of roles behind those already there.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }
}
