//! The server's end of HTTP/1.1 over TLS.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::clock::Clock;
use crate::fault::{Fault, Outcome};
use crate::net;

/// A request, whole.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as they came.
    pub(crate) target: String,
    /// Without the query.
    pub(crate) path: String,
    /// Decoded pairs.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) from: String,
    /// The client's certificate, verified against the clients' authority.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Request {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// A query parameter's value.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// The pieces of an answer, as they come.
pub(crate) type Pieces = Box<dyn FnMut() -> std::io::Result<Option<Vec<u8>>> + Send>;

/// An answer, whole, or one that goes on.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) kind: Cow<'static, str>,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Further pieces, until there are no more. A failure breaks the connection off, so that nobody takes the answer
    /// for whole.
    pub(crate) stream: Option<Pieces>,
}

impl Reply {
    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            kind: "text/plain".into(),
            headers: vec![],
            body: body.into(),
            stream: None,
        }
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        let mut body = value.to_string().into_bytes();
        body.push(b'\n');
        Self {
            status,
            kind: "application/json".into(),
            headers: vec![],
            body,
            stream: None,
        }
    }
}

/// What answers.
pub(crate) type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// `%41+` → `A `.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'+' => out.push(b' '),
            b'%' => match bytes
                .get(i + 1..i + 3)
                .and_then(|h| std::str::from_utf8(h).ok())
                .and_then(|h| u8::from_str_radix(h, 16).ok())
            {
                Some(b) => {
                    out.push(b);
                    i += 2;
                }
                None => out.push(b'%'),
            },
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// TLS for a server: its chain and key, and the authority of its clients, who may also come without a certificate.
pub(crate) fn config(chain: &str, key: &str, clients: &str) -> Outcome<Arc<ServerConfig>> {
    let fault = |e: &dyn std::fmt::Display| Fault(e.to_string());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(net::roots(clients)), net::provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| fault(&e))?;
    let config = ServerConfig::builder_with_details(net::provider(), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .map_err(|e| fault(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(net::certificates(chain), net::private_key(key)?)
        .map_err(|e| fault(&e))?;
    Ok(Arc::new(config))
}

/// Serves a listener for ever, a thread a connection.
pub(crate) fn serve(listener: TcpListener, tls: Arc<ServerConfig>, handler: Arc<Handler>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors: the ones in use come back.
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let (tls, handler) = (tls.clone(), handler.clone());
            let spawned = std::thread::Builder::new()
                .stack_size(512 * 1024)
                .spawn(move || {
                    let from = stream
                        .peer_addr()
                        .map(|a: SocketAddr| a.to_string())
                        .unwrap_or_default();
                    let _ = talk(stream, tls, &*handler, &from);
                });
            if spawned.is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

fn talk(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    handler: &Handler,
    from: &str,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut buffer = Vec::new();
    while let Some(mut request) = receive(&mut stream, &mut buffer)? {
        request.from = from.to_owned();
        request.certificate = stream
            .conn
            .peer_certificates()
            .and_then(|c| c.first())
            .map(|c| c.as_ref().to_vec());
        let close = request
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let reply = handler(&request);
        send(&mut stream, reply, close)?;
        if close {
            break;
        }
    }
    stream.conn.send_close_notify();
    stream.flush()
}

fn receive(stream: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let bad = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    let mut chunk = [0; 8192];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(at) =
            head.parse(buffer).map_err(|e| bad(&e.to_string()))?
        {
            let target = head.path.unwrap_or("/").to_owned();
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let mut request = Request {
                method: head.method.unwrap_or("GET").to_owned(),
                target: target.clone(),
                path: decode(&path.replace('+', "%2B")),
                query: query
                    .split('&')
                    .filter(|p| !p.is_empty())
                    .map(|p| p.split_once('=').unwrap_or((p, "")))
                    .map(|(n, v)| (decode(n), decode(v)))
                    .collect(),
                headers: head
                    .headers
                    .iter()
                    .map(|h| {
                        (
                            h.name.to_owned(),
                            String::from_utf8_lossy(h.value).into_owned(),
                        )
                    })
                    .collect(),
                ..Request::default()
            };
            let length: usize = request
                .header("content-length")
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            if length > 4 << 20 {
                return Err(bad("request body too large"));
            }
            while buffer.len() < at + length {
                let n = stream.read(&mut chunk)?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                buffer.extend_from_slice(&chunk[..n]);
            }
            request.body = buffer[at..at + length].to_vec();
            buffer.drain(..at + length);
            return Ok(Some(request));
        }
        if buffer.len() > 64 * 1024 {
            return Err(bad("request head too large"));
        }
        let n = match stream.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && buffer.is_empty() => 0,
            Err(e) => return Err(e),
        };
        if n == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk[..n]);
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

fn send(stream: &mut impl Write, reply: Reply, close: bool) -> std::io::Result<()> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let length = if reply.stream.is_some() {
        "Transfer-Encoding: chunked\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n", reply.body.len())
    };
    let mut more = String::new();
    if !reply.kind.is_empty() {
        more.push_str(&format!("Content-Type: {}\r\n", reply.kind));
    }
    for (name, value) in &reply.headers {
        more.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.headers.is_empty() {
        more.push_str("Cache-Control: no-cache, private\r\n");
    }
    let head = format!(
        "HTTP/1.1 {} {}\r\n{more}{connection}{length}\r\n",
        reply.status,
        reason(reply.status),
    );
    let mut out = head.into_bytes();
    let Some(mut more) = reply.stream else {
        out.extend_from_slice(&reply.body);
        stream.write_all(&out)?;
        stream.flush()?;
        return Ok(());
    };
    stream.write_all(&out)?;
    stream.flush()?;
    while let Some(piece) = more()? {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        stream.write_all(&piece)?;
        stream.write_all(b"\r\n")?;
        stream.flush()?;
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}
