//! What is done to a node from outside: power, card, cable, and the wait for its sshd.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Node;
use crate::error::Trouble;
use crate::linux::{cgroup, hub};

/// What a virtual machine gets at least.
const VM_PATIENCE: Duration = Duration::from_secs(300);

impl Node {
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
        if self.spec.is_vm() {
            return self.press_reboot();
        }
        let init = self
            .init_pid()
            .ok_or_else(|| Trouble("it is off; start it first".into()))?;
        let next = self.state().boots + 1;
        // SIGINT is Ctrl-Alt-Del to a systemd in a container: reboot.target.
        signal(init, Signal::INT);
        Ok(next)
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
        // Emulation is slow, and slower beside other work.
        let patience = if self.spec.is_vm() {
            patience.max(VM_PATIENCE)
        } else {
            patience
        };
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
