//! Logging in: public keys only (RFC 4252 §7), never a password.

use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::time::{Duration, timeout};

use crate::agent::{AgentSigner, SignError};
use crate::handshake::{Established, Gate};
use crate::keyring::{Candidate, Keyring};
use crate::route::Endpoint;
use crate::words;

/// Why nobody is logged in.
#[derive(Debug, Clone)]
pub(crate) enum AuthError {
    /// The host refused every key; what was tried.
    Refused(String),
    /// There is nothing to try.
    NoKeys(String),
    /// The connection ended, or no answer came.
    Closed {
        reason: String,
        /// A person was asked meanwhile, so that dialling again is likely to help.
        asked: bool,
        /// The host hung up before it had refused a key: not because of us.
        hung_up: bool,
    },
}

impl AuthError {
    /// The same after `refused` keys: a host that hangs up then may do so because of them.
    fn after(self, refused: usize) -> Self {
        match self {
            Self::Closed {
                reason,
                asked,
                hung_up,
            } => Self::Closed {
                reason,
                asked,
                hung_up: hung_up && refused == 0,
            },
            other => other,
        }
    }
}

/// How one key fared.
enum Tried {
    In,
    No,
    /// Not refused, but the host wants another method as well.
    Partial,
    Skipped(String),
}

/// Logs in with the first key the host takes.
pub(crate) async fn log_in(
    connection: &mut Established,
    endpoint: &Endpoint,
    keyring: &Keyring,
    limit: Duration,
) -> Result<(), AuthError> {
    let (candidates, mut remarks) = keyring.candidates(endpoint).await;
    if candidates.is_empty() {
        return Err(AuthError::NoKeys(no_keys(endpoint, remarks)));
    }
    let mut tried = Vec::new();
    let mut asked = false;
    for candidate in &candidates {
        let attempt = try_key(connection, endpoint, keyring, candidate, limit, &mut asked).await;
        match attempt.map_err(|error| error.after(tried.len()))? {
            Tried::In => return Ok(()),
            Tried::No => tried.push(candidate.label()),
            Tried::Partial => {
                return Err(AuthError::Refused(format!(
                    "{} was accepted, but the node wants a second method, which picluster does not offer",
                    candidate.label()
                )));
            }
            Tried::Skipped(reason) => remarks.push(reason),
        }
        if let Some(reason) = ended(connection) {
            return Err(closed(&tried, &remarks, reason, asked));
        }
    }
    let mut reason = match tried.len() {
        0 => String::from("no key could be used"),
        _ => format!("it takes none of these keys: {}", tried.join(", ")),
    };
    for remark in remarks {
        reason.push_str("; ");
        reason.push_str(&remark);
    }
    Err(AuthError::Refused(reason))
}

async fn try_key(
    connection: &mut Established,
    endpoint: &Endpoint,
    keyring: &Keyring,
    candidate: &Candidate,
    limit: Duration,
    asked: &mut bool,
) -> Result<Tried, AuthError> {
    let user = endpoint.user.as_str();
    let lost = |asked: bool, reason: String| AuthError::Closed {
        reason,
        asked,
        hung_up: true,
    };
    let slow = || AuthError::Closed {
        reason: format!("no answer to the login within {}", words::seconds(limit)),
        asked: false,
        hung_up: false,
    };
    match candidate {
        Candidate::Agent { key, socket } => {
            let hash = hash_for(&connection.handle, &key.public).await;
            let mut signer = AgentSigner {
                socket,
                binding: connection.handle.agent_session_binding().cloned(),
            };
            // No limit here: the agent may be waiting for a touch. A dead node ends the connection
            // by sshd's LoginGraceTime or the kernel's patience.
            let login = connection.handle.authenticate_publickey_with(
                user,
                key.public.clone(),
                hash,
                &mut signer,
            );
            match timeout(limit.saturating_mul(6), login).await {
                Err(_) => Err(slow()),
                Ok(Ok(result)) => Ok(outcome(result)),
                Ok(Err(SignError::Closed)) => Err(lost(*asked, "the node hung up".into())),
                Ok(Err(SignError::Agent(reason))) => Ok(Tried::Skipped(reason)),
            }
        }
        Candidate::File(file) => {
            let opened = match keyring.open(file).await {
                Ok(opened) => opened,
                Err(reason) => return Ok(Tried::Skipped(reason)),
            };
            let private = match (opened, &file.public) {
                (Some(private), _) => private,
                // A locked key is shown to the node first: nobody is asked for the passphrase of a
                // key the node would not take.
                (None, Some(public)) => {
                    match probe(&mut connection.handle, user, public, limit).await {
                        Err(reason) => return Err(lost(*asked, reason)),
                        Ok(false) => return Ok(Tried::No),
                        Ok(true) => {}
                    }
                    *asked = true;
                    match keyring.unlock(file).await {
                        Ok(private) => private,
                        Err(reason) => return Ok(Tried::Skipped(reason)),
                    }
                }
                (None, None) => {
                    *asked = true;
                    match keyring.unlock(file).await {
                        Ok(private) => private,
                        Err(reason) => return Ok(Tried::Skipped(reason)),
                    }
                }
            };
            if let Some(reason) = ended(connection) {
                return Err(lost(*asked, reason));
            }
            sign_in(&mut connection.handle, user, private, limit)
                .await
                .map_err(|reason| reason.map_or_else(slow, |reason| lost(*asked, reason)))
        }
    }
}

