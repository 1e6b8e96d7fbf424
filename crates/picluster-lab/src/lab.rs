//! The handle of a running lab, and its verbs.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::{Request, Response, Wait, ask};
use crate::error::LabError;
use crate::listing::Entry;
use crate::options::{LabDir, LabOptions};
use crate::progress::Progress;
use crate::spec::{LabSpec, NodeSpec, check_lab_name};
use crate::status::NodeStatus;

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

/// What a running lab writes about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Pid of the keeper.
    pub keeper: u32,
    /// Pid of the supervisor in this machine's numbering.
    pub supervisor: u32,
    /// Its start time: a pid alone may have been given to somebody else.
    pub supervisor_start: u64,
    pub cgroup: PathBuf,
    pub program: PathBuf,
    pub spec: LabSpec,
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

    /// State of all nodes, in the order of the spec.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when the lab has ended.
    pub fn status(&self) -> Result<Vec<NodeStatus>, LabError> {
        match self.ask(&Request::Status)? {
            Response::Status(list) => Ok(list),
            _ => Err(self.surprise()),
        }
    }

    /// Address and port of a node's sshd, and its login user. Reachable through [`Lab::controller_command`] only.
    ///
    /// # Errors
    /// [`LabError::Node`] for a name the lab does not have.
    pub fn ssh_target(&self, node: &str) -> Result<(SocketAddr, String), LabError> {
        let n = self.node(node)?;
        Ok((SocketAddr::new(n.address, n.ssh_port), n.user.clone()))
    }

    /// Pulls a node's network cable; the node runs on.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn cut(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::Cut { node: node.into() })
    }

    /// Puts a node's network cable back.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn heal(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::Heal { node: node.into() })
    }

    /// Power cut: every process of the node is killed where it stands. Returns when they are gone.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn kill(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::Kill { node: node.into() })
    }

    /// Power on.
    ///
    /// # Errors
    /// [`LabError::Node`], with the end of its console when it does not answer in time.
    pub fn start(&self, node: &str, wait: Wait) -> Result<(), LabError> {
        self.act(Request::Start {
            node: node.into(),
            wait,
        })
    }

    /// New card: power cut, everything the node ever wrote thrown away, another SD CID, power on.
    /// It comes up with a new host key and a new machine-id.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn wipe(&self, node: &str, wait: Wait) -> Result<(), LabError> {
        self.act(Request::Wipe {
            node: node.into(),
            wait,
        })
    }

    /// Orderly reboot: services stop, `/boot/firmware/cmdline.txt` is read again, the boot id is new.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn reboot(&self, node: &str, wait: Wait) -> Result<(), LabError> {
        self.act(Request::Reboot {
            node: node.into(),
            wait,
        })
    }

    /// Waits until a node's sshd answers.
    ///
    /// # Errors
    /// [`LabError::Node`] after `patience` (whole seconds).
    pub fn wait_ready(&self, node: &str, patience: Duration) -> Result<(), LabError> {
        self.act(Request::WaitReady {
            node: node.into(),
            seconds: patience.as_secs(),
        })
    }

    /// Holds apt's and dpkg's locks for `seconds`, as a process named `unattended-upgr`. Returns once they are held.
    ///
    /// # Errors
    /// [`LabError::Node`] when somebody else holds them.
    pub fn hold_apt_lock(&self, node: &str, seconds: u32) -> Result<(), LabError> {
        self.act(Request::HoldAptLock {
            node: node.into(),
            seconds,
        })
    }

    /// Fills the node's card to the last block.
    ///
    /// # Errors
    /// [`LabError::Node`], also for a node without [`NodeSpec::disk_mib`]: its disk is this machine's.
    pub fn fill_disk(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::FillDisk { node: node.into() })
    }

    /// Undoes [`Lab::fill_disk`].
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn free_disk(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::FreeDisk { node: node.into() })
    }

    /// Makes the node's `/` read-only, as after an error of a failing card, until the next boot or
    /// [`Lab::remount_root_rw`].
    ///
    /// # Errors
    /// [`LabError::Node`] when a program on the node keeps a file open for writing.
    pub fn remount_root_ro(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::RemountRoot {
            node: node.into(),
            read_only: true,
        })
    }

    /// Undoes [`Lab::remount_root_ro`].
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn remount_root_rw(&self, node: &str) -> Result<(), LabError> {
        self.act(Request::RemountRoot {
            node: node.into(),
            read_only: false,
        })
    }

    /// Sets a node's clock: not possible, and here to say so. Clocks belong to the kernel, which all nodes share with
    /// this machine (a time namespace shifts the monotonic clocks only).
    ///
    /// # Errors
    /// Always [`LabError::Node`].
    pub fn set_clock(&self, node: &str) -> Result<(), LabError> {
        Err(LabError::Node { node: node.to_owned(), what: "its clock is this machine's and cannot be set; a wrong clock needs a virtual machine".into() })
    }

    /// Every path by which the node's disk differs from its card as it was flashed, sorted: what an unchanged apply
    /// must leave unchanged, inode by inode.
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn outside_listing(&self, node: &str) -> Result<Vec<Entry>, LabError> {
        match self.ask(&Request::Listing { node: node.into() })? {
            Response::Listing(list) => Ok(list),
            other => Err(self.refusal(other)),
        }
    }

    /// Directory of the node's overlay upper layer on this machine. Readable when the lab was started by root and the
    /// node has no [`NodeSpec::disk_mib`]; [`Lab::outside_listing`] works always.
    ///
    /// # Errors
    /// [`LabError::Node`] for a name the lab does not have.
    pub fn overlay_dir(&self, node: &str) -> Result<PathBuf, LabError> {
        Ok(self
            .dir
            .inner()
            .join("nodes")
            .join(&self.node(node)?.name)
            .join("upper"))
    }

    /// CPU seconds all processes of the node have used since the lab came up, reboots included.
    ///
    /// # Errors
    /// [`LabError::Node`] when the kernel does not count (before Linux 4.15).
    pub fn node_cpu_seconds(&self, node: &str) -> Result<f64, LabError> {
        self.number(Request::CpuSeconds { node: node.into() })
    }

    /// Bytes of memory the node's processes use now; a page shared by several counts in parts (PSS).
    ///
    /// # Errors
    /// [`LabError::Node`].
    pub fn node_memory_bytes(&self, node: &str) -> Result<f64, LabError> {
        self.number(Request::MemoryBytes { node: node.into() })
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

    fn node(&self, name: &str) -> Result<&NodeSpec, LabError> {
        self.record
            .spec
            .nodes
            .iter()
            .find(|n| n.name == name)
            .ok_or_else(|| LabError::Node {
                node: name.to_owned(),
                what: format!("lab {} has no such node", self.name()),
            })
    }

    fn ask(&self, request: &Request) -> Result<Response, LabError> {
        ask(&self.dir.control(), request).map_err(|e| {
            if self.record.is_alive() {
                LabError::Io {
                    what: format!("talk to lab {}", self.name()),
                    source: e,
                }
            } else {
                LabError::NotRunning {
                    name: self.name().to_owned(),
                }
            }
        })
    }

    fn act(&self, request: Request) -> Result<(), LabError> {
        match self.ask(&request)? {
            Response::Done => Ok(()),
            other => Err(self.refusal(other)),
        }
    }

    fn number(&self, request: Request) -> Result<f64, LabError> {
        match self.ask(&request)? {
            Response::Number(n) => Ok(n),
            other => Err(self.refusal(other)),
        }
    }

    fn refusal(&self, response: Response) -> LabError {
        match response {
            Response::Failed(failure) => failure.into_error(self.name()),
            _ => self.surprise(),
        }
    }

    fn surprise(&self) -> LabError {
        LabError::Lab {
            name: self.name().to_owned(),
            what: "it gave an answer to another question".into(),
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

impl Record {
    fn is_alive(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            crate::linux::procs::start_time(self.supervisor) == Some(self.supervisor_start)
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    fn keeper_alive(&self) -> bool {
        // Its last act removes the record; a killed one leaves it, and is no process any more.
        Path::new("/proc").join(self.keeper.to_string()).exists()
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
