//! Where the controller's large files are: beside the inventory, or in the artifact cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use picluster_artifact::{Digest, Store};
use picluster_engine::Artifacts;
use picluster_model::inventory::Project;
use picluster_plan::{Declared, Plan, Work};
use picluster_resource::resource::Sends;
use tokio::io::AsyncRead;

/// Where artifacts are looked for.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// The inventory's folder.
    base: PathBuf,
    /// The cache; `None` where nothing says where it could be.
    store: Option<Store>,
}

impl Shelf {
    /// The shelf of an inventory.
    #[must_use]
    pub fn of(project: &Project) -> Self {
        let base = project.inventory.path.parent().unwrap_or(Path::new(""));
        Self {
            base: base.to_owned(),
            store: Store::of_user(),
        }
    }

    /// Where the bytes of a file are, when they are there.
    fn place(&self, file: Sends<'_>) -> Option<PathBuf> {
        let given = file.source.map(|s| self.base.join(s));
        let digest = file.sha256.and_then(Digest::parse);
        let cached = self
            .store
            .as_ref()
            .zip(digest)
            .map(|(store, digest)| store.path(&digest));
        given.into_iter().chain(cached).find(|p| p.is_file())
    }

    /// The digest and size of a file; `None` when it cannot be read.
    fn weigh(&self, path: &Path) -> Option<(Digest, u64)> {
        match &self.store {
            Some(store) => store.digest_of(path).ok(),
            None => Digest::of_file(path).ok(),
        }
    }

    /// Says of every artifact what the controller's file tells: its size, and its digest where the
    /// documents give none. One that is not here stays as it is: a node may have it already.
    pub fn complete(&self, declared: &mut [Declared], known: &mut Known) {
        for item in declared {
            let Some(file) = item.resource.sends() else {
                continue;
            };
            let Some(place) = self.place(file) else {
                continue;
            };
            let sha256 = match file.sha256 {
                Some(_) => None,
                None => {
                    let weighed = known.0.entry(place.clone());
                    let weighed = *weighed.or_insert_with(|| self.weigh(&place));
                    weighed.map(|(digest, _)| digest.hex())
                }
            };
            let size = std::fs::metadata(&place).ok().map(|m| m.len());
            item.resource.sent(sha256, size);
        }
    }

    /// The files that a plan may send.
    #[must_use]
    pub fn of_plan(&self, plan: &Plan) -> Files {
        let files = plan.steps.iter().filter_map(|step| match &step.work {
            Work::Resource(resource) => resource.sends(),
            Work::Reboot { .. } | Work::PowerOff => None,
        });
        Files(
            files
                .filter_map(|f| Some((f.sha256?.to_owned(), self.place(f)?)))
                .collect(),
        )
    }
}

/// What was weighed in this run, so that one file for fifty nodes is looked at once: the cache does not
/// remember files that changed a moment ago.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<PathBuf, Option<(Digest, u64)>>);

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
