//! How long picluster takes from its start to the first byte on the wire.

use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::figures::verdict;
use super::rack::Rack;
use crate::Outcome;

/// Milliseconds.
const BUDGET: f64 = 50.0;
const RUNS: usize = 9;

/// The inventory of a node that only listens, beside the real one.
const FILE: &str = "start.yaml";

/// Measures it, and returns a line.
pub(crate) fn measure(rack: &Rack) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    rack.write(
        FILE,
        &format!("cluster: start\nssh: {{ user: pi, port: {port} }}\nnodes:\n  pi: {{ address: 127.0.0.1 }}\n"),
    )?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut child = rack
            .outside(&["plan", FILE])
            .spawn()
            .map_err(|e| format!("picluster cannot be started: {e}"))?;
        let mut client = loop {
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e.to_string()),
                Err(_) => {}
            }
            if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("picluster ended with {status} before it dialled"));
            }
            std::thread::sleep(Duration::from_micros(50));
        };
        client
            .set_nonblocking(false)
            .and_then(|()| client.read_exact(&mut [0]))
            .map_err(|e| e.to_string())?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        // It finds out that nobody is there who speaks SSH.
        drop(client);
        child.wait().map_err(|e| e.to_string())?;
    }
    times.sort_by(f64::total_cmp);
    let median = times[RUNS / 2];
    Ok(format!(
        "- {} from the start to the first byte on the wire: {median:.1} ms, budget {BUDGET:.0} ms\n",
        verdict(median <= BUDGET)
    ))
}
