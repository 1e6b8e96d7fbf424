//! The words between a caller and a running lab: one JSON line each way, over a Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::listing::Entry;
use crate::status::NodeStatus;

/// Whether a verb that starts a node returns at once or when its sshd answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// Until the node's sshd answers, bounded by [`crate::LabOptions::ready_timeout`].
    Ready,
    /// Not at all.
    No,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Status,
    Cut { node: String },
    Heal { node: String },
    Kill { node: String },
    Start { node: String, wait: Wait },
    Wipe { node: String, wait: Wait },
    Reboot { node: String, wait: Wait },
    WaitReady { node: String, seconds: u64 },
    HoldAptLock { node: String, seconds: u32 },
    FillDisk { node: String },
    FreeDisk { node: String },
    RemountRoot { node: String, read_only: bool },
    Listing { node: String },
    CpuSeconds { node: String },
    MemoryBytes { node: String },
    Down,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    Status(Vec<NodeStatus>),
    Listing(Vec<Entry>),
    Number(f64),
    Failed(Failure),
}

/// Sends one request and waits for its answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> std::io::Result<Response> {
    let mut stream = connect(socket)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the lab ended while it worked on this",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Connects to a Unix socket at a path of any length: `sun_path` holds 108 bytes only, so the way goes through
/// an open directory.
pub(crate) fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    short(socket, |p| UnixStream::connect(p))
}

/// Calls `f` with a short name for `socket`.
pub(crate) fn short<T>(
    socket: &Path,
    f: impl FnOnce(&Path) -> std::io::Result<T>,
) -> std::io::Result<T> {
    use std::os::fd::AsRawFd;
    if socket.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return f(socket);
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return f(socket);
    };
    let dir = std::fs::File::open(dir)?;
    f(&Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name))
}
