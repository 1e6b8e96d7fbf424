//! A running program: its channel on one side, three streams and an exit on the other.
//!
//! russh answers the node's window by itself as data comes in, so a channel's own window holds nobody
//! back; what does is its bounded queue. A reader that stops therefore stops its whole connection, at
//! the TCP window, and nothing grows. (Between connections nothing is shared but a jump host's, and
//! there the tunnel takes what one node's windows allow: see [`crate::jump`].)

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use picluster_engine::host::{Exit, Session};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;

use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::wire::Flushed;

/// Bytes of each output stream that wait for their reader, beyond what is queued in the channel.
const OUTPUT: usize = 256 * 1024;

/// Bytes of stdin that wait for the channel.
const INPUT: usize = 256 * 1024;

/// SSH_EXTENDED_DATA_STDERR (RFC 4254 §5.2).
const STDERR: u32 = 1;

/// Stops a task when dropped.
pub(crate) struct Task(pub JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Wraps a channel on which a program was started. `slot` is given back once the channel is closed,
/// `keep` kept alive until then.
pub(crate) fn session<K: Send + 'static>(
    channel: Channel<Msg>,
    slot: OwnedSemaphorePermit,
    flushed: Flushed,
    keep: K,
) -> Session {
    let (read, write) = channel.split();
    let (stdin, stdin_out) = pipe(INPUT);
    let (stdout_in, stdout) = pipe(OUTPUT);
    let (stderr_in, stderr) = pipe(OUTPUT);
    let (exit_tx, exit) = oneshot::channel();
    let (held, released) = oneshot::channel::<()>();
    let held = Arc::new(held);
    let write = Arc::new(write);
    let feeding = Task(tokio::spawn(feed(stdin_out, Arc::clone(&write), flushed)));
    tokio::spawn(async move {
        let program = Program {
            read,
            write,
            stdout: stdout_in,
            stderr: stderr_in,
            exit: exit_tx,
            released,
        };
        program.run().await;
        // Writers learn that nobody reads any more.
        drop(feeding);
        drop(slot);
        drop(keep);
    });
    Session {
        stdin: Box::new(stdin),
        stdout: Box::new(Output {
            pipe: stdout,
            _held: Arc::clone(&held),
        }),
        stderr: Box::new(Output {
            pipe: stderr,
            _held: held,
        }),
        exit,
    }
}

/// Bytes of one channel handed to russh between two flushes to the socket.
const BATCH: usize = 128 * 1024;

/// Sends what is written to stdin, then end of file.
///
/// russh encrypts all it is given before it writes, into a buffer it keeps: a feeder on another
/// processor would make that as large as the node's window, for every node that ever got a file.
/// So a batch is followed by the next only after a flush that came since the batch before it ended.
/// One must come, since `data_bytes` hands over only what the window allows to be sent; and as it is
/// as a rule the flush of a batch's beginning, russh is never without something to encrypt, and has
/// never more than two batches.
pub(crate) async fn feed(
    mut from: PipeReader,
    to: Arc<ChannelWriteHalf<Msg>>,
    mut flushed: Flushed,
) {
    let mut batch = 0;
    while let Some(chunk) = from.next().await {
        batch += chunk.len();
        if to.data_bytes(chunk).await.is_err() {
            return;
        }
        if batch >= BATCH {
            batch = 0;
            if flushed.changed().await.is_err() {
                return;
            }
        }
    }
    // An error means that the connection is gone, which the reading side reports.
    let _ = to.eof().await;
}

/// One of the two output streams. The channel stays open while either is held.
struct Output {
    pipe: PipeReader,
    _held: Arc<oneshot::Sender<()>>,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

struct Program {
    read: ChannelReadHalf,
    write: Arc<ChannelWriteHalf<Msg>>,
    stdout: PipeWriter,
    stderr: PipeWriter,
    exit: oneshot::Sender<Exit>,
    /// Ends when both output streams are dropped.
    released: oneshot::Receiver<()>,
}

impl Program {
    async fn run(mut self) {
        let mut status = None;
        // Whether the channel came to its end in order, so that nothing of the output is missing.
        let mut ended = false;
        loop {
            let message = tokio::select! {
                biased;
                message = self.read.wait() => message,
                () = nobody(&mut self.exit, &mut self.released) => {
                    // Nobody can learn anything from this program any more. It sees closed pipes.
                    let _ = self.write.close().await;
                    break;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => self.stdout.push(data).await,
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                    self.stderr.push(data).await
                }
                Some(ChannelMsg::Eof) => {
                    ended = true;
                    self.stdout.finish();
                    self.stderr.finish();
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    status = Some(Exit::Status(exit_status));
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    status = Some(Exit::Signal(signal(signal_name)));
                }
                Some(ChannelMsg::Close) => {
                    ended = true;
                    break;
                }
                // The node would not run the command at all.
                Some(ChannelMsg::Failure) => {
                    tracing::debug!("the node refused to run a command");
                    let _ = self.write.close().await;
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        let exit = match status {
            Some(exit) if ended => exit,
            // No status, or a status whose output was cut off: nobody knows what was done.
            _ => Exit::Lost,
        };
        self.stdout.finish();
        self.stderr.finish();
        // The caller may have dropped its end: not everyone wants to know.
        let _ = self.exit.send(exit);
    }
}

/// Resolves when the exit and both outputs are dropped.
async fn nobody(exit: &mut oneshot::Sender<Exit>, released: &mut oneshot::Receiver<()>) {
    exit.closed().await;
    // Ends with an error, as nothing is ever sent; must not be polled again after it did.
    if !released.is_terminated() {
        let _ = released.await;
    }
}

/// The name without `SIG`, as RFC 4254 §6.10 has it.
fn signal(signal: russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => name.trim_end_matches("@openssh.com").to_owned(),
        // The variants are named after the signals.
        known => format!("{known:?}"),
    }
}
