//! Jump hosts: one connection each, shared by all nodes behind it.
//!
//! Tunnels are `direct-tcpip` channels (RFC 4254 §7.2). sshd's `MaxSessions` counts shells, not
//! these, and `MaxStartups` counts connections, of which there is one; so any number of nodes fits
//! behind one connection.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, oneshot};
use tokio::time::timeout;

use crate::connector::DialError;
use crate::host::Link;
use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::route::Endpoint;
use crate::session::{Task, feed};
use crate::wire::Flushed;

/// Bytes on their way out that wait for the jump host's window.
const OUTWARD: usize = 256 * 1024;

/// Bytes of one node that wait for its connection to take them. Never reached by a node that keeps to
/// its windows: 8 channels of 2 MiB and what is not under a window.
const INWARD_LIMIT: usize = 32 << 20;

/// How long the last bytes of a tunnel may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// The jump connections of a run, by the way to them.
#[derive(Default)]
pub(crate) struct Jumps(Mutex<HashMap<Vec<Endpoint>, Arc<Jump>>>);

/// One jump host.
pub(crate) struct Jump {
    /// Nodes being dialled through it.
    pub dials: Arc<Semaphore>,
    slot: AsyncMutex<Slot>,
}

#[derive(Default)]
struct Slot {
    link: Option<Arc<Link>>,
    failure: Option<(Instant, DialError)>,
}

impl Jumps {
    /// The jump host at the end of `way`.
    pub fn at(&self, way: &[Endpoint], dials: usize) -> Arc<Jump> {
        let mut jumps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jump = jumps.entry(way.to_vec()).or_insert_with(|| {
            Arc::new(Jump {
                dials: Arc::new(Semaphore::new(dials.max(1))),
                slot: AsyncMutex::default(),
            })
        });
        Arc::clone(jump)
    }
}

impl Jump {
    /// The open connection to the jump host, dialled by whoever comes first. Those who waited for
    /// a dial that failed share its failure: twelve nodes must not run into the same timeout in turn.
    pub async fn link<F>(&self, dial: F) -> Result<Arc<Link>, DialError>
    where
        F: Future<Output = Result<Arc<Link>, DialError>>,
    {
        let came = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(link) = slot.link.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(link));
        }
        if let Some((when, failure)) = &slot.failure
            && *when >= came
        {
            return Err(failure.clone());
        }
        match dial.await {
            Ok(link) => {
                slot.link = Some(Arc::clone(&link));
                slot.failure = None;
                Ok(link)
            }
            Err(failure) => {
                slot.link = None;
                slot.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }
}

/// A byte stream to a host behind a jump host.
pub(crate) struct Tunnel {
    inward: PipeReader,
    outward: PipeWriter,
    /// Dropped with the tunnel, which closes the channel.
    _held: oneshot::Sender<()>,
}

/// Wraps a `direct-tcpip` channel.
///
/// What comes in is taken off the shared connection at once: were it left in the channel's queue while
/// this node's connection is busy sending, the shared connection would stop, and with it the very
/// window this node waits for.
pub(crate) fn tunnel(channel: Channel<Msg>, flushed: Flushed) -> Tunnel {
    let (read, write) = channel.split();
    let write = Arc::new(write);
    let (inward_in, inward) = pipe(usize::MAX);
    let (outward, outward_out) = pipe(OUTWARD);
    let (held, released) = oneshot::channel();
    let feeding = Task(tokio::spawn(feed(outward_out, Arc::clone(&write), flushed)));
    tokio::spawn(carry(read, write, inward_in, released, feeding));
    Tunnel {
        inward,
        outward,
        _held: held,
    }
}

async fn carry(
    mut read: ChannelReadHalf,
    write: Arc<ChannelWriteHalf<Msg>>,
    inward: PipeWriter,
    mut released: oneshot::Receiver<()>,
    mut feeding: Task,
) {
    loop {
        let message = tokio::select! {
            message = read.wait() => message,
            _ = &mut released => {
                // Let the farewell of the inner connection out first.
                let _ = timeout(FAREWELL, &mut feeding.0).await;
                break;
            }
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                inward.push(data).await;
                if inward.queued() > INWARD_LIMIT {
                    tracing::debug!("a tunnelled node sends more than its windows allow");
                    break;
                }
            }
            Some(ChannelMsg::Eof) => inward.finish(),
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
    let _ = write.close().await;
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inward).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.outward).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.outward).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.outward).poll_shutdown(cx)
    }
}
