//! Connections that end badly: killed, stopped, cut in the middle of things.

use std::time::{Duration, Instant};

use picluster_engine::host::{ConnectError, Connector, Exit, HostError};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{BOUND, Rig, node};

#[tokio::test]
async fn a_connection_killed_in_the_middle_is_lost_and_never_a_success() {
    let (_rig, sshd, connector, host) = Rig::simple().await;
    let session = host
        .exec("echo working; sleep 30; exit 0")
        .await
        .expect("starts");
    let mut stdout = session.stdout;
    let mut word = [0; 8];
    stdout.read_exact(&mut word).await.expect("reads");
    sshd.cut();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(BOUND, stdout.read_to_end(&mut rest))
        .await
        .expect("ends");
    assert_eq!(read.expect("ends plainly"), 0);
    let exit = tokio::time::timeout(BOUND, session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Lost));
    match host.exec("true").await {
        Err(HostError::Disconnected(reason)) => assert!(!reason.is_empty()),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a dead connection ran a program"),
    }
    // A new connection works: the pin is known, the keys are open.
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects")
        .close()
        .await;
}

#[tokio::test]
async fn a_silent_node_is_lost_after_the_keepalives() {
    let (mut rig, sshd) = Rig::served();
    rig.limits.keepalive_interval = Duration::from_millis(200);
    let host = rig.connect().await;
    let session = host.exec("sleep 30").await.expect("starts");
    tokio::time::sleep(Duration::from_millis(300)).await;
    sshd.signal(Signal::STOP);
    let started = Instant::now();
    let exit = tokio::time::timeout(BOUND, session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Lost));
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    match host.exec("true").await {
        Err(HostError::Disconnected(reason)) => {
            assert_eq!(reason, "no sign of life from the other side");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a dead connection ran a program"),
    }
}

