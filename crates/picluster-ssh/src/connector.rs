//! Dialling: from a node's name to an open connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use picluster_engine::host::{ConnectError, Connector, Host};
use picluster_model::NodeName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::address::NoStream;
use crate::auth::{AuthError, log_in};
use crate::handshake::{Gatekeeper, HandshakeError, handshake};
use crate::host::{Link, SshHost};
use crate::jump::Jumps;
use crate::keyring::Keyring;
use crate::policy::{HostKeyPolicy, Prompts};
use crate::route::{Endpoint, Router};
use crate::wire::{Stream, Wire};
use crate::{Counters, Environment, Limits, PinStore, Target, address};

/// Dials after which a host that refuses or hangs up at once is given up: sshd drops connections at
/// random when more than `MaxStartups` wait for their login, and an sshd that takes up a new
/// configuration (SIGHUP: it closes its socket, starts itself anew and listens again) resets whom it had
/// not let in and refuses whoever comes before it listens.
const EARLY_TRIES: u32 = 3;

/// Dials for one answer of a person: the second finds the key pinned, or unlocked.
const ASKED_TRIES: u32 = 3;

/// Dials nodes over SSH. One per run: it holds the keys that were unlocked and the jump connections.
pub struct SshConnector {
    router: Router,
    keeper: Arc<Gatekeeper>,
    keyring: Keyring,
    jumps: Jumps,
    dials: Semaphore,
    limits: Limits,
    counters: Counters,
}

/// Why a host on the way, or the node itself, was not reached. Shared by all nodes that waited.
#[derive(Debug, Clone)]
pub(crate) enum DialError {
    Unreachable {
        address: String,
        reason: String,
    },
    Changed {
        pinned: String,
        presented: String,
    },
    Unknown {
        presented: String,
    },
    Authentication {
        user: String,
        address: String,
        reason: String,
    },
    Local(String),
}

impl DialError {
    /// The same for a node behind the jump host where it happened.
    fn behind(self, jump: &Endpoint, node: &Endpoint) -> Self {
        let at = format!("the jump host {}", jump.address());
        match self {
            Self::Unreachable { reason, .. } => Self::Unreachable {
                address: node.address(),
                reason: format!("{at}: {reason}"),
            },
            Self::Changed { pinned, presented } => Self::Changed {
                pinned,
                presented: named(presented, &at),
            },
            Self::Unknown { presented } => Self::Unknown {
                presented: named(presented, &at),
            },
            other @ Self::Authentication { .. } => other,
            Self::Local(reason) => Self::Local(format!("{at}: {reason}")),
        }
    }

    fn for_node(self, node: &NodeName) -> ConnectError {
        let node = node.clone();
        match self {
            Self::Unreachable { address, reason } => ConnectError::Unreachable {
                node,
                address,
                reason,
            },
            Self::Changed { pinned, presented } => ConnectError::HostKeyChanged {
                node,
                pinned,
                presented,
            },
            Self::Unknown { presented } => ConnectError::HostKeyUnknown { node, presented },
            Self::Authentication {
                user,
                address,
                reason,
            } => ConnectError::Authentication {
                node,
                user,
                address,
                reason,
            },
            Self::Local(reason) => ConnectError::Local { node, reason },
        }
    }
}

/// A fingerprint with the jump host that showed it, once.
fn named(presented: String, at: &str) -> String {
    if presented.contains(" by the jump host ") {
        presented
    } else {
        format!("{presented} by {at}")
    }
}

impl SshConnector {
    /// A connector for `targets` in the surroundings of this process.
    #[must_use]
    pub fn new(
        targets: BTreeMap<NodeName, Target>,
        pins: Arc<PinStore>,
        policy: Arc<dyn HostKeyPolicy>,
        prompts: Arc<dyn Prompts>,
        limits: Limits,
    ) -> Self {
        let environment = Environment::of_this_process();
        Self::with_environment(targets, pins, policy, prompts, limits, environment)
    }

    /// The same with other surroundings: for tests and for rehearsals.
    #[must_use]
    pub fn with_environment(
        targets: BTreeMap<NodeName, Target>,
        pins: Arc<PinStore>,
        policy: Arc<dyn HostKeyPolicy>,
        prompts: Arc<dyn Prompts>,
        limits: Limits,
        environment: Environment,
    ) -> Self {
        Self {
            router: Router::new(targets, environment, &limits),
            keeper: Arc::new(Gatekeeper {
                pins,
                policy,
                asking: tokio::sync::Mutex::new(()),
            }),
            keyring: Keyring::new(prompts),
            jumps: Jumps::default(),
            dials: Semaphore::new(limits.dials.max(1)),
            limits,
            counters: Counters::default(),
        }
    }

