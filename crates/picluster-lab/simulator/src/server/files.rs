//! The files of a server (pkg/daemons/control/deps/deps.go, pkg/server/server.go).

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::passwords;
use crate::cli::Settings;
use crate::fault::{Outcome, at};
use crate::pki::{Authority, Subject, Usage};
use crate::{files, kubeconfig, log, pki, text};

/// Folders below the data directory.
pub(crate) struct Paths {
    pub(crate) server: PathBuf,
}

/// Certificate's file, common name, organisation, kubeconfig below `cred`.
const CLIENTS: &[(&str, &str, &str, &str)] = &[
    ("client-admin", "system:admin", "system:masters", "admin"),
    (
        "client-supervisor",
        "system:k3s-supervisor",
        "system:masters",
        "supervisor",
    ),
    (
        "client-controller",
        "system:kube-controller-manager",
        "",
        "controller",
    ),
    ("client-scheduler", "system:kube-scheduler", "", "scheduler"),
    (
        "client-kube-apiserver",
        "system:apiserver",
        "system:masters",
        "api-server",
    ),
    ("client-kube-proxy", "system:kube-proxy", "", ""),
    ("client-k3s-controller", "system:k3s-controller", "", ""),
    (
        "client-k3s-cloud-controller",
        "k3s-cloud-controller-manager",
        "",
        "cloud-controller",
    ),
];

fn client(name: &str, organisation: &str) -> Subject {
    Subject {
        name: name.into(),
        organisations: if organisation.is_empty() {
            vec![]
        } else {
            vec![organisation.into()]
        },
        hosts: vec![],
        usage: Usage::Client,
    }
}

