//! What servers share: settings that must agree, authorities, keys and passwords (pkg/cluster/bootstrap.go).

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Place;
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::net::Client;
use crate::token::Token;
use crate::{agent, clock, files, log};

/// `ControlRuntimeBootstrap`: the name in upstream's structure, the file below `server`.
const SHARED: &[(&str, &str)] = &[
    ("ETCDServerCA", "tls/etcd/server-ca.crt"),
    ("ETCDServerCAKey", "tls/etcd/server-ca.key"),
    ("ETCDPeerCA", "tls/etcd/peer-ca.crt"),
    ("ETCDPeerCAKey", "tls/etcd/peer-ca.key"),
    ("ServerCA", "tls/server-ca.crt"),
    ("ServerCAKey", "tls/server-ca.key"),
    ("ClientCA", "tls/client-ca.crt"),
    ("ClientCAKey", "tls/client-ca.key"),
    ("ServiceKey", "tls/service.key"),
    ("PasswdFile", "cred/passwd"),
    ("RequestHeaderCA", "tls/request-header-ca.crt"),
    ("RequestHeaderCAKey", "tls/request-header-ca.key"),
    ("IPSECKey", "cred/ipsec.psk"),
];

/// `CriticalControlArgs`: the name in `/v1-k3s/config`, and the flag that is said to differ.
const CRITICAL: &[(&str, &str)] = &[
    ("ClusterDNS", "cluster-dns"),
    ("ClusterDomain", "cluster-domain"),
    ("ClusterIPRange", "cluster-cidr"),
    ("DisableCCM", "disable-cloud-controller"),
    ("DisableHelmController", "disable-helm-controller"),
    ("DisableNPC", "disable-network-policy"),
    ("DisableServiceLB", "disable-service-lb"),
    ("EncryptSecrets", "secrets-encryption"),
    ("EmbeddedRegistry", "embedded-registry"),
    ("FlannelBackend", "flannel-backend"),
    ("FlannelIPv6Masq", "flannel-ipv6-masq"),
    ("FlannelExternalIP", "flannel-external-ip"),
    ("EgressSelectorMode", "egress-selector-mode"),
    ("ServiceIPRange", "service-cidr"),
];

/// The switches among them, as settings have them.
pub(crate) fn critical(settings: &Settings) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, flag) in [
        ("DisableCCM", "disable-cloud-controller"),
        ("DisableHelmController", "disable-helm-controller"),
        ("DisableNPC", "disable-network-policy"),
        ("EncryptSecrets", "secrets-encryption"),
        ("EmbeddedRegistry", "embedded-registry"),
        ("FlannelIPv6Masq", "flannel-ipv6-masq"),
        ("FlannelExternalIP", "flannel-external-ip"),
    ] {
        all.insert(name.into(), settings.is_on(flag).into());
    }
    let servicelb = settings.list("disable").iter().any(|d| d == "servicelb");
    all.insert("DisableServiceLB".into(), servicelb.into());
    all
}

/// The answer to `/v1-k3s/server-bootstrap`.
pub(crate) fn answer(server: &std::path::Path) -> Outcome<Value> {
    let mut all = Map::new();
    for (name, file) in SHARED {
        let path = server.join(file);
        let content = STANDARD.encode(files::read(&path)?);
        let changed = std::fs::metadata(&path).and_then(|m| m.modified());
        let stamp = changed
            .ok()
            .map(time::OffsetDateTime::from)
            .unwrap_or_else(clock::now);
        all.insert(
            (*name).to_owned(),
            json!({"Timestamp": clock::rfc3339(stamp), "Content": content}),
        );
    }
    Ok(Value::Object(all))
}

/// Keeps what another server has given.
pub(super) fn take(place: &Place, given: &[u8]) -> Outcome {
    let given: Value = serde_json::from_slice(given).map_err(|e| Fault(e.to_string()))?;
    for (name, file) in SHARED {
        let Some(content) = given[name]["Content"].as_str() else {
            continue;
        };
        let bytes = STANDARD.decode(content).map_err(|e| Fault(e.to_string()))?;
        let path: PathBuf = place.server.join(file);
        let mode = if file.ends_with(".crt") { 0o644 } else { 0o600 };
        files::write_changed(&path, &bytes, mode)?;
    }
    Ok(())
}

/// The flags that differ, each once.
fn differing(ours: &Value, theirs: &Value) -> Vec<&'static str> {
    CRITICAL
        .iter()
        // A server of an older release does not say everything (`compareConfig`).
        .filter(|(name, _)| !theirs[name].is_null() && ours[name] != theirs[name])
        .map(|(_, flag)| *flag)
        .collect()
}

/// See [`super::load`].
pub(super) fn load(
    place: &Place,
    settings: &Settings,
    token: Option<&str>,
    agent_token: Option<&str>,
    config: &Value,
) -> Outcome<Option<Client>> {
    let url = settings.text("server");
    if place.initialised() {
        log::info("Managed etcd cluster bootstrap already complete and initialized");
        // Servers that are away keep nobody from starting again.
        let (Some(url), Some(token)) = (url, token) else {
            return Ok(None);
        };
        let asked = server(url, token).and_then(|client| {
            let given = agent::fetched(&client, "/v1-k3s/server-bootstrap")?;
            take(place, &given)?;
            Ok(client)
        });
        return Ok(match asked {
            Ok(client) => {
                log::info("Successfully reconciled with datastore");
                Some(client)
            }
            Err(why) => {
                log::warn(format!("Unable to reconcile with datastore: {why}"));
                None
            }
        });
    }
    let Some(url) = url else {
        log::info("Managed etcd cluster initializing");
        return Ok(None);
    };
    let Some(token) = token else {
        return Err(Fault::new("K3S_TOKEN is required to join a cluster"));
    };
    let client = server(url, token)?;
    log::info("Managed etcd cluster not yet initialized");
    let within = |f: Fault| f.within("failed to validate server configuration");
    let mut asking = client.clone();
    let node_token = Token::parse(agent_token.unwrap_or(token)).map_err(within)?;
    asking.authorization = Some(node_token.authorization("node"));
    let theirs = agent::fetched(&asking, "/v1-k3s/config").map_err(within)?;
    let theirs: Value = serde_json::from_slice(&theirs).map_err(|e| Fault(e.to_string()))?;
    let differing = differing(config, &theirs);
    for flag in &differing {
        log::warn(format!("critical configuration mismatched: {flag}"));
    }
    if !differing.is_empty() {
        return Err(within(Fault::new(
            "critical configuration value mismatch between servers",
        )));
    }
    let given = agent::fetched(&client, "/v1-k3s/server-bootstrap")?;
    take(place, &given)?;
    Ok(Some(client))
}

/// A way to another server, as a server.
fn server(url: &str, token: &str) -> Outcome<Client> {
    let mut client = agent::validated(url, token)?;
    client.authorization = Some(Token::parse(token)?.authorization("server"));
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_flag() {
        let ours =
            json!({"ClusterDomain": "a.local", "DisableNPC": true, "FlannelBackend": "vxlan"});
        let theirs = json!({"ClusterDomain": "b.local", "DisableNPC": true});
        assert_eq!(differing(&ours, &theirs), ["cluster-domain"]);
        assert!(differing(&ours, &ours).is_empty());
    }
}
