//! The SSH agent: which keys it holds, and its signatures (draft-ietf-sshm-ssh-agent).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::{HashAlg, PublicKey};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::words;

/// Wait for an agent to list its keys. Signing has no limit of its own: a key may want a touch or a
/// confirmation.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// A key the agent can sign with.
#[derive(Debug, Clone)]
pub(crate) struct AgentKey {
    pub public: PublicKey,
    pub comment: String,
}

/// One agent's keys, asked for once; or why they could not be listed.
type Listing = Arc<OnceCell<Result<Vec<AgentKey>, String>>>;

/// The keys of every agent in use, asked for once a run.
#[derive(Default)]
pub(crate) struct Agents(Mutex<HashMap<PathBuf, Listing>>);

impl Agents {
    /// The keys of the agent at `socket`, or why it does not answer.
    pub async fn keys(&self, socket: &Path) -> Result<Vec<AgentKey>, String> {
        let cell = {
            let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(agents.entry(socket.to_owned()).or_default())
        };
        cell.get_or_init(|| async {
            match timeout(LIST_TIMEOUT, list(socket)).await {
                Ok(keys) => keys,
                Err(_) => Err(format!(
                    "the agent at {} did not answer within {}",
                    socket.display(),
                    words::seconds(LIST_TIMEOUT)
                )),
            }
        })
        .await
        .clone()
    }
}

async fn connect(socket: &Path) -> Result<AgentClient<UnixStream>, String> {
    AgentClient::connect_uds(socket)
        .await
        .map_err(|error| format!("no agent at {}: {error}", socket.display()))
}

async fn list(socket: &Path) -> Result<Vec<AgentKey>, String> {
    let mut client = connect(socket).await?;
    let identities = client
        .request_identities()
        .await
        .map_err(|error| format!("the agent at {} lists no keys: {error}", socket.display()))?;
    Ok(identities
        .into_iter()
        .filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, comment } => Some(AgentKey {
                public: key,
                comment,
            }),
            // Certificates stand beside their plain keys in the agent's list.
            AgentIdentity::Certificate { .. } => None,
        })
        .collect())
}

/// Signs login requests with a key of the agent.
pub(crate) struct AgentSigner<'a> {
    pub socket: &'a Path,
    /// Tells the agent which host the signature is for, so that keys bound to destinations
    /// (`ssh-add -h`) can be used.
    pub binding: Option<AgentSessionBinding>,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("the connection is closed")]
    Closed,
    #[error("{0}")]
    Agent(String),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Closed
    }
}

impl russh::Signer for AgentSigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let mut client = connect(self.socket).await.map_err(SignError::Agent)?;
        if let Some(binding) = &self.binding
            && let Err(error) = client.bind_session(binding, false).await
        {
            // Agents other than OpenSSH's do not know the request, and need not.
            tracing::debug!(%error, "agent session not bound");
        }
        client
            .sign_request(key, hash, to_sign)
            .await
            .map_err(|error| SignError::Agent(format!("the agent did not sign: {error}")))
    }
}
