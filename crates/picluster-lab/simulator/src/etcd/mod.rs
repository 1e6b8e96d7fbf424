//! The embedded datastore: a member of an etcd cluster, run as a child (pkg/etcd/etcd.go, pkg/cluster).
//!
//! Upstream links etcd in; here it is Debian's program. Its files, names, ports and refusals are as upstream has them.

mod bootstrap;
mod gateway;
mod join;
mod manage;
mod outside;
mod process;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(crate) use bootstrap::{answer as bootstrap_answer, critical};
pub(crate) use gateway::{Gateway, Listed, PATIENCE};
pub(crate) use manage::{kept, let_go, watch};
pub(crate) use outside::{Founding, Outside, named as named_outside};

use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::net::Client;
use crate::pki::{Authority, Subject, Usage};
use crate::{clock, files, log, text};

/// Where a server's datastore and certificates are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `server` below the data directory.
    pub(crate) server: PathBuf,
}

impl Place {
    fn folder(&self) -> PathBuf {
        self.server.join("db/etcd")
    }

    fn tls(&self, name: &str) -> PathBuf {
        self.server.join("tls/etcd").join(name)
    }

    /// Etcd has been started here before (`IsInitialized`).
    pub(crate) fn initialised(&self) -> bool {
        self.folder().join("member/wal").is_dir()
    }

    /// Whether the datastore is embedded etcd (`assignManagedDriver`): because there is one, or because it is asked for.
    pub(crate) fn wanted(&self, settings: &Settings, token: Option<&str>) -> bool {
        self.initialised()
            || (settings.text("datastore-endpoint").is_none()
                && (settings.is_on("cluster-init")
                    || (settings.text("server").is_some() && token.is_some())))
    }

    /// Requests to members, with the certificate that servers have for it.
    fn gateway(&self, urls: &[String]) -> Outcome<Gateway> {
        let mut client = Client::new(
            "https://127.0.0.1",
            Some(files::read(&self.tls("server-ca.crt"))?),
        );
        client.identity = Some((
            files::read(&self.tls("client.crt"))?,
            files::read(&self.tls("client.key"))?,
        ));
        Gateway::new(&client, urls)
    }

    fn certificates(&self, sans: &[String]) -> Outcome {
        for (authority, file, name, usage) in [
            ("server-ca", "server-client", "etcd-server", Usage::Both),
            ("peer-ca", "peer-server-client", "etcd-peer", Usage::Both),
            ("server-ca", "client", "etcd-client", Usage::Client),
        ] {
            let authority = Authority {
                certificate: self.tls(&format!("{authority}.crt")),
                key: self.tls(&format!("{authority}.key")),
            };
            let hosts = if usage == Usage::Client {
                vec![]
            } else {
                sans.to_vec()
            };
            let subject = Subject {
                name: name.into(),
                organisations: vec![],
                hosts,
                usage,
            };
            let (crt, key) = (
                self.tls(&format!("{file}.crt")),
                self.tls(&format!("{file}.key")),
            );
            authority.ensure_leaf(&subject, &crt, &key)?;
        }
        Ok(())
    }

    /// The member's name, made once and kept beside its data (`setName`).
    fn name(&self, node: &str) -> Outcome<String> {
        let file = self.folder().join("name");
        if file.exists() {
            return files::read(&file);
        }
        let name = format!("{node}-{}", &text::uuid()[..8]);
        files::folder(&self.folder(), 0o700)?;
        files::write(&file, name.as_bytes(), 0o600)?;
        Ok(name)
    }

    /// The data of a member that was removed goes aside (`backupDirWithRetention`), so that it joins as a new one.
    fn bury(&self) -> Outcome {
        if !self.folder().join("tombstone").exists() {
            return Ok(());
        }
        log::info("tombstone file has been detected, removing data dir to rejoin the cluster");
        let aside = self
            .server
            .join(format!("db/etcd-backup-{}", clock::unix()));
        std::fs::rename(self.folder(), &aside)
            .map_err(|e| crate::fault::at("rename", &self.folder(), &e))
    }
}

/// What a member is started with.
pub(crate) struct Start<'a> {
    pub(crate) place: &'a Place,
    pub(crate) settings: &'a Settings,
    /// The node's name.
    pub(crate) node: &'a str,
    pub(crate) address: IpAddr,
    /// Names and addresses of this server's certificates.
    pub(crate) sans: &'a [String],
    /// What [`bootstrap::load`] has found, for a server that joins.
    pub(crate) via: Option<Client>,
}

