//! How long and how much: every bound of this crate in one place.

use std::time::Duration;

/// Which cipher is asked for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CipherOrder {
    /// ChaCha20-Poly1305, then AES-GCM: what OpenSSH asks for, and the faster one on every Pi up to
    /// the 4, whose processors have no AES instructions.
    #[default]
    ChaChaFirst,
    /// AES-GCM, then ChaCha20-Poly1305: faster where both ends have AES instructions (x86, Pi 5).
    AesFirst,
}

/// Bounds of connections and waits. [`Limits::default`] suits a rack of Pis on a LAN.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Nodes being dialled at the same time, from TCP connect to login.
    pub dials: usize,
    /// Nodes being dialled at the same time through one jump host. OpenSSH's default `MaxStartups`
    /// starts to refuse at 10 unauthenticated connections.
    pub dials_per_jump: usize,
    /// Programs running at the same time on one connection. OpenSSH's default `MaxSessions` is 10;
    /// a slot whose program outlives its closed channel stays taken on the node, hence the slack.
    pub channels: usize,
    /// Wait for a TCP connection (and for the name lookup before it), unless the target or
    /// `ConnectTimeout` says otherwise.
    pub connect_timeout: Duration,
    /// Wait for the key exchange, from the first byte sent to new keys. A Pi Zero under load needs seconds.
    pub kex_timeout: Duration,
    /// Wait for each answer during login. Time people spend on passphrases does not count.
    pub auth_timeout: Duration,
    /// Silence after which the node is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// Unanswered questions after which the connection counts as lost. Lost after about
    /// `keepalive_interval × (keepalive_max + 1)`.
    pub keepalive_max: usize,
    /// How long a connection is held open while someone decides about an unknown host key. After
    /// that it is dropped, and dialled again when the answer is yes: sshd's `LoginGraceTime` and
    /// `MaxStartups` do not wait for people.
    pub first_contact_grace: Duration,
    /// Bytes after which keys are exchanged anew, in each direction; at most 1 GiB (RFC 4253 §9).
    pub rekey_bytes: usize,
    /// Which cipher is asked for first.
    pub cipher: CipherOrder,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dials: 64,
            dials_per_jump: 8,
            channels: 8,
            connect_timeout: Duration::from_secs(10),
            kex_timeout: Duration::from_secs(20),
            auth_timeout: Duration::from_secs(20),
            keepalive_interval: Duration::from_secs(5),
            keepalive_max: 3,
            first_contact_grace: Duration::from_secs(2),
            rekey_bytes: 1 << 30,
            cipher: CipherOrder::default(),
        }
    }
}

impl Limits {
    /// How long a write may make no progress before the connection counts as lost. russh's own
    /// keepalive does not run while it waits for the socket to take bytes, so a cable pulled during
    /// an upload would otherwise be noticed only by the kernel, after a quarter of an hour.
    pub(crate) fn write_stall(&self) -> Duration {
        let periods = u32::try_from(self.keepalive_max).unwrap_or(u32::MAX);
        self.keepalive_interval
            .saturating_mul(periods.saturating_add(1))
    }
}
