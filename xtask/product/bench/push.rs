//! A large file beside `ssh node 'cat > file'`: what share of its throughput we reach.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use picluster_engine::{Event, EventKind};

use super::figures::verdict;
use super::load;
use super::rack::Rack;
use super::work;
use crate::Outcome;

/// The least share of it.
const BUDGET: f64 = 0.8;
const RUNS: usize = 3;
const MIB: usize = 1 << 20;
const SIZE: usize = 256 * MIB;

/// What lies between controller and node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The fastest a Raspberry Pi has: the Ethernet of a Pi 3B+ shares USB 2, a 4 and a 5 have this.
    Gigabit,
    /// Memory: both ends and both programs share this machine's processors, which are all it measures.
    Memory,
}

/// Measures it on the first node, and returns lines.
pub(crate) fn measure(rack: &Rack) -> Outcome<String> {
    work::write_push(rack)?;
    let mut lines = String::new();
    for link in [Link::Gigabit, Link::Memory] {
        link.lay(rack)?;
        lines.push_str(&over(rack, link)?);
    }
    Ok(lines)
}

impl Link {
    /// Bounds what goes to the first node.
    fn lay(self, rack: &Rack) -> Outcome {
        let port = rack.first_port();
        let words = match self {
            Self::Gigabit => {
                format!("qdisc replace dev {port} root tbf rate 1gbit burst 256kb latency 50ms")
            }
            Self::Memory => format!("qdisc del dev {port} root"),
        };
        let mut tc = rack.inside(Path::new("tc"));
        let output = tc.args(words.split(' ')).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!(
                "tc {words}: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
            Err(e) => Err(format!("cannot start tc (package iproute2): {e}")),
        }
    }
}

fn over(rack: &Rack, link: Link) -> Outcome<String> {
    let called = match link {
        Link::Gigabit => "1 Gbit/s",
        Link::Memory => "no link but memory",
    };
    eprintln!("  a file of {} MiB, {called}", SIZE / MIB);
    let (mut theirs, mut ours, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=RUNS {
        let file = fill(rack, round + if link == Link::Memory { RUNS } else { 0 })?;
        load::settle(|| rack.node_seconds())?;
        // The log-in is not counted.
        let login = rack.ssh_first("true", None)?.wall;
        let took = rack.ssh_first("cat > big", Some(&file))?.wall;
        theirs.push(rate(took - login));
        rack.ssh_first("rm big", None)?;
        load::settle(|| rack.node_seconds())?;
        rack.picluster(&["apply", "--yes", "--json"])?;
        let (sending, step) = took_of(&rack.said_by_picluster())?;
        ours.push(rate(sending));
        steps.push(step);
    }
    let (theirs, ours) = (median(theirs), median(ours));
    let share = ours / theirs;
    // Without a link the figure is the processors': of no use to anyone with a Pi, but it would show a step back.
    let (judged, budget) = match link {
        Link::Gigabit => (
            format!("{} ", verdict(share >= BUDGET)),
            format!(", budget {:.0} %", BUDGET * 100.0),
        ),
        Link::Memory => (String::new(), String::new()),
    };
    Ok(format!(
        "- {judged}bulk push over {called}: {ours:.0} MiB/s, {:.0} % of the {theirs:.0} MiB/s of `ssh … 'cat > file'`{budget} \
         (with the node's checksum and on the disk: {:.2} s for {} MiB)\n",
        share * 100.0,
        median(steps),
        SIZE / MIB
    ))
}

/// Another content each time, which no compression makes smaller.
fn fill(rack: &Rack, round: usize) -> Outcome<String> {
    let mut block = vec![0_u8; MIB];
    let mut state = round as u64;
    for byte in &mut block {
        // The generator of Numerical Recipes: chance is not needed, only variety.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    let path = rack.path(work::BIG);
    let failed = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
    let mut file = fs::File::create(&path).map_err(failed)?;
    for _ in 0..SIZE / MIB {
        file.write_all(&block).map_err(failed)?;
    }
    Ok(path.display().to_string())
}

/// Seconds from the first byte to the last, and of the whole step.
fn took_of(said: &str) -> Outcome<(f64, f64)> {
    let events = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let (mut first, mut last, mut whole) = (None, None, None);
    for event in events {
        match event.event {
            EventKind::StepUploading { .. } => {
                first.get_or_insert(event.at);
                last = Some(event.at);
            }
            EventKind::StepFinished { addr, seconds, .. } if addr.kind == "artifact" => {
                whole = Some(seconds);
            }
            _ => {}
        }
    }
    match (first, last, whole) {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of a few seconds")]
        (Some(first), Some(last), Some(whole)) => Ok(((last - first) as f64 / 1000.0, whole)),
        _ => Err(format!("nothing was sent:\n{said}")),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred")]
fn rate(seconds: f64) -> f64 {
    (SIZE / MIB) as f64 / seconds.max(0.001)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
