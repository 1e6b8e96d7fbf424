//! `k3s server`: supervisor, API and datastore in one process.

mod addons;
mod auth;
mod deploy;
mod files;
mod lifecycle;
mod passwords;
mod supervisor;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use crate::api::status::Refusal;
use crate::api::{Key, Store};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome, errno};
use crate::files as disk;
use crate::heart::{self, Heart, Kubernetes, Programs};
use crate::release::Release;
use crate::{agent, etcd, http, log, machine, notify, pki, text, token};
use files::Paths;

/// What all parts of a server share.
pub(crate) struct Server {
    pub(crate) paths: Paths,
    /// The simulator's own datastore. On a real Kubernetes it holds the digest of the founding token alone.
    pub(crate) store: Arc<Store>,
    pub(crate) heart: Heart,
    /// The member of embedded etcd, where that is the datastore.
    pub(crate) member: Option<Arc<etcd::Member>>,
    /// The datastore outside of the cluster, where there is one.
    pub(crate) outside: Option<Arc<etcd::Outside>>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) agent_token_set: bool,
    pub(crate) config: serde_json::Value,
    /// The API answers once its controllers run (`Runtime.Core`).
    pub(crate) ready: AtomicBool,
}

/// Runs until it is killed, or fails.
pub(crate) fn run(settings: &Settings) -> Outcome {
    refuse_what_is_not_simulated(settings)?;
    if !settings.is_on("disable-agent")
        && !rustix::process::getuid().is_root()
        && !settings.is_on("rootless")
    {
        return Err(Fault::new(
            "server must run as root, or with --rootless and/or --disable-agent",
        ));
    }
    let token = settings.secret("token", "token-file")?;
    let agent_token = settings.secret("agent-token", "agent-token-file")?;
    if settings.text("cluster-reset-restore-path").is_some() && !settings.is_on("cluster-reset") {
        return Err(Fault::new(
            "invalid flag use; --cluster-reset required with --cluster-reset-restore-path",
        ));
    }
    let https = settings.port("https-listen-port", 6443);
    let apiserver = settings.port(
        "apiserver-port",
        if https == 6443 { 6444 } else { https + 1 },
    );
    let programs = Programs::find()?;
    if programs.is_some() && etcd::named_outside(settings)?.is_some() {
        return Err(Fault::new(
            "the simulator's real Kubernetes has its own datastore alone: --datastore-endpoint",
        ));
    }
    let name = agent::node_name(settings);
    let addresses = agent::addresses(settings)?;
    log::info(format!("Starting k3s {} (simulator)", Release::ours()));

    let paths = Paths::new(&settings.data_dir());
    let sans = sans(settings, &name, &addresses);
    let config = control_config(settings, https);
    let Prepared {
        store,
        member,
        outside,
        founding,
    } = prepare(&Preparing {
        settings,
        paths: &paths,
        token: token.as_deref(),
        agent_token: agent_token.as_deref(),
        node: &name,
        addresses: &addresses,
        sans: &sans,
        config: &config,
        objects: programs.is_none(),
    })
    .map_err(|f| f.within("starting kubernetes: preparing server"))?;
    paths.write_certificates(apiserver, &sans)?;
    if let (Some(outside), Some((founding, password))) = (&outside, &founding) {
        let place = etcd::Place {
            server: paths.server.clone(),
        };
        outside
            .save(&place, password, *founding)
            .map_err(|f| f.within("starting kubernetes: preparing server"))?;
    }
    let bind = settings.text("bind-address").unwrap_or("0.0.0.0");
    let listen = |address: &str, port: u16| {
        TcpListener::bind((address, port)).map_err(|e| {
            let shown = if address == "0.0.0.0" { format!(":{port}") } else { format!("{address}:{port}") };
            Fault(format!(
                "starting kubernetes: preparing server: init cluster datastore and https: listen tcp {shown}: bind: {}",
                errno(&e)
            ))
        })
    };
    let heart = match &programs {
        None => {
            log::info(format!(
                "The Kubernetes API is the simulator's own: there is no {}/kube-apiserver",
                heart::programs::DIRECTORY
            ));
            Heart::BuiltIn(store.clone())
        }
        Some(programs) => {
            log::info(format!(
                "The Kubernetes API is real: Kubernetes {} in {}",
                Release::ours(),
                heart::programs::DIRECTORY
            ));
            // Nobody connects to what cannot answer for a while, but a port that is taken is said at once.
            drop(listen(bind, https)?);
            let text = |name: &str| config[name].as_str().unwrap_or_default();
            let plan = heart::kubernetes::Plan {
                server: &paths.server,
                port: apiserver,
                address: addresses
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                pods: text("ClusterIPRange"),
                services: text("ServiceIPRange"),
                domain: text("ClusterDomain"),
                has_etcd: member.is_some(),
            };
            Heart::Kubernetes(Arc::new(
                Kubernetes::start(programs, &plan, settings)
                    .map_err(|f| f.within("starting kubernetes"))?,
            ))
        }
    };
    let server = Arc::new(Server {
        config,
        heart,
        member,
        outside,
        addresses: addresses.clone(),
        agent_token_set: agent_token.is_some(),
        ready: AtomicBool::new(false),
        paths,
        store,
    });

    let tls = http::config(
        &disk::read(&server.paths.tls("serving-kube-apiserver.crt"))?,
        &disk::read(&server.paths.tls("serving-kube-apiserver.key"))?,
        &disk::read(&server.paths.tls("client-ca.crt"))?,
    )?;
    let handler: Arc<http::Handler> = {
        let server = server.clone();
        Arc::new(move |request| supervisor::answer(&server, request))
    };
    let outside = listen(bind, https)?;
    if let Heart::BuiltIn(_) = server.heart {
        let inside = listen("127.0.0.1", apiserver)?;
        log::info(format!(
            "Running kube-apiserver --advertise-port={https} --secure-port={apiserver} --tls-cert-file={}",
            server.paths.tls("serving-kube-apiserver.crt").display()
        ));
        http::serve(inside, tls.clone(), handler.clone());
    }
    http::serve(outside, tls, handler);

    server
        .paths
        .write_tokens(server.agent_token_set, addresses.first().copied(), https)?;
    server.paths.write_kubeconfig(settings, https)?;
    addons::found(&server, settings)?;
    deploy::watch(&server, settings)?;
    lifecycle::watch(&server, settings);
    if let Some(member) = &server.member {
        let own = (!settings.is_on("disable-agent")).then(|| name.clone());
        etcd::watch(member, &server.heart, own);
    }
    server
        .ready
        .store(true, std::sync::atomic::Ordering::SeqCst);
    log::info("Kube API server is now running");
    log::info("k3s is up and running");
    notify::ready();

    if settings.is_on("disable-agent") {
        loop {
            std::thread::park();
        }
    }
    agent::run_on_server(
        settings,
        https,
        &server.paths.agent_join_token()?,
        programs.as_ref(),
    )
}

