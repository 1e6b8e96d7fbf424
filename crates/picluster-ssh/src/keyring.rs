//! The private keys of a run: each file read once, each passphrase asked once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use picluster_model::Secret;
use russh::keys::{PrivateKey, PublicKey, decode_secret_key, load_public_key};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use crate::agent::{AgentKey, Agents};
use crate::pins::fingerprint;
use crate::policy::Prompts;
use crate::route::Endpoint;

/// As many tries as OpenSSH gives (`NumberOfPasswordPrompts`).
const TRIES: usize = 3;

/// A key to log in with.
#[derive(Clone)]
pub(crate) enum Candidate {
    /// The agent signs.
    Agent { key: AgentKey, socket: PathBuf },
    /// We sign.
    File(Arc<KeyFile>),
}

impl Candidate {
    /// What the key is called in messages.
    pub fn label(&self) -> String {
        match self {
            Self::Agent { key, .. } if key.comment.is_empty() => {
                format!("{} (agent)", fingerprint(&key.public))
            }
            Self::Agent { key, .. } => {
                format!("{} (agent, {})", fingerprint(&key.public), key.comment)
            }
            Self::File(file) => match &file.public {
                Some(public) => format!("{} ({})", file.path.display(), fingerprint(public)),
                None => file.path.display().to_string(),
            },
        }
    }

    fn public(&self) -> Option<&PublicKey> {
        match self {
            Self::Agent { key, .. } => Some(&key.public),
            Self::File(file) => file.public.as_ref(),
        }
    }
}

/// A private key file.
pub(crate) struct KeyFile {
    pub path: PathBuf,
    /// Known without the passphrase when the format says it, or a `.pub` stands beside.
    pub public: Option<PublicKey>,
    text: Secret<String>,
    state: AsyncMutex<State>,
}

enum State {
    Open(Arc<PrivateKey>),
    Locked,
    /// Nobody gave the passphrase, or it was wrong: not asked again in this run.
    GivenUp(String),
}

/// What a named file turned out to be.
#[derive(Clone)]
enum Identity {
    Private(Arc<KeyFile>),
    /// Only a public key: the agent must hold the private one.
    Public(PublicKey),
    Unusable(String),
}

/// All keys of a run.
pub(crate) struct Keyring {
    agents: Agents,
    prompts: Arc<dyn Prompts>,
    files: Mutex<HashMap<PathBuf, Arc<OnceCell<Identity>>>>,
    /// Held while a passphrase is asked for: one question at a time.
    asking: AsyncMutex<()>,
}

impl Keyring {
    pub fn new(prompts: Arc<dyn Prompts>) -> Self {
        Self {
            agents: Agents::default(),
            prompts,
            files: Mutex::default(),
            asking: AsyncMutex::new(()),
        }
    }

    /// The keys to try at a host, in order, and remarks about those that cannot be tried.
    pub async fn candidates(&self, endpoint: &Endpoint) -> (Vec<Candidate>, Vec<String>) {
        let mut remarks = Vec::new();
        let held = match &endpoint.agent {
            Some(socket) => self.agents.keys(socket).await.unwrap_or_else(|reason| {
                remarks.push(reason);
                Vec::new()
            }),
            None => Vec::new(),
        };
        let by_agent = |key: &AgentKey| {
            endpoint.agent.clone().map(|socket| Candidate::Agent {
                key: key.clone(),
                socket,
            })
        };
        let holds = |public: &PublicKey| {
            held.iter()
                .find(|key| key.public.key_data() == public.key_data())
                .and_then(by_agent)
        };
        let mut of_files = Vec::new();
        for path in &endpoint.identities {
            match self.identity(path).await {
                Identity::Private(file) => {
                    // Reading an open key beats asking the agent; an agent beats asking a person.
                    let locked = !matches!(*file.state.lock().await, State::Open(_));
                    let agent = file.public.as_ref().filter(|_| locked).and_then(holds);
                    of_files.push(agent.unwrap_or(Candidate::File(file)));
                }
                Identity::Public(public) => match holds(&public) {
                    Some(candidate) => of_files.push(candidate),
                    None => remarks.push(format!(
                        "{} is a public key, and no agent holds its private key",
                        path.display()
                    )),
                },
                Identity::Unusable(reason) => remarks.push(reason),
            }
        }
        let others: Vec<Candidate> = if endpoint.identities_only {
            Vec::new()
        } else {
            held.iter().filter_map(by_agent).collect()
        };
        // Keys that someone named come first; defaults come after the agent's, as with `ssh`.
        let ordered = if endpoint.identities_named {
            of_files.into_iter().chain(others).collect::<Vec<_>>()
        } else {
            others.into_iter().chain(of_files).collect()
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        for candidate in ordered {
            let again = candidate.public().is_some_and(|public| {
                candidates.iter().any(|seen| {
                    seen.public()
                        .is_some_and(|seen| seen.key_data() == public.key_data())
                })
            });
            if !again {
                candidates.push(candidate);
            }
        }
        (candidates, remarks)
    }

    async fn identity(&self, path: &Path) -> Identity {
        let cell = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(path.to_owned()).or_default())
        };
        cell.get_or_init(|| async { load(path) }).await.clone()
    }

    /// The private key, if it is open already.
    pub async fn open(&self, file: &KeyFile) -> Result<Option<Arc<PrivateKey>>, String> {
        match &*file.state.lock().await {
            State::Open(key) => Ok(Some(Arc::clone(key))),
            State::Locked => Ok(None),
            State::GivenUp(reason) => Err(reason.clone()),
        }
    }

    /// The private key, with its passphrase asked for once in this run, however many nodes wait.
    pub async fn unlock(&self, file: &Arc<KeyFile>) -> Result<Arc<PrivateKey>, String> {
        // Whoever comes first asks; the others wait here and find the answer.
        let mut state = file.state.lock().await;
        match &*state {
            State::Open(key) => return Ok(Arc::clone(key)),
            State::GivenUp(reason) => return Err(reason.clone()),
            State::Locked => {}
        }
        let _turn = self.asking.lock().await;
        for _ in 0..TRIES {
            let Some(passphrase) = self.prompts.passphrase(&file.path).await else {
                let reason = format!("{}: no passphrase was given", file.path.display());
                *state = State::GivenUp(reason.clone());
                return Err(reason);
            };
            let to_open = Arc::clone(file);
            // Key derivation is slow on purpose: not on a thread that serves connections.
            let opened = tokio::task::spawn_blocking(move || {
                decode_secret_key(to_open.text.reveal(), Some(passphrase.reveal()))
            })
            .await;
            match opened {
                Ok(Ok(key)) => {
                    let key = Arc::new(key);
                    *state = State::Open(Arc::clone(&key));
                    return Ok(key);
                }
                // The passphrase was right, asking again is no use.
                Ok(Err(russh::keys::Error::SshKey(error))) if is_short(&error) => {
                    let reason = format!("{}: {SHORT}", file.path.display());
                    *state = State::GivenUp(reason.clone());
                    return Err(reason);
                }
                _ => {}
            }
        }
        let reason = format!("{}: the passphrase does not open it", file.path.display());
        *state = State::GivenUp(reason.clone());
        Err(reason)
    }
}

