//! A node that is a virtual machine: how it boots, and the button that asks it to restart.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::Node;
use super::life::End;
use crate::error::{Attempt, Trouble};
use crate::linux::tool::tool;
use crate::linux::{cgroup, hub, stage};
use crate::network::mac;
use crate::vm::disk::Disk;
use crate::vm::qemu::{Start, Stopped};
use crate::vm::{firmware, initrd};

impl Node {
    /// The card's image files.
    pub(super) fn disk_images(&self) -> Disk {
        Disk::new(&self.dir)
    }

    /// One boot of the virtual machine, to its end.
    pub(super) fn boot_vm(&self, memory_mib: u32, cut: bool) -> Result<End, Trouble> {
        self.clear_cgroup()?;
        hub::plug_tap(self.index, &self.spec.name, self.net.address, cut)?;
        let mac = mac(&self.spec.name);
        // The flag counts for one start.
        let tryboot = std::mem::take(&mut self.state().tryboot);
        let arguments = firmware::arguments(
            &self.disk_images(),
            &self.dir.join("firmware"),
            &self.spec.pi,
            &mac,
            tryboot,
        )?;
        let log = self.dir.join("console.log");
        let said = fs::metadata(&log).map_or(0, |m| m.len());
        let tree = self
            .lower
            .last()
            .and_then(|p| p.parent())
            .ok_or_else(|| Trouble("no image".into()))?;
        let start = Start {
            image: tree,
            dir: &self.dir,
            arguments: &arguments,
            memory_mib,
            tap: &hub::port(self.index),
            mac: &mac,
        };
        start.clear();
        initrd::complete(&tree.join("initrd"), &start.initrd())?;
        let errors = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .attempt(|| "open the console's log".into())?;
        let mut child = tool(stage::PROGRAM)
            .args([crate::INTERNAL_ARGUMENT, "join"])
            .arg(self.cgroup.join("payload/cgroup.procs"))
            .arg("")
            .args(start.words())
            .current_dir("/")
            .stdout(std::process::Stdio::null())
            .stderr(errors)
            .spawn()
            .attempt(|| "start the emulator".into())?;
        let session = start.connect(|| matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
        let session = match session {
            Ok(session) => session,
            Err(trouble) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Trouble(format!("{trouble}: {}", self.console_tail())));
            }
        };
        let mut state = self.state();
        state.wrapper = Some(child.id());
        state.button = session.button().ok();
        let killed_meanwhile = !state.power;
        let moved = (state.cut != cut).then_some(!state.cut);
        drop(state);
        if let Some(up) = moved {
            hub::link(self.index, &self.spec.name, self.net.address, up)?;
        }
        self.changed.notify_all();
        if killed_meanwhile {
            let _ = child.kill();
        }
        let stopped = session.wait();
        drop(session);
        self.state().button = None;
        let status = child.wait().attempt(|| "wait for the emulator".into())?;
        cgroup::kill_all(&self.cgroup);
        if matches!(stopped, Stopped::Reboot) {
            let said = usize::try_from(said).unwrap_or(usize::MAX);
            let text = fs::read(&log).unwrap_or_default();
            self.state().tryboot = self.spec.pi.tryboot()
                && firmware::asks_for_tryboot(text.get(said..).unwrap_or_default());
        }
        Ok(match stopped {
            Stopped::Reboot => End::Reboot,
            Stopped::Off => End::Off("it powered itself off".into()),
            Stopped::Gone => End::Off(format!(
                "its emulator ended ({status}): {}",
                self.console_tail()
            )),
        })
    }

    /// Presses the button.
    pub(super) fn press_reboot(&self) -> Result<u32, Trouble> {
        let state = self.state();
        let next = state.boots + 1;
        let mut button = state
            .button
            .as_ref()
            .ok_or_else(|| Trouble("it is off; start it first".into()))?;
        button
            .write_all(b"reboot\n")
            .attempt(|| "press its reboot button".into())?;
        Ok(next)
    }
}

/// Opens the way to the kernel's tap devices inside the lab. `tun` is a device node of the lab's own, where this
/// machine's is root's alone.
pub(crate) fn open_tun(tun: &Path) -> Result<(), Trouble> {
    let system = Path::new("/dev/net/tun");
    if !tun.exists() || fs::metadata(system).is_err() {
        return Ok(());
    }
    crate::linux::mounts::bind(tun, system)
}
