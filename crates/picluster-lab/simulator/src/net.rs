//! Requests over TLS, and their errors in Go's words.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::clock::{self, Clock};
use crate::fault::{Fault, Outcome, errno};
use crate::heart::Chunked;

/// As upstream's clients (`defaultClientTimeout`).
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection that was kept may be silent before it counts as dead: whoever is at its other end may have gone
/// without a word. Upstream's kubelets give their heartbeats ten seconds, and renew five times less often than those here.
const KEPT_PATIENCE: Duration = Duration::from_secs(4);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Where requests go and what they show.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `https://host:port`.
    pub(crate) base: String,
    /// Authorities; none means that any certificate will do.
    pub(crate) ca: Option<String>,
    /// Certificate and key, in PEM.
    pub(crate) identity: Option<(String, String)>,
    pub(crate) authorization: Option<String>,
    /// The connection of the last request, where it is kept for the next; clones share it.
    kept: Option<Arc<Mutex<Option<Tls>>>>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// The one cryptography of this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

/// The key of a PEM text.
pub(crate) fn private_key(pem: &str) -> Outcome<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| Fault(e.to_string()))
}

/// Authorities of a PEM text.
pub(crate) fn roots(pem: &str) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(pem));
    store
}

#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Host and port of `https://host:port/…`.
pub(crate) fn authority(url: &str) -> Outcome<(String, u16)> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err(Fault(format!(
            "only https:// URLs are supported, invalid scheme: {url}"
        )));
    };
    let rest = rest.split('/').next().unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (
            host,
            port.parse()
                .map_err(|_| Fault(format!("invalid port {port:?} after host")))?,
        ),
        _ => (rest, 443),
    };
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// Connects; the error is Go's, from `dial tcp` on.
pub(crate) fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    dial_within(host, port, PATIENCE)
}

/// The same with another patience.
pub(crate) fn dial_within(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let named = host.parse::<std::net::IpAddr>().is_err();
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|_| format!("dial tcp: lookup {host}: no such host"))?;
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in found {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(e) => {
                let what = errno(&e);
                let verb = if what == "i/o timeout" {
                    String::new()
                } else {
                    "connect: ".into()
                };
                last = format!("dial tcp {address}: {verb}{what}");
                if !named {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// A TLS error as Go's crypto/x509 and crypto/tls say it.
fn tls_words(error: &rustls::Error) -> String {
    let time = |t: &UnixTime| {
        let at = i64::try_from(t.as_secs())
            .ok()
            .and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
        at.map(clock::rfc3339).unwrap_or_default()
    };
    let failed = "tls: failed to verify certificate: x509: ";
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::NotValidYetContext {
                time: now,
                not_before,
            } => format!(
                "{failed}certificate has expired or is not yet valid: current time {} is before {}",
                time(now),
                time(not_before)
            ),
            CertificateError::ExpiredContext {
                time: now,
                not_after,
            } => format!(
                "{failed}certificate has expired or is not yet valid: current time {} is after {}",
                time(now),
                time(not_after)
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("{failed}certificate signed by unknown authority")
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                let names: Vec<&str> = presented
                    .iter()
                    .map(|p| {
                        p.split_once('(').map_or(p.as_str(), |(_, n)| {
                            n.trim_end_matches(')').trim_matches('"')
                        })
                    })
                    .collect();
                format!(
                    "{failed}certificate is valid for {}, not {}",
                    names.join(", "),
                    expected.to_str()
                )
            }
            other => format!("{failed}{other:?}"),
        },
        rustls::Error::AlertReceived(alert) => {
            format!("remote error: tls: {alert:?}").to_lowercase()
        }
        other => format!("tls: {other}"),
    }
}

impl Client {
    pub(crate) fn new(base: &str, ca: Option<String>) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            ca,
            identity: None,
            authorization: None,
            kept: None,
        }
    }

    /// Requests follow each other over one connection, as those of client-go do.
    pub(crate) fn keeping(mut self) -> Self {
        self.kept = Some(Arc::default());
        self
    }

    /// TLS as this client speaks it.
    pub(crate) fn config(&self) -> Outcome<ClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault(e.to_string()))?;
        let builder = match &self.ca {
            Some(pem) => builder.with_root_certificates(roots(pem)),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Trusting(provider))),
        };
        match &self.identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate), private_key(key)?)
                .map_err(|e| Fault(e.to_string())),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    /// Sends a request. A failure of the connection reads `Get "https://…": why`, as net/http says it.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Outcome<Answer> {
        let url = format!("{}{path}", self.base);
        let verb = method[..1].to_owned() + &method[1..].to_lowercase();
        self.exchange(method, path, headers, body)
            .map_err(|why| Fault(format!("{verb} \"{url}\": {why}")))
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let (host, port) = authority(&self.base).map_err(|f| f.0)?;
        let connection = if self.kept.is_some() {
            "keep-alive"
        } else {
            "close"
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: {connection}\r\nAccept: application/json\r\n"
        );
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        let Some(kept) = &self.kept else {
            let mut tls = self.connect(&host, port)?;
            return ask(&mut tls, &message).map(|(answer, _)| answer);
        };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut tls) = kept.take() {
            let _ = tls.sock.set_read_timeout(Some(KEPT_PATIENCE));
            // One that was closed meanwhile is no answer (net/http tries again over a new one, too).
            if let Ok((answer, again)) = ask(&mut tls, &message) {
                *kept = again.then_some(tls);
                return Ok(answer);
            }
        }
        let mut tls = self.connect(&host, port)?;
        let (answer, again) = ask(&mut tls, &message)?;
        *kept = again.then_some(tls);
        Ok(answer)
    }

    fn connect(&self, host: &str, port: u16) -> Result<Tls, String> {
        let stream = dial(host, port)?;
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let config = self.config().map_err(|f| f.0)?;
        let connection =
            ClientConnection::new(Arc::new(config), name).map_err(|e| tls_words(&e))?;
        Ok(StreamOwned::new(connection, stream))
    }
}