impl Paths {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            server: data_dir.join("server"),
        }
    }

    pub(crate) fn tls(&self, name: &str) -> PathBuf {
        self.server.join("tls").join(name)
    }

    pub(super) fn make_folders(&self) -> Outcome {
        files::folder(&self.server, 0o700)?;
        for (name, mode) in [
            ("cred", 0o700),
            ("db", 0o700),
            ("etc", 0o755),
            ("manifests", 0o700),
            ("static", 0o700),
            ("tls", 0o700),
            ("tls/etcd", 0o755),
            ("tls/temporary-certs", 0o755),
        ] {
            files::folder(&self.server.join(name), mode)?;
        }
        Ok(())
    }

    pub(super) fn make_authorities(&self) -> Outcome {
        for (prefix, name) in [
            ("k3s-client", "client-ca"),
            ("k3s-server", "server-ca"),
            ("k3s-request-header", "request-header-ca"),
            ("etcd-server", "etcd/server-ca"),
            ("etcd-peer", "etcd/peer-ca"),
        ] {
            Authority::ensure(
                prefix,
                self.tls(&format!("{name}.crt")),
                self.tls(&format!("{name}.key")),
            )?;
        }
        for name in ["client-ca", "server-ca"] {
            let pem = files::read(&self.tls(&format!("{name}.crt")))?;
            files::write_changed(
                &self.tls(&format!("{name}.nochain.crt")),
                pem.as_bytes(),
                0o644,
            )?;
        }
        Ok(())
    }

    fn authority(&self, name: &str) -> Authority {
        Authority {
            certificate: self.tls(&format!("{name}.crt")),
            key: self.tls(&format!("{name}.key")),
        }
    }

    pub(super) fn write_certificates(&self, apiserver: u16, sans: &[String]) -> Outcome {
        let clients = self.authority("client-ca");
        let url = format!("https://127.0.0.1:{apiserver}");
        for (file, name, organisation, config) in CLIENTS {
            let (crt, key) = (
                self.tls(&format!("{file}.crt")),
                self.tls(&format!("{file}.key")),
            );
            clients.ensure_leaf(&client(name, organisation), &crt, &key)?;
            if !config.is_empty() {
                let text = kubeconfig::with_paths(&url, &self.tls("server-ca.crt"), &crt, &key);
                files::write_changed(
                    &self.server.join(format!("cred/{config}.kubeconfig")),
                    text.as_bytes(),
                    0o600,
                )?;
            }
        }
        let server = Subject {
            name: "kube-apiserver".into(),
            organisations: vec![],
            hosts: sans.to_vec(),
            usage: Usage::Server,
        };
        self.authority("server-ca").ensure_leaf(
            &server,
            &self.tls("serving-kube-apiserver.crt"),
            &self.tls("serving-kube-apiserver.key"),
        )?;
        self.authority("request-header-ca").ensure_leaf(
            &client("system:auth-proxy", ""),
            &self.tls("client-auth-proxy.crt"),
            &self.tls("client-auth-proxy.key"),
        )?;
        self.authority("etcd/server-ca").ensure_leaf(
            &client("etcd-client", ""),
            &self.tls("etcd/client.crt"),
            &self.tls("etcd/client.key"),
        )?;
        for key in ["client-kubelet.key", "serving-kubelet.key", "service.key"] {
            pki::load_or_make_key(&self.tls(key))?;
        }
        let service = files::read(&self.tls("service.key"))?;
        files::write_changed(&self.tls("service.current.key"), service.as_bytes(), 0o600)?;
        let psk = format!("{}\n", text::hex(&text::random::<48>()));
        files::write_new(&self.server.join("cred/ipsec.psk"), psk.as_bytes(), 0o600)
    }

    fn full_token(&self, user: &str, password: &str) -> Outcome<String> {
        let ca = files::read(&self.tls("server-ca.crt"))?;
        Ok(format!("K10{}::{user}:{password}", pki::ca_hash(&ca)))
    }

    fn password(&self, user: &str) -> String {
        passwords::read(&self.server.join("cred/passwd"), user).unwrap_or_default()
    }

    /// The token with which the server's own node joins.
    pub(super) fn agent_join_token(&self) -> Outcome<String> {
        self.full_token("node", &self.password("node"))
    }

    pub(super) fn write_tokens(
        &self,
        agent_token_set: bool,
        address: Option<IpAddr>,
        port: u16,
    ) -> Outcome {
        let (token, node_token, agent_token) = (
            self.server.join("token"),
            self.server.join("node-token"),
            self.server.join("agent-token"),
        );
        let text = self.full_token("server", &self.password("server"))? + "\n";
        files::write_changed(&token, text.as_bytes(), 0o600)?;
        let link = |from: &Path| -> Outcome {
            if from.is_symlink() {
                return Ok(());
            }
            let _ = std::fs::remove_file(from);
            std::os::unix::fs::symlink(&token, from).map_err(|e| at("symlink", from, &e))
        };
        link(&node_token)?;
        if agent_token_set {
            if agent_token.is_symlink() {
                let _ = std::fs::remove_file(&agent_token);
            }
            let text = self.full_token("node", &self.password("node"))? + "\n";
            files::write_changed(&agent_token, text.as_bytes(), 0o600)?;
        } else {
            link(&agent_token)?;
        }
        let host = address.map_or_else(|| "127.0.0.1".to_owned(), |a| a.to_string());
        log::info(format!(
            "Server node token is available at {}",
            token.display()
        ));
        log::info(format!(
            "To join server node to cluster: k3s server -s https://{host}:{port} -t ${{SERVER_NODE_TOKEN}}"
        ));
        log::info(format!(
            "Agent node token is available at {}",
            agent_token.display()
        ));
        log::info(format!(
            "To join agent node to cluster: k3s agent -s https://{host}:{port} -t ${{AGENT_NODE_TOKEN}}"
        ));
        Ok(())
    }

    pub(super) fn write_kubeconfig(&self, settings: &Settings, port: u16) -> Outcome {
        let default = PathBuf::from("/etc/rancher/k3s/k3s.yaml");
        let path = settings
            .text("write-kubeconfig")
            .map_or_else(|| default.clone(), PathBuf::from);
        if let Some(parent) = path.parent() {
            files::folder(parent, 0o755)?;
        }
        let host = match settings.text("bind-address") {
            None | Some("0.0.0.0") => "127.0.0.1",
            Some(other) => other,
        };
        let text = kubeconfig::embedded(
            &format!("https://{host}:{port}"),
            &files::read(&self.tls("server-ca.crt"))?,
            &files::read(&self.tls("client-admin.crt"))?,
            &files::read(&self.tls("client-admin.key"))?,
        );
        files::write_changed(&path, text.as_bytes(), 0o600)?;
        log::info(format!("Wrote kubeconfig {}", path.display()));
        let mode = match settings.text("write-kubeconfig-mode") {
            None => 0o600,
            Some(text) => match u32::from_str_radix(text, 8) {
                Ok(mode) => mode,
                Err(_) => {
                    log::error(format!(
                        "Failed to set {} to mode ----------: strconv.ParseInt: parsing \"{text}\": invalid syntax",
                        path.display()
                    ));
                    0o600
                }
            },
        };
        let now = std::fs::metadata(&path)
            .map_err(|e| at("stat", &path, &e))?
            .permissions()
            .mode()
            & 0o7777;
        if now != mode {
            let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        }
        if path != default
            && default
                .parent()
                .is_some_and(|p| files::folder(p, 0o755).is_ok())
        {
            let _ = std::fs::remove_file(&default);
            let _ = std::os::unix::fs::symlink(&path, &default);
        }
        log::info("Run: k3s kubectl");
        Ok(())
    }

    /// Rotates the server's token, and the agents' when it is the same.
    pub(super) fn rotate(&self, new: &str, agent_token_set: bool) -> Outcome<String> {
        let new = if new.is_empty() {
            text::hex(&text::random::<16>())
        } else {
            new.to_owned()
        };
        let (old, node) = (self.password("server"), self.password("node"));
        let node = if node == old && !agent_token_set {
            new.clone()
        } else {
            node
        };
        passwords::write(&self.server.join("cred/passwd"), &new, &node)?;
        let text = self.full_token("server", &new)? + "\n";
        files::write(&self.server.join("token"), text.as_bytes(), 0o600)?;
        Ok(new)
    }
}
