//! A lab for one test, gone with it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use picluster_lab::{Lab, LabOptions, LabSpec, NodeSpec, OsFlavour, preflight};

/// A running lab and what is needed to log in.
pub struct Bench {
    pub lab: Option<Lab>,
    pub dir: tempfile::TempDir,
    pub options: LabOptions,
}

/// The example program, which cargo builds along with the tests.
pub fn program() -> PathBuf {
    let mut dir = std::env::current_exe().unwrap();
    dir.pop();
    dir.pop();
    let program = dir.join("examples/lab");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p picluster-lab --examples",
        program.display()
    );
    program
}

pub fn options(dir: &Path) -> LabOptions {
    let mut options = LabOptions::from_environment().unwrap();
    options.program = program();
    options.state_root = dir.join("labs");
    options.ready_timeout = Duration::from_secs(60);
    options
}

pub fn node(name: &str, address: &str, os: OsFlavour) -> NodeSpec {
    NodeSpec::new(name, address.parse::<Ipv4Addr>().unwrap(), os)
}

pub fn key(dir: &Path) -> String {
    let file = dir.join("id");
    if !file.exists() {
        assert!(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&file)
                .status()
                .unwrap()
                .success()
        );
    }
    fs::read_to_string(dir.join("id.pub")).unwrap()
}

pub fn spec(dir: &Path, name: &str, nodes: Vec<NodeSpec>) -> LabSpec {
    LabSpec {
        name: name.into(),
        nodes,
        authorized_keys: vec![key(dir)],
        dns: vec![],
        kubernetes: false,
        etcd: false,
    }
}

/// Starts a lab that cannot outlive the test.
pub fn bench(name: &str, nodes: Vec<NodeSpec>) -> Bench {
    let missing = preflight(nodes.len());
    assert!(
        missing.iter().all(|m| m.what == "inotify instances"),
        "this machine cannot host labs: {missing:#?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let lab = Lab::up_foreground(&spec(dir.path(), name, nodes), &options, &mut |p| {
        println!("{p:?}")
    });
    match lab {
        Ok(lab) => Bench {
            lab: Some(lab),
            dir,
            options,
        },
        Err(e) => panic!(
            "{e}\n{}",
            fs::read_to_string(options.state_root.join(name).join("lab.log")).unwrap_or_default()
        ),
    }
}

impl Bench {
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().unwrap()
    }

    pub fn ssh_with(&self, node: &str, options: &[&str], script: &str) -> Output {
        ssh(self.lab(), self.dir.path(), node, options, script)
    }

    /// Runs `script` on the node; it must succeed.
    pub fn ssh(&self, node: &str, script: &str) -> String {
        let out = self.ssh_with(node, &[], script);
        assert!(
            out.status.success(),
            "{node}: {script}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

pub fn ssh(lab: &Lab, dir: &Path, node: &str, options: &[&str], script: &str) -> Output {
    let (address, user) = lab.ssh_target(node).unwrap();
    lab.controller_command("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .args([
            "-o",
            "ConnectTimeout=3",
            "-o",
            "BatchMode=yes",
            "-p",
            &address.port().to_string(),
            "-i",
        ])
        .arg(dir.join("id"))
        .args(options)
        .arg(format!("{user}@{node}"))
        .arg(script)
        .output()
        .unwrap()
}

/// Pids of all processes in the user namespace `ns` (as `/proc/PID/ns/user` names it).
pub fn processes_in(ns: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
        .filter(|p| fs::read_link(format!("/proc/{p}/ns/user")).is_ok_and(|l| l == ns))
        .collect()
}

pub fn user_ns(lab: &Lab) -> PathBuf {
    fs::read_link(format!("/proc/{}/ns/user", lab.supervisor_pid())).unwrap()
}

/// Waits until `condition` holds, at most `seconds`.
pub fn within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(
            std::time::Instant::now() < end,
            "not within {seconds} s: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