fn refuse_what_is_not_simulated(settings: &Settings) -> Outcome {
    if settings.is_on("cluster-reset") {
        return Err(Fault::new(
            "the simulator does not reset a cluster: --cluster-reset",
        ));
    }
    etcd::named_outside(settings).map(|_| ())
}

/// What the first part of a start is made from.
struct Preparing<'a> {
    settings: &'a Settings,
    paths: &'a Paths,
    token: Option<&'a str>,
    agent_token: Option<&'a str>,
    node: &'a str,
    addresses: &'a [IpAddr],
    sans: &'a [String],
    config: &'a serde_json::Value,
    /// The simulator's own API serves, so the objects are the store's.
    objects: bool,
}

/// What came of it.
struct Prepared {
    store: Arc<Store>,
    member: Option<Arc<etcd::Member>>,
    outside: Option<Arc<etcd::Outside>>,
    /// What has to be shared through it, and with which password.
    founding: Option<(etcd::Founding, String)>,
}

/// Folders, authorities, passwords and the datastore, whose founding token must be the one that is given.
fn prepare(p: &Preparing<'_>) -> Outcome<Prepared> {
    p.paths.make_folders()?;
    let place = etcd::Place {
        server: p.paths.server.clone(),
    };
    let embedded = place.wanted(p.settings, p.token);
    let via = if embedded {
        etcd::load(&place, p.settings, p.token, p.agent_token, p.config)?
    } else {
        None
    };
    // Who has a member of its own uses it, whatever else is named.
    let outside = match etcd::named_outside(p.settings)? {
        Some(urls) if !embedded => Some(Arc::new(etcd::Outside::connect(p.settings, &urls)?)),
        _ => None,
    };
    let founding = match &outside {
        Some(outside) => Some(outside.load(&place, p.token)?),
        None => None,
    };
    let known = passwords::read(&p.paths.server.join("cred/passwd"), "server");
    let password = match (p.token, known) {
        (Some(given), _) => token::normalise(given)?,
        (None, Some(known)) => known,
        (None, None) => text::hex(&text::random::<16>()),
    };
    p.paths.make_authorities()?;
    let (store, member) = if embedded {
        let address = *p
            .addresses
            .first()
            .ok_or_else(|| Fault::new("no address for etcd"))?;
        let member = etcd::start(&etcd::Start {
            place: &place,
            settings: p.settings,
            node: p.node,
            address,
            sans: p.sans,
            via,
        })?;
        let store = open_shared(&member.gateway, p.objects);
        take_over(&place, &store)?;
        (store, Some(member))
    } else if let Some(outside) = &outside {
        outside.stand(p.node);
        (open_shared(&outside.gateway, p.objects), None)
    } else {
        let file = p.paths.server.join("db/state.db");
        (Arc::new(Store::open(file)?), None)
    };
    if outside.is_none() {
        let digest = text::sha256(format!("k3s-simulator bootstrap {password}").as_bytes());
        match store.bootstrap()?.as_str() {
            "" => store.set_bootstrap(&digest)?,
            founded if founded == digest => {}
            _ => {
                return Err(Fault::new(
                    "bootstrap data already found and encrypted with different token",
                ));
            }
        }
    }
    passwords::write(
        &p.paths.server.join("cred/passwd"),
        &password,
        p.agent_token.unwrap_or(&password),
    )?;
    Ok(Prepared {
        store,
        member,
        outside,
        founding: founding.map(|founding| (founding, password)),
    })
}

