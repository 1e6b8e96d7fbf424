//! Who may work on what: the owner's name, and the controller's own lock.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// The run's id.
    pub run: String,
    /// The user on the controller.
    pub user: String,
    /// The controller's host name.
    pub controller: String,
    /// The store directory whose [`ControllerLock`] the owner holds, as an absolute path. Two
    /// owners with the same user, controller and store cannot both be alive: the second would not
    /// have got the controller's lock. So what the other left on a node is an orphan.
    pub store: String,
    /// Process id of picluster on the controller.
    pub pid: u32,
    /// Since when, in milliseconds since the epoch by the controller's clock.
    pub since: i64,
}

impl Owner {
    /// Whether `other` can only be a run of ours that is no more.
    #[must_use]
    pub fn outlived(&self, other: &Self) -> bool {
        self.user == other.user && self.controller == other.controller && self.store == other.store
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{} (run {}, process {})",
            self.user, self.controller, self.run, self.pid
        )
    }
}

/// The lock on a store directory of the controller: one run at a time. Released when dropped, and
/// by the system when the process dies.
#[derive(Debug)]
pub struct ControllerLock {
    _file: File,
    path: PathBuf,
}

/// Why the controller's lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run holds it.
    #[error("{} is held by {}", path.display(), owner.as_ref().map_or_else(|| "another picluster".to_owned(), ToString::to_string))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, when it could be read.
        owner: Option<Box<Owner>>,
    },
    /// The file cannot be opened or written.
    #[error("cannot lock {}: {error}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl ControllerLock {
    /// Takes the lock `DIR/lock` and writes the owner's name into it. The directory must exist.
    ///
    /// # Errors
    /// [`LockError::Held`] names the owner.
    pub fn acquire(dir: &Path, owner: &Owner) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let io = |error| LockError::Io {
            path: path.clone(),
            error,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(LockError::Held {
                    path,
                    owner: serde_json::from_str(&text).ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // The name stays behind after release; only the lock itself says that somebody is there.
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        let text = serde_json::to_string(owner).unwrap_or_default();
        writeln!(file, "{text}").map_err(io)?;
        Ok(Self { _file: file, path })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
