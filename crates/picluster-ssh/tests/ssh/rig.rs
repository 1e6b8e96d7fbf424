//! A connector with everything around it that a run has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use picluster_engine::host::{ConnectError, Connector, Exit, Host, Session};
use picluster_model::{NodeName, Secret};
use picluster_ssh::{
    AcceptNew, Environment, HostKeyPolicy, Limits, PinName, PinStore, Prompts, SshConnector,
    Target, UseSshConfig,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{KeyPair, Options, Sshd, user};

/// Nothing in these tests takes longer.
pub const BOUND: Duration = Duration::from_secs(60);

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

pub fn pin_name(name: &str) -> PinName {
    PinName::parse(name).expect("a name")
}

/// Answers every passphrase prompt with the same text, and counts.
#[derive(Default)]
pub struct Answers {
    pub text: Option<String>,
    pub asked: AtomicUsize,
    pub delay: Duration,
}

#[async_trait]
impl Prompts for Answers {
    async fn passphrase(&self, _: &Path) -> Option<Secret<String>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.delay).await;
        self.text.clone().map(Secret::new)
    }
}

pub struct Rig {
    pub dir: TempDir,
    pub key: KeyPair,
    pub targets: BTreeMap<NodeName, Target>,
    pub pins: Arc<PinStore>,
    pub policy: Arc<dyn HostKeyPolicy>,
    pub prompts: Arc<Answers>,
    pub limits: Limits,
    pub environment: Environment,
}

impl Rig {
    /// How `rpi01` is to be reached.
    pub fn rpi01(&mut self) -> &mut Target {
        self.targets.get_mut("rpi01").expect("target")
    }

    /// An empty home, one key, no agent, every new host key accepted.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let key = KeyPair::ed25519(dir.path(), "id");
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join(".ssh")).expect("home");
        Self {
            key,
            targets: BTreeMap::new(),
            pins: Arc::new(PinStore::open(dir.path().join("pins")).expect("pins")),
            policy: Arc::new(AcceptNew),
            prompts: Arc::default(),
            limits: Limits::default(),
            environment: Environment {
                home: Some(home),
                user: Some(user()),
                ..Environment::default()
            },
            dir,
        }
    }

    pub fn target(&self, sshd: &Sshd) -> Target {
        Target {
            address: "127.0.0.1".into(),
            port: Some(sshd.port),
            identity: vec![self.key.path.clone()],
            config: UseSshConfig::No,
            ..Target::default()
        }
    }

    /// A node of that name served by `sshd`.
    pub fn add(&mut self, name: &str, sshd: &Sshd) -> NodeName {
        let target = self.target(sshd);
        self.targets.insert(node(name), target);
        node(name)
    }

    pub fn connector(&self) -> SshConnector {
        SshConnector::with_environment(
            self.targets.clone(),
            Arc::clone(&self.pins),
            Arc::clone(&self.policy),
            Arc::clone(&self.prompts) as Arc<dyn Prompts>,
            self.limits.clone(),
            self.environment.clone(),
        )
    }

    /// One server that lets the rig's key in, as the node `rpi01`.
    pub fn served() -> (Self, Sshd) {
        Self::served_by(&Options::default())
    }

    /// The same with a say in how the server is.
    pub fn served_by(options: &Options) -> (Self, Sshd) {
        let mut rig = Self::new();
        let sshd = Sshd::with(&[&rig.key], options);
        rig.add("rpi01", &sshd);
        (rig, sshd)
    }

    /// From now on `rpi01` is dialled at this port.
    pub fn redirect(&mut self, port: u16) {
        self.targets.get_mut("rpi01").expect("target").port = Some(port);
    }

    /// A connection to `rpi01`.
    pub async fn connect(&self) -> Box<dyn Host> {
        let connected = self.connector().connect(&node("rpi01")).await;
        connected.expect("connects")
    }

    /// Why there is no connection to `rpi01`.
    pub async fn refused(&self) -> ConnectError {
        let connected = self.connector().connect(&node("rpi01")).await;
        connected.err().expect("no connection")
    }

    /// One server, one node, connected.
    pub async fn simple() -> (Self, Sshd, SshConnector, Box<dyn Host>) {
        let (rig, sshd) = Self::served();
        let connector = rig.connector();
        let host = connector.connect(&node("rpi01")).await.expect("connects");
        (rig, sshd, connector, host)
    }
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Exit,
}

/// Runs a program with `input` and reads all it says, at the same time, as any caller must.
pub async fn run(host: &dyn Host, command: &str, input: &[u8]) -> Done {
    let session = host.exec(command).await.expect("starts");
    finish(session, input).await
}

pub async fn finish(session: Session, input: &[u8]) -> Done {
    let Session {
        mut stdin,
        mut stdout,
        mut stderr,
        exit,
    } = session;
    let feed = async {
        // The program may not care to read.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        tokio::join!(
            feed,
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err)
        )
    };
    let (_, stdout_end, stderr_end) = tokio::time::timeout(BOUND, work).await.expect("ends");
    stdout_end.expect("stdout");
    stderr_end.expect("stderr");
    let exit = tokio::time::timeout(BOUND, exit)
        .await
        .expect("ends")
        .expect("an exit");
    Done {
        stdout: out,
        stderr: err,
        exit,
    }
}
