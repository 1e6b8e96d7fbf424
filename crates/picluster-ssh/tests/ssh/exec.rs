//! Running programs: streams, ends, budgets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use picluster_engine::host::{Connector, Exit, Host, HostError};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::rig::{BOUND, Done, Rig, node, run};
use crate::server::Options;

#[tokio::test]
async fn streams_are_separate_and_the_status_comes_back() {
    let (_rig, sshd, connector, host) = Rig::simple().await;
    let done = run(host.as_ref(), "cat; echo to-stderr >&2; exit 7", b"hello\n").await;
    assert_eq!(
        done,
        Done {
            stdout: b"hello\n".to_vec(),
            stderr: b"to-stderr\n".to_vec(),
            exit: Exit::Status(7),
        }
    );
    assert_eq!(host.peer().host_key, sshd.host_keys[0].fingerprint());
    assert_eq!(host.peer().address, format!("127.0.0.1:{}", sshd.port));
    let count = connector.counters().total();
    assert_eq!((count.connections, count.sessions), (1, 1));
    assert!(count.bytes_in > 500 && count.bytes_out > 500, "{count:?}");
    host.close().await;
}

#[tokio::test]
async fn a_signal_is_told_by_name() {
    let (_rig, _sshd, _connector, host) = Rig::simple().await;
    let done = run(host.as_ref(), "kill -KILL $$", b"").await;
    assert_eq!(done.exit, Exit::Signal("KILL".into()));
    let done = run(host.as_ref(), "kill -USR2 $$", b"").await;
    assert!(matches!(done.exit, Exit::Signal(_)), "{done:?}");
}

