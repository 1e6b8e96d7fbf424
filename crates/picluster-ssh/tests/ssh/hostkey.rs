//! Host keys: first contact, changes, several keys, several runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use picluster_engine::host::{ConnectError, Connector, Exit};
use picluster_ssh::{Decision, FirstContact, HostKeyPolicy, PinStore, RefuseNew};

use crate::rig::{Rig, node, pin_name, run};
use crate::server::{KeyPair, Options, Sshd};

/// Answers after a while, counts, and notes how many questions were open at once.
#[derive(Default)]
struct Person {
    accepts: bool,
    delay: Duration,
    asked: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    last: std::sync::Mutex<Option<FirstContact>>,
}

#[async_trait]
impl HostKeyPolicy for Person {
    async fn first_contact(&self, contact: &FirstContact) -> Decision {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        *self.last.lock().unwrap() = Some(contact.clone());
        tokio::time::sleep(self.delay).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        if self.accepts {
            Decision::Accept
        } else {
            Decision::Refuse
        }
    }
}

#[tokio::test]
async fn a_changed_key_ends_it_before_anyone_logs_in() {
    let mut rig = Rig::new();
    let options = Options {
        config: "LogLevel DEBUG2",
        ..Options::default()
    };
    let sshd = Sshd::with(&[&rig.key], &options);
    let old = KeyPair::ed25519(rig.dir.path(), "old_host_key");
    rig.pins
        .add(&pin_name("rpi01"), &old.public, "")
        .expect("pinned");
    rig.add("rpi01", &sshd);
    rig.policy = Arc::new(RefuseNew);
    let error = rig.refused().await;
    assert_eq!(
        error,
        ConnectError::HostKeyChanged {
            node: node("rpi01"),
            pinned: old.fingerprint(),
            presented: sshd.host_keys[0].fingerprint(),
        }
    );
    // The server's own account: keys were exchanged, and not even the login service was asked for.
    let hung_up = || {
        sshd.log().contains("Connection closed by") || sshd.log().contains("Connection reset by")
    };
    for _ in 0..200 {
        if hung_up() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = sshd.log();
    assert!(hung_up(), "{log}");
    assert!(log.contains("SSH2_MSG_KEXINIT received"), "{log}");
    assert!(!log.contains("userauth-request"), "{log}");
    assert!(!log.contains("service_accept"), "{log}");
    // And the old pin stands.
    assert_eq!(
        rig.pins.get(&pin_name("rpi01"))[0].fingerprint(),
        old.fingerprint()
    );
}

/// The counterpart: in a run that logs in, the same log lines are there to be seen.
#[tokio::test]
async fn a_pinned_key_lets_the_login_begin() {
    let mut rig = Rig::new();
    let options = Options {
        config: "LogLevel DEBUG2",
        ..Options::default()
    };
    let sshd = Sshd::with(&[&rig.key], &options);
    rig.pins
        .add(&pin_name("rpi01"), &sshd.host_keys[0].public, "seeded")
        .expect("pinned");
    rig.add("rpi01", &sshd);
    rig.policy = Arc::new(RefuseNew);
    let host = rig.connect().await;
    assert!(sshd.log().contains("userauth-request"));
    host.close().await;
}

#[tokio::test]
async fn an_unknown_key_is_asked_about_and_pinned_under_the_nodes_name() {
    let (mut rig, sshd) = Rig::served();
    let person = Arc::new(Person {
        accepts: true,
        ..Person::default()
    });
    rig.policy = person.clone();
    let connector = rig.connector();
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects")
        .close()
        .await;
    connector
        .connect(&node("rpi01"))
        .await
        .expect("connects again")
        .close()
        .await;
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);
    let contact = person.last.lock().unwrap().clone().expect("asked");
    assert_eq!(contact.fingerprint, sshd.host_keys[0].fingerprint());
    assert_eq!(contact.algorithm, "ssh-ed25519");
    assert_eq!(contact.address, format!("127.0.0.1:{}", sshd.port));
    let text = std::fs::read_to_string(rig.pins.path()).expect("pins");
    assert!(text.starts_with("rpi01 ssh-ed25519 AAAA"), "{text}");
    assert!(text.contains("# first seen 20"), "{text}");

    // OpenSSH itself agrees with the file.
    let ssh = std::process::Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "HostKeyAlias=rpi01",
        ])
        .args([
            "-o",
            &format!("UserKnownHostsFile={}", rig.pins.path().display()),
        ])
        .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
        .arg(&rig.key.path)
        .args(["-p", &sshd.port.to_string(), "127.0.0.1", "true"])
        .output()
        .expect("ssh runs");
    assert!(
        ssh.status.success(),
        "{}",
        String::from_utf8_lossy(&ssh.stderr)
    );
}

