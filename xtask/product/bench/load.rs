//! Waits until the nodes are quiet: a boot that is still going on would be measured with the act.

use std::time::{Duration, Instant};

use crate::Outcome;

/// Returns once all nodes together use less than a tenth of a processor.
pub(crate) fn settle(node_seconds: impl Fn() -> Outcome<f64>) -> Outcome {
    let end = Instant::now() + Duration::from_secs(180);
    let mut before = node_seconds()?;
    let mut quiet = 0;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = node_seconds()?;
        quiet = if now - before < 0.1 { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(());
        }
        if Instant::now() > end {
            eprintln!("  the nodes are still busy after 3 minutes; measuring all the same");
            return Ok(());
        }
        before = now;
    }
}

/// This machine's load, for the reader who wonders about a figure.
pub(crate) fn average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}
