//! What people decide: whether an unknown host key is right, and what a key's passphrase is.

use std::path::Path;

use async_trait::async_trait;
use picluster_model::{NodeName, Secret};

use crate::PinName;

/// An answer about a host key nobody has pinned yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Pin it and go on.
    Accept,
    /// Do not connect.
    Refuse,
}

/// A host whose key is not pinned yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstContact {
    /// The node that was to be reached. For a jump host: the node behind it that asked first.
    pub node: NodeName,
    /// The name the key will be pinned under; differs from `node` for a jump host.
    pub pin: PinName,
    /// What was dialled, `host:port`.
    pub address: String,
    /// SHA-256 fingerprint as OpenSSH prints it (`SHA256:…`).
    pub fingerprint: String,
    /// The key's algorithm as OpenSSH names it (`ssh-ed25519`).
    pub algorithm: String,
}

/// Decides about unknown host keys. Asks come one at a time, however many nodes are dialled.
#[async_trait]
pub trait HostKeyPolicy: Send + Sync {
    /// Whether this key shall be pinned. May wait for a person; nothing has been sent to the host
    /// but the key exchange.
    async fn first_contact(&self, contact: &FirstContact) -> Decision;
}

/// Pins every unknown key without asking: `--accept-new`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptNew;

#[async_trait]
impl HostKeyPolicy for AcceptNew {
    async fn first_contact(&self, _: &FirstContact) -> Decision {
        Decision::Accept
    }
}

/// Refuses every unknown key: for runs without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefuseNew;

#[async_trait]
impl HostKeyPolicy for RefuseNew {
    async fn first_contact(&self, _: &FirstContact) -> Decision {
        Decision::Refuse
    }
}

/// Asks a person for what only a person knows.
#[async_trait]
pub trait Prompts: Send + Sync {
    /// The passphrase of a private key, or `None` when nobody can or wants to give it. Asked once per
    /// key and run, and again (twice at most) only when the answer did not open the key.
    async fn passphrase(&self, key: &Path) -> Option<Secret<String>>;
}

/// Has no answers: for runs without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompts;

#[async_trait]
impl Prompts for NoPrompts {
    async fn passphrase(&self, _: &Path) -> Option<Secret<String>> {
        None
    }
}
