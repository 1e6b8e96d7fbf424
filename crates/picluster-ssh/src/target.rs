//! What a caller knows about a node before it is dialled.

use std::path::PathBuf;
use std::time::Duration;

use picluster_model::NodeName;

/// Which OpenSSH client configuration fills in what a [`Target`] leaves open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UseSshConfig {
    /// `~/.ssh/config`, then `/etc/ssh/ssh_config`, as `ssh` does.
    #[default]
    Default,
    /// This file alone, as `ssh -F` does. It must exist.
    Path(PathBuf),
    /// None: only what the target says.
    No,
}

/// One node as the inventory describes it. Fields left empty are looked up in the OpenSSH client
/// configuration, then have the defaults named here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Host name, IPv4 or IPv6 address (with or without brackets), or an alias of `~/.ssh/config`.
    pub address: String,
    /// TCP port; default 22.
    pub port: Option<u16>,
    /// Login user; default: the local user's name.
    pub user: Option<String>,
    /// Private keys to log in with, in order; `~/` is understood. A `.pub` file names a key of the
    /// agent. Empty: `IdentityFile`, then the agent's keys and `~/.ssh/id_ed25519`, `~/.ssh/id_ecdsa`.
    pub identity: Vec<PathBuf>,
    /// Whether the SSH agent may be asked; default yes, when one is named by `IdentityAgent` or
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<bool>,
    /// Hosts to go through, the first dialled first. Empty: `ProxyJump`.
    pub jump: Vec<Hop>,
    /// Where to look for what is not said here.
    pub config: UseSshConfig,
    /// Wait for the TCP connection; default [`Limits::connect_timeout`](crate::Limits::connect_timeout).
    pub connect_timeout: Option<Duration>,
    /// Keep this node's pin under another name than its own (like `HostKeyAlias`).
    pub host_key_alias: Option<String>,
}

/// A host on the way to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// Host name or address, or an alias of `~/.ssh/config`. Ignored when `node` is a known target.
    pub host: String,
    /// TCP port; default as for a [`Target`].
    pub port: Option<u16>,
    /// Login user; default as for a [`Target`].
    pub user: Option<String>,
    /// Private keys; default as for a [`Target`].
    pub identity: Vec<PathBuf>,
    /// The node this host is, when the cluster knows it: its target and its pin are used. Otherwise
    /// the pin's name is `jump:HOST:PORT`.
    pub node: Option<NodeName>,
}

impl Hop {
    /// Reads `[ssh://][USER@]HOST[:PORT]`, the form of `ProxyJump` in ssh_config(5).
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner
                .split_once(']')
                .ok_or_else(|| format!("{text:?}: a `[` without its `]`"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(format!("{text:?}: expected `:PORT` after `]`")),
            }
        } else {
            match rest.split_once(':') {
                // More than one colon is an IPv6 address without brackets.
                Some((_, port)) if port.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        let port = port
            .map(|port| {
                port.parse::<u16>()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| format!("{text:?}: {port:?} is not a port"))
            })
            .transpose()?;
        if host.is_empty() || user.as_deref() == Some("") {
            return Err(format!("{text:?} is not `[USER@]HOST[:PORT]`"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            user,
            identity: Vec::new(),
            node: None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_as_proxyjump_has_them() {
        let hop = |user: Option<&str>, host: &str, port| Hop {
            host: host.into(),
            user: user.map(Into::into),
            port,
            ..Hop::default()
        };
        for (text, expected) in [
            ("bastion", hop(None, "bastion", None)),
            ("ops@bastion", hop(Some("ops"), "bastion", None)),
            ("ops@bastion:2222", hop(Some("ops"), "bastion", Some(2222))),
            (
                "ssh://ops@bastion:2222/",
                hop(Some("ops"), "bastion", Some(2222)),
            ),
            ("[fe80::1]:22", hop(None, "fe80::1", Some(22))),
            ("[fe80::1]", hop(None, "fe80::1", None)),
            ("fe80::1", hop(None, "fe80::1", None)),
            // The last `@` divides: login names of directories hold one.
            ("me@home@bastion", hop(Some("me@home"), "bastion", None)),
        ] {
            assert_eq!(Hop::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "@bastion",
            "bastion:",
            "bastion:0",
            "bastion:ssh",
            "[fe80::1",
            "[fe80::1]22",
        ] {
            assert!(Hop::parse(text).is_err(), "{text}");
        }
    }
}
