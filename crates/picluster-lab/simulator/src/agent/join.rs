//! How a node becomes a member (pkg/agent/config/config.go, pkg/agent/run.go, pkg/clientaccess/token.go).

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Joined, addresses, node_name};
use crate::cli::Settings;
use crate::fault::{Fault, Outcome};
use crate::net::{Answer, Client};
use crate::pki;
use crate::server::node_folder;
use crate::token::Token;
use crate::{files, kubeconfig, log, text};

fn body(path: &str, url: &str, answer: Answer) -> Outcome<Vec<u8>> {
    if (200..300).contains(&answer.status) {
        return Ok(answer.body);
    }
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Err(match status["message"].as_str() {
        Some(message) => Fault::new(message),
        None => Fault(format!("{url}{path}: {}", answer.status)),
    })
}

/// What a server answers at a path.
pub(crate) fn fetched(client: &Client, path: &str) -> Outcome<Vec<u8>> {
    let answer = client.send("GET", path, &[], &[])?;
    body(path, &client.base, answer)
}

/// Fetches the authority of a server, checks that it signs for the server, and that the token names it.
pub(crate) fn validated(url: &str, token: &str) -> Outcome<Client> {
    let token = Token::parse(token)?;
    crate::net::authority(url)?;
    let fetch = |client: &Client| {
        client
            .send("GET", "/cacerts", &[], &[])
            .and_then(|a| body("/cacerts", url, a))
    };
    let pem = fetch(&Client::new(url, None)).map_err(|f| f.within("failed to get CA certs"))?;
    let pem = String::from_utf8_lossy(&pem).into_owned();
    let client = Client::new(url, Some(pem.clone()));
    fetch(&client).map_err(|f| f.within("CA cert validation failed"))?;
    if token.ca_hash.is_empty() {
        log::warn(
            "Cluster CA certificate is not trusted by the host CA bundle, but the token does not include a CA hash. Use the full token from the server's node-token file to enable Cluster CA validation.",
        );
    } else if token.ca_hash != pki::ca_hash(&pem) {
        return Err(Fault(format!(
            "token CA hash does not match the Cluster CA certificate hash: {} != {}",
            token.ca_hash,
            pki::ca_hash(&pem)
        )));
    }
    Ok(client)
}

/// Five seconds and up to five more, as `wait.JitterUntil` waits.
fn pause(base: u64) {
    let jitter = u64::from(u16::from_le_bytes(text::random::<2>())) % (base * 1000);
    std::thread::sleep(Duration::from_millis(base * 1000 + jitter));
}

/// Joins; tries again for ever, as upstream does.
pub(super) fn join(settings: &Settings, url: &str, shown: &str, token: &str) -> Outcome<Joined> {
    let data = settings.data_dir();
    let agent = data.join("agent");
    let addresses =
        addresses(settings).map_err(|f| f.within("failed to get node name and addresses"))?;
    let mut client = loop {
        let tried = if token.is_empty() {
            // A node that has joined before needs no token: its certificate speaks for it.
            files::read(&agent.join("server-ca.crt")).map(|ca| Client::new(url, Some(ca)))
        } else {
            validated(url, token)
        };
        match tried {
            Ok(client) => break client,
            Err(fault) => {
                log::error(format!(
                    "Failed to validate connection to cluster at {shown}: {fault}"
                ));
                std::thread::sleep(Duration::from_secs(2));
            }
        }
    };
    if !token.is_empty() {
        client.authorization = Some(Token::parse(token)?.authorization("node"));
    }
    let mut with_certificate = client.clone();
    if let (Ok(certificate), Ok(key)) = (
        files::read(&agent.join("client-kubelet.crt")),
        files::read(&agent.join("client-kubelet.key")),
    ) && crate::net::private_key(&key).is_ok()
    {
        with_certificate.identity = Some((certificate, key));
    }
    loop {
        match fetch_all(
            settings,
            &client,
            &with_certificate,
            &agent,
            url,
            &addresses,
        ) {
            Ok(joined) => return Ok(joined),
            Err(fault) => {
                log::info(format!(
                    "Waiting to retrieve agent configuration; server is not ready: {fault}"
                ));
                pause(5);
            }
        }
    }
}

fn ensure(path: &Path, make: impl FnOnce() -> String, mode: u32) -> Outcome<String> {
    if path.exists() {
        return Ok(files::read(path)?.trim().to_owned());
    }
    let text = make();
    files::write(path, format!("{text}\n").as_bytes(), mode)?;
    Ok(text)
}

