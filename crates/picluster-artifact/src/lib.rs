//! What is put onto nodes as a whole: releases of k3s and other large files, fetched once, checked,
//! and kept on the controller under the SHA-256 of their bytes.
//!
//! [`Resolver::resolve`] says which bytes are meant (their digest and size) and sends for nothing larger than a
//! list of checksums; [`Resolver::provide`] has the bytes themselves, from the cache or from where they are
//! published. This crate knows the network and the controller's file system. It must not know
//! inventories, plans, nodes or screens.

mod arch;
mod client;
mod digest;
mod elf;
mod index;
mod release;
mod resolve;
mod stamp;
mod store;
mod url;

pub use arch::Arch;
pub use client::{Client, FetchError, Limits, Progress, Reason};
pub use digest::Digest;
pub use elf::{ElfError, arch_of};
pub use index::{Entry, Key};
pub use release::{K3S_RELEASES, Part, Release, checksum_of};
pub use resolve::{Artifact, ArtifactError, Given, Origin, Resolver, Wanted};
pub use store::{Store, StoreError};
pub use url::{Plain, Url, UrlError};
