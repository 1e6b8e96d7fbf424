//! Fetching from the outside: the machine's own way out, through its proxy where it has one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::head::Head;

/// An HTTP proxy of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProxy {
    pub host: String,
    pub port: u16,
}

/// What upstream said; the body is written to `sink` for 200 only.
pub(crate) struct Reply {
    pub code: u16,
    pub location: Option<String>,
    pub last_modified: Option<String>,
}

/// The proxy apt itself would use here: apt's configuration, else `http_proxy`.
pub(crate) fn machine_proxy() -> Option<HttpProxy> {
    let from_apt = crate::linux::tool::output(crate::linux::tool::tool("apt-config").args([
        "shell",
        "P",
        "Acquire::http::Proxy",
    ]))
    .ok()
    .and_then(|out| {
        String::from_utf8_lossy(&out)
            .trim()
            .strip_prefix("P='")
            .map(|v| v.trim_end_matches('\'').to_owned())
    });
    let url = from_apt
        .filter(|v| !v.is_empty())
        .or_else(|| std::env::var("http_proxy").ok())?;
    parse_proxy(&url)
}

fn parse_proxy(url: &str) -> Option<HttpProxy> {
    if url.eq_ignore_ascii_case("direct") {
        return None;
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, port) = split_authority(rest.split('/').next()?, 3128)?;
    Some(HttpProxy { host, port })
}

fn split_authority(authority: &str, default: u16) -> Option<(String, u16)> {
    let authority = authority.rsplit('@').next()?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.ends_with(']') => {
            Some((host.to_owned(), port.parse().ok()?))
        }
        _ if authority.is_empty() => None,
        _ => Some((authority.to_owned(), default)),
    }
}

/// Connections to upstream that wait for their next request: a package list of hundreds of small files would
/// otherwise spend its time on greetings.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<(String, BufReader<TcpStream>)>>);

/// Connections kept, over all servers.
const POOLED: usize = 16;

impl Pool {
    fn take(&self, server: &str) -> Option<BufReader<TcpStream>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(|(s, _)| s == server)?;
        Some(list.swap_remove(at).1)
    }

    fn give(&self, server: String, stream: BufReader<TcpStream>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < POOLED {
            list.push((server, stream));
        }
    }
}

/// Fetches `url` (`http://…`).
pub(crate) fn fetch(
    url: &str,
    since: Option<&str>,
    proxy: Option<&HttpProxy>,
    pool: &Pool,
    sink: &mut impl Write,
) -> io::Result<Reply> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| bad(url, "not an http address"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = split_authority(authority, 80).ok_or_else(|| bad(url, "no host"))?;
    let (target, host, port) = match proxy {
        Some(p) => (url, p.host.clone(), p.port),
        None => (if path.is_empty() { "/" } else { path }, host, port),
    };
    let server = format!("{host}:{port}");
    let condition = since
        .map(|d| format!("If-Modified-Since: {d}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: picluster-lab\r\nAccept: */*\r\n{condition}\r\n"
    );
    let ask = |mut stream: BufReader<TcpStream>| -> io::Result<(Head, BufReader<TcpStream>)> {
        stream.get_mut().write_all(request.as_bytes())?;
        let head = Head::read(&mut stream)?.ok_or_else(|| bad(url, "closed without an answer"))?;
        Ok((head, stream))
    };
    // A kept connection may have been closed meanwhile; that says nothing about the server.
    let kept = pool.take(&server).and_then(|stream| ask(stream).ok());
    let (head, mut stream) = match kept {
        Some(answered) => answered,
        None => ask(BufReader::new(connect(&host, port)?))?,
    };
    let code: u16 = head
        .line
        .split(' ')
        .nth(1)
        .and_then(|c| c.parse().ok())
        .ok_or_else(|| bad(url, "no HTTP answer"))?;
    let reply = Reply {
        code,
        location: head.get("location").map(str::to_owned),
        last_modified: head.get("last-modified").map(str::to_owned),
    };
    let whole = if code == 200 {
        body(&head, &mut stream, sink, url)?
    } else if code == 304 {
        true
    } else {
        body(&head, &mut stream, &mut io::sink(), url)?
    };
    let stays = head.line.starts_with("HTTP/1.1")
        && !head
            .get("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
    if whole && stays {
        pool.give(server, stream);
    }
    Ok(reply)
}

fn bad(url: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{url}: {what}"))
}

/// Copies a body; `true` when its end was marked, so that another answer may follow.
fn body(
    head: &Head,
    stream: &mut BufReader<TcpStream>,
    sink: &mut impl Write,
    url: &str,
) -> io::Result<bool> {
    if head
        .get("transfer-encoding")
        .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    {
        chunked(stream, sink)?;
        return Ok(true);
    }
    let Some(length) = head
        .get("content-length")
        .and_then(|v| v.parse::<u64>().ok())
    else {
        io::copy(stream, sink)?;
        return Ok(false);
    };
    if io::copy(&mut stream.take(length), sink)? == length {
        Ok(true)
    } else {
        Err(bad(url, "ended early"))
    }
}

fn chunked(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if io::copy(&mut from.take(size), to)? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if size == 0 {
            return Ok(());
        }
        from.read_line(&mut line)?;
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(15)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                stream.set_write_timeout(Some(Duration::from_secs(60)))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_as_people_write_them() {
        let p = |host: &str, port| {
            Some(HttpProxy {
                host: host.into(),
                port,
            })
        };
        assert_eq!(parse_proxy("http://proxy.lan:8080/"), p("proxy.lan", 8080));
        assert_eq!(parse_proxy("proxy.lan"), p("proxy.lan", 3128));
        assert_eq!(parse_proxy("DIRECT"), None);
    }

    #[test]
    fn chunks_are_joined_and_a_cut_is_noticed() {
        let mut out = Vec::new();
        chunked(
            &mut &b"4\r\nWiki\r\n6;x=1\r\npedia \r\n0\r\n\r\n"[..],
            &mut out,
        )
        .unwrap();
        assert_eq!(out, b"Wikipedia ");
        assert!(chunked(&mut &b"4\r\nWi"[..], &mut out).is_err());
    }
}
