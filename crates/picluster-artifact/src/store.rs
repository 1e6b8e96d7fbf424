//! The cache of artifacts: files named by the SHA-256 of their bytes.
//!
//! Several processes may use it at once. A file appears under its digest whole or not at all; it is
//! compared with its name when it is used, which costs nothing as long as it has not been touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::index::{Entry, Key};
use crate::stamp::{Stamp, Stamps};

/// The cache.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    /// Which file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    format: u32,
    entries: Vec<Entry>,
}

/// Version of the files beside the artifacts.
const FORMAT: u32 = 1;

impl Store {
    /// The cache of whoever runs this: `picluster/artifacts` below `XDG_CACHE_HOME`, which is
    /// `~/.cache` when unset. `None` when neither it nor `HOME` is set.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        // A relative path there is to be ignored: XDG Base Directory Specification.
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let cache =
            absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self::at(cache.join("picluster/artifacts")))
    }

    /// A cache in a folder of its own. Nothing is created before something is kept.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file with this digest stands, or would.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    /// The file with this digest and its size, when it is there and is what it is called. One that is not
    /// is moved out of the way.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(&self, digest: &Digest) -> Result<Option<(PathBuf, u64)>, StoreError> {
        let path = self.path(digest);
        let (found, size) = match self.digest_of(&path) {
            Ok(found) => found,
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if found == *digest {
            return Ok(Some((path, size)));
        }
        tracing::warn!("{} is damaged and is not used", path.display());
        let aside = self.root.join(format!(".damaged.{}", digest.hex()));
        fs::rename(&path, &aside).map_err(|e| at(&path, e))?;
        Ok(None)
    }

    /// The digest and size of any file. Computed anew only when the file does not look as it did
    /// the last time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn digest_of(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let name = std::path::absolute(path)
            .unwrap_or_else(|_| path.to_owned())
            .display()
            .to_string();
        let before = Stamp::of(&fs::metadata(path).map_err(|e| at(path, e))?);
        if let Some(digest) = self.stamps().get(&name, &before) {
            let size = fs::metadata(path).map_err(|e| at(path, e))?.size();
            return Ok((digest, size));
        }
        let (digest, size) = Digest::of_file(path).map_err(|e| at(path, e))?;
        let after = Stamp::of(&fs::metadata(path).map_err(|e| at(path, e))?);
        if before == after {
            // A digest that is not remembered is computed again: no reason to fail.
            let kept = self.locked(|| {
                let mut stamps = self.stamps();
                stamps.prune();
                if stamps.set(&name, after, digest) {
                    self.write("stamps.json", &stamps)?;
                }
                Ok(())
            });
            if let Err(e) = kept {
                tracing::debug!("{e}");
            }
        }
        Ok((digest, size))
    }

    /// What is known of a release.
    #[must_use]
    pub fn known(&self, key: &Key) -> Option<Entry> {
        self.entries().into_iter().find(|e| e.key == *key)
    }

    /// All that is known.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let index: Index = self.read("index.json");
        if index.format == FORMAT {
            index.entries
        } else {
            Vec::new()
        }
    }

    /// Remembers something of a release.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn learn(&self, entry: Entry) -> Result<(), StoreError> {
        self.locked(|| {
            let mut entries = self.entries();
            match entries.iter_mut().find(|e| e.key == entry.key) {
                Some(known) if *known == entry => return Ok(()),
                Some(known) => *known = entry,
                None => entries.push(entry),
            }
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            self.write(
                "index.json",
                &Index {
                    format: FORMAT,
                    entries,
                },
            )
        })
    }

    /// Fills the file with this digest by `work`, which gets what an earlier try has left of it. Two processes that want
    /// the same file wait for each other, and the second finds it there.
    ///
    /// # Errors
    /// Those of `work`, or of the disk.
    pub fn fill<E: From<StoreError>>(
        &self,
        digest: &Digest,
        work: impl FnOnce(&mut File) -> Result<u64, E>,
    ) -> Result<(PathBuf, u64), E> {
        self.create()?;
        let part = self.root.join(format!(".part.{}", digest.hex()));
        let mut file = self.hold(&part)?;
        if let Some(found) = self.find(digest)? {
            // Somebody else has brought it while we waited.
            let _ = fs::remove_file(&part);
            return Ok(found);
        }
        let size = work(&mut file)?;
        let path = self.path(digest);
        file.sync_all()
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| File::open(&self.root)?.sync_all())
            .map_err(|e| at(&path, e))?;
        Ok((path, size))
    }

    /// Opens and locks a file that somebody else may be about to rename.
    fn hold(&self, part: &Path) -> Result<File, StoreError> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(part)
                .map_err(|e| at(part, e))?;
            flock(&file, FlockOperation::LockExclusive).map_err(|e| at(part, e.into()))?;
            let ours = file.metadata().map_err(|e| at(part, e))?;
            match fs::metadata(part) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(file);
                }
                _ => {}
            }
        }
    }

    fn stamps(&self) -> Stamps {
        self.read("stamps.json")
    }

    fn read<T: Default + for<'de> Deserialize<'de>>(&self, name: &str) -> T {
        // What cannot be read is learnt again.
        fs::read(self.root.join(name))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let path = self.root.join(name);
        let temp = self.root.join(format!(".{name}.{}", std::process::id()));
        let write = || {
            let mut file = File::create(&temp)?;
            file.write_all(&serde_json::to_vec_pretty(value)?)?;
            file.sync_all()?;
            fs::rename(&temp, &path)
        };
        write().map_err(|e| at(&path, e))
    }

    fn locked<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.create()?;
        let path = self.root.join(".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| at(&path, e))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| at(&path, e.into()))?;
        work()
    }

    fn create(&self) -> Result<(), StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|e| at(&self.root, e))
    }
}

