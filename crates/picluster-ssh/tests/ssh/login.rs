//! Logging in: files, formats, passphrases, the agent, refusals.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use picluster_engine::host::{ConnectError, Connector};
use picluster_ssh::UseSshConfig;

use crate::rig::{Answers, Rig, node};
use crate::server::{KeyPair, Options, Sshd};

/// An `ssh-agent` of the test's own.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(dir: &Path, keys: &[&KeyPair]) -> Self {
        let socket = dir.join("agent.sock");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ssh-agent runs");
        let until = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < until, "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let agent = Self { child, socket };
        for key in keys {
            let added = Command::new("ssh-add")
                .arg("-q")
                .arg(&key.path)
                .env("SSH_AUTH_SOCK", &agent.socket)
                .output()
                .expect("ssh-add runs");
            assert!(
                added.status.success(),
                "{}",
                String::from_utf8_lossy(&added.stderr)
            );
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn connects(rig: &Rig) {
    match rig.connector().connect(&node("rpi01")).await {
        Ok(host) => host.close().await,
        Err(error) => panic!("{error}"),
    }
}

async fn refused(rig: &Rig) -> ConnectError {
    rig.refused().await
}

#[tokio::test]
async fn keys_of_every_supported_kind_and_format() {
    let mut rig = Rig::new();
    let dir = rig.dir.path().to_owned();
    let kinds: [(&str, &[&str]); 6] = [
        ("ed25519", &["-t", "ed25519", "-N", ""]),
        ("p256", &["-t", "ecdsa", "-b", "256", "-N", ""]),
        ("p384", &["-t", "ecdsa", "-b", "384", "-N", ""]),
        ("p521", &["-t", "ecdsa", "-b", "521", "-N", ""]),
        (
            "p256-pem",
            &["-t", "ecdsa", "-b", "256", "-m", "PEM", "-N", ""],
        ),
        (
            "p256-pkcs8",
            &["-t", "ecdsa", "-b", "256", "-m", "PKCS8", "-N", ""],
        ),
    ];
    let keys: Vec<KeyPair> = kinds
        .iter()
        .map(|(name, options)| {
            // One P-256 key in 256 has a short secret, which the library does not read.
            loop {
                let key = KeyPair::make(&dir, name, options);
                if russh::keys::load_secret_key(&key.path, None).is_ok() {
                    return key;
                }
                std::fs::remove_file(&key.path).expect("removed");
            }
        })
        .collect();
    let sshd = Sshd::with(&keys.iter().collect::<Vec<_>>(), &Options::default());
    rig.add("rpi01", &sshd);
    for key in &keys {
        rig.rpi01().identity = vec![key.path.clone()];
        connects(&rig).await;
    }
}

#[tokio::test]
async fn a_passphrase_is_asked_for_once_however_many_nodes_wait() {
    let mut rig = Rig::new();
    // One round of key derivation: the test profile is not optimised.
    let locked = KeyPair::locked(rig.dir.path());
    let sshd = Sshd::start(&[&locked]);
    let names: Vec<_> = (1..=8)
        .map(|n| rig.add(&format!("rpi{n:02}"), &sshd))
        .collect();
    for target in rig.targets.values_mut() {
        target.identity = vec![locked.path.clone()];
    }
    rig.prompts = Arc::new(Answers {
        text: Some("rehearsal".into()),
        delay: Duration::from_millis(300),
        ..Answers::default()
    });
    let connector = Arc::new(rig.connector());
    let dials: Vec<_> = names
        .into_iter()
        .map(|name| {
            let connector = Arc::clone(&connector);
            tokio::spawn(async move { connector.connect(&name).await.map(|_| ()) })
        })
        .collect();
    for dial in dials {
        dial.await.expect("joins").expect("connects");
    }
    assert_eq!(rig.prompts.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_passphrase_is_not_asked_for_a_key_the_node_does_not_take() {
    let mut rig = Rig::new();
    let locked = KeyPair::locked(rig.dir.path());
    let sshd = Sshd::start(&[&rig.key]);
    rig.add("rpi01", &sshd);
    rig.rpi01().identity = vec![locked.path.clone(), rig.key.path.clone()];
    connects(&rig).await;
    assert_eq!(rig.prompts.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_wrong_passphrase_is_asked_for_three_times_and_then_told() {
    let mut rig = Rig::new();
    let locked = KeyPair::locked(rig.dir.path());
    let sshd = Sshd::start(&[&locked]);
    rig.add("rpi01", &sshd);
    rig.rpi01().identity = vec![locked.path.clone()];
    rig.prompts = Arc::new(Answers {
        text: Some("wrong".into()),
        ..Answers::default()
    });
    let error = refused(&rig).await.to_string();
    assert!(error.contains("the passphrase does not open it"), "{error}");
    assert_eq!(rig.prompts.asked.load(Ordering::SeqCst), 3);
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_person_slower_than_sshd_is_waited_for() {
    let mut rig = Rig::new();
    let locked = KeyPair::locked(rig.dir.path());
    let options = Options {
        config: "LoginGraceTime 1",
        ..Options::default()
    };
    let sshd = Sshd::with(&[&locked], &options);
    rig.add("rpi01", &sshd);
    rig.rpi01().identity = vec![locked.path.clone()];
    rig.prompts = Arc::new(Answers {
        text: Some("rehearsal".into()),
        delay: Duration::from_millis(2500),
        ..Answers::default()
    });
    connects(&rig).await;
    assert_eq!(rig.prompts.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_agent_signs_for_keys_it_holds() {
    let mut rig = Rig::new();
    let rsa = KeyPair::make(
        rig.dir.path(),
        "id_rsa",
        &["-t", "rsa", "-b", "2048", "-N", ""],
    );
    let sshd = Sshd::start(&[&rig.key, &rsa]);
    let agent = Agent::start(rig.dir.path(), &[&rig.key, &rsa]);
    rig.add("rpi01", &sshd);
    rig.environment.agent_socket = Some(agent.socket.clone());
    // No identity at all: the agent's first key.
    rig.rpi01().identity = Vec::new();
    connects(&rig).await;
    // A public key names one of the agent's; RSA needs no RSA code of ours when the agent signs.
    for key in [rig.key.path.clone(), rsa.path] {
        rig.rpi01().identity = vec![key.with_extension("pub")];
        connects(&rig).await;
    }
    // Told not to ask the agent, there is nothing left.
    rig.rpi01().agent = Some(false);
    let error = refused(&rig).await;
    assert!(matches!(error, ConnectError::Local { .. }), "{error:?}");
    assert!(
        error.to_string().contains("no agent holds its private key"),
        "{error}"
    );
}

#[tokio::test]
async fn an_agent_that_is_gone_is_said_and_the_file_still_works() {
    let (mut rig, _sshd) = Rig::served();
    rig.environment.agent_socket = Some(rig.dir.path().join("nobody.sock"));
    connects(&rig).await;
    let other = KeyPair::ed25519(rig.dir.path(), "other");
    rig.rpi01().identity = vec![other.path];
    let error = refused(&rig).await.to_string();
    assert!(error.contains("nobody.sock"), "{error}");
}

#[tokio::test]
async fn a_refusal_names_the_user_and_the_keys() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[]);
    let other = KeyPair::ed25519(rig.dir.path(), "other");
    rig.add("rpi01", &sshd);
    let missing = rig.dir.path().join("missing");
    rig.rpi01().identity.extend([other.path.clone(), missing]);
    let error = refused(&rig).await;
    let ConnectError::Authentication { user, reason, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(user, &crate::server::user());
    for part in [
        rig.key.path.display().to_string(),
        rig.key.fingerprint(),
        other.fingerprint(),
        "missing: No such file".to_owned(),
    ] {
        assert!(reason.contains(&part), "{part:?} is not in {reason:?}");
    }
}

#[tokio::test]
async fn more_keys_than_sshd_has_patience_for() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[]);
    rig.add("rpi01", &sshd);
    rig.rpi01().identity = (0..9)
        .map(|n| KeyPair::ed25519(rig.dir.path(), &format!("key{n}")).path)
        .collect();
    let error = refused(&rig).await;
    assert!(
        matches!(error, ConnectError::Authentication { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("key4"), "{error}");
}

#[cfg(not(feature = "rsa"))]
#[tokio::test]
async fn an_rsa_key_file_is_refused_with_a_way_out() {
    let mut rig = Rig::new();
    let rsa = KeyPair::make(
        rig.dir.path(),
        "id_rsa",
        &["-t", "rsa", "-b", "2048", "-N", ""],
    );
    let pem = KeyPair::make(
        rig.dir.path(),
        "rsa_pem",
        &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""],
    );
    let sshd = Sshd::start(&[&rsa, &pem]);
    rig.add("rpi01", &sshd);
    for key in [rsa, pem] {
        rig.rpi01().identity = vec![key.path];
        let error = refused(&rig).await.to_string();
        assert!(
            error.contains("an RSA key") && error.contains("ssh-keygen -t ed25519"),
            "{error}"
        );
    }
}

#[cfg(feature = "rsa")]
#[tokio::test]
async fn rsa_keys_and_hosts_work_with_the_feature() {
    let mut rig = Rig::new();
    let rsa = KeyPair::make(
        rig.dir.path(),
        "id_rsa",
        &["-t", "rsa", "-b", "2048", "-N", ""],
    );
    let options = Options {
        host_keys: vec![vec!["-t", "rsa", "-b", "2048"]],
        ..Options::default()
    };
    let sshd = Sshd::with(&[&rsa], &options);
    rig.add("rpi01", &sshd);
    rig.rpi01().identity = vec![rsa.path];
    connects(&rig).await;
    connects(&rig).await;
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (rig, _sshd) = Rig::served();
    std::fs::set_permissions(&rig.key.path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let error = refused(&rig).await.to_string();
    assert!(
        error.contains("others can read it (mode 0644); run `chmod 600"),
        "{error}"
    );
}

#[tokio::test]
async fn the_configuration_says_where_and_how() {
    let mut rig = Rig::new();
    let sshd = Sshd::start(&[&rig.key]);
    let home = rig.environment.home.clone().expect("home");
    std::fs::copy(&rig.key.path, home.join(".ssh/rack_key")).expect("copied");
    std::fs::write(
        home.join(".ssh/config"),
        format!(
            "Host rack-*\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile %d/.ssh/rack_key\n  IdentitiesOnly yes\n",
            sshd.port
        ),
    )
    .expect("written");
    rig.add("rpi01", &sshd);
    let target = rig.rpi01();
    target.address = "rack-one".into();
    target.port = None;
    target.identity = Vec::new();
    target.config = UseSshConfig::Default;
    connects(&rig).await;
}
