//! Streams a controller-side file to a node, before the operation that puts it in its place.
//!
//! A session of its own beside the agent's, which holds the lock meanwhile: the node says how much
//! of the file it has and what that hashes to, the controller goes on from there or from the
//! beginning, and the node compares the digest of the whole with the one of the plan. What a broken connection leaves on the
//! node is taken up by the next attempt.

use std::time::Duration;

use async_trait::async_trait;
use picluster_plan::StepAddr;
use picluster_resource::Staged;
use picluster_resource::facts::RootAccess;
use picluster_resource::shell::quote;
use sha2::{Digest, Sha256};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::time::timeout;

use crate::error::NodeError;
use crate::host::Exit;
use crate::report::Failure;
use crate::worker::{Told, Worker};

/// What is read in one go: each is a trip to another thread.
const CHUNK: usize = 512 * 1024;
/// How many bytes lie between two reports of progress.
const REPORT_EVERY: u64 = 4 << 20;
/// A card that takes less than this a second while it syncs is taken for broken.
const SLOWEST_CARD: u64 = 1_000_000;
/// Room that has to be left on the node's file system.
const SPARE: u64 = 1 << 20;
/// How much a login shell's start-up files may print before the program begins.
const NOISE_LIMIT: usize = 65_536;
/// How much of stderr is kept.
const STDERR_TAIL: usize = 4096;

/// Where the bytes of artifacts come from.
#[async_trait]
pub trait Artifacts: Send + Sync {
    /// Opens the file with this SHA-256 at its beginning. Nobody has to have compared its bytes
    /// with the digest: they are on their way to the node.
    ///
    /// # Errors
    /// A sentence that names the file.
    async fn open(&self, sha256: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, String>;
}

/// No artifacts: for runs whose plan has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArtifacts;

#[async_trait]
impl Artifacts for NoArtifacts {
    async fn open(&self, sha256: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, String> {
        Err(format!("there is no file with sha256 {sha256}"))
    }
}

type Source = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// The next bytes of the file, at most `most` and not none.
async fn next<'a>(source: &'a mut Source, most: u64, staged: &Staged) -> Result<&'a [u8], End> {
    match source.fill_buf().await {
        Ok([]) => Err(changed(staged)),
        Ok(all) => {
            let most = usize::try_from(most).map_or(all.len(), |most| most.min(all.len()));
            Ok(&all[..most])
        }
        Err(e) => Err(unreadable(staged, &e)),
    }
}

/// The SHA-256 of the next `bytes` of the file, in hex.
async fn digest(source: &mut Source, bytes: u64, staged: &Staged) -> Result<String, End> {
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let chunk = next(source, left, staged).await?;
        hash.update(chunk);
        let n = chunk.len();
        source.consume(n);
        left -= n as u64;
    }
    Ok(hex(hash))
}

/// What the node has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Have {
    bytes: u64,
    sha256: String,
    free: u64,
}

impl Have {
    /// Reads `have BYTES SHA256 KIB_FREE`.
    fn parse(words: &str) -> Option<Self> {
        let mut words = words.strip_prefix("have ")?.split(' ');
        Some(Self {
            bytes: words.next()?.parse().ok()?,
            sha256: words.next()?.to_owned(),
            free: words.next()?.parse::<u64>().ok()?.saturating_mul(1024),
        })
    }
}

/// The program at the node's end.
struct Far {
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Output that was read and not yet used.
    rest: Vec<u8>,
    exit: tokio::sync::oneshot::Receiver<Exit>,
    stderr: tokio::task::JoinHandle<String>,
}

/// How an upload ended, if not well.
enum End {
    Failed(Failure),
    Broken(NodeError),
}

impl From<NodeError> for End {
    fn from(error: NodeError) -> Self {
        Self::Broken(error)
    }
}

impl Worker {
    /// Brings the file to the node. `Ok(Err)`: it cannot be; the step has failed.
    pub(crate) async fn upload(
        &mut self,
        addr: &StepAddr,
        staged: &Staged,
    ) -> Result<Result<(), Failure>, NodeError> {
        match self.try_upload(addr, staged).await {
            Ok(()) => Ok(Ok(())),
            Err(End::Failed(failure)) => Ok(Err(failure)),
            Err(End::Broken(error)) => Err(error),
        }
    }

