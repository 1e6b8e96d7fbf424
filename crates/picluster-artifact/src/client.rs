//! Fetching over https: one file at a time, bounded in time, size and number of tries.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::http::{Method, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::digest::{Digest, Hasher};
use crate::url::{Plain, Url, UrlError};

/// How often an answer may send us elsewhere.
const HOPS: usize = 5;

/// Bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a connection, with TLS and all.
    pub connect: Duration,
    /// For the beginning of an answer.
    pub response: Duration,
    /// For the next bytes of an answer.
    pub stall: Duration,
    /// Tries in a row that bring nothing new.
    pub tries: u32,
    /// Between two tries; doubled each time.
    pub pause: Duration,
    /// The largest file, in bytes.
    pub largest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            tries: 4,
            pause: Duration::from_millis(500),
            // Ten times a binary of k3s; a bundle of images has room, too.
            largest: 1 << 30,
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on this machine.
    pub done: u64,
    /// Bytes in all, when the server said.
    pub total: Option<u64>,
}

/// What was not fetched, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url} was not fetched: {reason}")]
pub struct FetchError {
    /// What was asked for.
    pub url: String,
    /// Why.
    pub reason: Reason,
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The server cannot be reached, or the connection ended.
    #[error("{0}")]
    Network(String),
    /// The server says no.
    #[error("the server answers {0}")]
    Status(u16),
    /// The server sends us to a place we do not go to.
    #[error("it sends us to {to}, which {why}")]
    Redirect {
        /// Where to.
        to: String,
        /// Why not.
        why: UrlError,
    },
    /// From one place to the next and never anywhere.
    #[error("it sends us elsewhere more than {HOPS} times")]
    TooManyRedirects,
    /// More than is taken.
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// It is not the file that was meant.
    #[error("its sha256 is {found}, and {wanted} is wanted")]
    Digest {
        /// What came.
        found: Digest,
        /// What was meant.
        wanted: Digest,
    },
    /// Its text is not text.
    #[error("it is no text")]
    NoText,
    /// The controller's own disk.
    #[error("it cannot be written: {0}")]
    Disk(String),
}

