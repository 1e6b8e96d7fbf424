//! A node's boots, one after another, for as long as it has power.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::Node;
use crate::error::{Attempt, Trouble};
use crate::linux::boot::BootConfig;
use crate::linux::tool::tool;
use crate::linux::userns::self_path;
use crate::linux::{cgroup, hub, stage};
use crate::network::mac;
use crate::pi::firmware::replaced_cid;
use crate::spec::Machine;

/// How a boot ended.
pub(super) enum End {
    Reboot,
    Off(String),
}

impl Node {
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
            if !matches!(end, Ok(End::Reboot)) {
                hub::gone(self.net.address);
            }
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
        if let Machine::Vm { memory_mib } = self.spec.machine {
            return self.boot_vm(memory_mib, cut);
        }
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
            let mut words = vec![self_path("unshare")];
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

    /// Removes what the last boot left in the node's cgroup.
    pub(super) fn clear_cgroup(&self) -> Result<(), Trouble> {
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
