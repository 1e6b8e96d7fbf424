//! A shell of this machine in the role of a node, with faults on demand. For tests only.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picluster_model::NodeName;
use picluster_resource::frame::FrameReader;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::process::Command;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::host::{ConnectError, Connector, Exit, Host, HostError, Peer, Session};

/// How much is on its way at most.
const PIPE: usize = 65_536;

/// What goes wrong with one exec session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// After this many frames the connection is gone, without a word.
    CutAfterFrames(usize),
    /// After this many bytes of input the connection is gone.
    CutAfterInput(usize),
    /// These bytes come before the program's own output.
    Noise(Vec<u8>),
    /// Every read takes this long.
    Slow(Duration),
}

#[derive(Debug, Default)]
struct State {
    refusals: BTreeMap<NodeName, VecDeque<ConnectError>>,
    faults: BTreeMap<NodeName, VecDeque<Fault>>,
    sessions: BTreeMap<NodeName, usize>,
}

/// Makes [`Host`]s whose programs run on this machine.
#[derive(Debug, Default)]
pub struct LocalConnector {
    /// What stands in for `/bin/sh`, e.g. `bash --posix`.
    pub shell: Option<String>,
    /// Put first in `PATH`: fake tools.
    pub bin: Option<PathBuf>,
    /// Texts replaced on their way to the node by others of the same length: paths of the kernel
    /// by files of a test. `@@@@` becomes the name of a node whose name has four letters, so that
    /// nodes need not share all files.
    pub replace: Vec<(String, String)>,
    /// A directory of files that count how often a node is still away: `NODE.away` holds the
    /// number of connections that will fail.
    pub away: Option<PathBuf>,
    /// What peers say their host key is.
    pub host_key: String,
    state: Mutex<State>,
}

impl LocalConnector {
    /// The next connections to a node fail in these ways.
    pub fn refuse(&self, node: &NodeName, errors: impl IntoIterator<Item = ConnectError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .refusals
            .entry(node.clone())
            .or_default()
            .extend(errors);
    }

    /// The next sessions on a node go wrong in these ways.
    pub fn faults(&self, node: &NodeName, faults: impl IntoIterator<Item = Fault>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.faults.entry(node.clone()).or_default().extend(faults);
    }
}

/// A connector that can be kept and looked at.
#[derive(Debug, Clone)]
pub struct Local(pub Arc<LocalConnector>);

#[async_trait]
impl Connector for Local {
    async fn connect(&self, node: &NodeName) -> Result<Box<dyn Host>, ConnectError> {
        if let Some(dir) = &self.0.away {
            let file = dir.join(format!("{node}.away"));
            let left = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(left @ 1..) = left.trim().parse::<u32>() {
                let _ = std::fs::write(&file, (left - 1).to_string());
                return Err(ConnectError::Unreachable {
                    node: node.clone(),
                    address: "local".into(),
                    reason: "it is away".into(),
                });
            }
        }
        let refusal = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.refusals.get_mut(node).and_then(VecDeque::pop_front)
        };
        match refusal {
            Some(error) => Err(error),
            None => {
                let (close, _) = watch::channel(false);
                Ok(Box::new(LocalHost {
                    node: node.clone(),
                    connector: Arc::clone(&self.0),
                    close,
                }))
            }
        }
    }
}

struct LocalHost {
    node: NodeName,
    connector: Arc<LocalConnector>,
    close: watch::Sender<bool>,
}

