//! What can be asked of, and done to, the nodes of a running lab.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Lab;
use crate::control::{Request, Response, Wait, ask};
use crate::error::LabError;
use crate::listing::Entry;
use crate::spec::NodeSpec;
use crate::status::NodeStatus;

impl Lab {
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
        if self.node(node)?.is_vm() {
            return Err(LabError::Node {
                node: node.to_owned(),
                what: "it is a virtual machine: its disk is an image, and there is no directory"
                    .into(),
            });
        }
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
