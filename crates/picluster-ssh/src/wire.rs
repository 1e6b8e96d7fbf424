//! The byte stream under an SSH connection: counted, and never waited on without bound.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep};

use crate::counters::Tally;

/// Either a TCP stream or a tunnel through a jump host.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Counts bytes, and turns a write that makes no progress into an error: russh awaits its writes
/// inside its event loop, where its keepalive timer cannot fire.
pub(crate) struct Wire {
    inner: Box<dyn Stream>,
    tally: Arc<Tally>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    stalled: bool,
    flushed: watch::Sender<()>,
    cord: oneshot::Receiver<()>,
}

/// Keeps a wire open; dropping it cuts the wire. russh's own task would go on waiting for a peer that
/// went mute in the middle of the key exchange, long after everyone else gave up.
pub(crate) struct Cord(#[allow(dead_code)] oneshot::Sender<()>);

/// Tells when a batch of packets has left for the socket.
pub(crate) type Flushed = watch::Receiver<()>;

impl Wire {
    pub fn new(inner: Box<dyn Stream>, tally: Arc<Tally>, stall: Duration) -> (Self, Cord) {
        let (held, cord) = oneshot::channel();
        let wire = Self {
            flushed: watch::Sender::new(()),
            cord,
            inner,
            tally,
            stall,
            timer: Box::pin(tokio::time::sleep(stall)),
            stalled: false,
        };
        (wire, Cord(held))
    }

    /// Fails once the cord is dropped.
    fn cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // Nothing is ever sent, and after the end there is nothing left to poll.
        if self.cord.is_terminated() || Pin::new(&mut self.cord).poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Changes whenever russh has written out everything it had encrypted; closed with the wire.
    pub fn flushed(&self) -> Flushed {
        self.flushed.subscribe()
    }

    /// Passes progress on; starts or watches the timer when there is none.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = false;
            return poll;
        }
        if !self.stalled {
            self.stalled = true;
            self.timer.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("took no data for {} s", self.stall.as_secs()),
        )))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut(cx)?;
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        self.tally
            .bytes_in
            .fetch_add(read as u64, Ordering::Relaxed);
        poll
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cut(cx)?;
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &poll {
            self.tally
                .bytes_out
                .fetch_add(*written as u64, Ordering::Relaxed);
        }
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        if poll.is_ready() {
            self.flushed.send_replace(());
        }
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, poll)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_write_without_progress_fails_and_a_slow_one_does_not() {
        let (near, mut far) = tokio::io::duplex(64);
        let tally = Arc::new(Tally::default());
        let stall = Duration::from_millis(200);
        let (mut wire, _cord) = Wire::new(Box::new(near), Arc::clone(&tally), stall);
        // Taken bit by bit, each time before the limit: longer than the limit in all.
        let reader = tokio::spawn(async move {
            let mut part = [0; 64];
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(80)).await;
                far.read_exact(&mut part).await.expect("reads");
            }
            far
        });
        wire.write_all(&[1; 7 * 64])
            .await
            .expect("slow, but not stalled");
        assert_eq!(tally.bytes_out.load(Ordering::Relaxed), 7 * 64);
        let _far = reader.await.expect("joins");
        let started = Instant::now();
        let written = tokio::time::timeout(Duration::from_secs(5), wire.write_all(&[1; 64])).await;
        let error = written
            .expect("ends by itself")
            .expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_dropped_cord_ends_a_pending_read() {
        let (near, _far) = tokio::io::duplex(64);
        let (mut wire, cord) = Wire::new(Box::new(near), Arc::default(), Duration::from_secs(60));
        let reading = tokio::spawn(async move { wire.read_u8().await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(cord);
        let error = reading.await.expect("joins").expect_err("ends");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
