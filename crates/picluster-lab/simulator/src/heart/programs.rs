//! The programs of a real Kubernetes on this machine, and how they are run: as children that do not outlive us.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use crate::fault::{Fault, Outcome};
use crate::log;
use crate::release::Release;

/// Where they are looked for.
pub(crate) const DIRECTORY: &str = "/usr/local/lib/kubernetes";

/// The name under which this program binds its life to its parent's and then becomes another program.
pub(crate) const CHILD: &str = "k3s-child";

/// A Kubernetes that is there, of the release that this k3s says it is.
#[derive(Debug, Clone)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Looks for them. None means that the built-in API serves.
    ///
    /// # Errors
    ///
    /// When they are of another release than this k3s: it would say what is not so.
    pub(crate) fn find() -> Outcome<Option<Self>> {
        let found = Self(PathBuf::from(DIRECTORY));
        let api = found.path("kube-apiserver");
        if !api.exists() {
            return Ok(None);
        }
        let output = Command::new(&api)
            .arg("--version")
            .output()
            .map_err(|e| crate::fault::at("fork/exec", &api, &e))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.trim().trim_start_matches("Kubernetes ");
        let ours = Release::ours();
        if version != ours.as_str() {
            return Err(Fault(format!(
                "the Kubernetes in {DIRECTORY} is {version}, so a k3s {ours} cannot stand on it: ask for k3s {version}, or take the folder away to get the simulator's own API"
            )));
        }
        Ok(Some(found))
    }

    /// Where a program is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Starts a program that is killed when the calling *thread* ends: call it from the first one. Should the program
    /// end before, this process fails, as k3s does.
    pub(crate) fn start(&self, name: &'static str, arguments: &[String]) -> Outcome {
        let program = self.path(name);
        log::info(format!("Running {name} {}", arguments.join(" ")));
        let mut child = kept(&program, arguments, Stdio::inherit())?;
        std::thread::spawn(move || {
            let ended = child
                .wait()
                .map_or_else(|e| e.to_string(), |status| status.to_string());
            log::fatal(format!("{name} exited: {ended}"));
        });
        Ok(())
    }
}

/// Starts a program that is killed when the calling *thread* ends.
pub(crate) fn kept(program: &Path, arguments: &[String], stderr: Stdio) -> Outcome<Child> {
    Command::new("/proc/self/exe")
        .arg0(CHILD)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(arguments)
        .stderr(stderr)
        .spawn()
        .map_err(|e| crate::fault::at("fork/exec", program, &e))
}

/// `k3s-child PARENT PROGRAM ARGUMENTS…`: asks the kernel to be killed with the parent, and becomes the program.
pub(crate) fn become_child(words: &[String]) -> ExitCode {
    let [parent, program, arguments @ ..] = words else {
        return ExitCode::from(2);
    };
    let bound =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let orphan =
        rustix::process::getppid().is_none_or(|p| p.as_raw_nonzero().to_string() != *parent);
    if bound.is_err() || orphan {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(arguments).exec();
    log::error(crate::fault::at("fork/exec", Path::new(program), &error));
    ExitCode::FAILURE
}
