//! Where roles come from: embedded in the binary, or folders of the user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::kinds::Kinds;
use crate::name::RoleName;
use crate::role::{Role, read};
use crate::span::SourceFile;
use crate::yaml::parse;

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
    /// A library of the embedded files alone; [`crate::load()`] adds `roles/` beside the
    /// inventory.
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

    /// The names of all roles that can be found.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self
            .builtin
            .iter()
            .filter_map(|(path, _)| path.strip_suffix("/role.yaml"))
            .map(str::to_owned)
            .collect();
        for folder in &self.folders {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            names.extend(
                entries
                    .filter(|entry| entry.path().join("role.yaml").is_file())
                    .filter_map(|entry| entry.file_name().into_string().ok()),
            );
        }
        names.into_iter().collect()
    }

    /// The folder that bears the name of a role and has no `role.yaml`: someone meant to write one, and
    /// a role behind it would come as a surprise.
    #[must_use]
    pub(crate) fn hollow(&self, name: &RoleName) -> Option<std::path::PathBuf> {
        let mut folders = self.folders.iter().map(|folder| folder.join(name.as_str()));
        folders
            .find(|folder| folder.is_dir())
            .filter(|folder| !folder.join("role.yaml").is_file())
    }

    /// Reads and checks one role.
    ///
    /// `None` when there is none of this name; `Some(None)` when what is there is too wrong to
    /// be used. Everything that is wrong goes to `out`.
    pub fn read(
        &self,
        name: &RoleName,
        kinds: &dyn Kinds,
        out: &mut Vec<Diagnostic>,
    ) -> Option<Option<Role>> {
        for folder in &self.folders {
            let folder = folder.join(name.as_str());
            if folder.join("role.yaml").is_file() {
                let files = Files::of_folder(&folder, out);
                return Some(files.and_then(|files| read::role(name, files, kinds, out)));
            }
        }
        let prefix = format!("{name}/");
        let mut own = self
            .builtin
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&prefix)?, *bytes)))
            .peekable();
        own.peek()?;
        let files = Files::embedded(name, own, out);
        Some(files.and_then(|files| read::role(name, files, kinds, out)))
    }
}

/// The files of one role.
pub(crate) struct Files {
    /// `role.yaml`.
    pub role: Arc<SourceFile>,
    /// What lies under `templates/`, by its path below it.
    pub templates: BTreeMap<String, Arc<SourceFile>>,
    /// Whether they came with the binary.
    pub builtin: bool,
}

impl Files {
    fn of_folder(folder: &Path, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let show = |path: &Path| path.display().to_string();
        let path = folder.join("role.yaml");
        let role = keep(parse::read(&path, &show(&path)), out)?;
        let mut templates = BTreeMap::new();
        let root = folder.join("templates");
        let mut open = vec![root.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                // A link to a folder could lead in a circle; the files of a role need none.
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder {
                    open.push(path);
                } else if let Ok(name) = path.strip_prefix(&root) {
                    let name = name.to_string_lossy().replace('\\', "/");
                    if let Some(file) = keep(parse::read(&path, &show(&path)), out) {
                        templates.insert(name, file);
                    }
                }
            }
        }
        Some(Self {
            role,
            templates,
            builtin: false,
        })
    }

    fn embedded<'a>(
        name: &RoleName,
        files: impl Iterator<Item = (&'a str, &'a [u8])>,
        out: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mut role = None;
        let mut templates = BTreeMap::new();
        for (path, bytes) in files {
            let shown = format!("roles/{name}/{path} (built in)");
            if path == "role.yaml" {
                role = keep(parse::from_bytes(&shown, bytes.to_vec()), out);
            } else if let Some(template) = path.strip_prefix("templates/")
                && let Some(file) = keep(parse::from_bytes(&shown, bytes.to_vec()), out)
            {
                templates.insert(template.to_owned(), file);
            }
        }
        Some(Self {
            role: role?,
            templates,
            builtin: true,
        })
    }
}

fn keep<T>(result: Result<T, Diagnostic>, out: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|finding| out.push(finding)).ok()
}