/// Waits until a majority of the members answers, for as long as that takes.
fn open_shared(gateway: &Arc<etcd::Gateway>, objects: bool) -> Arc<Store> {
    loop {
        match Store::on_etcd(gateway, objects) {
            Ok(store) => return store,
            Err(why) => log::error(format!("Failed to read from the datastore: {why}")),
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// What a single server has kept in a file until now comes along (`migrateFromSQLite`).
fn take_over(place: &etcd::Place, store: &Store) -> Outcome {
    let Some(file) = etcd::older(place) else {
        return Ok(());
    };
    log::info("Migrating content from sqlite to etcd");
    let old = Store::open(file.clone())?;
    for (key, object) in old.objects() {
        store.take(&key, &object).map_err(|r| {
            Fault(r.message).within("failed to migrate content from sqlite to etcd")
        })?;
    }
    store.set_bootstrap(&old.bootstrap()?)?;
    etcd::migrated(&file)
}

fn sans(settings: &Settings, name: &str, addresses: &[IpAddr]) -> Vec<String> {
    let mut sans = settings.list("tls-san");
    sans.extend(["127.0.0.1", "::1", "localhost", name].map(str::to_owned));
    sans.extend(addresses.iter().map(ToString::to_string));
    sans.extend(settings.text("advertise-address").map(str::to_owned));
    sans.push(service_address(settings));
    sans.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned));
    let domain = settings.text("cluster-domain").unwrap_or("cluster.local");
    sans.push(format!("kubernetes.default.svc.{domain}"));
    sans
}

/// The n-th address of a network such as `10.43.0.0/16`.
pub(crate) fn nth(network: &str, n: u8) -> String {
    let base = network.split('/').next().unwrap_or(network);
    match base.parse::<std::net::Ipv4Addr>() {
        Ok(address) => {
            let [a, b, c, d] = address.octets();
            format!("{a}.{b}.{c}.{}", d.saturating_add(n))
        }
        Err(_) => format!("{base}{n:x}"),
    }
}

fn service_network(settings: &Settings) -> String {
    settings
        .list("service-cidr")
        .first()
        .cloned()
        .unwrap_or_else(|| "10.43.0.0/16".into())
}

fn service_address(settings: &Settings) -> String {
    nth(&service_network(settings), 1)
}

/// What agents are told (`/v1-k3s/config`), as far as they use it.
fn control_config(settings: &Settings, https: u16) -> serde_json::Value {
    let cluster = settings
        .list("cluster-cidr")
        .first()
        .cloned()
        .unwrap_or_else(|| "10.42.0.0/16".into());
    let dns = settings
        .list("cluster-dns")
        .first()
        .cloned()
        .unwrap_or_else(|| nth(&service_network(settings), 10));
    let mut config = json!({
        "ClusterDomain": settings.text("cluster-domain").unwrap_or("cluster.local"),
        "ClusterDNS": dns,
        "ClusterIPRange": cluster,
        "ServiceIPRange": service_network(settings),
        "FlannelBackend": settings.text("flannel-backend").unwrap_or("vxlan"),
        "HTTPSPort": https,
        "SupervisorPort": https,
        "DisableKubeProxy": settings.is_on("disable-kube-proxy"),
        "EgressSelectorMode": settings.text("egress-selector-mode").unwrap_or("agent"),
    });
    if let Some(all) = config.as_object_mut() {
        all.extend(etcd::critical(settings));
    }
    config
}

/// The folder of a node's own files: `/etc/rancher/node`.
pub(crate) fn node_folder() -> PathBuf {
    PathBuf::from("/etc/rancher/node")
}

impl Server {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Who may talk to this cluster's own node of a name: checks the password, or remembers it.
    pub(crate) fn ensure_node_password(&self, node: &str, password: &str) -> Result<(), Refusal> {
        use base64::Engine as _;
        let secret = format!("{node}.node-password.k3s");
        let key = Key::secret("kube-system", &secret);
        if let Some(object) = self.heart.get(&key)? {
            let encoded = object["data"]["hash"].as_str().unwrap_or_default();
            let hash = base64::engine::general_purpose::STANDARD
                .decode(encoded)
                .unwrap_or_default();
            return passwords::verify(&String::from_utf8_lossy(&hash), password).map_err(|f| {
                let why = f.within(format!("unable to verify hash for node '{node}'"));
                Refusal::forbidden(why.0)
            });
        }
        let hash = passwords::hash(password).map_err(Refusal::internal)?;
        let data = base64::engine::general_purpose::STANDARD.encode(hash);
        addons::keep(
            &self.heart,
            "Secret",
            json!({"metadata": {"name": secret, "namespace": "kube-system"}, "immutable": true, "type": "Opaque", "data": {"hash": data}}),
        )
    }

    pub(crate) fn authority(&self, which: &str) -> pki::Authority {
        pki::Authority {
            certificate: self.paths.tls(&format!("{which}-ca.crt")),
            key: self.paths.tls(&format!("{which}-ca.key")),
        }
    }

    /// `IP:port` of the API servers: this one, and those whose nodes have registered.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        // The real API server's own Endpoints have the port that it listens on; k3s' knows `--advertise-port`.
        let port = self.config["HTTPSPort"].as_u64().unwrap_or(6443);
        let mut all: Vec<IpAddr> = self.addresses.clone();
        for (_, node) in self.heart.servers().unwrap_or_default() {
            let addresses = node["status"]["addresses"].as_array();
            all.extend(
                addresses
                    .into_iter()
                    .flatten()
                    .filter(|a| a["type"] == "InternalIP")
                    .filter_map(|a| a["address"].as_str()?.parse::<IpAddr>().ok()),
            );
        }
        let mut shown: Vec<String> = vec![];
        for address in all {
            let text = SocketAddr::new(address, u16::try_from(port).unwrap_or(6443)).to_string();
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        shown
    }

    /// Whether this server's controllers act for the cluster, and since when: those of one server do, where there are
    /// several. `None`: another one's.
    pub(crate) fn leads_since(&self) -> Option<time::OffsetDateTime> {
        match (&self.member, &self.outside) {
            (Some(member), _) => member.leads_since(),
            (None, Some(outside)) => outside.leads_since(),
            (None, None) => Some(time::OffsetDateTime::UNIX_EPOCH),
        }
    }
}

/// What a kind is called in `nodeInfo`.
pub(crate) fn runtime_version() -> String {
    let minor = Release::ours().minor();
    let containerd = match minor {
        ..=31 => "1.7.27-k3s1",
        32..=34 => "2.0.5-k3s2",
        _ => "2.1.4-k3s2",
    };
    let _ = machine::architecture();
    format!("containerd://{containerd}")
}