#[tokio::test]
async fn a_refused_key_is_not_pinned() {
    let (mut rig, sshd) = Rig::served();
    rig.policy = Arc::new(RefuseNew);
    let error = rig.refused().await;
    assert_eq!(
        error,
        ConnectError::HostKeyUnknown {
            node: node("rpi01"),
            presented: sshd.host_keys[0].fingerprint(),
        }
    );
    assert!(rig.pins.names().is_empty());
}

#[tokio::test]
async fn a_person_who_takes_time_holds_no_connection_open() {
    // sshd would hang up after a second; the answer takes two.
    let (mut rig, _sshd) = Rig::served_by(&Options {
        config: "LoginGraceTime 1",
        ..Options::default()
    });
    rig.limits.first_contact_grace = Duration::from_millis(200);
    let person = Arc::new(Person {
        accepts: true,
        delay: Duration::from_secs(2),
        ..Person::default()
    });
    rig.policy = person.clone();
    let connector = rig.connector();
    let host = connector.connect(&node("rpi01")).await.expect("connects");
    assert_eq!(run(host.as_ref(), "true", b"").await.exit, Exit::Status(0));
    assert_eq!(person.asked.load(Ordering::SeqCst), 1);
    assert_eq!(connector.counters().total().connections, 2);
}

#[tokio::test]
async fn six_unknown_nodes_are_asked_about_one_at_a_time() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[&rig.key]);
    let names: Vec<_> = (1..=6)
        .map(|n| rig.add(&format!("rpi{n:02}"), &sshd))
        .collect();
    rig.limits.first_contact_grace = Duration::from_millis(300);
    let person = Arc::new(Person {
        accepts: true,
        delay: Duration::from_millis(150),
        ..Person::default()
    });
    rig.policy = person.clone();
    let connector = Arc::new(rig.connector());
    let dials: Vec<_> = names
        .iter()
        .map(|name| {
            let (connector, name) = (Arc::clone(&connector), name.clone());
            tokio::spawn(async move { connector.connect(&name).await.map(|_| ()) })
        })
        .collect();
    for dial in dials {
        dial.await.expect("joins").expect("connects");
    }
    assert_eq!(person.asked.load(Ordering::SeqCst), 6);
    assert_eq!(person.most_open.load(Ordering::SeqCst), 1);
    // Pins written by six tasks are all there.
    assert_eq!(
        PinStore::open(rig.dir.path().join("pins"))
            .expect("opens")
            .names()
            .len(),
        6
    );
}

#[tokio::test]
async fn a_server_with_several_keys_presents_the_pinned_one() {
    let mut rig = Rig::new();
    let options = Options {
        host_keys: vec![vec!["-t", "ed25519"], vec!["-t", "ecdsa", "-b", "384"]],
        ..Options::default()
    };
    let sshd = Sshd::with(&[&rig.key], &options);
    // Pinned when the card had only its ECDSA key; the new ed25519 one must not look like a change.
    rig.pins
        .add(&pin_name("rpi01"), &sshd.host_keys[1].public, "")
        .expect("pinned");
    rig.add("rpi01", &sshd);
    rig.policy = Arc::new(RefuseNew);
    let host = rig.connect().await;
    assert_eq!(host.peer().host_key, sshd.host_keys[1].fingerprint());
    host.close().await;
}

#[tokio::test]
async fn an_alias_is_the_name_of_the_pin() {
    let (mut rig, _sshd) = Rig::served();
    rig.rpi01().host_key_alias = Some("spare-1".into());
    rig.connect().await.close().await;
    assert_eq!(rig.pins.names(), vec![pin_name("spare-1")]);
}

#[cfg(not(feature = "rsa"))]
#[tokio::test]
async fn a_server_with_only_an_rsa_key_is_refused_in_words() {
    let (rig, _sshd) = Rig::served_by(&Options {
        host_keys: vec![vec!["-t", "rsa", "-b", "2048"]],
        ..Options::default()
    });
    let error = rig.refused().await.to_string();
    assert!(error.contains("it has only RSA host keys"), "{error}");
    assert!(error.contains("ssh-keygen -A"), "{error}");
}
