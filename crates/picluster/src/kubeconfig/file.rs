//! The user's kubeconfig as a file: which one, and how it is written.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::credentials::Credentials;
use super::edit::{self, Refusal};

/// How long kubectl may hold its lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where credentials go, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file.
    pub path: PathBuf,
    /// The name of cluster, user and context.
    pub context: String,
}

/// What a merge would do, or has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// All is there already.
    Unchanged,
    /// The context is new in this file.
    Added(PathBuf),
    /// The context was there, with other credentials or another address.
    Updated(PathBuf),
    /// The file could not be edited, so the credentials are in one of their own.
    Beside {
        /// The file of their own.
        path: PathBuf,
        /// Why.
        why: String,
        /// Whether it had to be written.
        changed: bool,
    },
}

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The name is taken by another cluster.
    Taken {
        /// The file.
        path: PathBuf,
        /// The name.
        context: String,
        /// By what.
        what: String,
    },
    /// The file system.
    Disk {
        /// The file.
        path: PathBuf,
        /// What it says.
        why: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path, what, .. } => {
                write!(f, "{} was not changed: {what}", path.display())
            }
            Self::Disk { path, why } => write!(f, "{} was not changed: {why}", path.display()),
        }
    }
}

impl Obstacle {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Taken { context, .. } => format!(
                "choose another name, kubernetes: {{ kubeconfig: {{ context: NAME }} }}, or take the old one out: kubectl config delete-context {context}; kubectl config delete-cluster {context}; kubectl config delete-user {context}"
            ),
            Self::Disk { .. } => {
                "the credentials can be had all the same: picluster kubeconfig --print".into()
            }
        }
    }
}

/// What is to be written where.
struct Edit {
    path: PathBuf,
    text: String,
    written: Written,
}

impl Target {
    /// The user's own: the first file of `KUBECONFIG`, else `~/.kube/config`. `None` without both.
    #[must_use]
    pub fn of_user() -> Option<PathBuf> {
        if let Some(list) = std::env::var_os("KUBECONFIG")
            && let Some(first) = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty())
        {
            return Some(first);
        }
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"))
    }

    /// Whether the file has a context of this name.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| edit::has(&text, &self.context))
    }

    /// What [`Target::merge`] would do.
    ///
    /// # Errors
    /// What would keep it from doing so.
    pub fn look(&self, wanted: &Credentials) -> Result<Written, Obstacle> {
        self.edit(wanted).map(|e| e.written)
    }

    /// Puts the credentials into the file, or into one of their own when that cannot be edited.
    /// Writes nothing when all is there.
    ///
    /// # Errors
    /// Why nothing was written.
    pub fn merge(&self, wanted: &Credentials) -> Result<Written, Obstacle> {
        let edit = self.edit(wanted)?;
        let changed = match &edit.written {
            Written::Unchanged => false,
            Written::Beside { changed, .. } => *changed,
            Written::Added(_) | Written::Updated(_) => true,
        };
        if !changed {
            return Ok(edit.written);
        }
        let _lock = Lock::take(&edit.path)?;
        // Once more under the lock: kubectl may have written in between.
        let edit = self.edit(wanted)?;
        write(&edit.path, &edit.text).map_err(|e| disk(&edit.path, &e))?;
        Ok(edit.written)
    }

    /// Takes them out again. `false`: they were not there.
    ///
    /// # Errors
    /// Why the file was left alone.
    pub fn remove(&self) -> Result<bool, Obstacle> {
        let path = real(&self.path);
        let Some(text) = read(&path)? else {
            return Ok(false);
        };
        let refused = |refusal| match refusal {
            Refusal::Foreign(what) => self.taken(&path, what),
            Refusal::Strange(why) => disk(&path, &io::Error::other(why)),
        };
        if edit::remove(&text, &self.context).map_err(refused)? == text {
            return Ok(false);
        }
        let _lock = Lock::take(&path)?;
        let text = read(&path)?.unwrap_or_default();
        let without = edit::remove(&text, &self.context).map_err(refused)?;
        write(&path, &without).map_err(|e| disk(&path, &e))?;
        Ok(true)
    }

    fn taken(&self, path: &Path, what: String) -> Obstacle {
        Obstacle::Taken {
            path: path.to_owned(),
            context: self.context.clone(),
            what,
        }
    }

    fn edit(&self, wanted: &Credentials) -> Result<Edit, Obstacle> {
        let path = real(&self.path);
        let old = read(&path)?.unwrap_or_default();
        match edit::merge(&old, &self.context, wanted) {
            Ok(text) if text == old => Ok(Edit {
                path,
                text,
                written: Written::Unchanged,
            }),
            Ok(text) => {
                let written = if edit::has(&old, &self.context) {
                    Written::Updated(path.clone())
                } else {
                    Written::Added(path.clone())
                };
                Ok(Edit {
                    path,
                    text,
                    written,
                })
            }
            Err(Refusal::Foreign(what)) => Err(self.taken(&path, what)),
            Err(Refusal::Strange(why)) => self.beside(&path, why, wanted),
        }
    }

    fn beside(&self, path: &Path, why: String, wanted: &Credentials) -> Result<Edit, Obstacle> {
        let path = path.with_file_name(format!("{}.kubeconfig", self.context));
        let old = read(&path)?.unwrap_or_default();
        let text = edit::merge(&old, &self.context, wanted).map_err(|refusal| match refusal {
            Refusal::Foreign(what) => self.taken(&path, what),
            Refusal::Strange(why) => disk(&path, &io::Error::other(why)),
        })?;
        let changed = text != old;
        Ok(Edit {
            written: Written::Beside {
                path: path.clone(),
                why,
                changed,
            },
            path,
            text,
        })
    }
}

/// Where a link leads: it is the file that is replaced, not the link.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn disk(path: &Path, error: &io::Error) -> Obstacle {
    Obstacle::Disk {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn read(path: &Path) -> Result<Option<String>, Obstacle> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| disk(path, &io::Error::other("it is not UTF-8 text"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(disk(path, &e)),
    }
}

/// Whole or not at all, and for the owner's eyes only.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temp = path.with_file_name(name);
    let fill = || {
        let _ = fs::remove_file(&temp);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    fill().inspect_err(|_| {
        let _ = fs::remove_file(&temp);
    })
}

/// The lock that kubectl takes: a file beside the kubeconfig (client-go,
/// `tools/clientcmd/config.go`, `lockFile`).
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, Obstacle> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(dir)
                .map_err(|e| disk(path, &e))?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let made = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&lock);
            match made {
                Ok(_) => return Ok(Self(lock)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Obstacle::Disk {
                        path: path.to_owned(),
                        why: format!(
                            "{} stands for somebody who is writing it; remove that file when nobody is",
                            lock.display()
                        ),
                    });
                }
                Err(e) => return Err(disk(path, &e)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
