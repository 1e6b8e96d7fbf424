//! Every refusal, provoked by a plain shell script: `refusals/<name>.sh`. Each names the upstream file that it follows.
//!
//! A script runs as root of namespaces of its own, so it needs no privileges and touches nothing of the machine. Set
//! `PICLUSTER_TEST_KUBERNETES` to the folder of a real Kubernetes' programs (docs/simulator.md) to run them on that. Set
//! `PICLUSTER_K3S_DIR` and `K3S_RELEASE` to run what a real k3s can do in such a place against the real one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use picluster_k3s_simulator::artifact;
use picluster_k3s_simulator::release::Release;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refusals")
}

fn k3s() -> PathBuf {
    match (
        std::env::var_os("PICLUSTER_K3S_DIR"),
        std::env::var_os("K3S_RELEASE"),
    ) {
        (Some(folder), Some(release)) => Path::new(&folder).join(release).join("k3s"),
        _ => env!("CARGO_BIN_EXE_k3s-simulator").into(),
    }
}

fn kubernetes() -> Option<std::ffi::OsString> {
    std::env::var_os("PICLUSTER_TEST_KUBERNETES").filter(|d| !d.is_empty())
}

/// The only release that a folder of Kubernetes' programs is of.
fn release_of(folder: &std::ffi::OsStr) -> Release {
    let program = Path::new(folder).join("kube-apiserver");
    let output = Command::new(&program).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    Release::parse(said.trim().trim_start_matches("Kubernetes ")).unwrap()
}

fn run(name: &str) {
    let kubernetes = kubernetes();
    // k3s must say that it is what stands behind it.
    let release = kubernetes.as_deref().map(release_of);
    run_on(name, kubernetes.unwrap_or_default(), release);
}

/// The built-in API has the texts of the release that it says it is: here the one that a real Kubernetes is built of.
#[test]
fn kubectl_of_an_old_release() {
    let real_k3s = std::env::var_os("K3S_RELEASE").is_some();
    if kubernetes().is_none() && !real_k3s {
        let release = Release::parse("v1.20.2+k3s1").unwrap();
        run_on("kubectl", "".into(), Some(release));
    }
}

fn run_on(name: &str, kubernetes: std::ffi::OsString, release: Option<Release>) {
    let work = tempfile::tempdir().unwrap();
    let binary = work.path().join("k3s");
    match release {
        Some(release) => {
            let made = artifact::write(&k3s(), &release, work.path()).unwrap();
            std::fs::rename(made.path, &binary).unwrap();
        }
        None => std::os::unix::fs::symlink(k3s(), &binary).unwrap(),
    }
    let patience = if kubernetes.is_empty() { "200" } else { "400" };
    let script = format!(". {0}/lib.sh; . {0}/{name}.sh", scripts().display());
    // Nothing of a script outlives it: its namespace of processes ends with it, and it ends by itself.
    let output = Command::new("timeout")
        .args([
            "--kill-after=5",
            patience,
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--net",
            "--cgroup",
        ])
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-euc",
            &script,
        ])
        .env("W", work.path())
        .env("KUBERNETES", kubernetes)
        .env_remove("KUBECONFIG")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! scripts {
    ($($name:ident $file:literal,)*) => {
        $(#[test]
        fn $name() {
            run($file);
        })*

        #[test]
        fn every_script_is_run() {
            let mut found: Vec<String> = std::fs::read_dir(scripts())
                .unwrap()
                .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .filter(|n| n != "lib")
                .collect();
            found.sort();
            let mut named = vec![$($file),*];
            named.sort_unstable();
            assert_eq!(found, named);
        }
    };
}

scripts! {
    flags "flags",
    config_file "config-file",
    tokens "tokens",
    server_away "server-away",
    node_password "node-password",
    different_token "different-token",
    kubelet_flags "kubelet-flags",
    registration "registration",
    cgroup "cgroup",
    clock "clock",
    kubectl "kubectl",
    manifests "manifests",
    restart "restart",
    embedded_etcd "embedded-etcd",
    outside_etcd "outside-etcd",
    embedded_etcd_refused "embedded-etcd-refused",
}
