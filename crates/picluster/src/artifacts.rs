//! Where the controller's large files are: beside the inventory, or in the artifact cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use picluster_engine::Artifacts;
use picluster_model::inventory::Project;
use picluster_plan::{Declared, Plan, Work};
use picluster_resource::Resource;
use picluster_resource::kinds::artifact::Artifact;
use picluster_resource::kinds::file::Presence;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;

/// The folders in which artifacts are looked for.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// The inventory's folder.
    base: PathBuf,
    /// The artifact cache: one file a digest, named by it.
    cache: Option<PathBuf>,
}

impl Shelf {
    /// The shelf of an inventory.
    #[must_use]
    pub fn of(project: &Project) -> Self {
        let base = project.inventory.path.parent().unwrap_or(Path::new(""));
        let home = |dir: &str| std::env::var_os(dir).filter(|v| !v.is_empty());
        let cache = home("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| home("HOME").map(|h| PathBuf::from(h).join(".cache")))
            .map(|c| c.join("picluster/artifacts"));
        Self {
            base: base.to_owned(),
            cache,
        }
    }

    /// Where the bytes of an artifact are, when they are there.
    fn place(&self, artifact: &Artifact) -> Option<PathBuf> {
        let given = artifact.source.as_ref().map(|s| self.base.join(s));
        let cached = match (&self.cache, &artifact.sha256) {
            (Some(cache), Some(sha256)) => Some(cache.join(sha256)),
            _ => None,
        };
        given.into_iter().chain(cached).find(|p| p.is_file())
    }

    /// Says of every artifact what the controller's file tells: its size, and its digest where the
    /// documents give none. One that is not here stays as it is: a node may have it already.
    pub fn complete(&self, declared: &mut [Declared], known: &mut Known) {
        for item in declared {
            let Resource::Artifact(artifact) = &mut item.resource else {
                continue;
            };
            if artifact.state == Presence::Absent {
                continue;
            }
            let Some(place) = self.place(artifact) else {
                continue;
            };
            if artifact.sha256.is_none() {
                artifact.sha256 = known.digest(&place);
            }
            if artifact.size.is_none() {
                artifact.size = std::fs::metadata(&place).ok().map(|m| m.len());
            }
        }
    }

    /// The files that a plan may send.
    #[must_use]
    pub fn of_plan(&self, plan: &Plan) -> Files {
        let artifacts = plan.steps.iter().filter_map(|step| match &step.work {
            Work::Resource(resource) => match resource.as_ref() {
                Resource::Artifact(artifact) => Some(artifact),
                _ => None,
            },
            Work::Reboot { .. } => None,
        });
        Files(
            artifacts
                .filter_map(|a| Some((a.sha256.clone()?, self.place(a)?)))
                .collect(),
        )
    }
}

/// Digests that were computed in this run, so that one file for fifty nodes is read once.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<PathBuf, Option<String>>);

impl Known {
    fn digest(&mut self, path: &Path) -> Option<String> {
        if let Some(digest) = self.0.get(path) {
            return digest.clone();
        }
        let digest = digest(path).ok();
        self.0.insert(path.to_owned(), digest.clone());
        digest
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Files by digest.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, PathBuf>);

impl Files {
    /// Whether the file with this SHA-256 is here.
    #[must_use]
    pub fn has(&self, sha256: &str) -> bool {
        self.0.contains_key(sha256)
    }

    /// Names the file with this SHA-256.
    pub fn add(&mut self, sha256: String, path: PathBuf) {
        self.0.insert(sha256, path);
    }
}

#[async_trait]
impl Artifacts for Files {
    async fn open(&self, sha256: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        let path = self
            .0
            .get(sha256)
            .ok_or_else(|| format!("this controller has no file with sha256 {sha256} any more"))?;
        match tokio::fs::File::open(path).await {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        }
    }
}
