//! The OpenSSH client configuration, as far as it says where a host is and how to log in there.
//!
//! Our own reader and not the crate `ssh2-config`: that one (0.9) has neither `Match` nor tokens,
//! and brings seven crates for what is a small format with exact rules (ssh_config(5)): the first
//! value wins, in file order, over all blocks that apply.
//!
//! Ciphers, host-key files, forwarding and the rest are read over: they are none of our business.

mod lookup;
mod parse;
mod pattern;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Environment;
use crate::address::Family;

pub(crate) use tokens::{Tokens, expand, expand_path};

/// What is wrong with a configuration, with `file:line` where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub String);

/// Where a setting stands, for messages: `~/.ssh/config:12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub path: PathBuf,
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// How a host is reached by way of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// `ProxyJump none` or `ProxyCommand none`.
    Direct,
    /// The text of `ProxyJump`.
    Jump(String, Place),
    /// `ProxyCommand`, which we do not run.
    Command(Place),
}

/// What the configuration says about one host. Texts are as written: tokens not yet expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub host_name: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_files: Vec<String>,
    pub identities_only: Option<bool>,
    pub identity_agent: Option<String>,
    pub proxy: Option<Proxy>,
    pub connect_timeout: Option<Duration>,
    pub family: Option<Family>,
    /// Where each setting stands, by its keyword in lower case; of a list, where it begins.
    pub places: BTreeMap<String, Place>,
}

/// Configuration files, read and parsed once for all hosts.
#[derive(Debug, Default)]
pub(crate) struct SshConfig {
    files: Vec<Vec<parse::Item>>,
}

impl SshConfig {
    /// The user's and the system's files, each where it exists.
    pub fn of_user(environment: &Environment) -> Result<Self, ConfigError> {
        let user = environment
            .home
            .as_ref()
            .map(|home| home.join(".ssh/config"));
        let mut files = Vec::new();
        for path in [user, environment.system_config.clone()]
            .into_iter()
            .flatten()
        {
            if path.exists() {
                files.push(parse::file(&path, environment)?);
            }
        }
        Ok(Self { files })
    }

    /// This file alone; it must exist.
    pub fn of_file(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            files: vec![parse::file(path, environment)?],
        })
    }

    /// What the files say about `host`, the name as someone would give it to `ssh`. `user` is the
    /// login name already decided elsewhere, for `Match user`.
    pub fn lookup(
        &self,
        host: &str,
        user: Option<&str>,
        environment: &Environment,
    ) -> Result<Settings, ConfigError> {
        lookup::lookup(&self.files, host, user, environment)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod cases;