#[tokio::test]
async fn the_exit_needs_no_reader_and_a_writer_learns_that_nobody_reads() {
    let (_rig, _sshd, _connector, host) = Rig::simple().await;
    let session = host
        .exec("exec 0<&-; echo said; exit 3")
        .await
        .expect("starts");
    let mut stdin = session.stdin;
    drop((session.stdout, session.stderr));
    let exit = tokio::time::timeout(BOUND, session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Status(3)));
    let endless = async {
        loop {
            if let Err(error) = stdin.write_all(&[0; 4096]).await {
                return error.kind();
            }
            tokio::task::yield_now().await;
        }
    };
    let kind = tokio::time::timeout(BOUND, endless).await.expect("fails");
    assert_eq!(kind, std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn lines_go_back_and_forth() {
    let (_rig, _sshd, _connector, host) = Rig::simple().await;
    let session = host
        .exec("while read -r line; do echo \"got $line\"; done; echo end")
        .await
        .expect("starts");
    let mut stdin = session.stdin;
    let mut lines = BufReader::new(session.stdout).lines();
    for n in 0..50 {
        stdin
            .write_all(format!("{n}\n").as_bytes())
            .await
            .expect("written");
        stdin.flush().await.expect("flushed");
        let line = tokio::time::timeout(BOUND, lines.next_line())
            .await
            .expect("answers");
        assert_eq!(line.expect("read"), Some(format!("got {n}")));
    }
    stdin.shutdown().await.expect("end of file");
    assert_eq!(lines.next_line().await.expect("read"), Some("end".into()));
    assert_eq!(session.exit.await, Ok(Exit::Status(0)));
}

#[tokio::test]
async fn a_dropped_session_closes_its_channel() {
    let (rig, _sshd, _connector, host) = Rig::simple().await;
    let mark = rig.dir.path().join("mark");
    // `cat` sees end of file when the channel closes, and the shell goes on to the mark.
    let session = host
        .exec(&format!("echo ready; cat; touch {}", mark.display()))
        .await
        .expect("starts");
    let mut ready = [0; 6];
    let mut session = session;
    session.stdout.read_exact(&mut ready).await.expect("ready");
    drop(session);
    let until = Instant::now() + BOUND;
    while !mark.exists() {
        assert!(
            Instant::now() < until,
            "the program never saw the end of its input"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The connection is as good as before.
    assert_eq!(run(host.as_ref(), "true", b"").await.exit, Exit::Status(0));
}

#[tokio::test]
async fn sixteen_programs_at_once_take_eight_channels_at_a_time() {
    // A server that refuses the ninth: the budget has to keep us below.
    let (rig, _sshd) = Rig::served_by(&Options {
        config: "MaxSessions 8",
        ..Options::default()
    });
    let connector = rig.connector();
    let host: Arc<dyn Host> = Arc::from(connector.connect(&node("rpi01")).await.expect("connects"));
    let programs: Vec<_> = (0..16)
        .map(|n| {
            let host = Arc::clone(&host);
            tokio::spawn(
                async move { run(host.as_ref(), &format!("sleep 0.2; echo {n}"), b"").await },
            )
        })
        .collect();
    for (n, program) in programs.into_iter().enumerate() {
        let done = program.await.expect("joins");
        assert_eq!(done.stdout, format!("{n}\n").into_bytes());
        assert_eq!(done.exit, Exit::Status(0));
    }
    assert_eq!(connector.counters().total().connections, 1);
    assert_eq!(connector.counters().total().sessions, 16);
}

#[tokio::test]
async fn a_refused_channel_is_an_error_in_words() {
    let (rig, _sshd) = Rig::served_by(&Options {
        config: "MaxSessions 1",
        ..Options::default()
    });
    let host = rig.connect().await;
    let _held = host.exec("cat").await.expect("the first one starts");
    match host.exec("true").await {
        Err(HostError::Refused(reason)) => assert!(!reason.is_empty()),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("the second one was let in"),
    }
}

/// Repeats a block until `len` bytes are there.
fn payload(len: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..65_521_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    block.iter().copied().cycle().take(len).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_megabytes_each_way_arrive_whole() {
    let (_rig, _sshd, _connector, host) = Rig::simple().await;
    let sent = payload(64 << 20);
    let expected = format!("{:x}", Sha256::digest(&sent));
    let done = run(host.as_ref(), "sha256sum", &sent).await;
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        format!("{expected}  -\n")
    );
    // Both ways at the same time.
    let done = run(host.as_ref(), "cat", &sent).await;
    assert_eq!(done.exit, Exit::Status(0));
    assert_eq!(format!("{:x}", Sha256::digest(&done.stdout)), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_exchanged_anew_in_the_middle_of_a_transfer() {
    let (mut rig, _sshd) = Rig::served_by(&Options {
        config: "RekeyLimit 3M",
        ..Options::default()
    });
    rig.limits.rekey_bytes = 4 << 20;
    let host = rig.connect().await;
    let sent = payload(24 << 20);
    let done = run(host.as_ref(), "cat", &sent).await;
    assert_eq!(done.exit, Exit::Status(0));
    assert!(done.stdout == sent, "the echo differs");
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_nobody_reads_is_held_back_at_the_node() {
    let (_rig, _sshd, connector, host) = Rig::simple().await;
    let session = host
        .exec("head -c 1000000000 /dev/zero; echo $? >&2")
        .await
        .expect("starts");
    let before = resident();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = connector.counters().total().bytes_in;
    let grown = resident().saturating_sub(before);
    assert!(taken < 32 << 20, "{taken} bytes came in");
    assert!(grown < 24 << 10, "{grown} KiB more memory");
    // Reading on lets it flow again.
    let mut stdout = session.stdout;
    let mut part = vec![0; 1 << 20];
    for _ in 0..8 {
        tokio::time::timeout(BOUND, stdout.read_exact(&mut part))
            .await
            .expect("flows")
            .expect("reads");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_nobody_takes_is_held_back_here() {
    let (_rig, _sshd, connector, host) = Rig::simple().await;
    let session = host.exec("sleep 30").await.expect("starts");
    let mut stdin = session.stdin;
    let block = vec![7; 1 << 20];
    let before = resident();
    let upload = async {
        for _ in 0..512 {
            stdin.write_all(&block).await.expect("written");
        }
    };
    // Windows and pipes take a few megabytes, then the writer waits.
    assert!(
        tokio::time::timeout(Duration::from_secs(3), upload)
            .await
            .is_err()
    );
    assert!(connector.counters().total().bytes_out < 16 << 20);
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more memory");
}
