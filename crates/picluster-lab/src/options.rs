//! Where a lab keeps its things, and with which program it re-enters itself.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::LabError;

/// Places and patience of a lab.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Directory with one directory per lab: `$XDG_STATE_HOME/picluster/lab`.
    pub state_root: PathBuf,
    /// Directory of everything worth keeping between labs: `$XDG_CACHE_HOME/picluster/lab`, with `images/` and `apt/`.
    pub cache_root: PathBuf,
    /// The program that is run again inside the namespaces, as `PROGRAM __lab …`. It must call [`crate::internal_main`]
    /// when its first argument is `__lab`. Default: the running program.
    pub program: PathBuf,
    /// How long a node may take until its sshd answers.
    pub ready_timeout: Duration,
}

impl LabOptions {
    /// The defaults described at each field.
    ///
    /// # Errors
    /// [`LabError::Io`] when neither the XDG variable nor `HOME` is set, or this program's own path is unknown.
    pub fn from_environment() -> Result<Self, LabError> {
        let program = env::current_exe().map_err(LabError::io("find this program's own file"))?;
        Ok(LabOptions {
            state_root: xdg("XDG_STATE_HOME", ".local/state")?.join("picluster/lab"),
            cache_root: xdg("XDG_CACHE_HOME", ".cache")?.join("picluster/lab"),
            program,
            ready_timeout: Duration::from_secs(120),
        })
    }

    /// Directory of all images.
    pub fn images_dir(&self) -> PathBuf {
        self.cache_root.join("images")
    }

    /// Directory of the apt proxy's cache.
    pub fn apt_dir(&self) -> PathBuf {
        self.cache_root.join("apt")
    }

    /// Directory of one lab.
    pub(crate) fn lab_dir(&self, name: &str) -> LabDir {
        LabDir {
            root: self.state_root.join(name),
        }
    }
}

fn xdg(variable: &str, fallback: &str) -> Result<PathBuf, LabError> {
    // The XDG specification: a relative path in these variables is to be ignored.
    let set = env::var_os(variable)
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || {
        env::var_os("HOME")
            .map(|h| Path::new(&h).join(fallback))
            .filter(|p| p.is_absolute())
    };
    set.or_else(home).ok_or_else(|| LabError::Io {
        what: format!(
            "find a directory for the lab: neither {variable} nor HOME is an absolute path"
        ),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// The files of one lab.
#[derive(Clone, Debug)]
pub(crate) struct LabDir {
    pub root: PathBuf,
}

impl LabDir {
    /// What the running lab is: pids, spec without secrets.
    pub fn record(&self) -> PathBuf {
        self.root.join("lab.json")
    }
    /// Locked by the keeper for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    /// Everything the lab's processes said.
    pub fn log(&self) -> PathBuf {
        self.root.join("lab.log")
    }
    /// The part that belongs to the lab's own root.
    pub fn inner(&self) -> PathBuf {
        self.root.join("inner")
    }
    /// The socket verbs are sent to.
    pub fn control(&self) -> PathBuf {
        self.inner().join("control.sock")
    }
}