async fn sign_in(
    handle: &mut Handle<Gate>,
    user: &str,
    private: Arc<PrivateKey>,
    limit: Duration,
) -> Result<Tried, Option<String>> {
    let hash = hash_for(handle, private.public_key()).await;
    let key = PrivateKeyWithHashAlg::new(private, hash);
    match timeout(limit, handle.authenticate_publickey(user, key)).await {
        Err(_) => Err(None),
        Ok(Ok(result)) => Ok(outcome(result)),
        Ok(Err(error)) => Err(Some(words::ssh(&error))),
    }
}

/// Asks whether a key would do, without signing (RFC 4252 §7).
async fn probe(
    handle: &mut Handle<Gate>,
    user: &str,
    public: &PublicKey,
    limit: Duration,
) -> Result<bool, String> {
    /// Declines to sign, which tells that it was asked to.
    struct Decline;
    enum Declined {
        Asked,
        Closed,
    }
    impl From<russh::SendError> for Declined {
        fn from(_: russh::SendError) -> Self {
            Self::Closed
        }
    }
    impl russh::Signer for Decline {
        type Error = Declined;
        async fn auth_sign(
            &mut self,
            _: &russh::keys::agent::AgentIdentity,
            _: Option<HashAlg>,
            _: Vec<u8>,
        ) -> Result<Vec<u8>, Self::Error> {
            Err(Declined::Asked)
        }
    }
    let hash = hash_for(handle, public).await;
    let mut signer = Decline;
    let asked = handle.authenticate_publickey_with(user, public.clone(), hash, &mut signer);
    match timeout(limit, asked).await {
        Err(_) => Err(format!(
            "no answer to the login within {}",
            words::seconds(limit)
        )),
        Ok(Ok(_)) => Ok(false),
        Ok(Err(Declined::Asked)) => Ok(true),
        Ok(Err(Declined::Closed)) => Err("the node hung up".into()),
    }
}

/// RSA signatures need a hash that the host takes (RFC 8332); other keys have theirs.
async fn hash_for(handle: &Handle<Gate>, key: &PublicKey) -> Option<HashAlg> {
    if !key.algorithm().is_rsa() {
        return None;
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(hash)) => hash,
        // A host that does not say (EXT_INFO comes late or never) knows SHA-512 since 2016.
        _ => Some(HashAlg::Sha512),
    }
}

fn outcome(result: AuthResult) -> Tried {
    match result {
        AuthResult::Success => Tried::In,
        AuthResult::Failure {
            partial_success: true,
            remaining_methods,
        } if !remaining_methods.contains(&MethodKind::PublicKey) => Tried::Partial,
        AuthResult::Failure { .. } => Tried::No,
    }
}

/// Why the connection is over, if it is.
fn ended(connection: &Established) -> Option<String> {
    let over = connection.handle.is_closed() || connection.ended.has_changed().is_err();
    over.then(|| {
        connection
            .ended
            .borrow()
            .clone()
            .unwrap_or_else(|| "the node hung up".into())
    })
}

/// sshd hangs up after `MaxAuthTries` refusals: that is a refusal, not an accident.
fn closed(tried: &[String], remarks: &[String], reason: String, asked: bool) -> AuthError {
    if asked || tried.is_empty() {
        return AuthError::Closed {
            reason,
            asked,
            hung_up: true,
        };
    }
    let mut text = format!(
        "it took none of these keys: {}; then it hung up ({reason})",
        tried.join(", ")
    );
    for remark in remarks {
        text.push_str("; ");
        text.push_str(remark);
    }
    AuthError::Refused(text)
}

fn no_keys(endpoint: &Endpoint, remarks: Vec<String>) -> String {
    let mut reason = String::from("there is no key to log in with");
    for remark in &remarks {
        reason.push_str("; ");
        reason.push_str(remark);
    }
    if remarks.is_empty() {
        reason.push_str(if endpoint.agent.is_some() {
            ": the agent holds none, and there is no ~/.ssh/id_ed25519 or id_ecdsa"
        } else {
            ": no agent is running, and there is no ~/.ssh/id_ed25519 or id_ecdsa"
        });
    }
    reason.push_str("; name one with `identity`, or make one with `ssh-keygen -t ed25519`");
    reason
}
