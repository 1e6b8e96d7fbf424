//! The caching apt proxy: plain HTTP GET, nothing else.
//!
//! The nodes' network has no way out. A listener on the hub passes each connection through a Unix socket on disk,
//! which reaches across network namespaces, to a fetcher outside.

mod cache;
mod head;
mod serve;
mod upstream;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::error::{Attempt, Trouble};
pub(crate) use cache::Cache;

/// Serves every connection to `listener` from `cache`, until the process ends.
pub(crate) fn serve_unix(listener: UnixListener, cache: Arc<Cache>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cache = Arc::clone(&cache);
            thread::spawn(move || serve::connection(stream, &cache));
        }
    });
}

/// A fetcher on this machine's own loopback, for image builds. Ends when dropped.
pub(crate) struct Loopback {
    /// Its TCP port.
    pub port: u16,
    stop: Arc<AtomicBool>,
}

impl Loopback {
    /// Starts serving `cache`.
    pub(crate) fn start(cache: Arc<Cache>) -> Result<Self, Trouble> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .attempt(|| "listen on the loopback address".into())?;
        let port = listener
            .local_addr()
            .attempt(|| "learn the proxy's port".into())?
            .port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // The tail of a file need not wait for the reader's acknowledgement.
                let _ = stream.set_nodelay(true);
                let cache = Arc::clone(&cache);
                thread::spawn(move || serve::connection(stream, &cache));
            }
        });
        Ok(Loopback { port, stop })
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept above.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Passes connections to `port` of this network namespace on to the fetcher's socket, until the process ends.
pub(crate) fn listen(port: u16, socket: PathBuf) -> Result<(), Trouble> {
    let listener = TcpListener::bind(("0.0.0.0", port))
        .attempt(|| format!("listen on port {port} of the hub"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let socket = socket.clone();
            thread::spawn(move || pass_on(stream, &socket));
        }
    });
    Ok(())
}

fn pass_on(tcp: TcpStream, socket: &Path) {
    let Ok(unix) = UnixStream::connect(socket) else {
        return;
    };
    let _ = tcp.set_nodelay(true);
    let (Ok(tcp2), Ok(unix2)) = (tcp.try_clone(), unix.try_clone()) else {
        return;
    };
    let back = thread::spawn(move || {
        pump(unix2, &tcp2);
        let _ = tcp2.shutdown(Shutdown::Write);
    });
    pump(tcp, &unix);
    let _ = unix.shutdown(Shutdown::Write);
    let _ = back.join();
}

fn pump(mut from: impl Read, mut to: impl Write) {
    // An error means that one side has gone; the other learns it from the end of input.
    let _ = std::io::copy(&mut from, &mut to);
}
