//! Time, as far as people see it. Injected, so that tests are deterministic.

use std::sync::Arc;
use std::time::Duration;

/// What the engine asks the outside world about time. Timeouts use tokio's timers, which tests
/// can pause; this is for time that is shown or compared with a node's.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch by the controller's clock.
    fn epoch_ms(&self) -> i64;

    /// Time since some fixed moment, never going back: durations are differences of it.
    fn elapsed(&self) -> Duration;
}

/// A clock shared by all tasks of an engine.
pub type SharedClock = Arc<dyn Clock>;
