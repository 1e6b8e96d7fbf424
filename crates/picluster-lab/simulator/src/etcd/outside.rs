//! A datastore outside of the cluster (pkg/cluster/storage.go and encrypt.go; pkg/endpoint in kine). Of those that upstream can
//! use, etcd alone is here. What servers share is in it, encrypted with the token they have in common.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;

use super::{Gateway, Place, bootstrap};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::net::Client;
use crate::{clock, files, log, text, token};

/// Where upstream keeps what servers share.
const SHARED: &str = "/bootstrap";

/// Which server's controllers act for the cluster; upstream has leases for that.
const LEADER: &str = "/k3s-simulator/leader";

/// After so long without a word another server takes over.
const LEASE: Duration = Duration::from_secs(5);

/// How often a lock is found before whoever took it counts as gone (`maxBootstrapWaitAttempts`).
const ATTEMPTS: u32 = 5;

/// The datastore, and whether this server acts for the cluster.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) gateway: Arc<Gateway>,
    leads: Mutex<Option<time::OffsetDateTime>>,
}

/// The client URLs of an etcd that is named as datastore; none: the datastore is the server's own.
pub(crate) fn named(settings: &Settings) -> Outcome<Option<Vec<String>>> {
    match settings.text("datastore-endpoint") {
        None => Ok(None),
        Some(text) if text.starts_with("sqlite") => Ok(None),
        Some(text) if text.starts_with("http://") || text.starts_with("https://") => {
            Ok(Some(text.split(',').map(|t| t.trim().to_owned()).collect()))
        }
        // What is behind the scheme may hold a password.
        Some(text) => Err(Fault(format!(
            "the simulator has no datastore outside of the cluster but etcd: --datastore-endpoint {}://",
            text.split("://").next().unwrap_or_default()
        ))),
    }
}

fn storage_key(password: &str) -> String {
    format!("{SHARED}/{}", &text::sha256(password.as_bytes())[..12])
}

fn derived(password: &str, salt: &str) -> Outcome<LessSafeKey> {
    let rounds = NonZeroU32::new(4096).unwrap_or(NonZeroU32::MIN);
    let mut key = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA1,
        rounds,
        salt.as_bytes(),
        password.as_bytes(),
        &mut key,
    );
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| Fault::new("no key"))?;
    Ok(LessSafeKey::new(key))
}

/// `SALT:` and, in base64, nonce and sealed text.
fn encrypt(password: &str, plain: &[u8]) -> Outcome<String> {
    let salt = text::hex(&text::random::<8>());
    let nonce = text::random::<NONCE_LEN>();
    let mut sealed = plain.to_vec();
    derived(password, &salt)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut sealed,
        )
        .map_err(|_| Fault::new("cipher: cannot seal"))?;
    let mut all = nonce.to_vec();
    all.append(&mut sealed);
    Ok(format!("{salt}:{}", STANDARD.encode(all)))
}

fn decrypt(password: &str, text: &str) -> Outcome<Vec<u8>> {
    let (salt, rest) = text
        .split_once(':')
        .ok_or_else(|| Fault::new("invalid cipher text, not : delimited"))?;
    let all = STANDARD.decode(rest).map_err(|e| Fault(e.to_string()))?;
    let failed = || Fault::new("cipher: message authentication failed");
    let (nonce, sealed) = all.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
    let mut sealed = sealed.to_vec();
    let plain = derived(password, salt)?
        .open_in_place(nonce, Aad::empty(), &mut sealed)
        .map_err(|_| failed())?;
    Ok(plain.to_vec())
}

/// What has to be done once this server has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Founding {
    /// The others wait for what this one makes.
    Locked,
    /// It has no token that others could know: nobody has locked anything.
    Alone,
    /// All is there.
    Done,
}

impl Outside {
    pub(crate) fn connect(settings: &Settings, urls: &[String]) -> Outcome<Self> {
        let file = |name: &str| settings.text(name).map(|p| files::read(Path::new(p)));
        let mut client = Client::new("https://127.0.0.1", file("datastore-cafile").transpose()?);
        if let (Some(certificate), Some(key)) =
            (file("datastore-certfile"), file("datastore-keyfile"))
        {
            client.identity = Some((certificate?, key?));
        }
        Ok(Self {
            gateway: Arc::new(Gateway::new(&client, urls)?),
            leads: Mutex::default(),
        })
    }

