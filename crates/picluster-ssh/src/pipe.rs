//! A bounded pipe of byte chunks between a russh channel and the streams a caller holds.
//!
//! `tokio::io::duplex` would do, at one more copy a byte; here a chunk travels as russh made it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest chunk [`PipeWriter`] makes of one write: one packet of OpenSSH.
const CHUNK: usize = 32 * 1024;

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    queued: usize,
    finished: bool,
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Shared {
    state: Mutex<State>,
    /// Bytes queued from which the writer waits.
    capacity: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a pipe whose writer waits once `capacity` bytes are queued.
pub(crate) fn pipe(capacity: usize) -> (PipeWriter, PipeReader) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        capacity,
    });
    (PipeWriter(Arc::clone(&shared)), PipeReader(shared))
}

/// The writing end. Dropping it ends the stream.
pub(crate) struct PipeWriter(Arc<Shared>);

/// The reading end. Dropping it makes the writer's end fail or, for [`PipeWriter::push`], forget.
pub(crate) struct PipeReader(Arc<Shared>);

impl PipeWriter {
    /// Adds a chunk and waits until there is room for the next; forgets it when nobody reads.
    pub async fn push(&self, chunk: Bytes) {
        {
            let mut state = self.0.lock();
            if state.abandoned || chunk.is_empty() {
                return;
            }
            state.queued += chunk.len();
            state.chunks.push_back(chunk);
            if let Some(waker) = state.reader.take() {
                waker.wake();
            }
        }
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.abandoned || state.queued < self.0.capacity {
                return Poll::Ready(());
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends the stream: the reader sees what is queued, then end of file.
    pub fn finish(&self) {
        let mut state = self.0.lock();
        state.finished = true;
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
    }

    /// Bytes written and not read yet.
    pub fn queued(&self) -> usize {
        self.0.lock().queued
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.abandoned || state.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if state.queued >= self.0.capacity {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = buf.len().min(CHUNK);
        let chunk = buf.get(..taken).unwrap_or(buf);
        state.queued += taken;
        state.chunks.push_back(Bytes::copy_from_slice(chunk));
        if let Some(waker) = state.reader.take() {
            waker.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The reading end sends on its own account; waiting for it would only slow writers down.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl PipeReader {
    /// The next chunk as it was written; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| {
            self.poll_front(cx, |state| {
                let chunk = state.chunks.pop_front()?;
                state.queued -= chunk.len();
                Some(chunk)
            })
        })
        .await
    }

    /// Waits for a chunk or the end, applies `take` when there is a chunk, and wakes the writer.
    fn poll_front<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut State) -> Option<T>,
    ) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        if state.chunks.is_empty() {
            if state.finished {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = take(&mut state);
        if state.queued < self.0.capacity
            && let Some(waker) = state.writer.take()
        {
            waker.wake();
        }
        Poll::Ready(taken)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.chunks.clear();
        state.queued = 0;
        if let Some(waker) = state.writer.take() {
            waker.wake();
        }
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_front(cx, |state| {
            // As much as fits, over chunk borders: small packets must not mean small reads.
            while buf.remaining() > 0 {
                let front = state.chunks.front_mut()?;
                let taken = front.len().min(buf.remaining());
                buf.put_slice(front.get(..taken)?);
                front.advance(taken);
                state.queued -= taken;
                if front.is_empty() {
                    state.chunks.pop_front();
                }
            }
            Some(())
        })
        .map(|_| Ok(()))
    }
}
