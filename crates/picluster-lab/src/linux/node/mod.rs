//! One node: its card, its power, its boots.

mod life;
mod power;
mod vm;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::card;
use crate::error::{Attempt, Trouble};
use crate::linux::tool::tool;
use crate::linux::{cgroup, mounts, procs};
use crate::network::NodeNet;
use crate::spec::{Machine, NodeSpec};
use crate::status::{NodeStatus, Power};

pub(crate) use life::join;
pub(crate) use vm::open_tun;

/// One node of a running lab.
pub(crate) struct Node {
    pub index: usize,
    pub spec: NodeSpec,
    pub net: NodeNet,
    /// Its directory: `card`, `upper`, `work`, `root`, `boot.json`, `console.log`; a virtual machine has images instead
    /// (see `vm::disk`).
    pub dir: PathBuf,
    lower: Vec<PathBuf>,
    /// Its cgroup: `wrap` holds the process that waits for it, `payload` is its own root.
    pub cgroup: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    power: bool,
    /// Between the decision to boot and the end of that boot.
    running: bool,
    /// Pid of the `unshare` around the node's systemd, or of the emulator.
    wrapper: Option<u32>,
    /// A virtual machine's reboot button.
    button: Option<UnixStream>,
    /// The firmware's one-shot flag of a virtual machine.
    tryboot: bool,
    boots: u32,
    wipes: u32,
    cut: bool,
    note: Option<String>,
}

impl Node {
    pub(crate) fn new(
        index: usize,
        spec: NodeSpec,
        net: NodeNet,
        lower: Vec<PathBuf>,
        nodes: &Path,
        cgroup: &Path,
    ) -> Self {
        let dir = nodes.join(&spec.name);
        let cgroup = cgroup.join(format!("node-{}", spec.name));
        Node {
            index,
            spec,
            net,
            dir,
            lower,
            cgroup,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the card and makes the cgroup.
    pub(crate) fn flash(&self, keys: &[String]) -> Result<(), Trouble> {
        let card_dir = self.dir.join("card");
        for dir in [&self.dir, &card_dir, &self.dir.join("root")] {
            fs::create_dir(dir).attempt(|| format!("create {}", dir.display()))?;
        }
        if let (Some(mib), Machine::Namespace) = (self.spec.disk_mib, self.spec.machine) {
            let disk = self.dir.join("disk");
            fs::create_dir(&disk).attempt(|| format!("create {}", disk.display()))?;
            mounts::tmpfs(&disk, &format!("mode=755,size={mib}m"))?;
        }
        // Layers are few files over the image; a card reads what it edits from the image alone.
        let image = self
            .lower
            .last()
            .ok_or_else(|| Trouble("no image".into()))?;
        card::flash(&card_dir, image, &self.spec, &self.net, keys)?;
        if self.spec.is_vm() {
            let mut layers = vec![card_dir];
            layers.extend(self.lower.iter().cloned());
            self.disk_images().flash(&layers, &self.spec)?;
        }
        self.blank()?;
        fs::create_dir(&self.cgroup).attempt(|| format!("create {}", self.cgroup.display()))?;
        cgroup::pass_on(&self.cgroup);
        for group in ["wrap", "payload"] {
            let path = self.cgroup.join(group);
            fs::create_dir(&path).attempt(|| format!("create {}", path.display()))?;
        }
        Ok(())
    }

    fn disk(&self) -> PathBuf {
        if self.spec.disk_mib.is_some() {
            self.dir.join("disk")
        } else {
            self.dir.clone()
        }
    }

    /// What the node has written since it was flashed.
    pub(crate) fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }

    /// Empty upper and work directories; or the flashed image again.
    fn blank(&self) -> Result<(), Trouble> {
        if self.spec.is_vm() {
            return self.disk_images().blank();
        }
        for dir in ["upper", "work"].map(|d| self.disk().join(d)) {
            if dir.exists() {
                fs::remove_dir_all(&dir).attempt(|| format!("remove {}", dir.display()))?;
            }
            fs::create_dir(&dir).attempt(|| format!("create {}", dir.display()))?;
        }
        Ok(())
    }

    /// Last lines of the console.
    pub(crate) fn console_tail(&self) -> String {
        let text = fs::read(self.dir.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Pid of the node's PID 1, as the supervisor sees it.
    /// A virtual machine's is not to be seen from here.
    pub(crate) fn init_pid(&self) -> Option<u32> {
        if self.spec.is_vm() {
            return None;
        }
        let wrapper = self.state().wrapper?;
        procs::children(wrapper).first().copied()
    }

    pub(crate) fn status(&self) -> NodeStatus {
        let init_pid = self.init_pid();
        let state = self.state();
        NodeStatus {
            name: self.spec.name.clone(),
            address: self.spec.address,
            ssh_port: self.spec.ssh_port,
            user: self.spec.user.clone(),
            power: match (self.spec.absent, state.power) {
                (true, _) => Power::Absent,
                (_, true) => Power::On,
                (_, false) => Power::Off,
            },
            cut: state.cut,
            boots: state.boots,
            init_pid,
            note: state.note.clone(),
        }
    }

    /// Refuses what only nodes made of namespaces can have done to them.
    pub(crate) fn not_a_vm(&self) -> Result<(), Trouble> {
        if self.spec.is_vm() {
            Err(Trouble(
                "it is a virtual machine, whose inside only ssh reaches; nothing was done".into(),
            ))
        } else {
            Ok(())
        }
    }

    /// A command run inside the running node, as its root.
    pub(crate) fn inside(&self, words: &[&str]) -> Result<Command, Trouble> {
        self.not_a_vm()?;
        let init = self
            .init_pid()
            .ok_or_else(|| Trouble("it is off; start it first".into()))?;
        let mut command = tool("nsenter");
        command
            .arg(format!("--target={init}"))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"])
            .args(words);
        Ok(command)
    }
}
