//! Requests that are passed on to the real API server, in the name of who sent them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Chunked;
use crate::api::Caller;
use crate::api::status::Refusal;
use crate::fault::{Outcome, errno};
use crate::http::{Reply, Request};
use crate::net::Client;

/// The way to the API server. It trusts what the front proxy's certificate says in `X-Remote-*`
/// (kubernetes/staging/src/k8s.io/apiserver/pkg/authentication/request/headerrequest).
#[derive(Debug)]
pub(super) struct Forward {
    port: u16,
    config: Arc<ClientConfig>,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Headers that are about one connection, or that only the front proxy may set.
fn stays_behind(name: &str) -> bool {
    const CONNECTION: &[&str] = &[
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    CONNECTION.contains(&name.as_str()) || name.starts_with("x-remote-")
}

impl Forward {
    /// `proxy` has the front proxy's certificate.
    pub(super) fn new(proxy: &Client, port: u16) -> Outcome<Self> {
        Ok(Self {
            port,
            config: Arc::new(proxy.config()?),
        })
    }

    /// Passes a request on. A caller whom the simulator does not know shows the API server his own token.
    pub(super) fn pass(&self, caller: Option<&Caller>, request: &Request) -> Reply {
        self.exchange(caller, request).unwrap_or_else(|e| {
            let refusal = Refusal::unavailable(format!(
                "the API server on 127.0.0.1:{} does not answer: {}",
                self.port,
                errno(&e)
            ));
            Reply::json(refusal.code, &refusal.status())
        })
    }

    fn exchange(&self, caller: Option<&Caller>, request: &Request) -> std::io::Result<Reply> {
        let socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_nodelay(true)?;
        // A watch may be silent for long; the API server ends it after the time that was asked for.
        socket.set_read_timeout(Some(Duration::from_secs(900)))?;
        socket.set_write_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        let connection =
            ClientConnection::new(self.config.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(head(self.port, caller, request).as_bytes())?;
        stream.write_all(&request.body)?;
        stream.flush()?;
        answer(stream, &request.method)
    }
}

fn head(port: u16, caller: Option<&Caller>, request: &Request) -> String {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        request.method,
        request.target,
        request.body.len()
    );
    for (name, value) in &request.headers {
        let token = caller.is_some() && name.eq_ignore_ascii_case("authorization");
        if !token && !stays_behind(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(caller) = caller {
        head.push_str(&format!("X-Remote-User: {}\r\n", caller.user));
        for group in &caller.groups {
            head.push_str(&format!("X-Remote-Group: {group}\r\n"));
        }
    }
    head.push_str("\r\n");
    head
}

fn answer(mut stream: Stream, method: &str) -> std::io::Result<Reply> {
    let broken = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    let mut held = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        if let httparse::Status::Complete(at) =
            response.parse(&held).map_err(|e| broken(&e.to_string()))?
        {
            let status = response.code.unwrap_or(502);
            let headers: Vec<(String, String)> = response
                .headers
                .iter()
                .map(|h| {
                    (
                        h.name.to_owned(),
                        String::from_utf8_lossy(h.value).into_owned(),
                    )
                })
                .collect();
            return body(stream, held.split_off(at), status, headers, method);
        }
        let n = stream.read(&mut buffer)?;
        if n == 0 || held.len() > 64 * 1024 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&buffer[..n]);
    }
}

fn body(
    mut stream: Stream,
    mut held: Vec<u8>,
    status: u16,
    headers: Vec<(String, String)>,
    method: &str,
) -> std::io::Result<Reply> {
    let find = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.clone())
    };
    let chunked = find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length: Option<usize> = find("content-length").and_then(|v| v.parse().ok());
    let kind = find("content-type").unwrap_or_default();
    let none = method == "HEAD" || status == 204 || status == 304;
    let mut reply = Reply {
        status,
        kind: kind.into(),
        headers: headers
            .into_iter()
            .filter(|(n, _)| !stays_behind(n) && !n.eq_ignore_ascii_case("content-type"))
            .collect(),
        body: vec![],
        stream: None,
    };
    match length {
        _ if none => {}
        _ if chunked => {
            let mut pieces = Chunked::new(stream, held);
            reply.stream = Some(Box::new(move || pieces.piece()));
        }
        Some(length) => {
            let missing = length.saturating_sub(held.len());
            let had = held.len();
            held.resize(had + missing, 0);
            stream.read_exact(&mut held[had..])?;
            reply.body = held;
        }
        None => {
            stream.read_to_end(&mut held)?;
            reply.body = held;
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_simulator_says_who_asks() {
        let request = Request {
            method: "GET".into(),
            target: "/api/v1/nodes?limit=500".into(),
            headers: vec![
                ("x-remote-user".into(), "system:admin".into()),
                ("X-Remote-Group".into(), "system:masters".into()),
                ("Authorization".into(), "Bearer abc".into()),
                ("Accept".into(), "application/json".into()),
            ],
            ..Request::default()
        };
        let caller = Caller {
            user: "system:node:n1".into(),
            groups: vec!["system:nodes".into()],
        };
        let known = head(6444, Some(&caller), &request);
        assert!(known.starts_with("GET /api/v1/nodes?limit=500 HTTP/1.1\r\n"));
        assert!(known.contains("Accept: application/json\r\n"));
        assert!(
            known.contains("X-Remote-User: system:node:n1\r\nX-Remote-Group: system:nodes\r\n")
        );
        assert!(
            !known.contains("masters") && !known.contains("abc"),
            "{known}"
        );
        let unknown = head(6444, None, &request).to_lowercase();
        assert!(!unknown.contains("x-remote"), "{unknown}");
        assert!(unknown.contains("authorization: bearer abc\r\n"));
    }
}