/// Go's words for what happened to a connection.
fn io_words(e: &std::io::Error) -> String {
    match e.get_ref().and_then(|r| r.downcast_ref::<rustls::Error>()) {
        Some(tls) => tls_words(tls),
        None => match errno(e).as_str() {
            "i/o timeout" => {
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()
            }
            "connection reset by peer" => "read: connection reset by peer".into(),
            other => other.to_owned(),
        },
    }
}

/// Sends a request and reads its answer; `true`: another one may follow over the same connection.
fn ask(tls: &mut Tls, message: &[u8]) -> Result<(Answer, bool), String> {
    let io = |e: std::io::Error| io_words(&e);
    tls.write_all(message).map_err(io)?;
    tls.flush().map_err(io)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let ended = match tls.read(&mut chunk) {
            Ok(n) => {
                bytes.extend_from_slice(&chunk[..n]);
                n == 0
            }
            // Everything is here although the other end did not say goodbye.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !bytes.is_empty() => true,
            Err(e) => return Err(io(e)),
        };
        if ended && bytes.is_empty() {
            return Err("EOF".into());
        }
        let mut parsed = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut parsed);
        let at = match response.parse(&bytes) {
            Ok(httparse::Status::Complete(at)) => at,
            Ok(httparse::Status::Partial) if !ended => continue,
            _ => return Err("malformed HTTP response".into()),
        };
        let header = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let length: Option<usize> = header("content-length").and_then(|v| v.trim().parse().ok());
        let chunked = header("transfer-encoding") == Some("chunked");
        let goodbye = header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let status = response.code.unwrap_or(0);
        if chunked {
            let body = Chunked::new(tls, bytes.split_off(at))
                .whole()
                .map_err(|_| "unexpected EOF".to_owned())?;
            return Ok((Answer { status, body }, !goodbye));
        }
        match length {
            Some(length) if bytes.len() - at >= length => {
                bytes.truncate(at + length);
                let body = bytes.split_off(at);
                return Ok((Answer { status, body }, !goodbye && !ended));
            }
            None if ended => {
                let body = bytes.split_off(at);
                return Ok((Answer { status, body }, false));
            }
            _ if ended => return Err("unexpected EOF".into()),
            _ => {}
        }
    }
}