fn load(path: &Path) -> Identity {
    let beside = {
        let mut name = path.as_os_str().to_owned();
        name.push(".pub");
        PathBuf::from(name)
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            // A lone `.pub` names a key that only the agent holds.
            return match load_public_key(&beside) {
                Ok(public) if error.kind() == std::io::ErrorKind::NotFound => {
                    Identity::Public(public)
                }
                _ => Identity::Unusable(format!("{}: {error}", path.display())),
            };
        }
    };
    if !text.contains("PRIVATE KEY-----") && !text.starts_with("PuTTY-User-Key-File-") {
        return match load_public_key(path) {
            Ok(public) => Identity::Public(public),
            Err(_) => Identity::Unusable(format!("{} is not a key", path.display())),
        };
    }
    if let Some(reason) = too_open(path) {
        return Identity::Unusable(reason);
    }
    let (public, state) = match inspect(&text) {
        Ok(found) => found,
        Err(reason) => return Identity::Unusable(format!("{}: {reason}", path.display())),
    };
    let public = public.or_else(|| load_public_key(&beside).ok());
    Identity::Private(Arc::new(KeyFile {
        path: path.to_owned(),
        public,
        text: Secret::new(text),
        state: AsyncMutex::new(state),
    }))
}

/// The public part, if it can be told, and whether a passphrase is needed.
fn inspect(text: &str) -> Result<(Option<PublicKey>, State), String> {
    if text.contains("BEGIN OPENSSH PRIVATE KEY") {
        let key = PrivateKey::from_openssh(text).map_err(|error| {
            if is_short(&error) {
                SHORT.to_owned()
            } else {
                error.to_string()
            }
        })?;
        let public = key.public_key().clone();
        if public.algorithm().is_rsa() && !cfg!(feature = "rsa") {
            return Err(NO_RSA.into());
        }
        return Ok((
            Some(public),
            if key.is_encrypted() {
                State::Locked
            } else {
                State::Open(Arc::new(key))
            },
        ));
    }
    if text.contains("BEGIN RSA PRIVATE KEY") && !cfg!(feature = "rsa") {
        return Err(NO_RSA.into());
    }
    if text.contains("ENCRYPTED") || text.contains("Encryption: aes") {
        return Ok((None, State::Locked));
    }
    let key = decode_secret_key(text, None).map_err(|error| error.to_string())?;
    Ok((Some(key.public_key().clone()), State::Open(Arc::new(key))))
}

/// ssh-key 0.7.0-rc.11 wants at least 32 bytes of an ECDSA secret, which one P-256 key in 256 has not.
fn is_short(error: &russh::keys::ssh_key::Error) -> bool {
    use russh::keys::{ssh_encoding, ssh_key};
    matches!(error, ssh_key::Error::Encoding(ssh_encoding::Error::Length))
}

const SHORT: &str = "an ECDSA key whose secret number is shorter than usual, which the SSH library \
    cannot read; put it into the SSH agent, or make an ed25519 key with `ssh-keygen -t ed25519`";

const NO_RSA: &str = "an RSA key, which this build does not sign with (RUSTSEC-2023-0071): put it \
    into the SSH agent, make an ed25519 key with `ssh-keygen -t ed25519`, or build with the feature `rsa`";

/// Keys that others can read are refused, as by OpenSSH: they would be no secret.
fn too_open(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(path).ok()?;
    let ours = about.uid() == rustix::process::getuid().as_raw();
    (ours && about.mode() & 0o077 != 0).then(|| {
        format!(
            "{}: others can read it (mode {:04o}); run `chmod 600 {}`",
            path.display(),
            about.mode() & 0o7777,
            path.display()
        )
    })
}
