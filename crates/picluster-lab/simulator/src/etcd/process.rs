//! The program, its configuration file and its end (pkg/daemons/executor).

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use super::{Place, Start, client_url, peer_url};
use crate::fault::{Fault, Outcome};
use crate::heart::programs::{self, DIRECTORY};
use crate::{files, log};

/// How a member that has no data begins.
pub(super) struct Initial {
    /// `name=https://address:2380,…`.
    pub(super) cluster: String,
    pub(super) is_new: bool,
}

/// Debian's `etcd-server`, or the one of a folder of Kubernetes' programs.
fn program() -> Outcome<PathBuf> {
    let places = [DIRECTORY, "/usr/local/bin", "/usr/bin"];
    let found = places.iter().map(|p| Path::new(p).join("etcd"));
    found.into_iter().find(|p| p.is_file()).ok_or_else(|| {
        Fault(format!(
            "the simulator's embedded etcd is Debian's program, and there is none in {}: install the package etcd-server, or give the node {DIRECTORY}/etcd",
            places.join(", ")
        ))
    })
}

/// The file that upstream writes (`ETCDConfig.ToConfigFile`), sorted as its YAML is.
fn config(place: &Place, start: &Start<'_>, name: &str, initial: Option<&Initial>) -> String {
    let tls = |file: &str| place.tls(file).display().to_string();
    let trust = |file: &str, authority: &str| {
        json!({"cert-file": tls(&format!("{file}.crt")), "client-cert-auth": true, "key-file": tls(&format!("{file}.key")),
            "trusted-ca-file": tls(&format!("{authority}.crt"))})
    };
    let (client, peer) = (client_url(start.address), peer_url(start.address));
    let mut all = Map::new();
    let mut set = |key: &str, value: Value| {
        all.insert(key.to_owned(), value);
    };
    set("advertise-client-urls", client.clone().into());
    set(
        "client-transport-security",
        trust("server-client", "server-ca"),
    );
    set("data-dir", place.folder().display().to_string().into());
    set("election-timeout", 5000.into());
    set("experimental-initial-corrupt-check", true.into());
    // Not upstream's: requests come through the gateway, which a configuration file has to ask for.
    set("enable-grpc-gateway", true.into());
    set("heartbeat-interval", 500.into());
    if let Some(initial) = initial {
        if initial.is_new {
            set("initial-advertise-peer-urls", peer.clone().into());
        }
        set("initial-cluster", initial.cluster.clone().into());
        let state = if initial.is_new { "new" } else { "existing" };
        set("initial-cluster-state", state.into());
    }
    set("listen-client-http-urls", "https://127.0.0.1:2382".into());
    set(
        "listen-client-urls",
        format!("https://127.0.0.1:2379,{client}").into(),
    );
    set("listen-metrics-urls", "http://127.0.0.1:2381".into());
    set(
        "listen-peer-urls",
        format!("https://127.0.0.1:2380,{peer}").into(),
    );
    set("log-outputs", json!(["stderr"]));
    set("logger", "zap".into());
    set("name", name.into());
    set(
        "peer-transport-security",
        trust("peer-server-client", "peer-ca"),
    );
    set("snapshot-count", 10000.into());
    for argument in start.settings.whole_list("etcd-arg") {
        let argument = argument.trim_start_matches('-');
        if let Some((key, value)) = argument.split_once('=') {
            // Numbers and truths are such in the file; everything else is text.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            set(key, value);
        }
    }
    let mut keys: Vec<_> = all.into_iter().collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::new();
    for (key, value) in keys {
        match value {
            Value::Object(fields) => {
                out.push_str(&format!("{key}:\n"));
                for (name, value) in fields {
                    out.push_str(&format!("  {name}: {}\n", plain(&value)));
                }
            }
            Value::Array(items) => {
                out.push_str(&format!("{key}:\n"));
                for item in items {
                    out.push_str(&format!("- {}\n", plain(&item)));
                }
            }
            value => out.push_str(&format!("{key}: {}\n", plain(&value))),
        }
    }
    out
}

/// A value in YAML: text as it is where that is the same text, in quotation marks elsewhere.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text)
            if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_./:=,".contains(c)) =>
        {
            text.to_owned()
        }
        _ => value.to_string(),
    }
}

/// Starts it, from the first thread. The answer becomes true when the cluster has removed this member.
pub(super) fn run(
    place: &Place,
    start: &Start<'_>,
    name: &str,
    initial: Option<&Initial>,
) -> Outcome<Arc<AtomicBool>> {
    let program = program()?;
    for port in [2379, 2380] {
        crate::heart::kubernetes::until_free(port)?;
    }
    files::folder(&place.folder(), 0o700)?;
    let file = place.folder().join("config");
    files::write_changed(&file, config(place, start, name, initial).as_bytes(), 0o600)?;
    let arguments = ["--config-file".to_owned(), file.display().to_string()];
    let mut child = programs::kept(&program, &arguments, Stdio::piped())?;
    let removed = Arc::new(AtomicBool::new(false));
    let (seen, tombstone) = (removed.clone(), place.folder().join("tombstone"));
    let said = child.stderr.take();
    std::thread::spawn(move || {
        for line in said.into_iter().flat_map(|s| BufReader::new(s).lines()) {
            let Ok(line) = line else { break };
            // `ErrMemberRemoved` of etcd's server.go and rafthttp.
            if line.contains("the member has been permanently removed from the cluster") {
                seen.store(true, Ordering::SeqCst);
            }
            log::raw(&line);
        }
        let ended = child
            .wait()
            .map_or_else(|e| e.to_string(), |status| status.to_string());
        if !seen.load(Ordering::SeqCst) {
            log::fatal(format!("etcd exited: {ended}"));
        }
        if let Err(fault) = files::write(&tombstone, b"", 0o600) {
            log::fatal(fault.within(format!(
                "Failed to write tombstone file to {}",
                tombstone.display()
            )));
        }
        log::info(
            "This node has been removed from the cluster - please restart k3s to rejoin the cluster",
        );
    });
    Ok(removed)
}