    /// Gets what servers share, before anything of its own is made (`storageBootstrap`).
    pub(crate) fn load(&self, place: &Place, given: Option<&str>) -> Outcome<Founding> {
        let kept = || files::read(&place.server.join("token")).ok();
        let Some(token) = given.map(str::to_owned).or_else(kept) else {
            return Ok(Founding::Alone);
        };
        let password = token::normalise(token.trim())?;
        let own = storage_key(&password);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (_, found) = self.gateway.all(SHARED)?;
            if found.is_empty() {
                if self.gateway.commit(&own, 0, Some(""), &[])?.is_some() {
                    log::info("Bootstrap key locked for initial create");
                    return Ok(Founding::Locked);
                }
                log::info(
                    "Bootstrap key already locked - waiting for data to be populated by another server",
                );
            } else {
                let Some(entry) = found.iter().find(|e| e.key == own) else {
                    return Err(Fault::new(
                        "bootstrap data already found and encrypted with different token",
                    ));
                };
                if !entry.value.is_empty() {
                    log::info("Reconciling bootstrap data between datastore and disk");
                    bootstrap::take(place, &decrypt(&password, &entry.value)?)?;
                    return Ok(Founding::Done);
                }
                if attempts >= ATTEMPTS {
                    log::info("Bootstrap key lock timed out - deleting lock and retrying");
                    attempts = 0;
                    let gone = [own.clone()];
                    self.gateway.commit(&own, entry.revision, None, &gone)?;
                    continue;
                }
                log::info(
                    "Bootstrap key is locked - waiting for data to be populated by another server",
                );
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Shares what this server has made (`Save`).
    pub(crate) fn save(&self, place: &Place, password: &str, founding: Founding) -> Outcome {
        if founding == Founding::Done {
            return Ok(());
        }
        let (_, found) = self.gateway.all(SHARED)?;
        let own = storage_key(password);
        if found.iter().any(|e| e.key != own) {
            return Err(Fault::new(
                "bootstrap data already found and encrypted with different token",
            ));
        }
        let all = bootstrap::answer(&place.server)?;
        let sealed = encrypt(password, all.to_string().as_bytes())?;
        self.gateway.put(&own, &sealed)
    }

    pub(crate) fn leads_since(&self) -> Option<time::OffsetDateTime> {
        *self.leads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_leads(&self, yes: bool) {
        let mut leads = self.leads.lock().unwrap_or_else(PoisonError::into_inner);
        *leads = yes.then(|| leads.unwrap_or_else(clock::now));
    }

    /// Stands for election from now on, in a thread of its own: the controllers of one server act for all.
    pub(crate) fn stand(self: &Arc<Self>, node: &str) {
        let outside = self.clone();
        let own = format!("{node} {}", text::uuid());
        std::thread::spawn(move || {
            let mut seen = (0, Instant::now());
            loop {
                let leads = outside.campaign(&own, &mut seen).unwrap_or(false);
                outside.set_leads(leads);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
    }

    fn campaign(&self, own: &str, seen: &mut (u64, Instant)) -> Outcome<bool> {
        let (_, found) = self.gateway.all(LEADER)?;
        let (holder, revision) = found
            .first()
            .map_or(("", 0), |e| (e.value.as_str(), e.revision));
        if seen.0 != revision {
            *seen = (revision, Instant::now());
        }
        if holder != own && revision != 0 && seen.1.elapsed() < LEASE {
            return Ok(false);
        }
        Ok(self
            .gateway
            .commit(LEADER, revision, Some(own), &[])?
            .is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_shared_is_read_with_the_same_token_alone() {
        let sealed = encrypt("sesame", b"certificates").unwrap();
        assert!(!sealed.contains("certificates"));
        assert_eq!(decrypt("sesame", &sealed).unwrap(), b"certificates");
        assert!(decrypt("another", &sealed).is_err());
        assert!(decrypt("sesame", "garbage").is_err());
        assert!(decrypt("sesame", "ab:YQ==").is_err());
    }

    #[test]
    fn the_key_of_a_token_is_upstreams() {
        // printf sesame | sha256sum
        assert_eq!(storage_key("sesame"), "/bootstrap/d0c04f4b1951");
    }
}