#[async_trait]
impl Host for LocalHost {
    async fn exec(&self, command: &str) -> Result<Session, HostError> {
        if *self.close.borrow() {
            return Err(HostError::Disconnected("closed".into()));
        }
        let fault = {
            let mut state = self
                .connector
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *state.sessions.entry(self.node.clone()).or_default() += 1;
            state
                .faults
                .get_mut(&self.node)
                .and_then(VecDeque::pop_front)
                .unwrap_or(Fault::None)
        };
        let shell = self.connector.shell.as_deref().unwrap_or("/bin/sh");
        let mut line = command.replacen("exec /bin/sh ", &format!("exec {shell} "), 1);
        let mut replace = self.connector.replace.clone();
        replace.push(("@@@@".into(), self.node.to_string()));
        for (from, to) in &replace {
            if from.len() == to.len() {
                line = line.replace(from, to);
            }
        }
        let mut child = Command::new("/bin/sh");
        child.arg("-c").arg(line);
        child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(bin) = &self.connector.bin {
            let path = std::env::var("PATH").unwrap_or_default();
            child.env("PATH", format!("{}:{path}", bin.display()));
        }
        let refused = |what: &str| HostError::Refused(what.to_owned());
        let mut child = child.spawn().map_err(|e| refused(&e.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(refused("no pipes"));
        };
        // One bell for everything that ends the connection under this session.
        let (cut, cut_seen) = watch::channel(false);
        let cut = Arc::new(cut);
        let mut closed = self.close.subscribe();
        let bell = Arc::clone(&cut);
        tokio::spawn(async move {
            if closed.wait_for(|c| *c).await.is_ok() {
                bell.send_replace(true);
            }
        });
        let (near_in, far_in) = duplex(PIPE);
        let (far_out, near_out) = duplex(PIPE);
        let (far_err, near_err) = duplex(PIPE);
        tokio::spawn(feed(
            far_in,
            Box::new(stdin),
            fault.clone(),
            replace,
            Arc::clone(&cut),
        ));
        tokio::spawn(drain(Box::new(stdout), far_out, fault, Arc::clone(&cut)));
        tokio::spawn(drain(
            Box::new(stderr),
            far_err,
            Fault::None,
            Arc::clone(&cut),
        ));
        let (tell, exit) = oneshot::channel();
        tokio::spawn(async move {
            let mut lost = cut_seen;
            let how = tokio::select! {
                biased;
                status = child.wait() => match status {
                    Ok(status) => match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
                        (Some(code), _) => Exit::Status(u32::try_from(code).unwrap_or(0)),
                        (None, Some(signal)) => Exit::Signal(signal.to_string()),
                        (None, None) => Exit::Lost,
                    },
                    Err(_) => Exit::Lost,
                },
                _ = lost.wait_for(|c| *c) => Exit::Lost,
            };
            let _ = tell.send(how);
            // A node goes on with what it does when we are gone.
            let _ = child.wait().await;
        });
        Ok(Session {
            stdin: Box::new(near_in),
            stdout: Box::new(near_out),
            stderr: Box::new(near_err),
            exit,
        })
    }

    fn peer(&self) -> Peer {
        Peer {
            address: "local".into(),
            host_key: self.connector.host_key.clone(),
            user: "me".into(),
        }
    }

    async fn close(&self) {
        self.close.send_replace(true);
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        self.close.send_replace(true);
    }
}

async fn gone(cut: &watch::Sender<bool>) {
    let _ = cut.subscribe().wait_for(|c| *c).await;
}

/// Input on its way to the program.
async fn feed(
    mut from: impl AsyncRead + Unpin,
    mut to: Box<dyn AsyncWrite + Send + Unpin>,
    fault: Fault,
    replace: Vec<(String, String)>,
    cut: Arc<watch::Sender<bool>>,
) {
    let mut buffer = vec![0; PIPE];
    let mut left = match fault {
        Fault::CutAfterInput(bytes) => Some(bytes),
        _ => None,
    };
    loop {
        let n = tokio::select! {
            biased;
            () = gone(&cut) => break,
            n = from.read(&mut buffer) => match n { Ok(n @ 1..) => n, _ => break },
        };
        let mut bytes = buffer[..n].to_vec();
        for (old, new) in &replace {
            overwrite(&mut bytes, old.as_bytes(), new.as_bytes());
        }
        let whole = left.is_none_or(|left| bytes.len() <= left);
        if let Some(left) = &mut left {
            bytes.truncate(*left);
            *left -= bytes.len();
        }
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
        if !whole {
            cut.send_replace(true);
        }
    }
}

/// Replaces text by text of the same length.
fn overwrite(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    if old.len() != new.len() || old.is_empty() {
        return;
    }
    let mut at = 0;
    while at + old.len() <= bytes.len() {
        if &bytes[at..at + old.len()] == old {
            bytes[at..at + new.len()].copy_from_slice(new);
            at += old.len();
        } else {
            at += 1;
        }
    }
}

/// Output on its way from the program.
async fn drain(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    fault: Fault,
    cut: Arc<watch::Sender<bool>>,
) {
    if let Fault::Noise(noise) = &fault
        && to.write_all(noise).await.is_err()
    {
        return;
    }
    let mut frames = FrameReader::default();
    let mut left = match fault {
        Fault::CutAfterFrames(frames) => frames,
        _ => usize::MAX,
    };
    let mut buffer = vec![0; 4096];
    while left > 0 {
        let n = tokio::select! {
            biased;
            () = gone(&cut) => return,
            n = from.read(&mut buffer) => match n { Ok(n @ 1..) => n, _ => return },
        };
        if let Fault::Slow(pause) = fault {
            tokio::time::sleep(pause).await;
        }
        let mut whole = n;
        frames.push(&buffer[..n]);
        while left > 0
            && let Ok(Some(_)) = frames.next_frame()
        {
            left -= 1;
            if left == 0 {
                // The cut falls between two frames: what follows the last one is gone.
                whole = n.saturating_sub(frames.rest().len());
            }
        }
        if to.write_all(&buffer[..whole]).await.is_err() {
            return;
        }
    }
    // What was sent arrives before the end of the stream does.
    drop(to);
    cut.send_replace(true);
}

/// A clock that goes only when it is told to.
#[derive(Debug, Default)]
pub struct TestClock(Mutex<Duration>);

impl TestClock {
    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }
}

impl Clock for TestClock {
    fn epoch_ms(&self) -> i64 {
        i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
