//! `k3s agent`, and the agent inside of a server: joining, then a kubelet without containers.

mod balancer;
mod hollow;
mod join;
mod kubelet;

use std::net::IpAddr;
use std::sync::Arc;

use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::heart::Programs;
use crate::net::Client;
use crate::release::Release;
use crate::{files, log, machine, notify};

pub(crate) use join::{fetched, validated};

/// The node's name before `with-node-id`.
pub(crate) fn node_name(settings: &Settings) -> String {
    settings
        .text("node-name")
        .map_or_else(machine::hostname, str::to_lowercase)
}

/// The node's addresses: those that are given, or the one towards the default route.
pub(crate) fn addresses(settings: &Settings) -> Outcome<Vec<IpAddr>> {
    let given = settings.list("node-ip");
    if given.is_empty() {
        return Ok(vec![machine::address()?]);
    }
    given
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| Fault(format!("invalid node-ip: unable to parse ip '{text}'")))
        })
        .collect()
}

/// What a node knows when it has joined.
pub(crate) struct Joined {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) config: serde_json::Value,
    /// Talks to the API as the node's kubelet.
    pub(crate) api: Client,
}

/// `k3s agent`: runs until it is killed, or fails.
pub(crate) fn run(settings: &Settings) -> Outcome {
    if !rustix::process::getuid().is_root() && !settings.is_on("rootless") {
        return Err(Fault::new(
            "agent requires additional privilege if not run with --rootless: operation not permitted",
        ));
    }
    let data = settings.data_dir();
    let token = settings.secret("token", "token-file")?;
    let joined_before = files::read(&data.join("agent/client-kubelet.crt")).is_ok()
        && files::read(&data.join("agent/client-kubelet.key")).is_ok();
    let token = match token {
        Some(token) => token,
        None if joined_before => String::new(),
        None => return Err(Fault::new("--token is required")),
    };
    let Some(url) = settings.text("server") else {
        return Err(Fault::new("--server is required"));
    };
    let programs = Programs::find()?;
    log::info(format!(
        "Starting k3s agent {} (simulator)",
        Release::ours()
    ));
    machine::validate_cgroups()?;
    files::folder(&data.join("agent"), 0o700)?;
    let (host, port) = crate::net::authority(url)?;
    let local = settings.port("lb-server-port", 6444);
    let balancer = Arc::new(balancer::Balancer::start(
        &data.join("agent"),
        &format!("{host}:{port}"),
        local,
    )?);
    let local_url = format!("https://127.0.0.1:{local}");
    let joined = join::join(settings, &local_url, url, &token)?;
    balancer.keep_learning(&joined);
    kubelet::run(settings, joined, programs.as_ref(), || {
        log::info("k3s agent is up and running");
        notify::ready();
    })
}

/// The agent of a server's own node.
pub(crate) fn run_on_server(
    settings: &Settings,
    port: u16,
    token: &str,
    programs: Option<&Programs>,
) -> Outcome {
    machine::validate_cgroups()?;
    files::folder(&settings.data_dir().join("agent"), 0o700)?;
    let url = format!("https://127.0.0.1:{port}");
    let joined = join::join(settings, &url, &url, token)?;
    kubelet::run(settings, joined, programs, || {})
}
