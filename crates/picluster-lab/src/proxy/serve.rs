//! One client connection: requests in, answers out, in order.

use std::io::{self, BufReader, Read, Write};

use super::cache::{Answer, Cache};
use super::head::Head;

/// Serves until the client ends or misbehaves.
pub(crate) fn connection<S: Read + Write>(stream: S, cache: &Cache) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = Head::read(&mut stream) {
        let close = head
            .get("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if answer(&mut stream, &head, cache).is_err() || close {
            return;
        }
    }
}

fn answer<S: Read + Write>(
    stream: &mut BufReader<S>,
    head: &Head,
    cache: &Cache,
) -> io::Result<()> {
    let mut words = head.line.split(' ');
    let (method, url) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let out = stream.get_mut();
    if !matches!(method, "GET" | "HEAD") || !url.starts_with("http://") {
        // No CONNECT: nothing in a lab talks to the outside but apt.
        write!(
            out,
            "HTTP/1.1 501 Only plain HTTP GET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A head leaves in one write: in pieces, each would wait for the acknowledgement of the one before.
    match cache.get(url, head.get("if-modified-since")) {
        Answer::File {
            mut file,
            length,
            last_modified,
        } => {
            let date = last_modified
                .map(|d| format!("Last-Modified: {d}\r\n"))
                .unwrap_or_default();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{date}\r\n");
            out.write_all(head.as_bytes())?;
            if method == "GET" {
                io::copy(&mut file, out)?;
            }
        }
        Answer::NotModified => out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n")?,
        Answer::Status { code, location } => {
            let location = location
                .map(|l| format!("Location: {l}\r\n"))
                .unwrap_or_default();
            let head = format!("HTTP/1.1 {code} Upstream\r\nContent-Length: 0\r\n{location}\r\n");
            out.write_all(head.as_bytes())?;
        }
    }
    out.flush()
}
