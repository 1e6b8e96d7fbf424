//! The administrator's credentials, as k3s and kubeadm write them on a server.

use std::fmt;
use std::sync::Arc;

use picluster_model::Secret;
use picluster_model::kubernetes::Distribution;
use picluster_model::span::SourceFile;
use picluster_model::yaml::{YamlKind, parse};

/// Where k3s writes them (<https://docs.k3s.io/cluster-access>).
pub const K3S_YAML: &str = "/etc/rancher/k3s/k3s.yaml";

/// Where kubeadm writes them (cmd/kubeadm/app/constants: `AdminKubeConfigFileName`).
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// Where a server has them.
#[must_use]
pub fn place(distribution: Distribution) -> &'static str {
    match distribution {
        Distribution::K3s => K3S_YAML,
        Distribution::Kubeadm => ADMIN_CONF,
    }
}

/// One cluster and one user.
#[derive(Clone)]
pub struct Credentials {
    cluster: Vec<(String, String)>,
    user: Secret<Vec<(String, String)>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.server().unwrap_or("?"))
    }
}

impl Credentials {
    /// Reads a server's kubeconfig.
    ///
    /// # Errors
    /// What is missing in it; never what is in it.
    pub fn read(text: &str) -> Result<Self, String> {
        let file = Arc::new(SourceFile {
            name: "kubeconfig".to_owned(),
            text: text.to_owned(),
        });
        let root = parse::parse(&file).map_err(|_| "it is not YAML".to_owned())?;
        let fields = |list: &str, inner: &str| -> Result<Vec<(String, String)>, String> {
            let body = root
                .get(list)
                .and_then(|l| l.items().first())
                .and_then(|i| i.get(inner))
                .filter(|b| matches!(b.kind, YamlKind::Map(_)))
                .ok_or_else(|| format!("it has no {list}"))?;
            body.entries()
                .iter()
                .map(|(key, _, value)| match value.as_str() {
                    Some(text) if !text.is_empty() => Ok((key.clone(), text.to_owned())),
                    _ => Err(format!("{key} in its {list} is no text")),
                })
                .collect()
        };
        let found = Self {
            cluster: fields("clusters", "cluster")?,
            user: Secret::new(fields("users", "user")?),
        };
        for key in ["server", "certificate-authority-data"] {
            if !found.cluster.iter().any(|(k, _)| k == key) {
                return Err(format!("it has no {key}"));
            }
        }
        if found.user.reveal().is_empty() {
            return Err("it has no credentials".into());
        }
        Ok(found)
    }

    /// The same for somebody who is not on the server: the host of its address replaced. `endpoint`
    /// is a name or address, perhaps with a port.
    #[must_use]
    pub fn at(mut self, endpoint: &str) -> Self {
        for (key, value) in &mut self.cluster {
            if key == "server" {
                *value = moved(value, endpoint);
            }
        }
        self
    }

    /// The address of the API server.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.cluster
            .iter()
            .find(|(k, _)| k == "server")
            .map(|(_, v)| v.as_str())
    }

    /// Fields of the cluster.
    #[must_use]
    pub fn cluster(&self) -> Vec<(&str, &str)> {
        pairs(&self.cluster)
    }

    /// Fields of the user. Secret.
    #[must_use]
    pub fn user(&self) -> Vec<(&str, &str)> {
        pairs(self.user.reveal())
    }
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect()
}

/// `https://127.0.0.1:6443` at another host; its port stays unless the other one names its own.
fn moved(server: &str, endpoint: &str) -> String {
    let rest = server.strip_prefix("https://").unwrap_or(server);
    let authority = rest.split('/').next().unwrap_or("");
    let path = &rest[authority.len()..];
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        .unwrap_or("6443");
    let host = if endpoint.starts_with('[') {
        endpoint.to_owned()
    } else if endpoint.matches(':').count() > 1 {
        format!("[{endpoint}]")
    } else {
        endpoint.to_owned()
    };
    let has_port = host.rsplit_once(':').is_some_and(|(before, p)| {
        !p.ends_with(']') && (!before.starts_with('[') || before.ends_with(']'))
    });
    if has_port {
        format!("https://{host}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The form of <https://docs.k3s.io/cluster-access>.
    const WRITTEN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\npreferences: {}\nusers:\n- name: default\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n";

    #[test]
    fn a_servers_file_is_read_and_never_shown() {
        let found = Credentials::read(WRITTEN).unwrap();
        assert_eq!(found.server(), Some("https://127.0.0.1:6443"));
        assert_eq!(found.user()[1], ("client-key-data", "S0VZ"));
        assert_eq!(format!("{found:?}"), "Credentials(https://127.0.0.1:6443)");
        for (cut, says) in [
            ("", "not YAML"),
            ("kind: Config\n", "no clusters"),
            (WRITTEN.split("users:").next().unwrap(), "no users"),
            (
                &WRITTEN.replace("    certificate-authority-data: Q0E=\n", ""),
                "no certificate-authority-data",
            ),
        ] {
            let said = Credentials::read(cut).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn the_address_is_one_from_outside() {
        let at = |endpoint: &str| {
            let found = Credentials::read(WRITTEN).unwrap().at(endpoint);
            found.server().unwrap().to_owned()
        };
        assert_eq!(at("192.168.2.1"), "https://192.168.2.1:6443");
        assert_eq!(at("k8s.lan"), "https://k8s.lan:6443");
        assert_eq!(at("k8s.lan:443"), "https://k8s.lan:443");
        assert_eq!(at("fd00::1"), "https://[fd00::1]:6443");
        assert_eq!(at("[fd00::1]"), "https://[fd00::1]:6443");
        assert_eq!(at("[fd00::1]:443"), "https://[fd00::1]:443");
        assert_eq!(moved("https://[::1]:7443", "a.lan"), "https://a.lan:7443");
    }
}