#[tokio::test]
async fn a_node_that_falls_silent_during_an_upload_is_lost_too() {
    let (mut rig, sshd) = Rig::served();
    rig.limits.keepalive_interval = Duration::from_millis(200);
    let host = rig.connect().await;
    let session = host.exec("cat >/dev/null").await.expect("starts");
    let mut stdin = session.stdin;
    let upload = tokio::spawn(async move {
        let block = vec![1; 1 << 20];
        // Far more than all windows and buffers on the way hold.
        for _ in 0..4096 {
            stdin.write_all(&block).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    sshd.signal(Signal::STOP);
    let exit = tokio::time::timeout(Duration::from_secs(10), session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Lost));
    let written = tokio::time::timeout(BOUND, upload)
        .await
        .expect("ends")
        .expect("joins");
    assert_eq!(
        written.expect_err("fails").kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn a_slow_but_living_program_is_not_lost() {
    let (mut rig, _sshd) = Rig::served();
    rig.limits.keepalive_interval = Duration::from_millis(100);
    let host = rig.connect().await;
    let session = host.exec("sleep 2; exit 5").await.expect("starts");
    let exit = tokio::time::timeout(BOUND, session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Status(5)));
}

#[tokio::test]
async fn closing_ends_the_programs_input() {
    let (rig, _sshd, _connector, host) = Rig::simple().await;
    let mark = rig.dir.path().join("mark");
    let mut session = host
        .exec(&format!("echo ready; cat; touch {}", mark.display()))
        .await
        .expect("starts");
    let mut ready = [0; 6];
    session.stdout.read_exact(&mut ready).await.expect("ready");
    host.close().await;
    assert_eq!(
        tokio::time::timeout(BOUND, session.exit)
            .await
            .expect("ends"),
        Ok(Exit::Lost)
    );
    let until = Instant::now() + BOUND;
    while !mark.exists() {
        assert!(
            Instant::now() < until,
            "the program never saw the end of its input"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(
        host.exec("true").await,
        Err(HostError::Disconnected(_))
    ));
}

#[tokio::test]
async fn nobody_there_is_said_in_words() {
    let (rig, mut sshd) = Rig::served();
    sshd.stop_listening();
    let error = rig.refused().await;
    assert_eq!(
        error,
        ConnectError::Unreachable {
            node: node("rpi01"),
            address: format!("127.0.0.1:{}", sshd.port),
            reason: "connection refused".into(),
        }
    );
    let error = rig
        .connector()
        .connect(&node("rpi99"))
        .await
        .err()
        .expect("unknown");
    assert!(matches!(error, ConnectError::Local { .. }), "{error:?}");
}

#[tokio::test]
async fn a_port_that_answers_with_something_else_ends_in_time() {
    let (mut rig, _sshd) = Rig::served();
    rig.limits.kex_timeout = Duration::from_millis(500);
    rig.limits.first_contact_grace = Duration::ZERO;
    // Takes the connection and says nothing.
    let (_mute, port) = gate().await;
    rig.redirect(port);
    let error = rig.refused().await.to_string();
    assert!(
        error.contains("the key exchange did not end within 0.5 s"),
        "{error}"
    );
    // Talks HTTP.
    let (web, port) = gate().await;
    rig.redirect(port);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = rig.refused().await;
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    serving.abort();
}

#[tokio::test]
async fn a_peer_that_goes_mute_in_the_exchange_is_hung_up_on() {
    let (mut rig, _sshd) = Rig::served();
    rig.limits.kex_timeout = Duration::from_millis(500);
    rig.limits.first_contact_grace = Duration::ZERO;
    let (half, port) = gate().await;
    rig.redirect(port);
    let hung_up = tokio::spawn(async move {
        let (mut stream, _) = half.accept().await.expect("a call");
        stream
            .write_all(b"SSH-2.0-OpenSSH_9.9\r\n")
            .await
            .expect("written");
        let mut all = Vec::new();
        // Ends only when the other side lets go of the socket.
        stream.read_to_end(&mut all).await.map(|_| ())
    });
    let error = rig.refused().await.to_string();
    assert!(
        error.contains("the key exchange did not end within 0.5 s"),
        "{error}"
    );
    let ended = tokio::time::timeout(Duration::from_secs(5), hung_up).await;
    ended.expect("the socket is closed").expect("joins").ok();
}

/// Takes a call and passes it on to a port of this machine.
async fn relay(gate: &TcpListener, port: u16) {
    let (mut near, _) = gate.accept().await.expect("a call");
    let far = TcpStream::connect(("127.0.0.1", port)).await;
    let _ = copy_bidirectional(&mut near, &mut far.expect("sshd")).await;
}

/// A port of this machine, and which.
async fn gate() -> (TcpListener, u16) {
    let gate = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = gate.local_addr().expect("address").port();
    (gate, port)
}

#[tokio::test]
async fn a_server_too_busy_for_a_moment_is_tried_again() {
    let (mut rig, sshd) = Rig::served();
    // Hangs up on the first caller, as sshd does beyond MaxStartups, and serves the second.
    let (gate, port) = gate().await;
    rig.redirect(port);
    let port = sshd.port;
    let serving = tokio::spawn(async move {
        drop(gate.accept().await);
        relay(&gate, port).await;
    });
    let connector = rig.connector();
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects")
        .close()
        .await;
    assert_eq!(connector.counters().total().connections, 2);
    serving.abort();
}

#[tokio::test]
async fn a_server_that_comes_back_to_its_port_at_once_is_tried_again() {
    let (mut rig, sshd) = Rig::served();
    // A port nobody listens on yet: what a caller meets while sshd starts itself anew.
    let gap = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = gap.local_addr().expect("address");
    drop(gap);
    rig.redirect(address.port());
    let port = sshd.port;
    let serving = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let gate = TcpListener::bind(address)
            .await
            .expect("the port is still free");
        relay(&gate, port).await;
    });
    let connector = rig.connector();
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects")
        .close()
        .await;
    serving.abort();
}
