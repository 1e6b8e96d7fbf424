//! From a release to bytes in the cache.

use std::path::{Path, PathBuf};

use picluster_artifact::{
    Arch, ArtifactError, Client, Digest, Given, Origin, Part, Resolver, Store, Wanted,
};

use crate::client::{digest, limits, noise};
use crate::server::{Page, Server};

const VERSION: &str = "v1.36.3+k3s1";

/// A program for an architecture, as far as its header tells.
fn program(machine: u8, length: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.extend([machine, 0]);
    bytes.extend(noise(length));
    bytes
}

fn wanted(arch: Arch) -> Wanted {
    Wanted {
        part: Part::Program,
        version: VERSION.into(),
        arch,
        given: None,
        checksum: None,
    }
}

/// A release with its checksums.
fn publish(server: &Server) -> Vec<u8> {
    let bytes = program(183, 100_000);
    let list = format!(
        "{}  k3s-airgap-images-arm64.tar\n{}  k3s-arm64\n",
        digest(b"images"),
        digest(&bytes)
    );
    server.page("/v1.36.3%2Bk3s1/k3s-arm64", Page::Whole(bytes.clone()));
    server.page(
        "/v1.36.3%2Bk3s1/sha256sum-arm64.txt",
        Page::Whole(list.into_bytes()),
    );
    bytes
}

fn resolver(cache: &Path, base: &str) -> Resolver {
    Resolver::new(Store::at(cache), Client::new(limits()), base)
}

#[test]
fn planning_fetches_checksums_applying_the_program_and_afterwards_nothing() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::plain());
    let bytes = publish(&server);
    let base = server.url("");
    let first = resolver(dir.path(), &base)
        .resolve(&wanted(Arch::Arm64))
        .unwrap();
    assert_eq!(
        (first.sha256, first.size),
        (digest(&bytes), Some(bytes.len() as u64))
    );
    assert_eq!(
        first.checksum_from,
        server.url("/v1.36.3%2Bk3s1/sha256sum-arm64.txt")
    );
    assert_eq!(
        server.asked(),
        [
            "GET /v1.36.3%2Bk3s1/sha256sum-arm64.txt",
            "HEAD /v1.36.3%2Bk3s1/k3s-arm64"
        ]
    );
    // A second plan asks nobody.
    assert_eq!(
        resolver(dir.path(), &base)
            .resolve(&wanted(Arch::Arm64))
            .unwrap(),
        first
    );
    assert!(server.asked().is_empty());
    let mut seen = Vec::new();
    let (path, size) = resolver(dir.path(), &base)
        .provide(&first, &mut |p| seen.push(p))
        .unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes && size == bytes.len() as u64);
    assert_eq!(path, dir.path().join(digest(&bytes).hex()));
    assert_eq!(seen.last().unwrap().done, size);
    assert_eq!(seen.last().unwrap().total, Some(size));
    assert_eq!(server.asked(), ["GET /v1.36.3%2Bk3s1/k3s-arm64"]);
    // Without any network, with what is in the cache.
    drop(server);
    let offline = resolver(dir.path(), &base);
    assert_eq!(offline.resolve(&wanted(Arch::Arm64)).unwrap(), first);
    assert_eq!(offline.provide(&first, &mut |_| {}).unwrap().0, path);
}

#[test]
fn without_a_network_it_is_said_what_is_missing_and_how_to_bring_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = Server::plain().url("");
    let offline = resolver(dir.path(), &base);
    let error = offline.resolve(&wanted(Arch::Arm64)).unwrap_err();
    let url = format!("{base}/v1.36.3%2Bk3s1/k3s-arm64");
    assert!(
        error
            .to_string()
            .starts_with(&format!("the checksum of {url} is not known: ")),
        "{error}"
    );
    for words in [
        "artifact: ./k3s-arm64",
        "picluster fetch --from k3s-arm64",
        &url,
    ] {
        assert!(error.hints()[0].contains(words), "{:?}", error.hints());
    }
    // The digest is known from the inventory: the plan can be made, the file not be had ...
    let bytes = program(183, 10);
    let known = Wanted {
        checksum: Some(digest(&bytes)),
        ..wanted(Arch::Arm64)
    };
    let artifact = offline.resolve(&known).unwrap();
    assert_eq!(artifact.size, None);
    let error = offline.provide(&artifact, &mut |_| {}).unwrap_err();
    let place = dir.path().join(digest(&bytes).hex());
    assert!(error.to_string().contains(&url), "{error}");
    assert!(
        error.hints()[1].contains(&place.display().to_string()),
        "{:?}",
        error.hints()
    );
    // ... until it is put where the hint says.
    std::fs::write(&place, &bytes).unwrap();
    assert_eq!(
        offline.provide(&artifact, &mut |_| {}).unwrap(),
        (place, bytes.len() as u64)
    );
    assert_eq!(
        offline.resolve(&known).unwrap().size,
        Some(bytes.len() as u64)
    );
}

