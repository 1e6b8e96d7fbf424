//! What the wire was used for, per node: tests hold it against the budgets, `bench` prints it.

use std::collections::BTreeMap;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::PinName;

/// A snapshot of one host's counts, or a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections that reached the SSH handshake.
    pub connections: u64,
    /// Exec sessions opened.
    pub sessions: u64,
    /// Bytes received, encrypted, without TCP and IP headers.
    pub bytes_in: u64,
    /// Bytes sent, encrypted, without TCP and IP headers.
    pub bytes_out: u64,
}

impl Add for Count {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            sessions: self.sessions + other.sessions,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

/// The live counts of one host.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub connections: AtomicU64,
    pub sessions: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl Tally {
    fn snapshot(&self) -> Count {
        Count {
            connections: self.connections.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// Counts of every host a connector has dialled. Cheap to clone; all clones see the same counts.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<PinName, Arc<Tally>>>>);

impl Counters {
    /// The counts of one host; zero when it was never dialled. Traffic through a jump host counts
    /// for the node and, wrapped once more, for the jump host.
    #[must_use]
    pub fn of(&self, host: &PinName) -> Count {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(host)
            .map(|tally| tally.snapshot())
            .unwrap_or_default()
    }

    /// The counts of every host dialled, by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<PinName, Count> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(host, tally)| (host.clone(), tally.snapshot()))
            .collect()
    }

    /// The sum over all hosts.
    #[must_use]
    pub fn total(&self) -> Count {
        self.all().into_values().fold(Count::default(), Add::add)
    }

    pub(crate) fn tally(&self, host: &PinName) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(host.clone()).or_default())
    }
}