    async fn try_upload(&mut self, addr: &StepAddr, staged: &Staged) -> Result<(), End> {
        let bound = self.run.shared.settings.answer_timeout;
        let mut far = self.start_upload(staged).await?;
        let have = match self.hear(&mut far, bound).await? {
            Some(words) => Have::parse(&words),
            None => return Err(self.ended(far).await),
        };
        let Some(have) = have else {
            return Err(self.garbage("the upload does not say what is there").into());
        };
        let needed = staged.size.saturating_sub(have.bytes);
        if have.free < needed.saturating_add(SPARE) {
            return Err(End::Failed(Failure {
                cure: Some("make room there, then apply again".into()),
                ..Failure::new(format!(
                    "no room for {}: {} more are needed, {} are free",
                    staged.path,
                    mib(needed),
                    mib(have.free)
                ))
            }));
        }
        let (mut source, from) = self.position(staged, &have).await?;
        let mut sent = from;
        self.tell(Told::Uploading {
            addr: addr.clone(),
            sent,
            total: staged.size,
        });
        if far
            .stdin
            .write_all(format!("{from}\n").as_bytes())
            .await
            .is_err()
        {
            return Err(self.ended(far).await);
        }
        let mut reported = sent;
        while sent < staged.size {
            let chunk = next(&mut source, staged.size - sent, staged).await?;
            match timeout(bound, far.stdin.write_all(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.ended(far).await),
                Err(_) => return Err(self.late(bound).into()),
            }
            let n = chunk.len();
            source.consume(n);
            sent += n as u64;
            self.run
                .shared
                .tally
                .count(&self.node, |c| c.bytes_out += n as u64);
            if sent - reported >= REPORT_EVERY || sent == staged.size {
                reported = sent;
                self.tell(Told::Uploading {
                    addr: addr.clone(),
                    sent,
                    total: staged.size,
                });
            }
        }
        // The end of input is the end of the file.
        let _ = far.stdin.shutdown().await;
        let card = Duration::from_secs(staged.size / SLOWEST_CARD);
        match self.hear(&mut far, bound + card).await? {
            Some(words) if words == "done" => {}
            // Its digest is another one, and it is gone from the node. The file is hashed here only
            // now, where it matters whose fault that is: hashing while sending costs a third of the
            // throughput.
            Some(words) => {
                let mut source = self.open(staged).await?;
                if digest(&mut source, staged.size, staged).await? != staged.sha256 {
                    return Err(changed(staged));
                }
                return Err(End::Failed(Failure::new(format!(
                    "what arrived is not what was sent ({words}); it was thrown away"
                ))));
            }
            None => return Err(self.ended(far).await),
        }
        let _ = timeout(bound, &mut far.exit).await;
        Ok(())
    }

    /// Opens the file and goes to where the node's part ends, if that is the beginning of it.
    async fn position(&mut self, staged: &Staged, have: &Have) -> Result<(Source, u64), End> {
        let mut source = self.open(staged).await?;
        if have.bytes == 0 || have.bytes > staged.size {
            return Ok((source, 0));
        }
        if digest(&mut source, have.bytes, staged).await? == have.sha256 {
            return Ok((source, have.bytes));
        }
        // A node that lost its power may have kept the length without the bytes.
        Ok((self.open(staged).await?, 0))
    }

    async fn open(&mut self, staged: &Staged) -> Result<Source, End> {
        match self.run.artifacts.open(&staged.sha256).await {
            Ok(source) => Ok(BufReader::with_capacity(CHUNK, source)),
            Err(why) => Err(End::Failed(Failure::new(why))),
        }
    }