#[test]
fn the_inventorys_checksum_wins_over_the_releases() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::plain());
    publish(&server);
    let resolver = resolver(dir.path(), &server.url(""));
    // Learnt from the release first: the inventory still wins.
    resolver.resolve(&wanted(Arch::Arm64)).unwrap();
    let other = Wanted {
        checksum: Some(digest(b"another build")),
        ..wanted(Arch::Arm64)
    };
    let artifact = resolver.resolve(&other).unwrap();
    assert_eq!(artifact.sha256, digest(b"another build"));
    let error = resolver.provide(&artifact, &mut |_| {}).unwrap_err();
    assert!(
        error.to_string().contains(&digest(b"another build").hex()),
        "{error}"
    );
    assert!(!dir.path().join(digest(b"another build").hex()).exists());
    // And it leaves no trace: without it, the release is asked again.
    server.asked();
    let again = resolver.resolve(&wanted(Arch::Arm64)).unwrap();
    assert_ne!(again.sha256, digest(b"another build"));
    assert_eq!(server.asked()[0], "GET /v1.36.3%2Bk3s1/sha256sum-arm64.txt");
}

#[test]
fn a_given_file_is_used_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (file, bytes) = (dir.path().join("k3s-arm64"), program(183, 500));
    std::fs::write(&file, &bytes).unwrap();
    let resolver = resolver(&dir.path().join("cache"), "https://unused.example");
    let given = |arch, checksum: Option<Digest>, path: &PathBuf| Wanted {
        given: Some(Given::File(path.clone())),
        checksum,
        ..wanted(arch)
    };
    let artifact = resolver.resolve(&given(Arch::Arm64, None, &file)).unwrap();
    assert_eq!(
        (artifact.sha256, artifact.size),
        (digest(&bytes), Some(bytes.len() as u64))
    );
    assert_eq!(artifact.origin, Origin::File(file.clone()));
    assert_eq!(resolver.provide(&artifact, &mut |_| {}).unwrap().0, file);
    // For another machine.
    let error = resolver
        .resolve(&given(Arch::Amd64, None, &file))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "artifact {} is a program for arm64, not for amd64",
            file.display()
        )
    );
    assert!(matches!(
        resolver.resolve(&given(Arch::Arm64, Some(digest(b"x")), &file)),
        Err(ArtifactError::Checksum { .. })
    ));
    let missing = dir.path().join("gone");
    let error = resolver
        .resolve(&given(Arch::Arm64, None, &missing))
        .unwrap_err();
    assert!(
        error.to_string().contains("gone") && !error.hints().is_empty(),
        "{error}"
    );
    // Changed between plan and apply.
    std::fs::write(&file, program(183, 501)).unwrap();
    assert!(matches!(
        resolver.provide(&artifact, &mut |_| {}),
        Err(ArtifactError::Checksum { .. })
    ));
}

#[test]
fn a_given_address_needs_a_checksum_of_its_own_or_beside_it() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::plain());
    let bytes = program(62, 2000);
    let address = server.page("/mine/k3s", Page::Whole(bytes.clone()));
    let resolver = resolver(dir.path(), "https://unused.example");
    let given = |url: &str, checksum| Wanted {
        given: Some(Given::Url(url.to_owned())),
        checksum,
        ..wanted(Arch::Amd64)
    };
    let error = resolver.resolve(&given(&address, None)).unwrap_err();
    assert!(matches!(error, ArtifactError::NoChecksum { .. }), "{error}");
    let list = format!("{}  k3s\n", digest(&bytes));
    server.page("/mine/sha256sum-amd64.txt", Page::Whole(list.into_bytes()));
    let artifact = resolver.resolve(&given(&address, None)).unwrap();
    assert_eq!(artifact.sha256, digest(&bytes));
    let error = resolver
        .resolve(&given("http://mirror.example/k3s", None))
        .unwrap_err();
    assert!(
        error.to_string().contains("not https") && error.hints()[0].contains("checksum"),
        "{error}"
    );
    assert!(
        resolver
            .resolve(&given(&address, Some(digest(&bytes))))
            .is_ok()
    );
}

#[test]
fn a_release_that_is_for_other_machines_than_it_says_is_refused() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::plain());
    let bytes = program(62, 100);
    server.page("/v1.36.3%2Bk3s1/k3s-arm64", Page::Whole(bytes.clone()));
    let list = format!("{}  k3s-arm64\n", digest(&bytes));
    server.page(
        "/v1.36.3%2Bk3s1/sha256sum-arm64.txt",
        Page::Whole(list.into_bytes()),
    );
    let resolver = resolver(dir.path(), &server.url(""));
    let artifact = resolver.resolve(&wanted(Arch::Arm64)).unwrap();
    assert!(matches!(
        resolver.provide(&artifact, &mut |_| {}),
        Err(ArtifactError::Elf { .. })
    ));
}
