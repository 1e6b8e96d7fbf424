//! A k3s for lab nodes: the simulator, or a real one from a folder (docs/simulator.md).

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use picluster_k3s_simulator::artifact::{self, Artifact};
use picluster_k3s_simulator::release::Release;

/// What tests of clusters ask for.
const USUAL: &str = "v1.33.5+k3s1";

/// The release that tests of clusters ask for. A real Kubernetes is one of its own, and a folder of real k3s may have
/// another: then the newest that is there.
pub fn release() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        if std::env::var_os("PICLUSTER_TEST_KUBERNETES").is_some() {
            return picluster_lab::kubernetes::VERSION.to_owned();
        }
        let there = real();
        let usual = there.is_empty() || there.iter().any(|r| r.as_str() == USUAL);
        match there.last() {
            Some(newest) if !usual => newest.as_str().to_owned(),
            _ => USUAL.to_owned(),
        }
    })
}

/// The releases of real k3s that there are, the newest last; none when tests run on the simulator.
fn real() -> Vec<Release> {
    let Some(folder) = std::env::var_os("PICLUSTER_K3S_DIR").filter(|f| !f.is_empty()) else {
        return vec![];
    };
    let mut there: Vec<Release> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("PICLUSTER_K3S_DIR: {}: {e}", folder.display()))
        .filter_map(|entry| Release::parse(entry.unwrap().file_name().to_str()?).ok())
        .collect();
    assert!(
        !there.is_empty(),
        "PICLUSTER_K3S_DIR: {} has no folder of a release, such as {USUAL}",
        folder.display()
    );
    let numbers = |release: &Release| -> Vec<u32> {
        release
            .as_str()
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    there.sort_by_key(numbers);
    there
}

/// A release, one of the next minor, and, on the simulator, one that skips a minor. None where a folder of real k3s has no
/// two that follow each other, or where a real Kubernetes has the one release it is.
pub fn following() -> Option<(String, String, Option<String>)> {
    if std::env::var_os("PICLUSTER_TEST_KUBERNETES").is_some() {
        return None;
    }
    let there = real();
    if there.is_empty() {
        let far = "v1.36.3+k3s1".to_owned();
        return Some((USUAL.into(), "v1.34.1+k3s1".into(), Some(far)));
    }
    let minor = |release: &Release| release.as_str().split('.').nth(1)?.parse::<u32>().ok();
    let new = there.last()?;
    let old = there
        .iter()
        .rfind(|old| minor(old).map(|m| m + 1) == minor(new))?;
    Some((old.as_str().into(), new.as_str().into(), None))
}

/// The file that stands for a release of k3s, and its checksum.
pub fn artifact(release: &str) -> Artifact {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let release = Release::parse(release).unwrap_or_else(|e| panic!("{e}"));
    artifact::k3s(workspace, &release).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_release_has_a_file_of_its_own_that_says_which_it_is() {
    let one = artifact(release());
    assert_eq!(one, artifact(release()), "the same bytes every time");
    let mut all = vec![(one.clone(), release().to_owned())];
    if real().is_empty() {
        let two = artifact("v1.34.1+k3s1");
        assert_ne!(one.sha256, two.sha256);
        all.push((two, "v1.34.1+k3s1".to_owned()));
    }
    for (file, release) in all {
        let output = Command::new(&file.path).arg("--version").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!(" version {release} (")), "{said}");
    }
}
