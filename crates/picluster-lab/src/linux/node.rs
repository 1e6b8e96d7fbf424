//! One node: its card, its power, its boots.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::card;
use crate::error::{Attempt, Trouble};
use crate::linux::boot::BootConfig;
use crate::linux::tool::tool;
use crate::linux::{cgroup, hub, mounts, procs, stage};
use crate::network::{NodeNet, mac};
use crate::pi::firmware::replaced_cid;
use crate::spec::NodeSpec;
use crate::status::{NodeStatus, Power};

/// One node of a running lab.
pub(crate) struct Node {
    pub index: usize,
    pub spec: NodeSpec,
    pub net: NodeNet,
    /// Its directory: `card`, `upper`, `work`, `root`, `boot.json`, `console.log`.
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
    /// Pid of the `unshare` around the node's systemd.
    wrapper: Option<u32>,
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
        if let Some(mib) = self.spec.disk_mib {
            let disk = self.dir.join("disk");
            fs::create_dir(&disk).attempt(|| format!("create {}", disk.display()))?;
            mounts::tmpfs(&disk, &format!("mode=755,size={mib}m"))?;
        }
        self.blank()?;
        // Layers are few files over the image; a card reads what it edits from the image alone.
        let image = self
            .lower
            .last()
            .ok_or_else(|| Trouble("no image".into()))?;
        card::flash(&card_dir, image, &self.spec, &self.net, keys)?;
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

    /// Empty upper and work directories.
    fn blank(&self) -> Result<(), Trouble> {
        for dir in ["upper", "work"].map(|d| self.disk().join(d)) {
            if dir.exists() {
                fs::remove_dir_all(&dir).attempt(|| format!("remove {}", dir.display()))?;
            }
            fs::create_dir(&dir).attempt(|| format!("create {}", dir.display()))?;
        }
        Ok(())
    }

    /// Starts the thread that boots the node whenever it has power.
    pub(crate) fn run(self: &Arc<Self>) {
        let node = Arc::clone(self);
        thread::spawn(move || node.life());
    }

