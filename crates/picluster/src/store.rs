//! The cluster's store: what this controller remembers. Its loss costs a question, never a cluster.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use picluster_model::ClusterName;

use crate::error::Failure;
use crate::identity::Identities;

/// `.picluster/<cluster>/` beside the inventory (or below `PICLUSTER_STORE`): host-key pins, the
/// key of plan digests, run journals, the run lock.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store of a cluster. Nothing is created before something is written.
    #[must_use]
    pub fn of(inventory: &Path, cluster: &ClusterName) -> Self {
        let base = match std::env::var_os("PICLUSTER_STORE") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => inventory
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."))
                .join(".picluster"),
        };
        Self::below(&base, cluster)
    }

    /// The store of a cluster below a folder of stores.
    #[must_use]
    pub fn below(base: &Path, cluster: &ClusterName) -> Self {
        Self {
            root: base.join(cluster.as_str()),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where host keys are pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.root.join("known_hosts")
    }

    /// Where journals stand, one file a run.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The key of plan digests: 32 random bytes, made at first use, readable by the owner only.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn key(&self) -> Result<Vec<u8>, Failure> {
        let path = self.root.join("plan-key");
        match fs::read(&path) {
            Ok(key) if key.len() == 32 => return Ok(key),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Self::cannot("read", &path, &e)),
        }
        self.create()
            .map_err(|e| Self::cannot("create", &self.root, &e))?;
        let mut key = vec![0_u8; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut key))
            .map_err(|e| Self::cannot("read", Path::new("/dev/urandom"), &e))?;
        let write = || {
            let temp = self.root.join(".plan-key.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temp)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&temp, &path)
        };
        write().map_err(|e| Self::cannot("write", &path, &e))?;
        Ok(key)
    }

    /// Who the nodes were when they were last met; empty when nothing is known.
    #[must_use]
    pub fn identities(&self) -> Identities {
        fs::read(self.root.join("identities.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Remembers them. Written only when something is new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember(&self, identities: &Identities) -> Result<(), Failure> {
        if &self.identities() == identities {
            return Ok(());
        }
        let path = self.root.join("identities.json");
        let write = || {
            self.create()?;
            let temp = self
                .root
                .join(format!(".identities.{}", std::process::id()));
            fs::write(&temp, serde_json::to_vec_pretty(identities)?)?;
            fs::rename(&temp, &path)
        };
        write().map_err(|e: io::Error| Self::cannot("write", &path, &e))
    }

    /// Whether something can be written here. Writes nothing, so a folder that is still to be made is
    /// judged by the one it will stand in.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn must_be_writable(&self) -> Result<(), Failure> {
        use rustix::fs::Access;
        let there = self
            .root
            .ancestors()
            .map(|p| {
                if p.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    p
                }
            })
            .find(|p| p.symlink_metadata().is_ok())
            .unwrap_or(Path::new("."));
        let cannot = |e: io::Error| Self::cannot("write to", there, &e);
        if !there.is_dir() {
            return Err(cannot(io::ErrorKind::NotADirectory.into()));
        }
        rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| cannot(e.into()))
    }

    /// Makes the directory, private to its owner.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
    }

    fn cannot(verb: &str, path: &Path, e: &io::Error) -> Failure {
        Failure::usage(format!("cannot {verb} {}: {e}", path.display()))
            .hint("nothing was sent to any node; mend the path, or name another place with PICLUSTER_STORE=DIR")
    }
}
