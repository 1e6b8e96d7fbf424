//! From what an inventory says to the very bytes that are meant.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::arch::Arch;
use crate::client::{Client, FetchError, Progress};
use crate::digest::{Digest, Hasher};
use crate::elf::{self, ElfError};
use crate::index::{Entry, Key};
use crate::release::{Part, Release, checksum_of};
use crate::store::{Store, StoreError};
use crate::url::{Plain, Url, UrlError};

/// What is wanted: the program of k3s, or its images, for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which of the two.
    pub part: Part,
    /// The tag of the release.
    pub version: String,
    /// For which machines.
    pub arch: Arch,
    /// Where it comes from; the release itself when `None`.
    pub given: Option<Given>,
    /// What it must hash to; what the release says when `None`.
    pub checksum: Option<Digest>,
}

/// What the inventory names in place of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A file of this machine.
    File(PathBuf),
    /// An address.
    Url(String),
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file that is used where it stands.
    File(PathBuf),
    /// An address; the bytes are kept in the cache.
    Url {
        /// The address.
        url: Url,
        /// Where redirects may lead.
        plain: Plain,
    },
}

impl Origin {
    /// The last part of the file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            Self::Url { url, .. } => url.file_name().to_owned(),
        }
    }
}

/// The bytes that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The program, or the images.
    pub part: Part,
    /// The tag of the release.
    pub version: String,
    /// For which machines.
    pub arch: Arch,
    /// The digest of the bytes.
    pub sha256: Digest,
    /// How many there are; `None`: nobody has said yet.
    pub size: Option<u64>,
    /// Where they come from.
    pub origin: Origin,
    /// Who says what the digest is: an address, `inventory`, or `file` when it was computed.
    pub checksum_from: String,
}

/// Why it is not known which bytes are meant, or why they are not here.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file that the inventory names cannot be read.
    #[error("artifact {0}")]
    File(StoreError),
    /// The cache cannot be used.
    #[error("the cache of artifacts: {0}")]
    Store(#[from] StoreError),
    /// A file that is no program for these machines.
    #[error("artifact {} {error}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What it is.
        error: ElfError,
    },
    /// A file that is not what its checksum says.
    #[error("artifact {}: its sha256 is {found}, and the inventory says {wanted}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
    /// An address nothing is fetched from.
    #[error("{url} {error}")]
    Url {
        /// The address.
        url: String,
        /// Why.
        error: UrlError,
    },
    /// It is not known what the bytes must hash to.
    #[error("the checksum of {url} is not known: {why}")]
    NoChecksum {
        /// The program.
        url: String,
        /// Why.
        why: String,
    },
    /// The bytes are not here.
    #[error("{error}")]
    Fetch {
        /// Why.
        error: FetchError,
        /// Where the file could be put by hand.
        place: PathBuf,
    },
}

impl ArtifactError {
    /// What to do.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let by_hand = |url: &str| {
            let file = url
                .split('?')
                .next()
                .unwrap_or("")
                .rsplit('/')
                .next()
                .unwrap_or("k3s");
            format!(
                "without a network here: fetch {url} elsewhere, bring the file, then: picluster fetch --from {file} (or name it, kubernetes: {{ artifact: ./{file} }})"
            )
        };
        match self {
            Self::File(_) => vec!["put the file there, or mend the kubernetes section (artifact, images)".into()],
            Self::Store(_) => vec!["name another place for caches with XDG_CACHE_HOME=DIR".into()],
            Self::Elf { .. } => vec![
                "name the right file for each architecture: artifact: { arm64: ./k3s-arm64, amd64: ./k3s }".into(),
            ],
            Self::Checksum { .. } => vec!["fetch the file again, or mend kubernetes.checksum".into()],
            Self::Url { error: UrlError::Plain, .. } => {
                vec!["use https, or say what it must be: checksum: sha256:…".into()]
            }
            Self::Url { .. } => vec!["mend kubernetes.artifact, or PICLUSTER_K3S_RELEASES".into()],
            Self::NoChecksum { url, .. } => vec![
                by_hand(url),
                "or say what it must be, checksum: sha256:…; the list of checksums stands beside the release".into(),
            ],
            Self::Fetch { error, place } => vec![
                by_hand(&error.url),
                format!("or copy it to {}", place.display()),
            ],
        }
    }
}

/// A program says itself which machines it is for; a bundle of images does not.
fn fits(part: Part, path: &Path, arch: Arch) -> Result<(), ArtifactError> {
    if part == Part::Images {
        return Ok(());
    }
    elf::check_file(path, arch).map_err(|error| ArtifactError::Elf {
        path: path.to_owned(),
        error,
    })
}

