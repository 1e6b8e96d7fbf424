//! An open connection: programs and tunnels over it, and its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picluster_engine::host::{Host, HostError, Peer, Session};
use russh::client::Msg;
use russh::{Channel, Disconnect};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connector::DialError;
use crate::counters::Tally;
use crate::handshake::Established;
use crate::jump::{Tunnel, tunnel};
use crate::route::Endpoint;
use crate::session::session;
use crate::words;

/// How long the other side may take to hang up after we said goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Waits before a refused channel is asked for again. sshd counts a session against `MaxSessions` for
/// a moment after it closed its channel, so programs that start as others end can meet a refusal.
const REFUSED_WAITS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// A connection that is logged in, to a node or a jump host. Closed when the last user drops it.
pub(crate) struct Link {
    connection: Established,
    endpoint: Endpoint,
    tally: Arc<Tally>,
    /// Tunnels being opened.
    opening: AtomicUsize,
    /// The connection this one runs through.
    _through: Option<Arc<Link>>,
}

impl Link {
    pub fn new(
        connection: Established,
        endpoint: Endpoint,
        tally: Arc<Tally>,
        through: Option<Arc<Link>>,
    ) -> Self {
        Self {
            connection,
            endpoint,
            tally,
            opening: AtomicUsize::new(0),
            _through: through,
        }
    }

    pub fn is_open(&self) -> bool {
        !self.connection.handle.is_closed()
    }

    pub fn peer(&self) -> Peer {
        Peer {
            address: self.endpoint.address(),
            host_key: self.connection.host_key.clone(),
            user: self.endpoint.user.clone(),
        }
    }

    /// Why the connection ended; waits a moment for the reason, which arrives after the fact.
    async fn gone(&self) -> HostError {
        let mut ended = self.connection.ended.clone();
        let told = timeout(FAREWELL, ended.wait_for(Option::is_some)).await;
        let reason = match told {
            Ok(Ok(reason)) => reason.clone(),
            // Ended without a word: the socket could not even be shut down.
            _ => None,
        };
        HostError::Disconnected(reason.unwrap_or_else(|| "the connection broke".into()))
    }

    /// Opens a stream to a host that this one can reach.
    pub async fn tunnel(&self, to: &Endpoint) -> Result<Tunnel, DialError> {
        let unreachable = |reason: String| DialError::Unreachable {
            address: to.address(),
            reason: format!("from the jump host {}: {reason}", self.endpoint.address()),
        };
        let others = self.opening.fetch_add(1, Ordering::AcqRel);
        let opened = timeout(
            to.connect_timeout,
            // Nobody connects from here: OpenSSH sends the same for `ssh -W`.
            self.connection.handle.channel_open_direct_tcpip(
                to.host.as_str(),
                u32::from(to.port),
                "127.0.0.1",
                65535,
            ),
        )
        .await;
        let alone = others == 0 && self.opening.fetch_sub(1, Ordering::AcqRel) == 1;
        if others != 0 {
            self.opening.fetch_sub(1, Ordering::AcqRel);
        }
        match opened {
            Err(_) => Err(unreachable(format!(
                "timed out after {}",
                words::seconds(to.connect_timeout)
            ))),
            Ok(Ok(channel)) => Ok(tunnel(channel, self.connection.flushed.clone())),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let said = self.refusal(alone).await;
                Err(unreachable(match said {
                    Some(said) => said,
                    None => words::channel(&reason),
                }))
            }
            Ok(Err(_)) => {
                let HostError::Disconnected(reason) = self.gone().await else {
                    return Err(unreachable("the connection broke".into()));
                };
                Err(unreachable(reason))
            }
        }
    }

    /// The jump host's own words about the tunnel it just refused. They come without saying which
    /// tunnel is meant, so they are only used when there was but one.
    async fn refusal(&self, alone: bool) -> Option<String> {
        for _ in 0..5 {
            let mut said = { std::mem::take(&mut *lock(&self.connection.refusals)) };
            if let (Some(text), true, true) = (said.pop(), said.is_empty(), alone) {
                return (!text.is_empty()).then(|| text.to_lowercase());
            }
            if !alone {
                return None;
            }
            // russh tells us after it told the caller.
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    pub async fn close(&self) {
        let goodbye = self
            .connection
            .handle
            .disconnect(Disconnect::ByApplication, "done", "");
        // A closed connection cannot be told, and a stuck one need not be waited for.
        let _ = timeout(FAREWELL, goodbye).await;
        let mut ended: watch::Receiver<_> = self.connection.ended.clone();
        let _ = timeout(FAREWELL, ended.wait_for(Option::is_some)).await;
    }
}

/// A channel being opened ahead of its use.
type Spare = JoinHandle<Option<Channel<Msg>>>;

/// A node one is logged in to.
pub(crate) struct SshHost {
    link: Arc<Link>,
    channels: Arc<Semaphore>,
    /// Opened together with an earlier program's channel, so that the next program starts a round trip
    /// sooner. A plan asks twice: the second question finds this one waiting.
    spare: Mutex<Option<Spare>>,
}

impl SshHost {
    pub fn new(link: Link, channels: usize) -> Self {
        Self {
            link: Arc::new(link),
            channels: Arc::new(Semaphore::new(channels.max(1))),
            spare: Mutex::default(),
        }
    }

    /// A channel for the next program.
    async fn channel(&self) -> Result<Channel<Msg>, HostError> {
        if let Some(channel) = self.take_spare().await {
            return Ok(channel);
        }
        let mut waits = REFUSED_WAITS.iter();
        self.open_spare();
        loop {
            match self.link.connection.handle.channel_open_session().await {
                Ok(channel) => return Ok(channel),
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    // A node that allows one channel has given it to the spare.
                    if let Some(channel) = self.take_spare().await {
                        return Ok(channel);
                    }
                    match waits.next() {
                        Some(wait) => sleep(*wait).await,
                        None => return Err(HostError::Refused(words::channel(&reason))),
                    }
                }
                Err(_) => return Err(self.link.gone().await),
            }
        }
    }

    async fn take_spare(&self) -> Option<Channel<Msg>> {
        let spare = lock(&self.spare).take()?;
        spare.await.ok().flatten()
    }

    fn open_spare(&self) {
        let mut spare = lock(&self.spare);
        if spare.is_none() {
            let link = Arc::clone(&self.link);
            *spare = Some(tokio::spawn(async move {
                link.connection.handle.channel_open_session().await.ok()
            }));
        }
    }
}

impl Drop for SshHost {
    fn drop(&mut self) {
        // It would keep the connection open for as long as the node does not answer.
        if let Some(spare) = lock(&self.spare).take() {
            spare.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Host for SshHost {
    async fn exec(&self, command: &str) -> Result<Session, HostError> {
        let link = &self.link;
        let slot = Arc::clone(&self.channels)
            .acquire_owned()
            .await
            .map_err(|_| HostError::Disconnected("the connection was closed".into()))?;
        if !link.is_open() {
            return Err(link.gone().await);
        }
        let channel = self.channel().await?;
        // The answer is not waited for: that would cost a round trip per program, and a refusal ends
        // the session as `Lost` anyway.
        if channel.exec(true, command).await.is_err() {
            return Err(link.gone().await);
        }
        link.tally.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(session(
            channel,
            slot,
            link.connection.flushed.clone(),
            Arc::clone(link),
        ))
    }

    fn peer(&self) -> Peer {
        self.link.peer()
    }

    async fn close(&self) {
        self.channels.close();
        self.link.close().await;
    }
}
