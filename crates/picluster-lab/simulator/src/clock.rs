//! The time, as the machine has it.
//!
//! `SIMULATOR_CLOCK_OFFSET` (seconds, may be negative) makes this process believe in another one: a Pi without a
//! battery starts in the past, and a container cannot set its own clock.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn offset() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        std::env::var("SIMULATOR_CLOCK_OFFSET")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0)
    })
}

/// Now, with whole seconds as Kubernetes writes them.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(offset());
    now.replace_nanosecond(0).unwrap_or(now)
}

/// Seconds since 1970.
pub(crate) fn unix() -> u64 {
    u64::try_from(now().unix_timestamp()).unwrap_or(0)
}

/// `2026-11-21T10:00:00Z`.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Now, written.
pub(crate) fn stamp() -> String {
    rfc3339(now())
}

/// Now, as a lease has it (`MicroTime` of apimachinery): with six digits behind the seconds.
pub(crate) fn micro() -> String {
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(offset());
    let whole = rfc3339(now.replace_nanosecond(0).unwrap_or(now));
    format!(
        "{}.{:06}Z",
        whole.trim_end_matches('Z'),
        now.nanosecond() / 1000
    )
}

/// Reads what [`rfc3339`] wrote, with or without fractions of a second.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// What TLS takes for the time.
#[derive(Debug)]
pub(crate) struct Clock;

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let real = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        let shifted = real.as_secs().checked_add_signed(offset())?;
        Some(rustls::pki_types::UnixTime::since_unix_epoch(
            Duration::from_secs(shifted),
        ))
    }
}