fn fetch_all(
    settings: &Settings,
    plain: &Client,
    certified: &Client,
    agent: &Path,
    url: &str,
    addresses: &[std::net::IpAddr],
) -> Outcome<Joined> {
    let get = |path: &str| -> Outcome<String> {
        let answer = certified.send("GET", path, &[], &[])?;
        Ok(String::from_utf8_lossy(&body(path, url, answer)?).into_owned())
    };
    let config: Value = serde_json::from_str(
        &get("/v1-k3s/config")
            .map_err(|f| f.within("failed to retrieve configuration from server"))?,
    )
    .map_err(|e| Fault(e.to_string()))?;
    for name in ["client-ca.crt", "server-ca.crt"] {
        files::write_changed(
            &agent.join(name),
            get(&format!("/v1-k3s/{name}"))?.as_bytes(),
            0o600,
        )?;
    }
    let folder = node_folder();
    files::folder(&folder, 0o755)?;
    let mut name = node_name(settings);
    if settings.is_on("with-node-id") {
        let id = ensure(
            &folder.join("id"),
            || text::hex(&text::random::<4>()),
            0o644,
        )?;
        name = format!("{name}-{id}");
    }
    let password_file = folder.join("password");
    let password = ensure(&password_file, || text::hex(&text::random::<16>()), 0o600)?;
    let ips: Vec<String> = addresses
        .iter()
        .map(ToString::to_string)
        .chain(settings.list("node-external-ip"))
        .collect();
    let ips = ips.join(",");
    let named = |file: &str| -> Outcome<String> {
        let path = format!("/v1-k3s/{file}");
        let headers = [
            ("k3s-Node-Name", name.as_str()),
            ("k3s-Node-Password", &password),
            ("k3s-Node-IP", &ips),
        ];
        let mut answer = certified.send("GET", &path, &headers, &[])?;
        if answer.status == 401 && certified.identity.is_some() {
            log::info(
                "Node authorization rejected, retrying without client certificate authentication",
            );
            answer = plain.send("GET", &path, &headers, &[])?;
        }
        if answer.status == 403 {
            return Err(Fault(format!(
                "Node password rejected, duplicate hostname or contents of '{}' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag",
                password_file.display()
            )));
        }
        Ok(String::from_utf8_lossy(&body(&path, url, answer)?).into_owned())
    };
    let keep_pair = |file: &str, pem: &str| -> Outcome {
        let (certificates, key) = pki::split(pem);
        files::write(
            &agent.join(format!("{file}.crt")),
            certificates.as_bytes(),
            0o600,
        )?;
        files::write(&agent.join(format!("{file}.key")), key.as_bytes(), 0o600)
    };
    let at = |file: &str| agent.join(file).display().to_string();
    let serving = named("serving-kubelet.crt").map_err(|f| f.within(at("serving-kubelet.crt")))?;
    keep_pair("serving-kubelet", &serving)?;
    let kubelet = named("client-kubelet.crt").map_err(|f| f.within(at("client-kubelet.crt")))?;
    keep_pair("client-kubelet", &kubelet)?;
    // On a server the kubelet goes straight to the API's own port.
    let api_url = url.to_owned();
    for (file, config_name) in [
        ("client-kubelet", "kubelet"),
        ("client-kube-proxy", "kubeproxy"),
        ("client-k3s-controller", "k3scontroller"),
    ] {
        if file != "client-kubelet" {
            let pem = get(&format!("/v1-k3s/{file}.crt"))
                .map_err(|f| f.within(at(&format!("{file}.crt"))))?;
            keep_pair(file, &pem)?;
        }
        let text = kubeconfig::with_paths(
            &api_url,
            &agent.join("server-ca.crt"),
            &agent.join(format!("{file}.crt")),
            &agent.join(format!("{file}.key")),
        );
        files::write_changed(
            &agent.join(format!("{config_name}.kubeconfig")),
            text.as_bytes(),
            0o600,
        )?;
    }
    for folder in [
        "containerd",
        "etc/containerd",
        "etc/cni/net.d",
        "etc/flannel",
        "etc/kubelet.conf.d",
        "images",
        "pod-manifests",
    ] {
        files::folder(&agent.join(folder), 0o755)?;
    }
    let flannel = format!(
        "{{\n\t\"Network\": \"{}\",\n\t\"EnableIPv6\": false,\n\t\"EnableIPv4\": true,\n\t\"IPv6Network\": \"::/0\",\n\t\"Backend\": {{\n\t\"Type\": \"{}\"\n}}\n}}\n",
        config["ClusterIPRange"].as_str().unwrap_or_default(),
        config["FlannelBackend"].as_str().unwrap_or_default()
    );
    files::write_changed(
        &agent.join("etc/flannel/net-conf.json"),
        flannel.as_bytes(),
        0o600,
    )?;
    files::write_changed(
        &agent.join("etc/containerd/config.toml"),
        b"# File generated by k3s. DO NOT EDIT. Use config-v3.toml.tmpl instead.\nversion = 3\n",
        0o600,
    )?;
    files::write_changed(
        &agent.join("etc/crictl.yaml"),
        b"runtime-endpoint: unix:///run/k3s/containerd/containerd.sock\n",
        0o644,
    )?;
    let registries = Path::new(
        settings
            .text("private-registry")
            .unwrap_or("/etc/rancher/k3s/registries.yaml"),
    );
    if registries.exists() {
        serde_yaml::from_str::<Value>(&files::read(registries)?)
            .map_err(|e| Fault(format!("yaml: {e}")))?;
        log::info(format!(
            "Using private registry config file at {}",
            registries.display()
        ));
    }
    let mut api = Client::new(url, Some(files::read(&agent.join("server-ca.crt"))?)).keeping();
    let (certificates, key) = pki::split(&kubelet);
    api.identity = Some((certificates, key));
    Ok(Joined {
        name,
        addresses: addresses.to_vec(),
        config,
        api,
    })
}
