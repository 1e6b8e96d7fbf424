//! How a node is reached, as the inventory says it.

use std::path::PathBuf;

use crate::name::NodeName;
use crate::secret::SecretRef;

/// The ssh settings of one node: cluster, groups and node merged, the nearest wins, key by key.
///
/// What is `None` is left to `~/.ssh/config` (when used) and then to the defaults of the
/// transport.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshSettings {
    /// The account to log in with.
    pub user: Option<String>,
    /// The TCP port, 1 to 65535.
    pub port: Option<u16>,
    /// Private key files in order of preference. `~/` is not expanded here; other relative
    /// paths are already joined to the folder of the inventory.
    pub identity: Vec<PathBuf>,
    /// Whether keys of a running ssh agent are offered.
    pub agent: Option<bool>,
    /// Hosts to pass through, first hop first.
    pub jump: Vec<Jump>,
    /// Where the password for sudo comes from.
    pub sudo: SudoPassword,
    /// Whether and which OpenSSH client configuration is read.
    pub config: SshConfigUse,
    /// Seconds to wait for a connection.
    pub connect_timeout_s: Option<u32>,
    /// The public host key expected of this node, in the form `ssh-ed25519 AAAA…`: the node is
    /// pinned before the first contact. Only ever written on a node.
    pub host_key: Option<String>,
}

/// One hop on the way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jump {
    /// A node of this inventory, dialled with its own settings and pin.
    Node(NodeName),
    /// Any other host.
    Host {
        /// The account, when given.
        user: Option<String>,
        /// Name or address.
        host: String,
        /// The TCP port, when given.
        port: Option<u16>,
    },
}

/// Where the password for sudo comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SudoPassword {
    /// sudo asks for none.
    #[default]
    None,
    /// The user is asked once for a run.
    Ask,
    /// It is a secret.
    Secret(SecretRef),
}

/// Which OpenSSH client configuration is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SshConfigUse {
    /// `~/.ssh/config`, when there is one.
    #[default]
    User,
    /// None at all.
    Off,
    /// This file (relative paths are already joined to the folder of the inventory).
    File(PathBuf),
}
