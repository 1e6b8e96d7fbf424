//! Figures for the record, not verdicts:
//! `cargo nextest run -p picluster-ssh --release --run-ignored only --no-capture measure`
#![allow(clippy::print_stdout)]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picluster_engine::host::{Connector, Exit};
use picluster_ssh::{CipherOrder, Hop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, node, pin_name, run};
use crate::server::Sshd;

/// User and system time of this process, and of the children it has waited for.
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // Ticks of 10 ms; utime is field 14, counted from 1, and the list begins with field 3.
    (
        (fields[11] + fields[12]) / 100.0,
        (fields[13] + fields[14]) / 100.0,
    )
}

fn peak_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let of = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim().to_owned())
            .unwrap_or_default()
    };
    format!("now {}, peak {}", of("VmRSS:"), of("VmHWM:"))
}

fn ssh(rig: &Rig, sshd: &Sshd, options: &[&str], command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ])
    .args([
        "-o",
        "LogLevel=ERROR",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-i",
    ])
    .arg(&rig.key.path)
    .args(options)
    .args(["-p", &sshd.port.to_string(), "127.0.0.1", command]);
    ssh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_throughput() {
    const MEGABYTES: usize = 1024;
    let (mut rig, sshd) = Rig::served();
    let block = vec![0x5a_u8; 1 << 20];
    for (order, cipher) in [
        (CipherOrder::ChaChaFirst, "chacha20-poly1305@openssh.com"),
        (CipherOrder::AesFirst, "aes256-gcm@openssh.com"),
    ] {
        rig.limits.cipher = order;
        for round in 0..3 {
            let host = rig.connect().await;
            let session = host.exec("cat > /dev/null").await.expect("starts");
            let mut stdin = session.stdin;
            let (started, before) = (Instant::now(), cpu().0);
            for _ in 0..MEGABYTES {
                stdin.write_all(&block).await.expect("written");
            }
            stdin.shutdown().await.expect("ends");
            assert_eq!(session.exit.await, Ok(Exit::Status(0)));
            let (ours, used) = (started.elapsed().as_secs_f64(), cpu().0 - before);
            host.close().await;

            let mut child = ssh(&rig, &sshd, &["-c", cipher], "cat > /dev/null")
                .stdin(Stdio::piped())
                .spawn()
                .expect("ssh runs");
            let mut stdin = child.stdin.take().expect("stdin");
            let (started, before) = (Instant::now(), cpu().1);
            for _ in 0..MEGABYTES {
                std::io::Write::write_all(&mut stdin, &block).expect("written");
            }
            drop(stdin);
            assert!(child.wait().expect("ends").success());
            let theirs = started.elapsed().as_secs_f64();
            let mb = MEGABYTES as f64;
            println!(
                "push {cipher} round {round}: ours {:.0} MB/s ({used:.2} s CPU), ssh {:.0} MB/s ({:.2} s CPU), {:.0} %; {}",
                mb / ours,
                mb / theirs,
                cpu().1 - before,
                100.0 * theirs / ours,
                peak_kib()
            );
        }
        let host = rig.connect().await;
        let session = host
            .exec(&format!("head -c {} /dev/zero", MEGABYTES << 20))
            .await
            .expect("starts");
        let mut stdout = session.stdout;
        let mut buffer = vec![0; 256 << 10];
        let started = Instant::now();
        while stdout.read(&mut buffer).await.expect("reads") > 0 {}
        let ours = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let done = ssh(
            &rig,
            &sshd,
            &["-c", cipher],
            &format!("head -c {} /dev/zero", MEGABYTES << 20),
        )
        .stdout(Stdio::null())
        .status()
        .expect("ssh runs");
        assert!(done.success());
        let theirs = started.elapsed().as_secs_f64();
        println!(
            "pull {cipher}: ours {:.0} MB/s, ssh {:.0} MB/s; {}",
            MEGABYTES as f64 / ours,
            MEGABYTES as f64 / theirs,
            peak_kib()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_connections() {
    const NODES: usize = 50;
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[&rig.key]);
    let names: Vec<_> = (0..NODES)
        .map(|n| rig.add(&format!("rpi{n:03}"), &sshd))
        .collect();
    for name in &names {
        rig.pins
            .add(&pin_name(name.as_str()), &sshd.host_keys[0].public, "")
            .expect("pinned");
    }
    for round in 0..3 {
        let connector = Arc::new(rig.connector());
        let (started, before) = (Instant::now(), cpu().0);
        let dials: Vec<_> = names
            .iter()
            .map(|name| {
                let (connector, name) = (Arc::clone(&connector), name.clone());
                tokio::spawn(async move {
                    let host = connector.connect(&name).await.expect("connects");
                    for _ in 0..2 {
                        assert_eq!(run(host.as_ref(), "true", b"").await.exit, Exit::Status(0));
                    }
                    host
                })
            })
            .collect();
        let mut hosts = Vec::new();
        for dial in dials {
            hosts.push(dial.await.expect("joins"));
        }
        let (ours, used) = (started.elapsed(), cpu().0 - before);
        let memory = peak_kib();
        let count = connector.counters().total();
        drop(hosts);

        let before = cpu().1;
        let started = Instant::now();
        let clients: Vec<_> = (0..NODES)
            .map(|_| ssh(&rig, &sshd, &[], "true").spawn().expect("ssh runs"))
            .collect();
        for mut client in clients {
            assert!(client.wait().expect("ends").success());
        }
        println!(
            "round {round}: {NODES} × (dial + 2 execs) {:.2} s, {:.1} ms CPU each, {} / {} bytes in/out each, {memory}; {NODES} × ssh true {:.2} s, {:.1} ms CPU each",
            ours.as_secs_f64(),
            1000.0 * used / NODES as f64,
            count.bytes_in / NODES as u64,
            count.bytes_out / NODES as u64,
            started.elapsed().as_secs_f64(),
            1000.0 * (cpu().1 - before) / NODES as f64,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_memory_of_a_hundred_nodes() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[&rig.key]);
    let names: Vec<_> = (0..100)
        .map(|n| rig.add(&format!("rpi{n:03}"), &sshd))
        .collect();
    println!("start: {}", peak_kib());
    let connector = rig.connector();
    let mut hosts = Vec::new();
    for name in &names {
        hosts.push(connector.connect(name).await.expect("connects"));
    }
    println!("100 connections: {}", peak_kib());
    let mut sessions = Vec::new();
    for host in &hosts {
        sessions.push(host.exec("cat > /dev/null").await.expect("starts"));
    }
    println!("100 sessions: {}", peak_kib());
    let uploads: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            tokio::spawn(async move {
                let mut stdin = session.stdin;
                let block = vec![1; 64 << 10];
                for _ in 0..160 {
                    stdin.write_all(&block).await.expect("written");
                }
                stdin.shutdown().await.expect("ends");
                session.exit.await
            })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.await.expect("joins"), Ok(Exit::Status(0)));
    }
    println!("100 uploads of 10 MB at once: {}", peak_kib());
}

/// Passes bytes on, each `delay` after it came.
async fn slow_wire(to: u16, delay: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", to)).await.expect("sshd");
            near.set_nodelay(true).expect("nodelay");
            far.set_nodelay(true).expect("nodelay");
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            for (mut read, mut write) in [(near_read, far_write), (far_read, near_write)] {
                let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(n) = read.read(&mut buffer).await {
                        if n == 0
                            || tx
                                .send((Instant::now() + delay, buffer[..n].to_vec()))
                                .is_err()
                        {
                            break;
                        }
                    }
                });
                tokio::spawn(async move {
                    while let Some((when, bytes)) = rx.recv().await {
                        tokio::time::sleep_until(when.into()).await;
                        if write.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_round_trips() {
    let delay = Duration::from_millis(100);
    let (mut rig, sshd) = Rig::served();
    rig.pins
        .add(&pin_name("rpi01"), &sshd.host_keys[0].public, "")
        .expect("pinned");
    let port = slow_wire(sshd.port, delay).await;
    rig.redirect(port);
    let trips = |since: Instant| since.elapsed().as_secs_f64() / (2.0 * delay.as_secs_f64());
    let connector = rig.connector();
    let started = Instant::now();
    let host = connector.connect(&node("rpi01")).await.expect("connects");
    println!("TCP open to logged in: {:.2} round trips", trips(started));
    for _ in 0..2 {
        let started = Instant::now();
        let mut session = host.exec("cat").await.expect("starts");
        session.stdin.write_all(b"x").await.expect("written");
        let mut byte = [0];
        session.stdout.read_exact(&mut byte).await.expect("reads");
        println!(
            "exec to first byte through cat: {:.2} round trips",
            trips(started)
        );
    }
    let started = Instant::now();
    // The first port wins.
    let done = ssh(&rig, &sshd, &["-p", &port.to_string()], "true").status();
    assert!(done.expect("ssh runs").success());
    println!(
        "ssh true, TCP open to exit: {:.2} round trips",
        trips(started)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_jump_throughput() {
    const MEGABYTES: usize = 512;
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    rig.add("rpi01", &sshd);
    rig.rpi01().jump = vec![Hop {
        host: "127.0.0.1".into(),
        port: Some(jump.port),
        identity: vec![rig.key.path.clone()],
        ..Hop::default()
    }];
    let host = rig.connect().await;
    let session = host.exec("cat > /dev/null").await.expect("starts");
    let mut stdin = session.stdin;
    let block = vec![0x5a_u8; 1 << 20];
    let started = Instant::now();
    for _ in 0..MEGABYTES {
        stdin.write_all(&block).await.expect("written");
    }
    stdin.shutdown().await.expect("ends");
    assert_eq!(session.exit.await, Ok(Exit::Status(0)));
    println!(
        "push through a jump host: {:.0} MB/s, {:.2} s CPU; {}",
        MEGABYTES as f64 / started.elapsed().as_secs_f64(),
        cpu().0,
        peak_kib()
    );
    let user = crate::server::user();
    // What `-J` does, with options that reach the first hop as well.
    let proxy = format!(
        "ProxyCommand=ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o \
         IdentitiesOnly=yes -i {} -p {} -W 127.0.0.1:{} {user}@127.0.0.1",
        rig.key.path.display(),
        jump.port,
        sshd.port
    );
    let before = cpu().1;
    let mut child = ssh(&rig, &sshd, &["-o", &proxy], "cat > /dev/null")
        .stdin(Stdio::piped())
        .spawn()
        .expect("ssh runs");
    let mut stdin = child.stdin.take().expect("stdin");
    let started = Instant::now();
    for _ in 0..MEGABYTES {
        std::io::Write::write_all(&mut stdin, &block).expect("written");
    }
    drop(stdin);
    assert!(child.wait().expect("ends").success());
    println!(
        "ssh through a jump host: {:.0} MB/s, {:.2} s CPU",
        MEGABYTES as f64 / started.elapsed().as_secs_f64(),
        cpu().1 - before
    );
}
