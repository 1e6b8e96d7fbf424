//! Where releases of k3s are published, and what their files are called.
//!
//! Names as in `install.sh` of k3s (`setup_verify_arch`, `download_hash`, `download_binary`).

use crate::arch::Arch;
use crate::digest::Digest;
use crate::url::{Plain, Url, UrlError};

/// Where k3s publishes its releases; another place of the same form may be named instead.
pub const K3S_RELEASES: &str = "https://github.com/k3s-io/k3s/releases/download";

/// What of a release is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The program.
    Program,
    /// The images of what it runs, for machines that reach no registry.
    Images,
}

/// A release of k3s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    base: Url,
    version: String,
}

impl Release {
    /// The release tagged `version`, below `base`.
    ///
    /// # Errors
    /// When `base` is no address to fetch from.
    pub fn new(base: &str, version: &str, plain: Plain) -> Result<Self, UrlError> {
        Ok(Self {
            base: Url::parse(base.trim_end_matches('/'), plain)?,
            version: version.to_owned(),
        })
    }

    /// The name of the program's file.
    #[must_use]
    pub fn binary_name(arch: Arch) -> &'static str {
        match arch {
            Arch::Amd64 => "k3s",
            Arch::Arm64 => "k3s-arm64",
            Arch::Armhf => "k3s-armhf",
        }
    }

    /// The name of the bundle of images that k3s brings up by itself, in the smallest form it is published in
    /// (<https://docs.k3s.io/installation/airgap>).
    #[must_use]
    pub fn images_name(arch: Arch) -> &'static str {
        match arch {
            Arch::Amd64 => "k3s-airgap-images-amd64.tar.zst",
            Arch::Arm64 => "k3s-airgap-images-arm64.tar.zst",
            Arch::Armhf => "k3s-airgap-images-arm.tar.zst",
        }
    }

    /// For which machines a file of this name holds images, as releases name them.
    #[must_use]
    pub fn arch_of_images(name: &str) -> Option<Arch> {
        let rest = name.strip_prefix("k3s-airgap-images-")?;
        let (arch, suffix) = rest.split_once('.')?;
        let arch = match arch {
            "amd64" => Arch::Amd64,
            "arm64" => Arch::Arm64,
            "arm" => Arch::Armhf,
            _ => return None,
        };
        matches!(suffix, "tar" | "tar.gz" | "tar.zst").then_some(arch)
    }

    /// The name of the list of checksums.
    #[must_use]
    pub fn checksums_name(arch: Arch) -> &'static str {
        match arch {
            Arch::Amd64 => "sha256sum-amd64.txt",
            Arch::Arm64 => "sha256sum-arm64.txt",
            Arch::Armhf => "sha256sum-arm.txt",
        }
    }

    /// The address of the program, or of the images.
    ///
    /// # Errors
    /// Never for a base that was taken; the address is checked again all the same.
    pub fn part(&self, part: Part, arch: Arch) -> Result<Url, UrlError> {
        self.file(match part {
            Part::Program => Self::binary_name(arch),
            Part::Images => Self::images_name(arch),
        })
    }

    /// The address of the list of checksums.
    ///
    /// # Errors
    /// As [`Release::part`].
    pub fn checksums(&self, arch: Arch) -> Result<Url, UrlError> {
        self.file(Self::checksums_name(arch))
    }

    fn file(&self, name: &str) -> Result<Url, UrlError> {
        // A plus in a path may be read as a space; GitHub wants it escaped.
        let tag = self.version.replace('+', "%2B");
        Url::parse(&format!("{}/{tag}/{name}", self.base), Plain::Anywhere)
    }
}

/// The digest of `name` in a list as `sha256sum` prints it.
#[must_use]
pub fn checksum_of(list: &str, name: &str) -> Option<Digest> {
    list.lines().find_map(|line| {
        let (digest, file) = line.trim_end().split_once([' ', '\t'])?;
        // `*` marks a file that was read as binary.
        let file = file.trim_start().trim_start_matches('*');
        let file = file.rsplit('/').next().unwrap_or(file);
        (file == name).then(|| Digest::parse(digest))?
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files_of_a_release_are_where_k3s_puts_them() {
        let release = Release::new(K3S_RELEASES, "v1.36.3+k3s1", Plain::Loopback).unwrap();
        assert_eq!(
            release.part(Part::Program, Arch::Arm64).unwrap().as_str(),
            "https://github.com/k3s-io/k3s/releases/download/v1.36.3%2Bk3s1/k3s-arm64"
        );
        assert_eq!(
            release.checksums(Arch::Armhf).unwrap().as_str(),
            "https://github.com/k3s-io/k3s/releases/download/v1.36.3%2Bk3s1/sha256sum-arm.txt"
        );
    }

    #[test]
    fn a_list_of_checksums_is_searched_for_the_whole_name() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let list =
            format!("{a}  k3s-airgap-images-arm64.tar\r\n{b}  k3s-arm64\nnonsense\n{a} *k3s\n");
        assert_eq!(checksum_of(&list, "k3s-arm64").unwrap().hex(), b);
        assert_eq!(checksum_of(&list, "k3s").unwrap().hex(), a);
        assert_eq!(checksum_of(&list, "k3s-armhf"), None);
        assert_eq!(checksum_of(&format!("{}  k3s", &a[1..]), "k3s"), None);
    }
}
