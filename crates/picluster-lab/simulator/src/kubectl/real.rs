//! The real `kubectl` of a real Kubernetes, told where k3s' cluster is (pkg/kubectl/main.go).

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::session::K3S;
use crate::heart::programs::DIRECTORY;
use crate::log;

/// Becomes the real one. Comes back when there is none, or when it cannot be started.
pub(super) fn run(words: &[String]) -> Option<ExitCode> {
    let program = Path::new(DIRECTORY).join("kubectl");
    if !program.exists() {
        return None;
    }
    let mut command = Command::new(&program);
    command.args(words);
    let named = words
        .iter()
        .any(|w| w == "--kubeconfig" || w.starts_with("--kubeconfig="));
    let set = std::env::var_os("KUBECONFIG").is_some_and(|k| !k.is_empty());
    if !named && !set && Path::new(K3S).exists() {
        command.env("KUBECONFIG", K3S);
        let read = std::fs::File::open(K3S);
        if read.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            log::warn(format!(
                "Unable to read {K3S}, please start server with --write-kubeconfig-mode or --write-kubeconfig-group to modify kube config permissions"
            ));
        }
    }
    let error = command.exec();
    log::error(crate::fault::at("fork/exec", &program, &error));
    Some(ExitCode::FAILURE)
}
