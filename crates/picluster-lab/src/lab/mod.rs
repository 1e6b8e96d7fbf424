//! The handle of a running lab, and its verbs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

mod record;
mod verbs;

pub(crate) use record::Record;

use crate::control::{Request, ask};
use crate::error::LabError;
use crate::options::{LabDir, LabOptions};
use crate::progress::Progress;
use crate::spec::{LabSpec, check_lab_name};

/// A running lab.
///
/// One from [`Lab::up`] or [`Lab::open`] is a mere handle: dropping it changes nothing. One from
/// [`Lab::up_foreground`] owns the lab: dropping it, or the end of this process for whatever reason, ends the lab.
#[derive(Debug)]
pub struct Lab {
    options: LabOptions,
    dir: LabDir,
    record: Record,
    /// The keeper of a foreground lab; its stdin, held open here, is the lab's life.
    keeper: Option<Child>,
}

impl Lab {
    /// Starts a lab that lives until [`Lab::down`], builds missing images first, and returns when every node's sshd
    /// answers.
    ///
    /// # Errors
    /// [`LabError::Missing`] with everything the machine lacks, [`LabError::BadSpec`], [`LabError::AlreadyRunning`],
    /// [`LabError::Image`], or [`LabError::Start`] when a node does not answer in time: then nothing is left running.
    pub fn up(
        spec: &LabSpec,
        options: &LabOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Lab, LabError> {
        start(spec, options, false, progress)
    }

    /// As [`Lab::up`], for a lab that lives no longer than the returned handle and this process.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_foreground(
        spec: &LabSpec,
        options: &LabOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Lab, LabError> {
        start(spec, options, true, progress)
    }

    /// The running lab of this name.
    ///
    /// # Errors
    /// [`LabError::NotRunning`].
    pub fn open(name: &str, options: &LabOptions) -> Result<Lab, LabError> {
        check_lab_name(name)?;
        let dir = options.lab_dir(name);
        let not_running = || LabError::NotRunning {
            name: name.to_owned(),
        };
        let record: Record = fs::read(dir.record())
            .ok()
            .and_then(|t| serde_json::from_slice(&t).ok())
            .ok_or_else(not_running)?;
        if !record.is_alive() {
            return Err(not_running());
        }
        Ok(Lab {
            options: options.clone(),
            dir,
            record,
            keeper: None,
        })
    }

    /// Names of all labs running with these options.
    pub fn running(options: &LabOptions) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&options.state_root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| Lab::open(n, options).is_ok())
            .collect();
        names.sort();
        names
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.record.spec.name
    }

    /// What the lab was started from, passwords blanked.
    pub fn spec(&self) -> &LabSpec {
        &self.record.spec
    }

    /// Pid of the process whose death ends the lab, with everything in it.
    pub fn supervisor_pid(&self) -> u32 {
        self.record.supervisor
    }

    /// Pid of the process outside the namespaces that keeps the supervisor; its death ends the lab as well.
    pub fn keeper_pid(&self) -> u32 {
        self.record.keeper
    }

    /// A command that runs `program` of this machine inside the lab's network, where nodes and [`LabSpec::dns`] resolve
    /// by name and nothing else is reachable. Arguments, environment and streams are the caller's to add.
    ///
    /// Started as root it stays root outside the network; started by a user it runs as root of the lab's user
    /// namespace, which is that user to every file.
    pub fn controller_command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = Path::new(program.as_ref());
        #[cfg(target_os = "linux")]
        {
            crate::linux::controller::command(&self.record, &self.hosts(), program)
        }
        #[cfg(not(target_os = "linux"))]
        {
            Command::new(program)
        }
    }

    /// The `/etc/hosts` that programs run with [`Lab::controller_command`] see.
    pub fn hosts(&self) -> String {
        let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned();
        for node in &self.record.spec.nodes {
            text.push_str(&format!("{}\t{}\n", node.address, node.name));
        }
        for (name, address) in &self.record.spec.dns {
            text.push_str(&format!("{address}\t{name}\n"));
        }
        text
    }

    /// Ends the lab: every process, mount, namespace and file of its nodes is gone when this returns. Images and fetched
    /// packages stay.
    ///
    /// # Errors
    /// [`LabError::Lab`] when its files cannot be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        // A lab that ended meanwhile has nobody to answer; what it left is removed below all the same.
        let _ = ask(&self.dir.control(), &Request::Down);
        self.keeper_gone();
        remove_dir(&self.dir, &self.options, self.name())
    }

    /// Removes what a lab that is no longer running left on disk; nothing happens to one that runs.
    ///
    /// # Errors
    /// [`LabError::AlreadyRunning`], or [`LabError::Lab`] when its files cannot be removed.
    pub fn clean(name: &str, options: &LabOptions) -> Result<(), LabError> {
        check_lab_name(name)?;
        if Lab::open(name, options).is_ok() {
            return Err(LabError::AlreadyRunning {
                name: name.to_owned(),
            });
        }
        remove_dir(&options.lab_dir(name), options, name)
    }

    fn keeper_gone(&mut self) {
        if let Some(mut child) = self.keeper.take() {
            drop(child.stdin.take());
            let _ = child.wait();
            return;
        }
        let end = std::time::Instant::now() + Duration::from_secs(15);
        while self.record.keeper_alive() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            let _ = ask(&self.dir.control(), &Request::Down);
            self.keeper_gone();
            let _ = remove_dir(&self.dir, &self.options, self.name());
        }
    }
}

#[cfg(target_os = "linux")]
fn start(
    spec: &LabSpec,
    options: &LabOptions,
    foreground: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Lab, LabError> {
    crate::linux::launch::start(spec, options, foreground, progress)
}

#[cfg(not(target_os = "linux"))]
fn start(
    spec: &LabSpec,
    _: &LabOptions,
    _: bool,
    _: &mut dyn FnMut(Progress),
) -> Result<Lab, LabError> {
    Err(LabError::Missing(crate::preflight(spec.nodes.len())))
}

#[cfg(target_os = "linux")]
fn remove_dir(dir: &LabDir, options: &LabOptions, name: &str) -> Result<(), LabError> {
    crate::linux::launch::remove_dir(dir, options, name)
}

#[cfg(not(target_os = "linux"))]
fn remove_dir(_: &LabDir, _: &LabOptions, _: &str) -> Result<(), LabError> {
    Ok(())
}

impl Lab {
    pub(crate) fn new(
        options: LabOptions,
        dir: LabDir,
        record: Record,
        keeper: Option<Child>,
    ) -> Self {
        Lab {
            options,
            dir,
            record,
            keeper,
        }
    }
}
