//! From a host name to a TCP stream: lookup, several addresses a name, words for what went wrong.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::words;

/// Wait before the next address of a name is tried beside the one that has not answered yet
/// ("Connection Attempt Delay" of RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Which addresses of a name are used (`AddressFamily` in ssh_config(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Family {
    #[default]
    Any,
    Inet,
    Inet6,
}

/// Why there is no stream to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoStream {
    pub reason: String,
    /// The machine answered, but nothing listened at that moment, or stopped listening while we were in
    /// its queue: what an sshd does for some milliseconds when it is reloaded or restarted.
    pub nobody_listens: bool,
}

impl From<String> for NoStream {
    fn from(reason: String) -> Self {
        Self {
            reason,
            nobody_listens: false,
        }
    }
}

impl From<&io::Error> for NoStream {
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        Self {
            reason: words::io(error),
            nobody_listens: matches!(
                error.kind(),
                Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted
            ),
        }
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn label(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Connects to the first address of `host` that answers.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    family: Family,
    limit: Duration,
) -> Result<TcpStream, NoStream> {
    let deadline = Instant::now() + limit;
    let addresses = match timeout_at(deadline, lookup(host, port)).await {
        Ok(addresses) => addresses?,
        Err(_) => {
            return Err(NoStream::from(format!(
                "the name {host} was not resolved within {}",
                words::seconds(limit)
            )));
        }
    };
    let addresses: Vec<SocketAddr> = addresses
        .into_iter()
        .filter(|address| match family {
            Family::Any => true,
            Family::Inet => address.is_ipv4(),
            Family::Inet6 => address.is_ipv6(),
        })
        .collect();
    if addresses.is_empty() {
        return Err(format!("{host} has no address of the wanted family").into());
    }
    let stream = timeout_at(deadline, first_of(addresses))
        .await
        .map_err(|_| format!("timed out after {}", words::seconds(limit)))??;
    // Interactive by nature: lock-step lines must not wait for Nagle.
    stream
        .set_nodelay(true)
        .map_err(|error| NoStream::from(&error))?;
    Ok(stream)
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(unresolved(host, &error)),
    }
}

fn unresolved(host: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let lower = text.to_ascii_lowercase();
    let unknown = ["not known", "not exist", "does not resolve", "no address"]
        .iter()
        .any(|sign| lower.contains(sign));
    let sentence = if unknown {
        format!("the name {host} is not known")
    } else {
        format!("the name {host} could not be looked up: {text}")
    };
    if host
        .trim_end_matches('.')
        .to_ascii_lowercase()
        .ends_with(".local")
    {
        format!(
            "{sentence}; `.local` names are answered by multicast DNS, which this program does not \
             speak: give the node's address, or a name your DNS server knows"
        )
    } else {
        sentence
    }
}

/// Tries addresses in order, the next one as soon as one fails or takes its time; the first
/// connection wins.
async fn first_of(addresses: Vec<SocketAddr>) -> Result<TcpStream, NoStream> {
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut last_error = NoStream::from(String::from("no address"));
    if let Some(address) = waiting.next() {
        running.spawn(TcpStream::connect(address));
    }
    loop {
        let next_due = async {
            if waiting.len() > 0 {
                sleep(NEXT_ADDRESS).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            done = running.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last_error = NoStream::from(&error),
                Some(Err(error)) => last_error = error.to_string().into(),
                None => return Err(last_error),
            },
            () = next_due => {}
        }
        if let Some(address) = waiting.next() {
            running.spawn(TcpStream::connect(address));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_address_is_used_when_the_first_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let open = listener.local_addr().expect("address");
        let closed: SocketAddr = "127.0.0.1:1".parse().expect("address");
        assert!(first_of(vec![closed, open]).await.is_ok());
        assert_eq!(
            first_of(vec![closed]).await.unwrap_err(),
            NoStream {
                reason: "connection refused".into(),
                nobody_listens: true
            }
        );
    }

    #[tokio::test]
    async fn a_silent_address_ends_in_bounded_time() {
        // A queue of one that is full: further connections are neither taken nor refused.
        let socket = tokio::net::TcpSocket::new_v4().expect("socket");
        socket
            .bind("127.0.0.1:0".parse().expect("address"))
            .expect("bind");
        let listener = socket.listen(0).expect("listen");
        let address = listener.local_addr().expect("address");
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(tokio::spawn(TcpStream::connect(address)));
        }
        sleep(Duration::from_millis(100)).await;
        let started = Instant::now();
        let limit = Duration::from_millis(300);
        let error = connect("127.0.0.1", address.port(), Family::Any, limit)
            .await
            .expect_err("nobody takes it");
        assert_eq!(error, String::from("timed out after 0.3 s").into());
        assert!(started.elapsed() < Duration::from_secs(10));
        for one in held {
            one.abort();
        }
    }

    #[test]
    fn unknown_local_names_say_what_to_do() {
        let error =
            io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(unresolved("pi.lan", &error), "the name pi.lan is not known");
        assert!(unresolved("pi.local", &error).contains("multicast DNS"));
        // musl's words.
        let error = io::Error::other("failed to lookup address information: Name does not resolve");
        assert_eq!(unresolved("pi.lan", &error), "the name pi.lan is not known");
    }

    #[test]
    fn ipv6_addresses_are_shown_in_brackets() {
        assert_eq!(label("fe80::1", 22), "[fe80::1]:22");
        assert_eq!(label("pi.lan", 22), "pi.lan:22");
    }
}
