//! The ssh settings of one node, out of what cluster, groups and node say.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::FromYaml;
use crate::document::inventory::{SshConfigDocument, SshDocument};
use crate::name::NodeName;
use crate::ssh::{Jump, SshConfigUse, SshSettings, SudoPassword};
use crate::vars::{Level, Var};
use crate::yaml::{Yaml, YamlKind};

/// Turns merged `ssh` keys into settings.
pub fn settings(
    node: &NodeName,
    merged: &IndexMap<String, Var>,
    is_node: &dyn Fn(&str) -> bool,
    folder: &Path,
    out: &mut Vec<Diagnostic>,
) -> SshSettings {
    let Some(first) = merged.values().next() else {
        return SshSettings::default();
    };
    let whole = Yaml::new(
        YamlKind::Map(
            merged
                .iter()
                .filter_map(|(key, var)| {
                    let span = &var.origin.first()?.span;
                    Some((key.clone(), span.clone(), var.value.clone()))
                })
                .collect(),
        ),
        &first.value.span,
    );
    let Some(document) = SshDocument::from_yaml(&whole) else {
        return SshSettings::default();
    };
    let level = |key: &str| {
        merged
            .get(key)
            .and_then(|v| v.origin.first())
            .map(|o| &o.level)
    };
    if let Some(key) = &document.host_key
        && level("host_key") != Some(&Level::Node)
    {
        out.push(
            Diagnostic::new("a host key belongs to one node", &key.span)
                .help("move `host_key` to the `ssh` of the node"),
        );
    }
    let mut jump = Vec::new();
    for hop in document.jump.iter().flat_map(|j| &j.0) {
        match parse_jump(&hop.value.0, is_node) {
            Ok(Jump::Node(name)) if name == *node => {
                // Written for all nodes, a jump host does not go through itself.
                if level("jump") == Some(&Level::Node) {
                    out.push(
                        Diagnostic::new(
                            format!("node {node} cannot jump through itself"),
                            &hop.span,
                        )
                        .help("remove `jump`, or name another host"),
                    );
                }
            }
            Ok(hop) => jump.push(hop),
            Err(rule) => out.push(
                Diagnostic::new(format!("{:?} is not a jump host", hop.value.0), &hop.span)
                    .help(rule),
            ),
        }
    }
    let sudo = match &document.sudo {
        None => SudoPassword::None,
        Some(sudo) => match (&sudo.password, sudo.ask) {
            (Some(_), Some(true)) => {
                if let Some(value) = whole.get("sudo") {
                    out.push(
                        Diagnostic::new("`password` and `ask` exclude each other", &value.span)
                            .help("keep one of the two"),
                    );
                }
                SudoPassword::None
            }
            (Some(secret), _) => SudoPassword::Secret(secret.clone()),
            (None, Some(true)) => SudoPassword::Ask,
            (None, _) => SudoPassword::None,
        },
    };
    SshSettings {
        user: document.user.map(|u| u.0),
        port: document.port,
        identity: document
            .identity
            .into_iter()
            .flat_map(|i| i.0)
            .map(|path| join(folder, &path.value.0))
            .collect(),
        agent: document.agent,
        jump,
        sudo,
        config: match document.config {
            None | Some(SshConfigDocument::Switch(true)) => SshConfigUse::User,
            Some(SshConfigDocument::Switch(false)) => SshConfigUse::Off,
            Some(SshConfigDocument::File(path)) => SshConfigUse::File(join(folder, &path)),
        },
        connect_timeout_s: document.connect_timeout,
        host_key: document.host_key.map(|key| key.value.0),
    }
}

/// Paths are meant from the inventory, not from where the program runs. `~/` stays: only the
/// transport knows whose home it is.
pub fn join(folder: &Path, path: &str) -> PathBuf {
    if path == "~" || path.starts_with("~/") {
        PathBuf::from(path)
    } else {
        folder.join(path)
    }
}

/// Reads a node's name or `[user@]host[:port]`, with IPv6 addresses in brackets.
fn parse_jump(text: &str, is_node: &dyn Fn(&str) -> bool) -> Result<Jump, String> {
    if is_node(text)
        && let Ok(name) = NodeName::new(text)
    {
        return Ok(Jump::Node(name));
    }
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let Some((host, after)) = inner.split_once(']') else {
            return Err(String::from("a `]` is missing"));
        };
        (host, after.strip_prefix(':'))
    } else if rest.matches(':').count() > 1 {
        // A bare IPv6 address: its colons are no port.
        (rest, None)
    } else {
        match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        }
    };
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("`{text}` is not a port of 1 to 65535")),
        },
    };
    if host.is_empty() || user.as_deref() == Some("") {
        return Err(String::from(
            "write a node of this inventory, or [user@]host[:port]",
        ));
    }
    Ok(Jump::Host {
        user,
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_nodes_or_hosts() {
        let read = |text| parse_jump(text, &|name| name == "rpi01");
        let host = |user: Option<&str>, host: &str, port| {
            Ok(Jump::Host {
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(read("rpi01"), Ok(Jump::Node("rpi01".parse().unwrap())));
        assert_eq!(
            read("pi@bastion.lan:2222"),
            host(Some("pi"), "bastion.lan", Some(2222))
        );
        assert_eq!(read("fe80::1"), host(None, "fe80::1", None));
        assert_eq!(
            read("pi@[fe80::1]:22"),
            host(Some("pi"), "fe80::1", Some(22))
        );
        for text in ["@host", "host:0", "host:x", "[fe80::1", "pi@"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