    /// What has been dialled, opened and sent so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    async fn dial_node(&self, node: &NodeName) -> Result<SshHost, DialError> {
        let route = self.router.route(node).map_err(DialError::Local)?;
        let way: Vec<Endpoint> = route.hops.into_iter().chain([route.node]).collect();
        let jump = way
            .split_last()
            .filter(|(_, before)| !before.is_empty())
            .map(|(_, before)| self.jumps.at(before, self.limits.dials_per_jump));
        // The narrow gate first: who waits behind a jump host must not keep others from dialling.
        let gone = |_| DialError::Local("the run is over".into());
        let _through = match &jump {
            Some(jump) => Some(jump.dials.acquire().await.map_err(gone)?),
            None => None,
        };
        let _dial = self.dials.acquire().await.map_err(gone)?;
        let link = self.dial(node, &way).await?;
        Ok(SshHost::new(link, self.limits.channels))
    }

    /// Connects and logs in to the last host of `way`, through the others.
    async fn dial(&self, node: &NodeName, way: &[Endpoint]) -> Result<Link, DialError> {
        let Some((endpoint, before)) = way.split_last() else {
            return Err(DialError::Local("there is nothing to dial".into()));
        };
        let (mut early, mut asked) = (0, 0);
        loop {
            let tally = self.counters.tally(&endpoint.pin);
            let (stream, through) = self.open(node, endpoint, before).await?;
            tally.connections.fetch_add(1, Ordering::Relaxed);
            let wire = Wire::new(stream, Arc::clone(&tally), self.limits.write_stall());
            let connected = handshake(wire, node, endpoint, &self.keeper, &self.limits).await;
            let mut connection = match connected {
                Ok(Some(connection)) => connection,
                // Someone took the time to say yes; the key is pinned now.
                Ok(None) if asked < ASKED_TRIES => {
                    asked += 1;
                    continue;
                }
                Ok(None) => {
                    return Err(DialError::Local(
                        "its host key was pinned, and asked about again".into(),
                    ));
                }
                Err(HandshakeError::Failed { early: true, .. }) if early + 1 < EARLY_TRIES => {
                    early += 1;
                    sleep(pause(node, early)).await;
                    continue;
                }
                Err(error) => return Err(failed(error, endpoint)),
            };
            let login = log_in(
                &mut connection,
                endpoint,
                &self.keyring,
                self.limits.auth_timeout,
            );
            match login.await {
                Ok(()) => {
                    tracing::debug!(%node, host = %endpoint.pin, address = %endpoint.address(), "connected");
                    return Ok(Link::new(connection, endpoint.clone(), tally, through));
                }
                // A person took longer than sshd's LoginGraceTime; the answer is still good.
                Err(AuthError::Closed { asked: true, .. }) if asked < ASKED_TRIES => asked += 1,
                Err(AuthError::Closed { hung_up: true, .. }) if early + 1 < EARLY_TRIES => {
                    early += 1;
                    sleep(pause(node, early)).await;
                }
                Err(error) => return Err(not_in(error, endpoint)),
            }
        }
    }

    /// A byte stream to `endpoint`: TCP, or a tunnel through the last host of `before`.
    async fn open(
        &self,
        node: &NodeName,
        endpoint: &Endpoint,
        before: &[Endpoint],
    ) -> Result<(Box<dyn Stream>, Option<Arc<Link>>), DialError> {
        let Some(jump) = before.last() else {
            let stream = knock(node, endpoint)
                .await
                .map_err(|error| DialError::Unreachable {
                    address: endpoint.address(),
                    reason: error.reason,
                })?;
            return Ok((Box::new(stream), None));
        };
        let link = self
            .jump(node, before)
            .await
            .map_err(|error| error.behind(jump, endpoint))?;
        let tunnel = link.tunnel(endpoint).await?;
        Ok((Box::new(tunnel), Some(link)))
    }

    /// The shared connection to the last host of `way`. Boxed: a jump host may lie behind another.
    fn jump<'a>(
        &'a self,
        node: &'a NodeName,
        way: &'a [Endpoint],
    ) -> Pin<Box<dyn Future<Output = Result<Arc<Link>, DialError>> + Send + 'a>> {
        Box::pin(async move {
            let jump = self.jumps.at(way, self.limits.dials_per_jump);
            jump.link(async { self.dial(node, way).await.map(Arc::new) })
                .await
        })
    }
}

#[async_trait]
impl Connector for SshConnector {
    async fn connect(&self, node: &NodeName) -> Result<Box<dyn Host>, ConnectError> {
        match self.dial_node(node).await {
            Ok(host) => Ok(Box::new(host)),
            Err(error) => Err(error.for_node(node)),
        }
    }
}

/// Opens a TCP stream, and tries again where the host is there but nobody listens.
async fn knock(node: &NodeName, endpoint: &Endpoint) -> Result<TcpStream, NoStream> {
    let mut tries = 0;
    loop {
        let connected = address::connect(
            &endpoint.host,
            endpoint.port,
            endpoint.family,
            endpoint.connect_timeout,
        );
        match connected.await {
            Err(error) if error.nobody_listens && tries + 1 < EARLY_TRIES => {
                tries += 1;
                sleep(pause(node, tries)).await;
            }
            done => return done,
        }
    }
}

/// Longer with every try, and not the same for all nodes: they would meet again.
fn pause(node: &NodeName, tries: u32) -> Duration {
    let spread = node
        .as_str()
        .bytes()
        .fold(7_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 400);
    Duration::from_millis(200 * 2_u64.pow(tries) + spread)
}

fn failed(error: HandshakeError, endpoint: &Endpoint) -> DialError {
    match error {
        HandshakeError::Failed { reason, .. } => DialError::Unreachable {
            address: endpoint.address(),
            reason,
        },
        HandshakeError::Changed { pinned, presented } => DialError::Changed { pinned, presented },
        HandshakeError::Refused { presented } => DialError::Unknown { presented },
        HandshakeError::Store(reason) => DialError::Local(reason),
    }
}

fn not_in(error: AuthError, endpoint: &Endpoint) -> DialError {
    match error {
        AuthError::Refused(reason) => DialError::Authentication {
            user: endpoint.user.clone(),
            address: endpoint.address(),
            reason,
        },
        AuthError::NoKeys(reason) => DialError::Local(reason),
        AuthError::Closed { reason, .. } => DialError::Unreachable {
            address: endpoint.address(),
            reason: format!("during the login: {reason}"),
        },
    }
}
