//! One file at a time.

use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picluster_artifact::{Client, Digest, FetchError, Limits, Plain, Reason, Url};

use crate::server::{Page, Server};

pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(5),
        stall: Duration::from_secs(5),
        tries: 3,
        pause: Duration::from_millis(1),
        largest: 4 << 20,
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Digest::of_file(file.path()).unwrap().0
}

/// Bytes without a pattern that a wrong offset could hide in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn url(text: &str) -> Url {
    Url::parse(text, Plain::Loopback).unwrap()
}

/// Downloads with `begun` on disk already; what is on disk afterwards, and what came of it.
fn download(address: &str, begun: &[u8], wanted: &Digest) -> (Vec<u8>, Result<u64, FetchError>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(begun).unwrap();
    let client = Client::new(limits());
    let result = client.download(
        &url(address),
        Plain::Loopback,
        &mut file,
        wanted,
        &mut |_| {},
    );
    (content(&mut file), result)
}

fn content(file: &mut File) -> Vec<u8> {
    use std::io::{Read as _, Seek as _};
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was() {
    let server = Server::plain();
    let bytes = noise(1_000_000);
    let address = server.page("/k3s", Page::Cut(bytes.clone(), 300_000));
    let (got, result) = download(&address, b"", &digest(&bytes));
    assert_eq!(result, Ok(1_000_000));
    assert!(got == bytes);
    assert_eq!(
        server.asked(),
        [
            "GET /k3s",
            "GET /k3s from 300000",
            "GET /k3s from 600000",
            "GET /k3s from 900000"
        ]
    );
}

#[test]
fn what_an_earlier_run_left_is_used_unless_it_is_of_something_else() {
    let server = Server::plain();
    let bytes = noise(200_000);
    let address = server.page("/k3s", Page::Whole(bytes.clone()));
    let wanted = digest(&bytes);
    let (got, result) = download(&address, &bytes[..50_000], &wanted);
    assert!(result.is_ok() && got == bytes);
    assert_eq!(server.asked(), ["GET /k3s from 50000"]);
    // The whole of it: nothing is sent again.
    let (got, result) = download(&address, &bytes, &wanted);
    assert!(result.is_ok() && got == bytes);
    assert_eq!(server.asked(), ["GET /k3s from 200000"]);
    for wrong in [&b"something else"[..], &noise(300_000)[1..]] {
        let (got, result) = download(&address, wrong, &wanted);
        assert!(result.is_ok() && got == bytes);
        assert_eq!(server.asked().last().unwrap(), "GET /k3s");
    }
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole_again_but_not_for_ever() {
    let server = Server::plain();
    let bytes = noise(100_000);
    let whole = server.page("/whole", Page::NoRanges(bytes.clone(), usize::MAX));
    let (got, result) = download(&whole, &bytes[..10], &digest(&bytes));
    assert!(result.is_ok() && got == bytes);
    let cut = server.page("/cut", Page::NoRanges(bytes.clone(), 60_000));
    server.asked();
    let (_, result) = download(&cut, b"", &digest(&bytes));
    assert!(matches!(result.unwrap_err().reason, Reason::Network(_)));
    assert!(server.asked().len() <= 4);
}

#[test]
fn other_bytes_are_refused_and_not_kept() {
    let server = Server::plain();
    let address = server.page("/k3s", Page::Whole(noise(1000)));
    let (got, result) = download(&address, b"", &digest(b"another"));
    assert!(matches!(result.unwrap_err().reason, Reason::Digest { .. }));
    assert!(got.is_empty());
}

#[test]
fn too_much_is_refused_announced_or_not() {
    let server = Server::plain();
    let bytes = noise(5 << 20);
    let told = server.page("/told", Page::Whole(bytes.clone()));
    let untold = server.page("/untold", Page::Unsized(bytes.clone()));
    for address in [told, untold] {
        let (got, result) = download(&address, b"", &digest(&bytes));
        assert_eq!(
            result.unwrap_err().reason,
            Reason::TooLarge(4 << 20),
            "{address}"
        );
        assert!(got.is_empty());
    }
    let list = server.page("/list", Page::Whole(vec![b'a'; 2 << 20]));
    let text = Client::new(limits()).text(&url(&list), Plain::Loopback);
    assert_eq!(text.unwrap_err().reason, Reason::TooLarge(1 << 20));
}

#[test]
fn a_busy_server_is_asked_again_and_a_missing_page_is_not() {
    let server = Server::plain();
    let client = Client::new(limits());
    let busy = server.page(
        "/busy",
        Page::Busy(503, Arc::new(Mutex::new(2)), b"here".to_vec()),
    );
    assert_eq!(client.text(&url(&busy), Plain::Loopback).unwrap(), "here");
    assert_eq!(server.asked().len(), 3);
    let always = server.page(
        "/always",
        Page::Busy(503, Arc::new(Mutex::new(99)), Vec::new()),
    );
    let error = client.text(&url(&always), Plain::Loopback).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{always} was not fetched: the server answers 503")
    );
    assert_eq!(server.asked().len(), 3);
    let error = client
        .text(&url(&server.url("/no")), Plain::Loopback)
        .unwrap_err();
    assert_eq!(error.reason, Reason::Status(404));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn redirects_are_followed_within_reason() {
    let (server, other) = (Server::plain(), Server::plain());
    let bytes = noise(1000);
    let end = other.page("/end", Page::Whole(bytes.clone()));
    let address = server.page("/start", Page::Moved(end));
    let client = Client::new(limits());
    assert_eq!(client.size(&url(&address), Plain::Loopback), Ok(Some(1000)));
    let (got, result) = download(&address, &bytes[..400], &digest(&bytes));
    assert!(result.is_ok() && got == bytes);
    assert_eq!(
        other.asked(),
        ["HEAD /end", "GET /end from 400"],
        "the range goes along"
    );
    let circle = server.page("/circle", Page::Moved("/circle".into()));
    let error = client.text(&url(&circle), Plain::Loopback).unwrap_err();
    assert_eq!(error.reason, Reason::TooManyRedirects);
    let away = server.page(
        "/away",
        Page::Moved("http://mirror.example/x?sig=secret".into()),
    );
    let error = client.text(&url(&away), Plain::Loopback).unwrap_err();
    assert!(matches!(error.reason, Reason::Redirect { .. }));
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (server, _) = Server::tls();
    let address = server.page("/k3s", Page::Whole(b"x".to_vec()));
    let error = Client::new(limits())
        .text(&url(&address), Plain::Loopback)
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(server.asked().is_empty());
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let gone = {
        let server = Server::plain();
        server.url("/k3s")
    };
    let error = Client::new(limits())
        .text(&url(&gone), Plain::Loopback)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{gone} was not fetched: ")),
        "{error}"
    );
    assert!(matches!(error.reason, Reason::Network(_)));
}
