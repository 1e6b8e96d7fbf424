//! The emulator: its command line, and the conversation that tells how a run ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::disk::Disk;
use crate::control::short;
use crate::error::{Attempt, Trouble};

/// One run of the machine.
pub(crate) struct Start<'a> {
    /// The image, with `vmlinuz` and `initrd`.
    pub image: &'a Path,
    /// Directory of the node: card, sockets, console.
    pub dir: &'a Path,
    pub arguments: &'a str,
    pub memory_mib: u32,
    pub tap: &'a str,
    pub mac: &'a str,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The node asked for a reboot.
    Reboot,
    /// The node switched itself off.
    Off,
    /// The emulator went without a word.
    Gone,
}

impl Start<'_> {
    fn qmp(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }

    /// The image's initrd with the script of this start.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    fn button(&self) -> PathBuf {
        self.dir.join("button.sock")
    }

    /// Program and arguments. The machine starts once [`Start::connect`] has been called.
    pub(crate) fn words(&self) -> Vec<String> {
        let disk = Disk::new(self.dir);
        let drive = |id: &str, file: PathBuf| {
            [
                "-drive".to_owned(),
                // What the guest wrote survives a kill of the emulator; only this machine's own crash could lose it.
                format!(
                    "if=none,id={id},file={},format=raw,cache=unsafe,discard=unmap",
                    file.display()
                ),
                "-device".to_owned(),
                // The serial number makes it /dev/disk/by-id/virtio-….
                format!("virtio-blk-pci,drive={id},serial=lab-{id}"),
            ]
        };
        let mut words: Vec<String> = [
            // One machine must not take all of a small computer.
            "nice",
            "qemu-system-aarch64",
            "-M",
            "virt",
            "-accel",
            "tcg,thread=multi,tb-size=128",
            "-cpu",
            "cortex-a72",
            "-smp",
            "2",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            // The end of a run is a word on the control connection, and the emulator waits until it was heard.
            "-action",
            "reboot=shutdown,shutdown=pause",
            "-device",
            "virtio-rng-pci",
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtserialport,chardev=button,name=lab.button",
        ]
        .map(str::to_owned)
        .to_vec();
        let pairs = [
            ("-m", self.memory_mib.to_string()),
            ("-kernel", self.image.join("vmlinuz").display().to_string()),
            ("-initrd", self.initrd().display().to_string()),
            ("-append", self.arguments.to_owned()),
            (
                "-chardev",
                format!(
                    "file,id=console,path={},append=on",
                    self.dir.join("console.log").display()
                ),
            ),
            ("-serial", "chardev:console".to_owned()),
            (
                "-chardev",
                format!(
                    "socket,id=button,path={},server=on,wait=off",
                    self.button().display()
                ),
            ),
            (
                "-qmp",
                format!("unix:{},server=on,wait=on", self.qmp().display()),
            ),
            (
                "-netdev",
                format!("tap,id=net,ifname={},script=no,downscript=no", self.tap),
            ),
            (
                "-device",
                format!("virtio-net-pci,netdev=net,mac={},romfile=", self.mac),
            ),
        ];
        words.extend(pairs.into_iter().flat_map(|(k, v)| [k.to_owned(), v]));
        words.extend(drive("card", disk.card()));
        if let Some(data) = disk.data() {
            words.extend(drive("data", data));
        }
        words
    }

    /// Removes the sockets of the last run, lest they are taken for this one's.
    pub(crate) fn clear(&self) {
        for socket in [self.qmp(), self.button()] {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Connects to the emulator; with that the machine starts. `gone` tells that the emulator has ended.
    pub(crate) fn connect(&self, mut gone: impl FnMut() -> bool) -> Result<Session, Trouble> {
        // The button's connection first: without one the port would look unplugged to the guest.
        let button = dial(&self.button(), &mut gone)?;
        let control = dial(&self.qmp(), &mut gone)?;
        Ok(Session { control, button })
    }
}

fn dial(socket: &Path, gone: &mut impl FnMut() -> bool) -> Result<UnixStream, Trouble> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match short(socket, |p| UnixStream::connect(p)) {
            Ok(stream) => return Ok(stream),
            Err(_) if gone() => return Err(Trouble("the emulator did not start".into())),
            Err(e) if Instant::now() > end => {
                return Err(Trouble(format!("the emulator does not answer: {e}")));
            }
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

/// The connections to a running emulator.
pub(crate) struct Session {
    control: UnixStream,
    button: UnixStream,
}

impl Session {
    /// A second handle of the reboot button.
    pub(crate) fn button(&self) -> Result<UnixStream, Trouble> {
        self.button
            .try_clone()
            .attempt(|| "keep the reboot button".into())
    }

    /// Waits for the end of the run.
    pub(crate) fn wait(&self) -> Stopped {
        let say = |word: &str| {
            let _ = (&self.control).write_all(format!("{{\"execute\":\"{word}\"}}\n").as_bytes());
        };
        say("qmp_capabilities");
        let mut stopped = Stopped::Gone;
        // To the end of the connection: words it has not read yet are lost to the emulator when we hang up.
        for line in BufReader::new(&self.control).lines().map_while(Result::ok) {
            if let (Stopped::Gone, Some(how)) = (stopped, read_event(&line)) {
                stopped = how;
                say("quit");
            }
        }
        stopped
    }
}

/// The end of a run, if the line tells of it.
fn read_event(line: &str) -> Option<Stopped> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    if value.get("event")?.as_str()? != "SHUTDOWN" {
        return None;
    }
    Some(match value.get("data")?.get("reason")?.as_str()? {
        "guest-reset" => Stopped::Reboot,
        _ => Stopped::Off,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shutdown_ends_a_run_and_its_reason_tells_a_reboot() {
        let event = |reason: &str| {
            format!(
                r#"{{"timestamp": {{"seconds": 1, "microseconds": 2}}, "event": "SHUTDOWN", "data": {{"guest": true, "reason": "{reason}"}}}}"#
            )
        };
        assert_eq!(read_event(&event("guest-reset")), Some(Stopped::Reboot));
        assert_eq!(read_event(&event("guest-shutdown")), Some(Stopped::Off));
        assert_eq!(
            read_event(r#"{"event": "RTC_CHANGE", "data": {"offset": 0}}"#),
            None
        );
        assert_eq!(read_event(r#"{"return": {}}"#), None);
    }
}
