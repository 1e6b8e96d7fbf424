//! A hollow kubelet: the real one's code without containers (kubernetes/cmd/kubemark).

use std::path::Path;
use std::time::Duration;

use super::Joined;
use crate::cli::Settings;
use crate::fault::{Outcome, at};
use crate::heart::Programs;
use crate::log;

/// What the kubelet reads the kernel's messages from. A node of the lab has none; one that never says anything will do.
const MESSAGES: &str = "/dev/kmsg";

fn arguments(settings: &Settings, joined: &Joined) -> Vec<String> {
    let kubeconfig = settings.data_dir().join("agent/kubelet.kubeconfig");
    let port = settings.argument("kubelet-arg", "port");
    let mut words = vec![
        "--morph=kubelet".to_owned(),
        format!("--name={}", joined.name),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--kubelet-port={}", port.as_deref().unwrap_or("10250")),
        "--kubelet-read-only-port=0".to_owned(),
    ];
    for (flag, list) in [
        ("--node-labels", "node-label"),
        ("--register-with-taints", "node-taint"),
    ] {
        let items = settings.whole_list(list);
        if !items.is_empty() {
            words.push(format!("{flag}={}", items.join(",")));
        }
    }
    words
}

/// Starts it, from the first thread, and waits for ever until its node is there.
pub(super) fn start(programs: &Programs, settings: &Settings, joined: &Joined) -> Outcome {
    if !Path::new(MESSAGES).exists() {
        std::os::unix::fs::symlink("/dev/null", MESSAGES)
            .map_err(|e| at("symlink", Path::new(MESSAGES), &e))?;
    }
    programs.start("kubemark", &arguments(settings, joined))?;
    let path = format!("/api/v1/nodes/{}", joined.name);
    loop {
        match joined.api.send("GET", &path, &[], &[]) {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(_) => {}
            Err(fault) => log::info(format!("Waiting for node {}: {fault}", joined.name)),
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
