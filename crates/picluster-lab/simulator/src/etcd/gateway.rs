//! Requests to etcd, through the JSON gateway of its gRPC interface (etcd Documentation, "gRPC gateway").

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::fault::{Fault, Outcome, errno};
use crate::heart::Chunked;
use crate::net::{self, Client};

/// As upstream's tests of the datastore (`testTimeout` in pkg/etcd/etcd.go is longer; kubectl waits ten seconds).
pub(crate) const PATIENCE: Duration = Duration::from_secs(9);

/// A connection to a member; one outside of the cluster may be had without TLS.
#[derive(Debug)]
enum Stream {
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Plain(TcpStream),
}

impl Stream {
    fn sock(&self) -> &TcpStream {
        match self {
            Self::Tls(tls) => &tls.sock,
            Self::Plain(plain) => plain,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.read(buffer),
            Self::Plain(plain) => plain.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.write(bytes),
            Self::Plain(plain) => plain.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::Plain(plain) => plain.flush(),
        }
    }
}

/// A way to one or several members.
#[derive(Debug)]
pub(crate) struct Gateway {
    config: Arc<ClientConfig>,
    /// Host and port of each, and whether it speaks TLS; the first that takes a connection serves.
    members: Vec<(String, u16, bool)>,
    idle: Mutex<Vec<Stream>>,
}

/// One member of the cluster, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    /// Empty until it has started.
    pub(crate) name: String,
    pub(crate) peers: Vec<String>,
    pub(crate) clients: Vec<String>,
    pub(crate) learner: bool,
}

impl Listed {
    /// From etcd's answer, or from `/db/info`, where ids are numbers.
    pub(crate) fn of(value: &Value) -> Self {
        let texts = |name: &str| {
            let all = value[name].as_array().into_iter().flatten();
            all.filter_map(|t| t.as_str().map(str::to_owned)).collect()
        };
        Self {
            id: number(&value["ID"]),
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            peers: texts("peerURLs"),
            clients: texts("clientURLs"),
            learner: value["isLearner"] == true,
        }
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) leads: bool,
    pub(crate) learner: bool,
}

/// A key and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Revision of its last change.
    pub(crate) revision: u64,
}

impl Entry {
    fn of(value: &Value) -> Self {
        Self {
            key: decoded(&value["key"]),
            value: decoded(&value["value"]),
            revision: number(&value["mod_revision"]),
        }
    }
}

/// 64-bit numbers are texts in JSON (Protocol Buffers, "JSON Mapping").
fn number(value: &Value) -> u64 {
    let text = value.as_str().and_then(|t| t.parse().ok());
    text.or_else(|| value.as_u64()).unwrap_or(0)
}