impl Reason {
    /// Whether the same again may go better.
    fn is_passing(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Status(code) => matches!(code, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Fetches. Costs nothing before the first request.
pub struct Client {
    limits: Limits,
    agent: OnceLock<Agent>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.limits)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Client {
    /// With bounds of one's own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            agent: OnceLock::new(),
        }
    }

    /// A small text.
    ///
    /// # Errors
    /// Why it was not fetched.
    pub fn text(&self, url: &Url, plain: Plain) -> Result<String, FetchError> {
        const LARGEST: u64 = 1 << 20;
        self.trying(url, || {
            let response = self.ask(&Method::GET, url, plain, None)?;
            good(&response)?;
            let mut bytes = Vec::new();
            response
                .into_body()
                .into_reader()
                .take(LARGEST + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| Reason::Network(e.to_string()))?;
            if bytes.len() as u64 > LARGEST {
                return Err(Reason::TooLarge(LARGEST));
            }
            String::from_utf8(bytes).map_err(|_| Reason::NoText)
        })
    }

    /// How large a file is; `None` when the server does not say.
    ///
    /// # Errors
    /// Why the server could not be asked.
    pub fn size(&self, url: &Url, plain: Plain) -> Result<Option<u64>, FetchError> {
        self.trying(url, || {
            let response = self.ask(&Method::HEAD, url, plain, None)?;
            good(&response)?;
            Ok(number(&response, "content-length"))
        })
    }

    /// Fetches a file into `into`, which may hold the beginning of it already. `wanted` is what
    /// the whole must hash to. Returns its size; the caller syncs and names the file.
    ///
    /// # Errors
    /// Why it was not fetched. What came stays in `into`, so that the next try goes on from there,
    /// unless it was not what is wanted.
    pub fn download(
        &self,
        url: &Url,
        plain: Plain,
        into: &mut File,
        wanted: &Digest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, FetchError> {
        let error = |reason| FetchError {
            url: url.to_string(),
            reason,
        };
        let begun = into.metadata().map_err(|e| error(disk(&e)))?.len();
        match self.fill(url, plain, into, wanted, progress) {
            // The beginning may be of something else: once more, from scratch.
            Err(Reason::Digest { .. }) if begun > 0 => {
                into.set_len(0).map_err(|e| error(disk(&e)))?;
                self.fill(url, plain, into, wanted, progress)
            }
            other => other,
        }
        .inspect_err(|reason| {
            if matches!(reason, Reason::Digest { .. } | Reason::TooLarge(_)) {
                let _ = into.set_len(0);
            }
        })
        .map_err(error)
    }

    fn fill(
        &self,
        url: &Url,
        plain: Plain,
        into: &mut File,
        wanted: &Digest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, Reason> {
        let mut hasher = Hasher::default();
        into.seek(SeekFrom::Start(0)).map_err(|e| disk(&e))?;
        hasher.read(into).map_err(|e| disk(&e))?;
        let mut in_vain = 0;
        loop {
            let before = hasher.bytes();
            match self.go_on(url, plain, into, &mut hasher, progress) {
                Ok(()) => break,
                Err(reason) if !reason.is_passing() => return Err(reason),
                Err(reason) => {
                    in_vain = if hasher.bytes() > before {
                        1
                    } else {
                        in_vain + 1
                    };
                    if in_vain >= self.limits.tries {
                        return Err(reason);
                    }
                    tracing::debug!("{url}: {reason}; trying again");
                    std::thread::sleep(self.pause(in_vain));
                }
            }
        }
        let (found, size) = hasher.end();
        if found == *wanted {
            Ok(size)
        } else {
            Err(Reason::Digest {
                found,
                wanted: *wanted,
            })
        }
    }

    /// One request for what is missing.
    fn go_on(
        &self,
        url: &Url,
        plain: Plain,
        into: &mut File,
        hasher: &mut Hasher,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Reason> {
        let have = hasher.bytes();
        let response = self.ask(&Method::GET, url, plain, (have > 0).then_some(have))?;
        let range = content_range(&response);
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT if range.is_some_and(|(from, _)| from == have) => {
                range.and_then(|(_, total)| total)
            }
            // Nothing is missing, or our beginning is longer than the file: the digest will say.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {
                // It begins anew.
                *hasher = Hasher::default();
                into.set_len(0).map_err(|e| disk(&e))?;
                if response.status() != StatusCode::OK {
                    return Err(Reason::Network(
                        "it sends another part than was asked for".into(),
                    ));
                }
                number(&response, "content-length")
            }
            status => return Err(Reason::Status(status.as_u16())),
        };
        let largest = self.limits.largest;
        if total.is_some_and(|n| n > largest) {
            return Err(Reason::TooLarge(largest));
        }
        into.seek(SeekFrom::Start(hasher.bytes()))
            .map_err(|e| disk(&e))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 128 << 10];
        loop {
            progress(Progress {
                done: hasher.bytes(),
                total,
            });
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Reason::Network(e.to_string())),
            };
            if hasher.bytes() + n as u64 > largest {
                return Err(Reason::TooLarge(largest));
            }
            into.write_all(&buffer[..n]).map_err(|e| disk(&e))?;
            hasher.update(&buffer[..n]);
        }
        match total {
            Some(total) if hasher.bytes() < total => {
                Err(Reason::Network("the connection ended too early".into()))
            }
            _ => Ok(()),
        }
    }

    fn trying<T>(
        &self,
        url: &Url,
        mut work: impl FnMut() -> Result<T, Reason>,
    ) -> Result<T, FetchError> {
        let mut tries = 1;
        loop {
            match work() {
                Ok(value) => return Ok(value),
                Err(reason) if reason.is_passing() && tries < self.limits.tries => {
                    tracing::debug!("{url}: {reason}; trying again");
                    std::thread::sleep(self.pause(tries));
                    tries += 1;
                }
                Err(reason) => {
                    return Err(FetchError {
                        url: url.to_string(),
                        reason,
                    });
                }
            }
        }
    }

    fn pause(&self, tries: u32) -> Duration {
        self.limits.pause * 2_u32.pow(tries.saturating_sub(1).min(6))
    }

    /// One request, redirects followed by hand: each step is looked at.
    fn ask(
        &self,
        method: &Method,
        url: &Url,
        plain: Plain,
        from: Option<u64>,
    ) -> Result<Response<Body>, Reason> {
        let agent = self.agent.get_or_init(|| agent(&self.limits));
        let mut at = url.clone();
        for _ in 0..=HOPS {
            let mut request = if method == Method::HEAD {
                agent.head(at.as_str())
            } else {
                agent.get(at.as_str())
            };
            if let Some(from) = from {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = if at.is_loopback() {
                // No proxy stands between this machine and itself.
                request.config().proxy(None).build().call()
            } else {
                request.call()
            }
            .map_err(|e| Reason::Network(said(&e)))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let to = header(&response, "location")
                .ok_or_else(|| Reason::Status(response.status().as_u16()))?;
            at = at.redirected(to, plain).map_err(|why| Reason::Redirect {
                // What follows a question mark may be somebody's signature.
                to: to.split('?').next().unwrap_or("").to_owned(),
                why,
            })?;
        }
        Err(Reason::TooManyRedirects)
    }
}

fn agent(limits: &Limits) -> Agent {
    // The authorities of the system (a mirror at home may have one of its own, and SSL_CERT_FILE is
    // honoured), and Mozilla's for machines that have none.
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("certificate authorities of the system: {error}");
    }
    let system = found
        .certs
        .iter()
        .map(|c| Certificate::from_der(c).to_owned());
    let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|c| Certificate::from_der(c).to_owned());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(
            system.chain(mozilla).collect(),
        )))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.response))
        .timeout_per_read(Some(limits.stall))
        .user_agent(concat!("picluster/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// What went wrong, in words that say more than "io".
fn said(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the name of its host is not known here".into(),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        other => other.to_string(),
    }
}

fn good(response: &Response<Body>) -> Result<(), Reason> {
    match response.status() {
        StatusCode::OK => Ok(()),
        other => Err(Reason::Status(other.as_u16())),
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn number(response: &Response<Body>, name: &str) -> Option<u64> {
    header(response, name)?.trim().parse().ok()
}

/// `bytes 100-199/200`: where it begins, and how large the whole is.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(response, "content-range")?
        .trim()
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

fn disk(error: &std::io::Error) -> Reason {
    Reason::Disk(error.to_string())
}