/// This server's member, running.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) gateway: Arc<Gateway>,
    place: Place,
    /// Ways to members, by their client URL.
    others: Mutex<BTreeMap<String, Arc<Gateway>>>,
    /// Set by the process's watcher once the cluster has removed it.
    removed: Arc<AtomicBool>,
    /// Since when it leads, if it does.
    leads: Mutex<Option<time::OffsetDateTime>>,
}

impl Member {
    fn peer_url(&self) -> String {
        peer_url(self.address)
    }

    /// Whether another member answers (`getETCDStatus`).
    fn reach(&self, other: &Listed) -> Outcome {
        let url = other
            .clients
            .first()
            .ok_or_else(|| Fault::new("it has not started"))?;
        let gateway = {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            match others.get(url) {
                Some(known) => known.clone(),
                None => {
                    let made = Arc::new(self.place.gateway(std::slice::from_ref(url))?);
                    others.insert(url.clone(), made.clone());
                    made
                }
            }
        };
        gateway.status().map(|_| ())
    }

    /// Since when this member leads the cluster.
    pub(crate) fn leads_since(&self) -> Option<time::OffsetDateTime> {
        *self.leads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leads(&self, yes: bool) {
        let mut leads = self.leads.lock().unwrap_or_else(PoisonError::into_inner);
        *leads = yes.then(|| leads.unwrap_or_else(clock::now));
    }

    /// Whether it may vote (`Test`).
    fn test(&self) -> Outcome {
        if self.removed.load(Ordering::SeqCst) {
            return Err(Fault::new("etcd has been removed from the cluster"));
        }
        if self.gateway.status()?.learner {
            return Err(Fault::new(
                "this server has not yet been promoted from learner to voting member",
            ));
        }
        let mut found = vec![];
        for member in self.gateway.members()? {
            if member.name == self.name && member.peers.contains(&self.peer_url()) {
                return Ok(());
            }
            found.extend(member.peers.first().map(|p| format!("{}={p}", member.name)));
        }
        Err(Fault(format!(
            "this server is a not a member of the etcd cluster. Found [{}], expect: {}={}",
            found.join(" "),
            self.name,
            self.peer_url()
        )))
    }

    /// Waits until it may vote, for as long as that takes. Upstream looks every five seconds; here it is every half.
    fn wait(&self) {
        let mut round = 0_u32;
        while let Err(why) = self.test() {
            if round.is_multiple_of(10) {
                log::info(format!("Failed to test data store connection: {why}"));
            }
            round += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        log::info("etcd data store connection OK");
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }
}

fn peer_url(address: IpAddr) -> String {
    format!("https://{}:2380", host(address))
}

fn client_url(address: IpAddr) -> String {
    format!("https://{}:2379", host(address))
}

/// Gets from the cluster what a server shares with the others, before anything of its own is made. Gives the way to the
/// server it joins at.
pub(crate) fn load(
    place: &Place,
    settings: &Settings,
    token: Option<&str>,
    agent_token: Option<&str>,
    config: &serde_json::Value,
) -> Outcome<Option<Client>> {
    bootstrap::load(place, settings, token, agent_token, config)
}

/// Starts this server's member, from the first thread, and waits until it may vote.
pub(crate) fn start(start: &Start<'_>) -> Outcome<Arc<Member>> {
    let place = start.place;
    place.certificates(start.sans)?;
    place.bury()?;
    let name = place.name(start.node)?;
    let initial = if place.initialised() {
        log::info("Starting etcd for existing cluster member");
        None
    } else if let Some(via) = &start.via {
        Some(join::cluster(place, start.node, &name, start.address, via)?)
    } else {
        log::info("Starting etcd for new cluster, cluster-reset=false");
        Some(process::Initial {
            cluster: format!("{name}={}", peer_url(start.address)),
            is_new: true,
        })
    };
    let removed = process::run(place, start, &name, initial.as_ref())?;
    let member = Arc::new(Member {
        gateway: Arc::new(place.gateway(&["https://127.0.0.1:2379".to_owned()])?),
        name,
        address: start.address,
        place: place.clone(),
        others: Mutex::default(),
        removed,
        leads: Mutex::default(),
    });
    member.wait();
    Ok(member)
}

/// Whether a datastore from before embedded etcd is there (`migrateFromSQLite`).
pub(crate) fn older(place: &Place) -> Option<PathBuf> {
    let file = place.server.join("db/state.db");
    file.exists().then_some(file)
}

/// A datastore that was taken over gets another name.
pub(crate) fn migrated(file: &Path) -> Outcome {
    std::fs::rename(file, file.with_extension("db.migrated"))
        .map_err(|e| crate::fault::at("rename", file, &e))
}