fn decoded(value: &Value) -> String {
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn encoded(text: &str) -> Value {
    STANDARD.encode(text).into()
}

/// The key behind all keys with a prefix (`clientv3.GetPrefixRangeEnd`).
fn behind(prefix: &str) -> Value {
    let mut bytes = prefix.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    STANDARD.encode(bytes).into()
}

impl Gateway {
    /// `client` has the authority and the certificate; `urls` are client URLs of members.
    pub(crate) fn new(client: &Client, urls: &[String]) -> Outcome<Self> {
        let members: Outcome<Vec<_>> = urls
            .iter()
            .map(|url| {
                let plain = url
                    .strip_prefix("http://")
                    .map(|rest| format!("https://{rest}"));
                let (host, port) = net::authority(plain.as_deref().unwrap_or(url))?;
                Ok((host, port, plain.is_none()))
            })
            .collect();
        Ok(Self {
            config: Arc::new(client.config()?),
            members: members?,
            idle: Mutex::default(),
        })
    }

    fn connect(&self, patience: Duration) -> Outcome<Stream> {
        let mut last = "no etcd member is known".to_owned();
        for (host, port, secure) in &self.members {
            let stream = match net::dial_within(host, *port, patience) {
                Ok(stream) => stream,
                Err(why) => {
                    last = why;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(patience));
            let _ = stream.set_write_timeout(Some(patience));
            if !secure {
                return Ok(Stream::Plain(stream));
            }
            let name = ServerName::try_from(host.clone()).map_err(|e| Fault(e.to_string()))?;
            let connection = ClientConnection::new(self.config.clone(), name)
                .map_err(|e| Fault(e.to_string()))?;
            let tls = StreamOwned::new(connection, stream);
            return Ok(Stream::Tls(Box::new(tls)));
        }
        Err(Fault(last))
    }

    /// Sends a message and reads the answer.
    pub(crate) fn call(&self, path: &str, message: &Value, patience: Duration) -> Outcome<Value> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let held = idle().pop();
        if let Some(mut stream) = held {
            let _ = stream.sock().set_read_timeout(Some(patience));
            // A connection that has rested may have been closed; then there is no answer at all.
            match exchange(&mut stream, path, message) {
                Ok((status, body)) => {
                    idle().push(stream);
                    return judged(status, &body);
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(Fault::new("etcdserver: request timed out"));
                }
                Err(_) => {}
            }
        }
        let mut stream = self.connect(patience)?;
        match exchange(&mut stream, path, message) {
            Ok((status, body)) => {
                idle().push(stream);
                judged(status, &body)
            }
            Err(e) => Err(Fault(match errno(&e).as_str() {
                "i/o timeout" => "etcdserver: request timed out".to_owned(),
                other => other.to_owned(),
            })),
        }
    }

    fn ask(&self, path: &str, message: &Value) -> Outcome<Value> {
        self.call(path, message, PATIENCE)
    }

    /// Whether a majority answers: a read that the leader has to confirm.
    pub(crate) fn sound(&self, patience: Duration) -> Outcome {
        let message = json!({"key": encoded("health"), "keys_only": true});
        self.call("/v3/kv/range", &message, patience).map(|_| ())
    }

    /// What a key holds.
    pub(crate) fn get(&self, key: &str) -> Outcome<Option<String>> {
        let answer = self.ask("/v3/kv/range", &json!({"key": encoded(key)}))?;
        let first = answer["kvs"].as_array().and_then(|k| k.first().cloned());
        Ok(first.map(|entry| decoded(&entry["value"])))
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> Outcome {
        let message = json!({"key": encoded(key), "value": encoded(value)});
        self.ask("/v3/kv/put", &message).map(|_| ())
    }

    /// Everything below a prefix, and the revision of that state.
    pub(crate) fn all(&self, prefix: &str) -> Outcome<(u64, Vec<Entry>)> {
        let message = json!({"key": encoded(prefix), "range_end": behind(prefix)});
        let answer = self.ask("/v3/kv/range", &message)?;
        let entries = answer["kvs"].as_array().into_iter().flatten();
        Ok((
            number(&answer["header"]["revision"]),
            entries.map(Entry::of).collect(),
        ))
    }

    /// Changes keys if one of them was last changed at a revision (0: it is not there). Gives the revision of the change;
    /// none when the condition did not hold.
    pub(crate) fn commit(
        &self,
        key: &str,
        expected: u64,
        put: Option<&str>,
        delete: &[String],
    ) -> Outcome<Option<u64>> {
        let mut all: Vec<Value> = vec![];
        if let Some(value) = put {
            all.push(json!({"request_put": {"key": encoded(key), "value": encoded(value)}}));
        }
        all.extend(
            delete
                .iter()
                .map(|k| json!({"request_delete_range": {"key": encoded(k)}})),
        );
        let message = json!({"compare": [{"target": "MOD", "result": "EQUAL", "key": encoded(key),
            "mod_revision": expected.to_string()}], "success": all});
        let answer = self.ask("/v3/kv/txn", &message)?;
        Ok((answer["succeeded"] == true).then(|| number(&answer["header"]["revision"])))
    }

    pub(crate) fn status(&self) -> Outcome<Status> {
        let answer = self.call("/v3/maintenance/status", &json!({}), Duration::from_secs(2))?;
        let member = number(&answer["header"]["member_id"]);
        Ok(Status {
            leads: member != 0 && member == number(&answer["leader"]),
            learner: answer["isLearner"] == true,
        })
    }

    pub(crate) fn members(&self) -> Outcome<Vec<Listed>> {
        let answer = self.call(
            "/v3/cluster/member/list",
            &json!({}),
            Duration::from_secs(2),
        )?;
        let all = answer["members"].as_array().into_iter().flatten();
        Ok(all.map(Listed::of).collect())
    }

    pub(crate) fn add_learner(&self, peer: &str) -> Outcome {
        let message = json!({"peerURLs": [peer], "isLearner": true});
        self.ask("/v3/cluster/member/add", &message).map(|_| ())
    }

    pub(crate) fn promote(&self, id: u64) -> Outcome {
        let message = json!({"ID": id.to_string()});
        self.ask("/v3/cluster/member/promote", &message).map(|_| ())
    }

    pub(crate) fn remove(&self, id: u64) -> Outcome {
        let message = json!({"ID": id.to_string()});
        match self.ask("/v3/cluster/member/remove", &message) {
            Err(fault) if fault.0.contains("member not found") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// What happens below a prefix from a revision on, until it breaks off. `each` gets the changed entries, or the keys of
    /// deleted ones; those of one revision come together.
    pub(crate) fn watch(
        &self,
        prefix: &str,
        from: u64,
        mut each: impl FnMut(Vec<Result<Entry, Entry>>),
    ) -> Outcome {
        let message = json!({"create_request": {"key": encoded(prefix), "range_end": behind(prefix),
            "start_revision": from.to_string()}});
        self.stream("/v3/watch", &message, |said| {
            if said["result"]["canceled"] == true {
                return Err(Fault(said.to_string()));
            }
            let events = said["result"]["events"].as_array().into_iter().flatten();
            each(
                events
                    .map(|event| {
                        let entry = Entry::of(&event["kv"]);
                        if event["type"] == "DELETE" {
                            Err(entry)
                        } else {
                            Ok(entry)
                        }
                    })
                    .collect(),
            );
            Ok(())
        })?;
        Err(Fault::new("EOF"))
    }

    /// The whole datastore, as `etcdctl snapshot save` gets it.
    pub(crate) fn snapshot(&self) -> Outcome<Vec<u8>> {
        let mut all = vec![];
        self.stream("/v3/maintenance/snapshot", &json!({}), |said| {
            if said["error"].is_object() || said["result"].is_null() {
                return Err(Fault(said.to_string()));
            }
            let blob = said["result"]["blob"].as_str().unwrap_or_default();
            all.extend(STANDARD.decode(blob).map_err(|e| Fault(e.to_string()))?);
            Ok(())
        })?;
        Ok(all)
    }

    /// Answers that come one behind the other, a line each, until the other end has said all.
    fn stream(
        &self,
        path: &str,
        message: &Value,
        mut each: impl FnMut(&Value) -> Outcome,
    ) -> Outcome {
        let mut stream = self.connect(PATIENCE)?;
        let broken = |e: std::io::Error| Fault(errno(&e));
        send(&mut stream, path, message).map_err(broken)?;
        let (status, held, _) = head(&mut stream).map_err(broken)?;
        // From here on silence is not an error.
        let _ = stream.sock().set_read_timeout(None);
        let mut pieces = Chunked::new(stream, held);
        let mut line = vec![];
        while let Some(piece) = pieces.piece().map_err(broken)? {
            line.extend_from_slice(&piece);
            while let Some(end) = line.iter().position(|b| *b == b'\n') {
                let text: Vec<u8> = line.drain(..=end).collect();
                let said: Value = serde_json::from_slice(&text).unwrap_or_default();
                if status != 200 {
                    return Err(Fault(said.to_string()));
                }
                each(&said)?;
            }
        }
        Ok(())
    }
}

fn send(stream: &mut Stream, path: &str, message: &Value) -> std::io::Result<()> {
    let body = message.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// Status, what was read beyond the head, and the length of the body; none when it comes in chunks.
fn head(stream: &mut Stream) -> std::io::Result<(u16, Vec<u8>, Option<usize>)> {
    let mut held = vec![];
    let mut buffer = [0; 16 * 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&held).map_err(std::io::Error::other)?;
        if let httparse::Status::Complete(at) = parsed {
            let find = |name: &str| {
                let header = response
                    .headers
                    .iter()
                    .find(|h| h.name.eq_ignore_ascii_case(name))?;
                Some(String::from_utf8_lossy(header.value).into_owned())
            };
            let length = find("content-length").and_then(|v| v.parse().ok());
            let status = response.code.unwrap_or(0);
            return Ok((status, held.split_off(at), length));
        }
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        held.extend_from_slice(&buffer[..n]);
    }
}

fn exchange(stream: &mut Stream, path: &str, message: &Value) -> std::io::Result<(u16, Vec<u8>)> {
    send(stream, path, message)?;
    let (status, mut held, length) = head(stream)?;
    let body = match length {
        Some(length) => {
            let had = held.len();
            held.resize(length.max(had), 0);
            stream.read_exact(&mut held[had..])?;
            held
        }
        None => Chunked::new(stream, held).whole()?,
    };
    Ok((status, body))
}

fn judged(status: u16, body: &[u8]) -> Outcome<Value> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match value["error"].as_str() {
        Some(why) => Err(Fault::new(why)),
        None if status == 200 => Ok(value),
        None => Err(Fault(format!("etcd answered with status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_protobuf_writes_them() {
        let listed = Listed::of(
            &json!({"ID": "14652803568213870448", "peerURLs": ["https://10.0.0.1:2380"], "isLearner": true}),
        );
        assert_eq!(listed.id, 14_652_803_568_213_870_448);
        assert!(listed.learner && listed.name.is_empty() && listed.clients.is_empty());
        assert_eq!(Listed::of(&json!({"ID": 7, "name": "a"})).id, 7);
        let entry = Entry::of(
            &json!({"key": "L3JlZ2lzdHJ5L2E=", "create_revision": "2", "mod_revision": "3", "value": "dHdv"}),
        );
        assert_eq!(
            (entry.key.as_str(), entry.value.as_str()),
            ("/registry/a", "two")
        );
        assert_eq!(entry.revision, 3);
        assert_eq!(behind("/registry/"), encoded("/registry0"));
        let refused = judged(
            400,
            br#"{"error":"etcdserver: unhealthy cluster","code":14}"#,
        );
        assert_eq!(refused.unwrap_err().0, "etcdserver: unhealthy cluster");
    }
}