fn at(path: &Path, source: io::Error) -> StoreError {
    StoreError {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Read as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::arch::Arch;
    use crate::digest::Hasher;

    fn digest(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.end().0
    }

    fn bring(store: &Store, bytes: &[u8]) -> Result<(PathBuf, u64), StoreError> {
        store.fill(&digest(bytes), |file| {
            file.write_all(bytes).unwrap();
            Ok(bytes.len() as u64)
        })
    }

    #[test]
    fn what_is_brought_is_found_and_what_is_damaged_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("a/b"));
        let wanted = digest(b"k3s");
        assert!(store.find(&wanted).unwrap().is_none());
        assert!(!dir.path().join("a").exists(), "looking creates nothing");
        let (path, size) = bring(&store, b"k3s").unwrap();
        assert_eq!((fs::read(&path).unwrap(), size), (b"k3s".to_vec(), 3));
        assert_eq!(store.find(&wanted).unwrap(), Some((path.clone(), 3)));
        fs::write(&path, b"bad").unwrap();
        assert_eq!(store.find(&wanted).unwrap(), None);
        assert!(!path.exists(), "it is out of the way");
        bring(&store, b"k3s").unwrap();
        assert!(store.find(&wanted).unwrap().is_some());
    }

    #[test]
    fn what_fails_leaves_its_beginning_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let wanted = digest(b"whole");
        let failed: Result<_, StoreError> = store.fill(&wanted, |file| {
            file.write_all(b"wh").unwrap();
            Err(at(Path::new("x"), io::Error::other("cut")))
        });
        assert!(failed.is_err());
        assert!(store.find(&wanted).unwrap().is_none());
        let done: Result<_, StoreError> = store.fill(&wanted, |file| {
            let mut begun = String::new();
            file.read_to_string(&mut begun).unwrap();
            assert_eq!(begun, "wh");
            file.write_all(b"ole").unwrap();
            Ok(5)
        });
        assert_eq!(done.unwrap().1, 5);
        assert!(store.find(&wanted).unwrap().is_some());
    }

    #[test]
    fn many_at_once_bring_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let (wanted, brought) = (digest(b"once"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let (path, _) = store
                        .fill(&wanted, |file| -> Result<u64, StoreError> {
                            brought.fetch_add(1, Ordering::SeqCst);
                            file.write_all(b"once").unwrap();
                            Ok(4)
                        })
                        .unwrap();
                    assert_eq!(fs::read(path).unwrap(), b"once");
                });
            }
        });
        assert_eq!(brought.load(Ordering::SeqCst), 1);
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(".part"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_digest_is_remembered_until_the_file_looks_different() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("cache"));
        let file = dir.path().join("k3s");
        fs::write(&file, b"one").unwrap();
        assert_eq!(store.digest_of(&file).unwrap().0, digest(b"one"));
        // Too fresh to be remembered: a change in the same tick would go unseen.
        assert!(!dir.path().join("cache/stamps.json").exists());
        fs::write(&file, b"two").unwrap();
        assert_eq!(store.digest_of(&file).unwrap().0, digest(b"two"));
        // Remembered: proven by a false memory, which is believed while the file looks the same.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        File::open(&file).unwrap().set_modified(old).unwrap();
        let stamp = Stamp::of(&fs::metadata(&file).unwrap());
        let mut stamps = Stamps::default();
        // The change time is now; wait until it is settled.
        while !stamps.set(&file.display().to_string(), stamp.clone(), digest(b"false")) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        store.write("stamps.json", &stamps).unwrap();
        assert_eq!(store.digest_of(&file).unwrap().0, digest(b"false"));
        // Same size, same modification time: the inode's own time tells.
        fs::write(&file, b"new").unwrap();
        File::open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(store.digest_of(&file).unwrap().0, digest(b"new"));
    }

    #[test]
    fn the_index_keeps_what_was_learnt_and_survives_nonsense() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let key = |arch| Key {
            component: "k3s".into(),
            version: "v1.36.3+k3s1".into(),
            arch,
            url: "https://a.org/k3s".into(),
        };
        let entry = |arch, size| Entry {
            key: key(arch),
            sha256: digest(b"x"),
            size,
            checksum_from: "https://a.org/sha256sum-arm64.txt".into(),
            learnt: 1,
        };
        store.learn(entry(Arch::Arm64, None)).unwrap();
        store.learn(entry(Arch::Amd64, Some(1))).unwrap();
        store.learn(entry(Arch::Arm64, Some(2))).unwrap();
        assert_eq!(store.known(&key(Arch::Arm64)).unwrap().size, Some(2));
        assert_eq!(store.entries().len(), 2);
        fs::write(dir.path().join("index.json"), "{").unwrap();
        assert!(store.entries().is_empty());
        store.learn(entry(Arch::Arm64, None)).unwrap();
        assert_eq!(store.entries().len(), 1);
    }
}
