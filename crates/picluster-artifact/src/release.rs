//! Where releases of k3s are published, and what their files are called.
//!
//! Names as in `install.sh` of k3s (`setup_verify_arch`, `download_hash`, `download_binary`).

use crate::arch::Arch;
use crate::digest::Digest;
use crate::url::{Plain, Url, UrlError};

/// Where k3s publishes its releases; another place of the same form may be named instead.
pub const K3S_RELEASES: &str = "https://github.com/k3s-io/k3s/releases/download";

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

    /// The name of the list of checksums.
    #[must_use]
    pub fn checksums_name(arch: Arch) -> &'static str {
        match arch {
            Arch::Amd64 => "sha256sum-amd64.txt",
            Arch::Arm64 => "sha256sum-arm64.txt",
            Arch::Armhf => "sha256sum-arm.txt",
        }
    }

    /// The address of the program.
    ///
    /// # Errors
    /// Never for a base that was taken; the address is checked again all the same.
    pub fn binary(&self, arch: Arch) -> Result<Url, UrlError> {
        self.file(Self::binary_name(arch))
    }

    /// The address of the list of checksums.
    ///
    /// # Errors
    /// As [`Release::binary`].
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
            release.binary(Arch::Arm64).unwrap().as_str(),
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
