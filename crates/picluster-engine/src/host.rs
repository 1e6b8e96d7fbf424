//! What the engine asks of a transport: dial a node, open a program on it, read how it ended.
//!
//! The real implementation lives in `picluster-ssh`; tests use a local shell. Nothing here knows SSH.

use async_trait::async_trait;
use picluster_model::NodeName;
use tokio::io::{AsyncRead, AsyncWrite};

/// Dials nodes by name. One connection a node serves a whole run; a new one is dialled only after
/// a reboot or a lost connection.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Opens an authenticated connection whose host key has been checked against the node's pin.
    ///
    /// # Errors
    /// [`ConnectError`]: each variant is a different outcome for the run.
    async fn connect(&self, node: &NodeName) -> Result<Box<dyn Host>, ConnectError>;
}

/// An open connection to one node.
#[async_trait]
pub trait Host: Send + Sync {
    /// Starts `command` with the login user's shell. stdin, stdout and stderr are separate; no
    /// terminal is allocated. Counts as one exec session.
    ///
    /// # Errors
    /// [`HostError`] when the connection is gone or the node refuses a channel.
    async fn exec(&self, command: &str) -> Result<Session, HostError>;

    /// What this connection is, for people and for the record.
    fn peer(&self) -> Peer;

    /// Closes the connection; running programs see end of input.
    async fn close(&self);
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address that was dialled, `host:port`.
    pub address: String,
    /// The host key's SHA-256 fingerprint as OpenSSH prints it (`SHA256:…`).
    pub host_key: String,
    /// The user logged in as.
    pub user: String,
}

/// A running program. Dropping it closes its channel.
pub struct Session {
    /// The program's standard input; shutting it down sends end of file.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// The program's standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// The program's standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// How it ended. Resolves once the channel is closed.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Status(u32),
    /// A signal ended it (name without `SIG`).
    Signal(String),
    /// The channel closed and nobody said how the program ended. Never success (RFC 4254 §6.10
    /// makes the status optional, so its absence must mean "unknown").
    Lost,
}

/// Why no connection came to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered, the route is missing, the port is closed, or the name is unknown.
    #[error("{node}: unreachable at {address}: {reason}")]
    Unreachable {
        /// The node.
        node: NodeName,
        /// What was dialled.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// The host key is not the pinned one. Nothing was sent after key exchange.
    #[error("{node}: host key changed: pinned {pinned}, presented {presented}")]
    HostKeyChanged {
        /// The node.
        node: NodeName,
        /// The pinned fingerprint.
        pinned: String,
        /// The fingerprint presented now.
        presented: String,
    },
    /// No pin yet and nobody accepted the key.
    #[error("{node}: host key {presented} is not known yet and was not accepted")]
    HostKeyUnknown {
        /// The node.
        node: NodeName,
        /// The fingerprint presented.
        presented: String,
    },
    /// The node refused every key.
    #[error("{node}: {user}@{address} refused authentication: {reason}")]
    Authentication {
        /// The node.
        node: NodeName,
        /// The login user.
        user: String,
        /// What was dialled.
        address: String,
        /// Which methods and keys were tried.
        reason: String,
    },
    /// Our own side is at fault: a key file that cannot be read, a bad `~/.ssh/config`.
    #[error("{node}: {reason}")]
    Local {
        /// The node.
        node: NodeName,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// Why a program could not be started, or its stream broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The connection is gone.
    #[error("connection lost: {0}")]
    Disconnected(String),
    /// The node refused to open a channel or to run the command.
    #[error("the node refused to start a program: {0}")]
    Refused(String),
}