/// Finds artifacts out, and has them.
#[derive(Debug)]
pub struct Resolver {
    store: Store,
    client: Client,
    releases: String,
}

/// Lists of checksums are beside what they are about; this is what the ones of k3s are about.
const COMPONENT: &str = "k3s";

impl Resolver {
    /// With a cache, a client, and the address releases are published below.
    #[must_use]
    pub fn new(store: Store, client: Client, releases: impl Into<String>) -> Self {
        Self {
            store,
            client,
            releases: releases.into(),
        }
    }

    /// The cache.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which bytes are meant. Asks the cache first, and the network only for a list of checksums
    /// and a size.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn resolve(&self, wanted: &Wanted) -> Result<Artifact, ArtifactError> {
        match &wanted.given {
            Some(Given::File(path)) => self.given(wanted, path),
            Some(Given::Url(_)) | None => self.published(wanted),
        }
    }

    fn given(&self, wanted: &Wanted, path: &Path) -> Result<Artifact, ArtifactError> {
        let (found, size) = self.store.digest_of(path).map_err(ArtifactError::File)?;
        fits(wanted.part, path, wanted.arch)?;
        if let Some(checksum) = wanted.checksum
            && checksum != found
        {
            return Err(ArtifactError::Checksum {
                path: path.to_owned(),
                found,
                wanted: checksum,
            });
        }
        Ok(Artifact {
            part: wanted.part,
            version: wanted.version.clone(),
            arch: wanted.arch,
            sha256: found,
            size: Some(size),
            origin: Origin::File(path.to_owned()),
            checksum_from: if wanted.checksum.is_some() {
                "inventory"
            } else {
                "file"
            }
            .into(),
        })
    }

    fn published(&self, wanted: &Wanted) -> Result<Artifact, ArtifactError> {
        let plain = match wanted.checksum {
            Some(_) => Plain::Anywhere,
            None => Plain::Loopback,
        };
        let (url, list) = self.addresses(wanted, plain)?;
        let key = Key {
            component: COMPONENT.into(),
            version: wanted.version.clone(),
            arch: wanted.arch,
            url: url.to_string(),
        };
        let known = self.store.known(&key);
        let (sha256, checksum_from) = match (wanted.checksum, &known) {
            (Some(checksum), _) => (checksum, "inventory".to_owned()),
            // A release does not change: what was learnt once is held on to.
            (None, Some(known)) if known.checksum_from != "inventory" => {
                (known.sha256, known.checksum_from.clone())
            }
            (None, _) => (self.checksum(&url, &list, plain)?, list.to_string()),
        };
        let here = self.store.find(&sha256)?;
        let size = match (&here, &known) {
            (Some((_, size)), _) => Some(*size),
            (None, Some(known)) if known.sha256 == sha256 && known.size.is_some() => known.size,
            (None, _) => self.client.size(&url, plain).unwrap_or_else(|e| {
                tracing::debug!("{e}");
                None
            }),
        };
        if let Some((path, _)) = here {
            fits(wanted.part, &path, wanted.arch)?;
        }
        let artifact = Artifact {
            part: wanted.part,
            version: wanted.version.clone(),
            arch: wanted.arch,
            sha256,
            size,
            origin: Origin::Url { url, plain },
            checksum_from,
        };
        self.learn(&artifact, known.as_ref())?;
        Ok(artifact)
    }

    /// Takes a file for what is published, as if it had been fetched: the way for machines that reach no release. What
    /// the inventory says about the checksum holds for it, too; without that its own digest is what counts from now on.
    ///
    /// # Errors
    /// Why it is not taken; the cache is as it was.
    pub fn adopt(&self, wanted: &Wanted, file: &Path) -> Result<Artifact, ArtifactError> {
        let given = self.given(wanted, file)?;
        let plain = Plain::Anywhere;
        let (url, _) = self.addresses(wanted, plain)?;
        self.keep(file, &given.sha256)?;
        let artifact = Artifact {
            origin: Origin::Url { url, plain },
            ..given
        };
        self.learn(&artifact, None)?;
        Ok(artifact)
    }

    /// Copies a file into the cache, if these are its bytes.
    ///
    /// # Errors
    /// Why it is not taken; the cache is as it was.
    pub fn keep(&self, file: &Path, sha256: &Digest) -> Result<(PathBuf, u64), ArtifactError> {
        self.store.fill(sha256, |part| {
            let at = |source| StoreError {
                path: file.to_owned(),
                source,
            };
            let mut from = File::open(file).map_err(at)?;
            part.set_len(0).map_err(at)?;
            part.rewind().map_err(at)?;
            let size = std::io::copy(&mut from, part).map_err(at)?;
            // It may have been written to since it was looked at.
            part.rewind().map_err(at)?;
            let mut hash = Hasher::default();
            hash.read(part).map_err(at)?;
            let (found, _) = hash.end();
            if found == *sha256 {
                Ok(size)
            } else {
                Err(ArtifactError::Checksum {
                    path: file.to_owned(),
                    found,
                    wanted: *sha256,
                })
            }
        })
    }

    /// Any file whose checksum is known: where it is on this machine. Fetched when it is not here.
    ///
    /// # Errors
    /// Why it is not here.
    pub fn file(
        &self,
        url: &str,
        sha256: &Digest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(PathBuf, u64), ArtifactError> {
        if let Some(found) = self.store.find(sha256)? {
            return Ok(found);
        }
        let plain = Plain::Anywhere;
        let url = Url::parse(url, plain).map_err(|error| ArtifactError::Url {
            url: url.to_owned(),
            error,
        })?;
        self.store.fill(sha256, |part| {
            self.client
                .download(&url, plain, part, sha256, progress)
                .map_err(|error| ArtifactError::Fetch {
                    error,
                    place: self.store.path(sha256),
                })
        })
    }

    /// The program, and the list of checksums beside it.
    fn addresses(&self, wanted: &Wanted, plain: Plain) -> Result<(Url, Url), ArtifactError> {
        let bad = |url: &str| {
            let url = url.to_owned();
            move |error| ArtifactError::Url { url, error }
        };
        if let Some(Given::Url(text)) = &wanted.given {
            let url = Url::parse(text, plain).map_err(bad(text))?;
            let list = url
                .beside(Release::checksums_name(wanted.arch))
                .map_err(bad(text))?;
            return Ok((url, list));
        }
        let release =
            Release::new(&self.releases, &wanted.version, plain).map_err(bad(&self.releases))?;
        let url = release
            .part(wanted.part, wanted.arch)
            .map_err(bad(&self.releases))?;
        let list = release
            .checksums(wanted.arch)
            .map_err(bad(&self.releases))?;
        Ok((url, list))
    }

    fn checksum(&self, url: &Url, list: &Url, plain: Plain) -> Result<Digest, ArtifactError> {
        let unknown = |why: String| ArtifactError::NoChecksum {
            url: url.to_string(),
            why,
        };
        let text = self
            .client
            .text(list, plain)
            .map_err(|e| unknown(e.to_string()))?;
        checksum_of(&text, url.file_name())
            .ok_or_else(|| unknown(format!("{list} does not name {}", url.file_name())))
    }

    fn learn(&self, artifact: &Artifact, known: Option<&Entry>) -> Result<(), ArtifactError> {
        let Origin::Url { url, .. } = &artifact.origin else {
            return Ok(());
        };
        let same = known.is_some_and(|k| {
            k.sha256 == artifact.sha256
                && k.size == artifact.size
                && k.checksum_from == artifact.checksum_from
        });
        if same {
            return Ok(());
        }
        self.store.learn(Entry {
            key: Key {
                component: COMPONENT.into(),
                version: artifact.version.clone(),
                arch: artifact.arch,
                url: url.to_string(),
            },
            sha256: artifact.sha256,
            size: artifact.size,
            checksum_from: artifact.checksum_from.clone(),
            learnt: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        })?;
        Ok(())
    }

    /// Where the bytes are on this machine; fetches them when they are not.
    ///
    /// # Errors
    /// Why they are not here, or are not what was meant.
    pub fn provide(
        &self,
        artifact: &Artifact,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(PathBuf, u64), ArtifactError> {
        let (url, plain) = match &artifact.origin {
            Origin::Url { url, plain } => (url, *plain),
            Origin::File(path) => {
                let (found, size) = self.store.digest_of(path).map_err(ArtifactError::File)?;
                if found != artifact.sha256 {
                    return Err(ArtifactError::Checksum {
                        path: path.clone(),
                        found,
                        wanted: artifact.sha256,
                    });
                }
                return Ok((path.clone(), size));
            }
        };
        let (path, size) = match self.store.find(&artifact.sha256)? {
            Some(found) => found,
            None => self.store.fill(&artifact.sha256, |file| {
                self.client
                    .download(url, plain, file, &artifact.sha256, progress)
                    .map_err(|error| ArtifactError::Fetch {
                        error,
                        place: self.store.path(&artifact.sha256),
                    })
            })?,
        };
        fits(artifact.part, &path, artifact.arch)?;
        if artifact.size != Some(size) {
            let whole = Artifact {
                size: Some(size),
                ..artifact.clone()
            };
            self.learn(&whole, None)?;
        }
        Ok((path, size))
    }
}