    fn life(&self) {
        loop {
            let mut state = self.state();
            while !state.power {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let (wipes, cut) = (state.wipes, state.cut);
            state.boots += 1;
            state.running = true;
            drop(state);
            let end = self.boot(wipes, cut);
            let mut state = self.state();
            state.wrapper = None;
            state.running = false;
            match end {
                Ok(End::Reboot) => {}
                Ok(End::Off(note)) | Err(Trouble(note)) => {
                    if state.power {
                        state.note = Some(note);
                    }
                    state.power = false;
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// One boot, to its end.
    fn boot(&self, wipes: u32, cut: bool) -> Result<End, Trouble> {
        self.clear_cgroup()?;
        hub::plug(self.index, &self.spec.name, self.net.address, cut)?;
        let mut pi = self.spec.pi.clone();
        pi.sd_cid = replaced_cid(&pi.sd_cid, wipes);
        let mut lower = vec![self.dir.join("card")];
        lower.extend(self.lower.iter().cloned());
        let config = BootConfig {
            lower,
            upper: self.upper(),
            work: self.disk().join("work"),
            root: self.dir.join("root"),
            net: self.net.clone(),
            mac: mac(&self.spec.name),
            pi,
        };
        let file = self.dir.join("boot.json");
        let text = serde_json::to_vec(&config).attempt(|| "write the boot configuration".into())?;
        fs::write(&file, text).attempt(|| format!("write {}", file.display()))?;
        let console = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("console.log"))
            .attempt(|| "open the console's log".into())?;
        let errors = console
            .try_clone()
            .attempt(|| "open the console's log".into())?;
        let join = |cgroup: &str, netns: &str| {
            let procs = self
                .cgroup
                .join(cgroup)
                .join("cgroup.procs")
                .display()
                .to_string();
            [
                stage::PROGRAM.to_owned(),
                crate::INTERNAL_ARGUMENT.to_owned(),
                "join".to_owned(),
                procs,
                netns.to_owned(),
            ]
        };
        let unshare = |flags: &[&str]| {
            let mut words = vec![crate::linux::userns::self_path("unshare")];
            words.extend(flags.iter().map(|f| (*f).to_owned()));
            words.push("--".into());
            words
        };
        // The wrapper stays in `wrap`; only what comes after the fork is in `payload`, which the cgroup namespace then
        // shows as the root: a group with processes of its own could not hand controllers on.
        let words: Vec<String> = join("wrap", &hub::netns(self.index).display().to_string())
            .into_iter()
            .chain(unshare(&[
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child=SIGKILL",
            ]))
            .chain(join("payload", ""))
            .chain(unshare(&["--cgroup"]))
            .chain([
                stage::PROGRAM.to_owned(),
                crate::INTERNAL_ARGUMENT.to_owned(),
                "boot".to_owned(),
                file.display().to_string(),
            ])
            .collect();
        let mut words = words.into_iter();
        let mut child = tool(words.next().unwrap_or_default())
            .args(words)
            .current_dir("/")
            .stdout(console)
            .stderr(errors)
            .spawn()
            .attempt(|| "start the node".into())?;
        let mut state = self.state();
        state.wrapper = Some(child.id());
        let killed_meanwhile = !state.power;
        // The cable may have been moved while the port was being made.
        let moved = (state.cut != cut).then_some(!state.cut);
        drop(state);
        if let Some(up) = moved {
            hub::link(self.index, &self.spec.name, self.net.address, up)?;
        }
        self.changed.notify_all();
        if killed_meanwhile {
            let _ = child.kill();
        }
        let status = child.wait().attempt(|| "wait for the node".into())?;
        cgroup::kill_all(&self.cgroup);
        Ok(self.read_end(status))
    }

    /// reboot(2) in a pid namespace ends its init with SIGHUP, poweroff with SIGINT (kernel/pid_namespace.c).
    fn read_end(&self, status: ExitStatus) -> End {
        match status
            .signal()
            .or_else(|| status.code().filter(|c| *c > 128).map(|c| c - 128))
        {
            Some(1) => End::Reboot,
            Some(2) => End::Off("it powered itself off".into()),
            Some(9) => End::Off("its processes were killed".into()),
            _ => End::Off(format!(
                "its boot failed ({status}): {}",
                self.console_tail()
            )),
        }
    }

    /// Last lines of the console.
    pub(crate) fn console_tail(&self) -> String {
        let text = fs::read(self.dir.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Removes what the last boot left in the node's cgroup.
    fn clear_cgroup(&self) -> Result<(), Trouble> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let mut left = None;
            for group in ["wrap", "payload"].map(|g| self.cgroup.join(g)) {
                for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                    if entry.file_type().is_ok_and(|t| t.is_dir())
                        && let Err(e) = cgroup::remove_tree(&entry.path())
                    {
                        left = Some(format!("{}: {e}", entry.path().display()));
                    }
                }
            }
            match left {
                None => return Ok(()),
                Some(what) if Instant::now() > end => {
                    return Err(Trouble(format!(
                        "processes of the last boot are still there: {what}"
                    )));
                }
                Some(_) => sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Gives power; no change while it has some.
    pub(crate) fn power_on(&self) -> u32 {
        let mut state = self.state();
        let next = if state.power {
            state.boots
        } else {
            state.boots + 1
        };
        state.power = true;
        state.note = None;
        drop(state);
        self.changed.notify_all();
        next
    }

    /// Takes power away: every process of the node is killed where it stands.
    pub(crate) fn power_off(&self) -> Result<(), Trouble> {
        let end = Instant::now() + Duration::from_secs(15);
        let mut state = self.state();
        state.power = false;
        loop {
            if let Some(pid) = state.wrapper {
                cgroup::kill_all(&self.cgroup);
                signal(pid, Signal::KILL);
            } else if !state.running && cgroup::pids(&self.cgroup).is_empty() {
                state.note = None;
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Trouble(
                    "its processes do not die; `picluster lab down` ends the whole lab".into(),
                ));
            }
            let tick = Duration::from_millis(20);
            state = self
                .changed
                .wait_timeout(state, tick)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// A new card: everything the node ever wrote is gone.
    pub(crate) fn wipe(&self) -> Result<(), Trouble> {
        self.power_off()?;
        self.state().wipes += 1;
        self.blank()
    }

    /// Asks systemd for a reboot and returns the number of the boot to come.
    pub(crate) fn reboot(&self) -> Result<u32, Trouble> {
        let init = self
            .init_pid()
            .ok_or_else(|| Trouble("it is off; start it first".into()))?;
        let next = self.state().boots + 1;
        // SIGINT is Ctrl-Alt-Del to a systemd in a container: reboot.target.
        signal(init, Signal::INT);
        Ok(next)
    }

    /// Pid of the node's PID 1, as the supervisor sees it.
    pub(crate) fn init_pid(&self) -> Option<u32> {
        let wrapper = self.state().wrapper?;
        procs::children(wrapper).first().copied()
    }

    /// Pulls the network cable or puts it back.
    pub(crate) fn set_cut(&self, cut: bool) -> Result<(), Trouble> {
        let mut state = self.state();
        state.cut = cut;
        // Off, it has no port; the next boot looks at the flag.
        if state.wrapper.is_some() {
            hub::link(self.index, &self.spec.name, self.net.address, !cut)
        } else {
            Ok(())
        }
    }

    /// Waits until boot number `boot` (or a later one) has an sshd that answers.
    pub(crate) fn wait_ready(&self, boot: u32, patience: Duration) -> Result<Duration, Trouble> {
        let started = Instant::now();
        let address = SocketAddr::from((self.net.address, self.spec.ssh_port));
        loop {
            let state = self.state();
            let (boots, up, cut) = (state.boots, state.wrapper.is_some(), state.cut);
            let (power, note) = (state.power, state.note.clone());
            drop(state);
            if cut {
                return Err(Trouble("its network cable is out; `heal` it first".into()));
            }
            if !power {
                return Err(Trouble(
                    note.unwrap_or_else(|| "it has no power; start it first".into()),
                ));
            }
            if boots >= boot && up && banner(address) {
                return Ok(started.elapsed());
            }
            if started.elapsed() > patience {
                return Err(Trouble(format!(
                    "no sshd answered on {address} within {} s; its console ends: {}",
                    patience.as_secs(),
                    self.console_tail()
                )));
            }
            sleep(Duration::from_millis(30));
        }
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

    /// A command run inside the running node, as its root.
    pub(crate) fn inside(&self, words: &[&str]) -> Result<Command, Trouble> {
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

enum End {
    Reboot,
    Off(String),
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether an SSH server greets at `address`.
fn banner(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).is_ok() && greeting == *b"SSH-"
}

/// `CGROUP_PROCS NETNS COMMAND…`: joins both and becomes the command.
pub(crate) fn join(args: &[OsString]) -> Result<(), Trouble> {
    let [procs, netns, program, rest @ ..] = args else {
        return Err(Trouble("too few arguments".into()));
    };
    fs::write(procs, "0").attempt(|| format!("join {}", procs.to_string_lossy()))?;
    if !netns.is_empty() {
        let file = File::open(netns).attempt(|| format!("open {}", netns.to_string_lossy()))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))
            .attempt(|| "enter the node's network".into())?;
    }
    let error = Command::new(program).args(rest).stdin(Stdio::null()).exec();
    Err(Trouble(format!(
        "run {}: {error}",
        program.to_string_lossy()
    )))
}
