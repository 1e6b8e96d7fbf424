//! Images: a Debian tree per suite, built once, kept in the cache.

#[cfg(target_os = "linux")]
mod build;
#[cfg(target_os = "linux")]
pub(crate) use build::{ensure, hold, remove_tree};
#[cfg(target_os = "linux")]
pub(crate) mod recipe;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::options::LabOptions;
use crate::progress::Progress;
use crate::spec::{ImageName, NodeSpec};

/// What is written beside a complete image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    /// Digest of everything that goes into a build but the archive's packages.
    pub recipe: String,
    /// SHA-256 over every path of the tree: kind, mode, owner, size, content.
    pub tree_sha256: String,
    /// Directory of the image.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// A Debian tree in the cache: for nodes that share this machine's kernel, or for virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Tree {
    /// Of this machine's architecture.
    Shared(ImageName),
    /// arm64, with a kernel.
    Vm(ImageName),
    /// No whole tree: the programs of [`crate::kubernetes`], laid over every node's own.
    Kubernetes,
    /// Debian's `etcd` alone, in the same place.
    Etcd,
}

impl Tree {
    /// The tree a node stands on.
    pub(crate) fn of(node: &NodeSpec) -> Self {
        if node.is_vm() {
            Tree::Vm(node.image)
        } else {
            Tree::Shared(node.image)
        }
    }

    pub(crate) fn suite(self) -> &'static str {
        match self {
            Tree::Shared(image) | Tree::Vm(image) => image.suite(),
            Tree::Kubernetes | Tree::Etcd => crate::kubernetes::SUITE,
        }
    }
}

/// The first part of its directory's name; none is the beginning of another.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Shared(image) => write!(f, "{image}"),
            Tree::Vm(image) => write!(f, "vm-{image}"),
            Tree::Kubernetes => f.write_str("kubernetes"),
            Tree::Etcd => f.write_str("etcd"),
        }
    }
}

/// Builds `image` unless the cache has one of the present recipe, and says where it is.
///
/// Works in a directory of its own and renames it into place at the end: an interrupted build leaves no half image.
/// Ends with the calling process.
///
/// # Errors
/// [`LabError::Missing`] when the machine cannot build images, [`LabError::Image`] with the builder's last lines.
pub fn ensure_image(
    image: ImageName,
    options: &LabOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageState, LabError> {
    #[cfg(target_os = "linux")]
    {
        build::ensure(Tree::Shared(image), options, progress)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (image, options, progress);
        Err(LabError::Missing(crate::preflight(1)))
    }
}

/// The same for the image virtual machines of this suite start from: arm64, with a kernel. Its packages are set up
/// under emulation, which takes some minutes.
///
/// # Errors
/// As [`ensure_image`].
pub fn ensure_vm_image(
    image: ImageName,
    options: &LabOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageState, LabError> {
    #[cfg(target_os = "linux")]
    {
        build::ensure(Tree::Vm(image), options, progress)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (image, options, progress);
        Err(LabError::Missing(crate::preflight(1)))
    }
}

/// Builds Kubernetes from Debian's source package unless the cache has it (see [`crate::kubernetes`]): several
/// minutes of two cores, once.
///
/// # Errors
/// As [`ensure_image`].
pub fn ensure_kubernetes(
    options: &LabOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<ImageState, LabError> {
    #[cfg(target_os = "linux")]
    {
        build::ensure(Tree::Kubernetes, options, progress)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (options, progress);
        Err(LabError::Missing(crate::preflight(1)))
    }
}

/// The complete image of the present recipe, if there is one.
pub fn image_state(image: ImageName, options: &LabOptions) -> Option<ImageState> {
    #[cfg(target_os = "linux")]
    {
        build::state(Tree::Shared(image), options)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (image, options);
        None
    }
}

/// Reads the whole image again and compares it with its checksum; some seconds of disk and CPU.
///
/// # Errors
/// [`LabError::Image`] when it is damaged, or not there; then [`remove_image`] makes the next lab build it anew.
pub fn verify_image(image: ImageName, options: &LabOptions) -> Result<(), LabError> {
    #[cfg(target_os = "linux")]
    {
        build::verify(Tree::Shared(image), options)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (image, options);
        Err(LabError::Missing(crate::preflight(1)))
    }
}

/// Removes every version of `image` from the cache; the next lab builds it again.
///
/// # Errors
/// [`LabError::Image`] when a lab is using it or its files cannot be removed.
pub fn remove_image(image: ImageName, options: &LabOptions) -> Result<(), LabError> {
    #[cfg(target_os = "linux")]
    {
        build::remove(Tree::Shared(image), options)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (image, options);
        Err(LabError::Missing(crate::preflight(1)))
    }
}
