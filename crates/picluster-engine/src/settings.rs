//! Limits and bounds of an engine.

use std::time::Duration;

use crate::clock::SharedClock;

/// How an engine behaves. Made with [`Settings::new`]; every field has a default that suits a rack.
#[derive(Clone)]
pub struct Settings {
    /// Nodes that are dialled or worked on at the same time.
    pub max_nodes: usize,
    /// Payloads larger than [`Settings::upload_from`] that are sent at the same time, over all nodes.
    pub uploads: usize,
    /// A payload of this many bytes or more counts as an upload.
    pub upload_from: usize,
    /// How long a node may take to answer facts or probes.
    pub answer_timeout: Duration,
    /// How long a rebooting node may stay away.
    pub reboot_timeout: Duration,
    /// The first pause between two attempts to reach a rebooting node; grows up to
    /// [`Settings::reboot_poll_max`].
    pub reboot_poll: Duration,
    /// The longest such pause.
    pub reboot_poll_max: Duration,
    /// How long a node may go on answering after it was told to switch itself off.
    pub power_off_timeout: Duration,
    /// How long a node waits for the confirmation of a guarded change before it takes it back.
    pub guard_window: Duration,
    /// The same after a boot, from the moment systemd starts services.
    pub guard_boot_window: Duration,
    /// For how long a server that nobody took down may answer that it does not serve: a moment of etcd's election,
    /// or of another server that joins, is no reason to refuse a step.
    pub serve_hiccup: Duration,
    /// How long an orphan of our own that holds a node's lock is waited for.
    pub lock_wait: Duration,
    /// The pause between two looks at a node's lock.
    pub lock_poll: Duration,
    /// Files of our own on nodes.
    pub paths: NodePaths,
    /// Where time comes from.
    pub clock: SharedClock,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self {
            max_nodes: 64,
            uploads: 8,
            upload_from: 1 << 20,
            answer_timeout: Duration::from_secs(120),
            reboot_timeout: Duration::from_secs(600),
            reboot_poll: Duration::from_secs(1),
            reboot_poll_max: Duration::from_secs(5),
            // systemd gives a service 90 s to stop (DefaultTimeoutStopSec=), pods their own time before.
            power_off_timeout: Duration::from_secs(300),
            guard_window: Duration::from_secs(90),
            guard_boot_window: Duration::from_secs(300),
            serve_hiccup: Duration::from_secs(20),
            lock_wait: Duration::from_secs(300),
            lock_poll: Duration::from_secs(1),
            paths: NodePaths::default(),
            clock,
        }
    }
}

/// Files of our own on nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePaths {
    /// For what lives as long as a step: payloads on their way, output of the running operation.
    pub run: String,
    /// The lock.
    pub lock: String,
    /// The ownership record.
    pub owned: String,
}

impl Default for NodePaths {
    fn default() -> Self {
        Self {
            run: "/run/picluster".into(),
            lock: "/run/lock/picluster.lock".into(),
            owned: picluster_plan::owned::DIR.into(),
        }
    }
}
