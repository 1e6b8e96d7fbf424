//! kubeconfig files: the two forms that k3s writes, and reading any of them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::fault::{Fault, Outcome};
use crate::files;
use crate::net::Client;

/// With certificates inside (pkg/clientaccess/kubeconfig.go).
pub(crate) fn embedded(url: &str, ca: &str, certificate: &str, key: &str) -> String {
    let b = |s: &str| STANDARD.encode(s);
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: {url}\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        b(ca),
        b(certificate),
        b(key)
    )
}

/// With paths of certificates (pkg/daemons/control/deps/deps.go).
pub(crate) fn with_paths(url: &str, ca: &Path, certificate: &Path, key: &Path) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    server: {url}\n    certificate-authority: {}\n  name: local\ncontexts:\n- context:\n    cluster: local\n    namespace: default\n    user: user\n  name: Default\ncurrent-context: Default\nkind: Config\npreferences: {{}}\nusers:\n- name: user\n  user:\n    client-certificate: {}\n    client-key: {}\n",
        ca.display(),
        certificate.display(),
        key.display()
    )
}

/// A client and the namespace of the context.
pub(crate) fn load(path: &Path, context: Option<&str>) -> Outcome<(Client, String)> {
    let text = files::read(path)?;
    let file: Value = serde_yaml::from_str(&text).map_err(|e| {
        Fault(format!(
            "error loading config file \"{}\": {e}",
            path.display()
        ))
    })?;
    let named = |list: &str, name: &str, inner: &str| -> Option<Value> {
        file[list]
            .as_array()?
            .iter()
            .find(|e| e["name"] == name)
            .map(|e| e[inner].clone())
    };
    let current = context
        .or_else(|| file["current-context"].as_str())
        .unwrap_or_default();
    // Nothing that names a context is no error: flags may say all there is to know (kubernetes/client-go,
    // tools/clientcmd/client_config.go, ConfirmUsable).
    let chosen = match named("contexts", current, "context") {
        None if !current.is_empty() => {
            return Err(Fault(format!("context {current:?} does not exist")));
        }
        chosen => chosen.unwrap_or_default(),
    };
    let cluster = named(
        "clusters",
        chosen["cluster"].as_str().unwrap_or_default(),
        "cluster",
    )
    .unwrap_or_default();
    let user =
        named("users", chosen["user"].as_str().unwrap_or_default(), "user").unwrap_or_default();
    let piece = |from: &Value, name: &str| -> Outcome<Option<String>> {
        if let Some(data) = from[format!("{name}-data")].as_str() {
            let bytes = STANDARD.decode(data).map_err(|e| Fault(e.to_string()))?;
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
        match from[name].as_str() {
            Some(file) => Ok(Some(files::read(
                &path.parent().unwrap_or(Path::new("/")).join(file),
            )?)),
            None => Ok(None),
        }
    };
    let server = cluster["server"]
        .as_str()
        .unwrap_or("https://localhost:8080");
    let mut client = Client::new(server, piece(&cluster, "certificate-authority")?).keeping();
    if client.ca.is_none() && cluster["insecure-skip-tls-verify"] != true {
        client.ca = Some(String::new());
    }
    if let (Some(certificate), Some(key)) = (
        piece(&user, "client-certificate")?,
        piece(&user, "client-key")?,
    ) {
        client.identity = Some((certificate, key));
    }
    if let Some(token) = user["token"].as_str() {
        client.authorization = Some(format!("Bearer {token}"));
    }
    let namespace = chosen["namespace"].as_str().unwrap_or("default").to_owned();
    Ok((client, namespace))
}