    async fn start_upload(&mut self, staged: &Staged) -> Result<Far, NodeError> {
        let program = format!(
            "F={}; D={}; N={}\n{}",
            quote(staged.path.as_str()),
            quote(&staged.sha256),
            staged.size,
            include_str!("upload.sh")
        );
        let line = match self.access.root {
            RootAccess::SudoPassword => {
                let agent = self.link.separate_root(&self.access).await?;
                let program = agent.become_fed_program(&program).await;
                let mut stderr = program.stderr;
                return Ok(Far {
                    stdin: program.stdin,
                    stdout: program.stdout,
                    rest: program.rest,
                    exit: program.exit,
                    stderr: tokio::spawn(async move {
                        let mut text = Vec::new();
                        while let Some(chunk) = stderr.recv().await {
                            keep(&mut text, &chunk);
                        }
                        String::from_utf8_lossy(&text).into_owned()
                    }),
                });
            }
            RootAccess::Sudo => format!("exec sudo -n -- /bin/sh -c {}", quote(&program)),
            RootAccess::IsRoot | RootAccess::None => {
                format!("exec /bin/sh -c {}", quote(&program))
            }
        };
        let session = self.link.start(&line).await?;
        let mut stderr = session.stderr;
        Ok(Far {
            stdin: session.stdin,
            stdout: session.stdout,
            rest: Vec::new(),
            exit: session.exit,
            stderr: tokio::spawn(async move {
                let mut text = Vec::new();
                let mut buffer = vec![0; 1024];
                while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
                    keep(&mut text, &buffer[..n]);
                }
                String::from_utf8_lossy(&text).into_owned()
            }),
        })
    }

    /// The next words of the far end; `None` at the end of its output.
    async fn hear(&mut self, far: &mut Far, bound: Duration) -> Result<Option<String>, NodeError> {
        let read = async {
            let mut buffer = vec![0; 1024];
            loop {
                while let Some(end) = far.rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = far.rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    // A login shell may print something before, also without a newline.
                    if let Some((_, words)) = line.trim_end().split_once("@upload ") {
                        return Some(words.to_owned());
                    }
                }
                match far.stdout.read(&mut buffer).await {
                    Ok(n @ 1..) if far.rest.len() < NOISE_LIMIT => {
                        far.rest.extend_from_slice(&buffer[..n]);
                    }
                    _ => return None,
                }
            }
        };
        timeout(bound, read).await.map_err(|_| self.late(bound))
    }

    /// What became of an upload whose output ended before its time.
    async fn ended(&mut self, far: Far) -> End {
        let bound = self.run.shared.settings.answer_timeout;
        drop(far.stdin);
        let exit = timeout(bound, far.exit).await;
        let stderr = match timeout(bound, far.stderr).await {
            Ok(Ok(text)) => text.trim().to_owned(),
            _ => String::new(),
        };
        match exit {
            // 3: input ended too early, so the connection did.
            Ok(Ok(Exit::Status(status))) if status != 3 && status != 0 => End::Failed(Failure {
                status: Some(status),
                output: stderr,
                ..Failure::new("the node could not take the file")
            }),
            _ => End::Broken(NodeError::Lost {
                node: self.node.clone(),
                stderr: if stderr.is_empty() {
                    "the connection broke while the file was being sent; the next apply sends what is missing".into()
                } else {
                    stderr
                },
            }),
        }
    }

    fn late(&self, bound: Duration) -> NodeError {
        NodeError::Timeout {
            node: self.node.clone(),
            doing: "taking a file".into(),
            seconds: bound.as_secs(),
        }
    }
}

fn changed(staged: &Staged) -> End {
    End::Failed(Failure {
        cure: Some("apply again: the plan is made from the file as it is then".into()),
        ..Failure::new(format!(
            "the controller's file is not the one the plan was made from (sha256 {})",
            staged.sha256
        ))
    })
}

fn unreadable(staged: &Staged, error: &std::io::Error) -> End {
    End::Failed(Failure::new(format!(
        "the controller's file with sha256 {} cannot be read: {error}",
        staged.sha256
    )))
}

fn keep(text: &mut Vec<u8>, more: &[u8]) {
    text.extend_from_slice(more);
    let surplus = text.len().saturating_sub(STDERR_TAIL);
    text.drain(..surplus);
}

fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_says_what_it_has_and_how_much_room_there_is() {
        assert_eq!(
            Have::parse("have 12 abc 3"),
            Some(Have {
                bytes: 12,
                sha256: "abc".into(),
                free: 3072
            })
        );
        assert_eq!(Have::parse("have 12"), None);
        assert_eq!(Have::parse("done"), None);
    }
}
