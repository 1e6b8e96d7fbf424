//! A small web server with the manners, and the bad manners, that are needed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How a path is answered.
#[derive(Clone)]
pub enum Page {
    /// As a good server does, ranges included.
    Whole(Vec<u8>),
    /// The connection ends after so many bytes of each answer.
    Cut(Vec<u8>, usize),
    /// Always from the beginning, whatever range is asked for.
    NoRanges(Vec<u8>, usize),
    /// Sent without saying how much.
    Unsized(Vec<u8>),
    /// Somewhere else.
    Moved(String),
    /// This status, so often; then the page.
    Busy(u16, Arc<Mutex<u32>>, Vec<u8>),
}

/// A running server; ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub scheme: &'static str,
    pub asked: Arc<Mutex<Vec<String>>>,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn plain() -> Self {
        Self::start(None)
    }

    /// With a certificate for 127.0.0.1; also returns it, as PEM.
    pub fn tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (Self::start(Some(Arc::new(config))), made.cert.pem())
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (pages, asked, stop) = (
            Arc::new(Mutex::new(BTreeMap::new())),
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (p, a, s) = (Arc::clone(&pages), Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if s.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), p, a, tls) = (stream, Arc::clone(&p), Arc::clone(&a), tls.clone())
                else {
                    continue;
                };
                std::thread::spawn(move || match tls {
                    None => serve(stream, &p, &a),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, stream), &p, &a);
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            asked,
            pages,
            stop,
            thread: Some(thread),
        }
    }

    pub fn page(&self, path: &str, page: Page) -> String {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
        self.url(path)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// What was asked for since the last look: method, path and range.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve<S: Read + Write>(
    stream: S,
    pages: &Mutex<BTreeMap<String, Page>>,
    asked: &Mutex<Vec<String>>,
) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut range) = (String::new(), None);
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
            range = value.trim().trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (
        words.next().unwrap().to_owned(),
        words.next().unwrap().to_owned(),
    );
    let shown = range.map_or(String::new(), |from| format!(" from {from}"));
    asked
        .lock()
        .unwrap()
        .push(format!("{method} {path}{shown}"));
    let page = pages.lock().unwrap().get(&path).cloned();
    let mut out = reader.into_inner();
    let body = method == "GET";
    let _ = match page {
        None => out.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        Some(Page::Moved(to)) => out.write_all(
            format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes(),
        ),
        Some(Page::Busy(status, left, bytes)) => {
            let mut left = left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                out.write_all(format!("HTTP/1.1 {status} Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
            } else {
                send(&mut out, &bytes, range, usize::MAX, body)
            }
        }
        Some(Page::Whole(bytes)) => send(&mut out, &bytes, range, usize::MAX, body),
        Some(Page::Cut(bytes, after)) => send(&mut out, &bytes, range, after, body),
        Some(Page::NoRanges(bytes, after)) => send(&mut out, &bytes, None, after, body),
        Some(Page::Unsized(bytes)) => out
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            .and_then(|()| if body { out.write_all(&bytes) } else { Ok(()) }),
    };
    let _ = out.flush();
}

fn send(
    out: &mut impl Write,
    bytes: &[u8],
    range: Option<usize>,
    after: usize,
    body: bool,
) -> std::io::Result<()> {
    let total = bytes.len();
    let head = match range {
        Some(from) if from >= total => {
            return out.write_all(
                format!("HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */{total}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes(),
            );
        }
        Some(from) => format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{total}\r\ncontent-length: {}\r\n",
            total - 1,
            total - from
        ),
        None => format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n"),
    };
    out.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    let rest = &bytes[range.unwrap_or(0)..];
    if body {
        out.write_all(&rest[..rest.len().min(after)])?;
    }
    Ok(())
}
