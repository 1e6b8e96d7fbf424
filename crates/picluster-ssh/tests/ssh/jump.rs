//! Nodes behind jump hosts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use picluster_engine::host::{ConnectError, Connector, Exit};
use picluster_ssh::{Hop, RefuseNew, UseSshConfig};

use crate::rig::{BOUND, Rig, node, pin_name, run};
use crate::server::{KeyPair, Options, Sshd};

fn hop(rig: &Rig, sshd: &Sshd) -> Hop {
    Hop {
        host: "127.0.0.1".into(),
        port: Some(sshd.port),
        identity: vec![rig.key.path.clone()],
        ..Hop::default()
    }
}

#[tokio::test]
async fn two_hops_in_a_row() {
    let mut rig = Rig::new();
    let (outer, inner, sshd) = (
        Sshd::start(&[&rig.key]),
        Sshd::start(&[&rig.key]),
        Sshd::start(&[&rig.key]),
    );
    rig.add("rpi01", &sshd);
    let hops = vec![hop(&rig, &outer), hop(&rig, &inner)];
    rig.rpi01().jump = hops;
    let connector = rig.connector();
    let host = connector.connect(&node("rpi01")).await.expect("connects");
    let done = run(host.as_ref(), "echo \"$SSH_CONNECTION\"; exit 4", b"").await;
    assert_eq!(done.exit, Exit::Status(4));
    assert_eq!(host.peer().host_key, sshd.host_keys[0].fingerprint());
    let mut names = rig.pins.names();
    names.sort();
    let mut expected = vec![
        pin_name(&format!("jump:127.0.0.1:{}", outer.port)),
        pin_name(&format!("jump:127.0.0.1:{}", inner.port)),
        pin_name("rpi01"),
    ];
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(connector.counters().of(&pin_name("rpi01")).connections, 1);
    assert!(inner.log().contains("Accepted publickey"));
    host.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_nodes_share_one_jump_connection() {
    let mut rig = Rig::new();
    let options = Options {
        // The defaults, which twelve connections or sessions would run into.
        config: "MaxStartups 10:30:100\nMaxSessions 10",
        ..Options::default()
    };
    let (jump, sshd) = (Sshd::with(&[&rig.key], &options), Sshd::start(&[&rig.key]));
    let names: Vec<_> = (1..=12)
        .map(|n| rig.add(&format!("rpi{n:02}"), &sshd))
        .collect();
    let through = hop(&rig, &jump);
    for target in rig.targets.values_mut() {
        target.jump = vec![through.clone()];
    }
    let connector = Arc::new(rig.connector());
    let dials: Vec<_> = names
        .iter()
        .map(|name| {
            let (connector, name) = (Arc::clone(&connector), name.clone());
            tokio::spawn(async move { connector.connect(&name).await })
        })
        .collect();
    let mut hosts = Vec::new();
    for dial in dials {
        hosts.push(dial.await.expect("joins").expect("connects"));
    }
    for host in &hosts {
        let (one, two) = tokio::join!(
            run(host.as_ref(), "cat", b"one"),
            run(host.as_ref(), "cat", b"two")
        );
        assert_eq!((one.stdout, two.stdout), (b"one".to_vec(), b"two".to_vec()));
    }
    let jump_pin = pin_name(&format!("jump:127.0.0.1:{}", jump.port));
    assert_eq!(connector.counters().of(&jump_pin).connections, 1);
    assert_eq!(connector.counters().of(&jump_pin).sessions, 0);
    assert_eq!(connector.counters().total().connections, 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_data_both_ways_through_a_jump_host_does_not_lock_up() {
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    for name in ["rpi01", "rpi02"] {
        rig.add(name, &sshd);
        let through = hop(&rig, &jump);
        rig.targets.get_mut(name).expect("target").jump = vec![through];
    }
    let connector = rig.connector();
    let one = connector.connect(&node("rpi01")).await.expect("connects");
    let two = connector.connect(&node("rpi02")).await.expect("connects");
    // A program whose output nobody reads must not stop its neighbour on the same jump connection.
    let _unread = two
        .exec("head -c 100000000 /dev/zero")
        .await
        .expect("starts");
    let sent = vec![42; 24 << 20];
    let done = run(one.as_ref(), "cat", &sent).await;
    assert_eq!(done.exit, Exit::Status(0));
    assert!(done.stdout == sent, "the echo differs");
}

#[tokio::test]
async fn a_jump_host_that_is_a_node_has_that_nodes_pin_and_target() {
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    rig.add("gateway", &jump);
    rig.add("rpi01", &sshd);
    rig.rpi01().jump = vec![Hop {
        node: Some(node("gateway")),
        ..Hop::default()
    }];
    rig.connect().await.close().await;
    assert_eq!(
        rig.pins.names(),
        vec![pin_name("gateway"), pin_name("rpi01")]
    );
}

#[tokio::test]
async fn a_changed_key_of_the_jump_host_names_the_jump_host() {
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    let old = KeyPair::ed25519(rig.dir.path(), "old");
    let pin = pin_name(&format!("jump:127.0.0.1:{}", jump.port));
    rig.pins.add(&pin, &old.public, "").expect("pinned");
    rig.add("rpi01", &sshd);
    let through = hop(&rig, &jump);
    rig.rpi01().jump = vec![through];
    rig.policy = Arc::new(RefuseNew);
    let error = rig.refused().await;
    let ConnectError::HostKeyChanged { presented, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        presented.contains(&format!("by the jump host 127.0.0.1:{}", jump.port)),
        "{error}"
    );
    assert!(
        !sshd.log().contains("Connection from"),
        "the node was dialled"
    );
}

#[tokio::test]
async fn nodes_behind_a_dead_jump_host_fail_together() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[&rig.key]);
    // Takes connections and says nothing.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let names: Vec<_> = (1..=12)
        .map(|n| rig.add(&format!("rpi{n:02}"), &sshd))
        .collect();
    for target in rig.targets.values_mut() {
        target.jump = vec![Hop {
            host: "127.0.0.1".into(),
            port: Some(mute.local_addr().expect("address").port()),
            identity: vec![rig.key.path.clone()],
            ..Hop::default()
        }];
    }
    rig.limits.kex_timeout = Duration::from_secs(1);
    rig.limits.first_contact_grace = Duration::ZERO;
    let connector = Arc::new(rig.connector());
    let started = Instant::now();
    let dials: Vec<_> = names
        .into_iter()
        .map(|name| {
            let connector = Arc::clone(&connector);
            tokio::spawn(async move { connector.connect(&name).await.err().expect("fails") })
        })
        .collect();
    for dial in dials {
        let error = tokio::time::timeout(BOUND, dial)
            .await
            .expect("ends")
            .expect("joins");
        assert!(
            error.to_string().contains("the jump host 127.0.0.1:"),
            "{error}"
        );
    }
    // Eight wait for the first failure, four for the second; never twelve in a row.
    assert!(
        started.elapsed() < Duration::from_secs(9),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_node_the_jump_host_cannot_reach_says_why() {
    let mut rig = Rig::new();
    let jump = Sshd::start(&[&rig.key]);
    let mut sshd = Sshd::start(&[&rig.key]);
    rig.add("rpi01", &sshd);
    sshd.stop_listening();
    let through = hop(&rig, &jump);
    rig.rpi01().jump = vec![through];
    let error = rig.refused().await;
    let ConnectError::Unreachable {
        address, reason, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(address, &format!("127.0.0.1:{}", sshd.port));
    assert_eq!(
        reason,
        &format!(
            "from the jump host 127.0.0.1:{}: connection refused",
            jump.port
        )
    );
}

#[tokio::test]
async fn proxy_jump_of_the_configuration_is_followed() {
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    let home = rig.environment.home.clone().expect("home");
    std::fs::write(
        home.join(".ssh/config"),
        format!(
            "Host bastion\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n\nHost *\n  ProxyJump bastion\n",
            jump.port,
            rig.key.path.display()
        ),
    )
    .expect("written");
    rig.add("rpi01", &sshd);
    rig.rpi01().config = UseSshConfig::Default;
    rig.connect().await.close().await;
    assert!(jump.log().contains("Accepted publickey"), "{}", jump.log());
}

#[tokio::test]
async fn a_cut_jump_host_loses_what_runs_behind_it_and_is_dialled_again() {
    let mut rig = Rig::new();
    let (jump, sshd) = (Sshd::start(&[&rig.key]), Sshd::start(&[&rig.key]));
    rig.add("rpi01", &sshd);
    let through = hop(&rig, &jump);
    rig.rpi01().jump = vec![through];
    let connector = rig.connector();
    let host = connector.connect(&node("rpi01")).await.expect("connects");
    let session = host.exec("sleep 30").await.expect("starts");
    tokio::time::sleep(Duration::from_millis(300)).await;
    jump.cut();
    let exit = tokio::time::timeout(BOUND, session.exit)
        .await
        .expect("ends");
    assert_eq!(exit, Ok(Exit::Lost));
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects again")
        .close()
        .await;
}
