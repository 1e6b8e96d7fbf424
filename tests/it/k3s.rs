//! A k3s for lab nodes: the simulator, or a real one from a folder (docs/simulator.md).

use std::path::Path;
use std::process::Command;

use picluster_k3s_simulator::artifact::{self, Artifact};
use picluster_k3s_simulator::release::Release;

/// The release that tests of clusters ask for: on a real Kubernetes there is only one.
pub fn release() -> &'static str {
    if std::env::var_os("PICLUSTER_TEST_KUBERNETES").is_some() {
        picluster_lab::kubernetes::VERSION
    } else {
        "v1.33.5+k3s1"
    }
}

/// The file that stands for a release of k3s, and its checksum.
pub fn artifact(release: &str) -> Artifact {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let release = Release::parse(release).unwrap_or_else(|e| panic!("{e}"));
    artifact::k3s(workspace, &release).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_release_has_a_file_of_its_own_that_says_which_it_is() {
    let (one, two) = (artifact("v1.33.5+k3s1"), artifact("v1.34.1+k3s1"));
    assert_ne!(one.sha256, two.sha256);
    assert_eq!(one, artifact("v1.33.5+k3s1"), "the same bytes every time");
    for (file, release) in [(one, "v1.33.5+k3s1"), (two, "v1.34.1+k3s1")] {
        let output = Command::new(&file.path).arg("--version").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!(" version {release} (")), "{said}");
    }
}
