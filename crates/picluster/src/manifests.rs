//! Manifests that are files or stand at an address: here before anything is compared.

use std::path::Path;

use picluster_artifact::Digest;
use picluster_model::inventory::Project;
use picluster_model::kubernetes::{Manifest, ManifestSource, Source};

use crate::error::Failure;
use crate::releases::{Releases, at_home};
use crate::verbs;

/// The way for a controller that reaches no address.
pub const WITHOUT_NETWORK: &str =
    "without a network here: fetch it elsewhere, bring the file, then: picluster fetch --from FILE";

/// A manifest that is downloaded, and what it must hash to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub url: &'a str,
    /// Its checksum.
    pub sha256: Digest,
}

/// The manifests of an inventory that are downloaded.
#[must_use]
pub fn remote(project: &Project) -> Vec<Remote<'_>> {
    all(project).iter().filter_map(of).collect()
}

fn all(project: &Project) -> &[Manifest] {
    let section = project.inventory.kubernetes.as_ref();
    section.map_or(&[], |k| k.manifests.as_slice())
}

fn of(manifest: &Manifest) -> Option<Remote<'_>> {
    let ManifestSource::From(Source::Url(url)) = &manifest.source else {
        return None;
    };
    Some(Remote {
        name: &manifest.name,
        url,
        sha256: Digest::parse(manifest.checksum.as_deref()?)?,
    })
}

/// Has them in the cache, and compares files with their checksums. A download that fails is only warned of: the nodes may have
/// the manifest already, and where they have not, the plan says so.
///
/// # Errors
/// A file that is not what its checksum says.
pub async fn at_hand(project: &Project) -> Result<(), Failure> {
    for manifest in all(project) {
        if let (ManifestSource::From(Source::Path(path)), Some(checksum)) =
            (&manifest.source, &manifest.checksum)
        {
            compare(manifest, &at_home(path), checksum)?;
        }
    }
    let remote = remote(project);
    if remote.is_empty() {
        return Ok(());
    }
    let releases = Releases::of_user()?;
    for manifest in remote {
        if let Err(e) = releases.file(manifest.url, manifest.sha256).await {
            verbs::say(&format!(
                "warning: manifest {}: {e}\n  a server that lacks it is not given it\n  {WITHOUT_NETWORK}\n",
                manifest.name
            ));
        }
    }
    Ok(())
}

fn compare(manifest: &Manifest, path: &Path, checksum: &str) -> Result<(), Failure> {
    let shown = path.display();
    let (found, _) = Digest::of_file(path).map_err(|e| {
        Failure::usage(format!("{}: cannot read {shown}: {e}", manifest.span))
            .hint("nothing was changed on any node")
    })?;
    if Some(found) == Digest::parse(checksum) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{}: manifest {}: the sha256 of {shown} is {found}, and the inventory says {checksum}",
        manifest.span, manifest.name
    ))
    .hint("nothing was changed on any node; look at what has changed in the file, then mend `checksum`"))
}
