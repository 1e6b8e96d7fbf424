//! From a target and the configuration to the hosts that are really dialled, in order.

mod fallback;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picluster_model::NodeName;

use crate::address::{Family, label};
use crate::config::{Proxy, Settings, SshConfig, Tokens, expand, expand_path};
use crate::{Environment, Hop, Limits, PinName, Target, UseSshConfig};

pub use fallback::{Fallback, FallbackValue, fallbacks};

/// More hosts than this in a row are a mistake.
const MAX_HOPS: usize = 8;

/// One host with every setting decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub pin: PinName,
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Private key files, in order.
    pub identities: Vec<PathBuf>,
    /// Whether someone named them; defaults may be missing without a word.
    pub identities_named: bool,
    /// Whether keys of the agent that no file names may be used.
    pub identities_only: bool,
    pub agent: Option<PathBuf>,
    pub connect_timeout: Duration,
    pub family: Family,
}

impl Endpoint {
    /// `host:port`
    pub fn address(&self) -> String {
        label(&self.host, self.port)
    }
}

/// The hosts to go through, then the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub hops: Vec<Endpoint>,
    pub node: Endpoint,
}

/// A configuration that was read, or why it could not be.
type Read = Result<Arc<SshConfig>, String>;

/// Finds routes. Configuration files are read once each.
pub(crate) struct Router {
    targets: BTreeMap<NodeName, Target>,
    environment: Environment,
    connect_timeout: Duration,
    configs: Mutex<Vec<(UseSshConfig, Read)>>,
}

/// What a caller says about a host, whether as a target or as a hop.
struct Asked<'a> {
    host: &'a str,
    port: Option<u16>,
    user: Option<&'a str>,
    identity: &'a [PathBuf],
    agent: Option<bool>,
    config: &'a UseSshConfig,
    connect_timeout: Option<Duration>,
}

impl Router {
    pub fn new(
        targets: BTreeMap<NodeName, Target>,
        environment: Environment,
        limits: &Limits,
    ) -> Self {
        Self {
            targets,
            environment,
            connect_timeout: limits.connect_timeout,
            configs: Mutex::default(),
        }
    }

    /// The way to `node`, or a sentence about what is wrong on our side.
    pub fn route(&self, node: &NodeName) -> Result<Route, String> {
        let target = self
            .targets
            .get(node)
            .ok_or("it is not among the nodes this run may dial")?;
        let mut hops = Vec::new();
        let node = self.resolve_target(node, target, &mut hops, 0)?;
        Ok(Route { hops, node })
    }

    /// Decides about a target, and puts the hosts before it into `hops`.
    fn resolve_target(
        &self,
        node: &NodeName,
        target: &Target,
        hops: &mut Vec<Endpoint>,
        depth: usize,
    ) -> Result<Endpoint, String> {
        let asked = Asked {
            host: &target.address,
            port: target.port,
            user: target.user.as_deref(),
            identity: &target.identity,
            agent: target.agent,
            config: &target.config,
            connect_timeout: target.connect_timeout,
        };
        let (settings, place) = self.settings(&asked)?;
        let pin = match &target.host_key_alias {
            Some(alias) => PinName::parse(alias.as_str()).map_err(|error| error.to_string())?,
            None => PinName::node(node),
        };
        let endpoint = self.endpoint(&asked, &settings, &place, |_, _| Ok(pin))?;
        if target.jump.is_empty() {
            self.hops_of_config(
                &target.address,
                &settings,
                &endpoint,
                &target.config,
                hops,
                depth,
            )?;
        } else {
            self.resolve_hops(&target.jump, &target.config, hops, depth)?;
        }
        Ok(endpoint)
    }

    /// The first hop may itself have hosts before it; the others are reached from the one before.
    fn resolve_hops(
        &self,
        wanted: &[Hop],
        config: &UseSshConfig,
        hops: &mut Vec<Endpoint>,
        depth: usize,
    ) -> Result<(), String> {
        if depth + wanted.len() > MAX_HOPS {
            return Err(format!(
                "more than {MAX_HOPS} jump hosts in a row; does a jump host lead back to itself?"
            ));
        }
        for (position, hop) in wanted.iter().enumerate() {
            let mut before = Vec::new();
            let endpoint = self.resolve_hop(hop, config, &mut before, depth + wanted.len())?;
            if position == 0 {
                hops.append(&mut before);
            }
            hops.push(endpoint);
        }
        Ok(())
    }

    fn resolve_hop(
        &self,
        hop: &Hop,
        config: &UseSshConfig,
        before: &mut Vec<Endpoint>,
        depth: usize,
    ) -> Result<Endpoint, String> {
        if let Some(node) = &hop.node
            && let Some(target) = self.targets.get(node)
        {
            let mut target = target.clone();
            target.port = hop.port.or(target.port);
            target.user = hop.user.clone().or(target.user);
            if !hop.identity.is_empty() {
                target.identity.clone_from(&hop.identity);
            }
            return self.resolve_target(node, &target, before, depth);
        }
        let asked = Asked {
            host: &hop.host,
            port: hop.port,
            user: hop.user.as_deref(),
            identity: &hop.identity,
            agent: None,
            config,
            connect_timeout: None,
        };
        let (settings, place) = self.settings(&asked)?;
        let endpoint = self.endpoint(&asked, &settings, &place, |host, port| match &hop.node {
            Some(node) => Ok(PinName::node(node)),
            None => PinName::jump(host, port).map_err(|error| error.to_string()),
        })?;
        self.hops_of_config(&hop.host, &settings, &endpoint, config, before, depth)?;
        Ok(endpoint)
    }

    /// `original` is the host's name as it was asked for, `endpoint` what became of it.
    fn hops_of_config(
        &self,
        original: &str,
        settings: &Settings,
        endpoint: &Endpoint,
        config: &UseSshConfig,
        hops: &mut Vec<Endpoint>,
        depth: usize,
    ) -> Result<(), String> {
        match &settings.proxy {
            None | Some(Proxy::Direct) => Ok(()),
            Some(Proxy::Command(place)) => Err(format!(
                "{place}: `ProxyCommand` applies to {}, and picluster runs no such commands; use \
                 `ProxyJump`, or `jump` in the inventory",
                endpoint.host
            )),
            Some(Proxy::Jump(text, place)) => {
                let wanted = text
                    .split(',')
                    .map(|hop| Hop::parse(hop.trim()))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|reason| format!("{place}: `ProxyJump`: {reason}"))?;
                // `Host *` with `ProxyJump bastion` applies to the bastion as well, and is not meant.
                let itself = wanted.iter().any(|hop| {
                    [original, &endpoint.host]
                        .iter()
                        .any(|name| hop.host.eq_ignore_ascii_case(name))
                        && hop.port.is_none_or(|port| port == endpoint.port)
                });
                if itself {
                    return Ok(());
                }
                self.resolve_hops(&wanted, config, hops, depth)
            }
        }
    }

    /// What the configuration says, and a name for it in messages.
    fn settings(&self, asked: &Asked<'_>) -> Result<(Settings, String), String> {
        let place = match asked.config {
            UseSshConfig::No => return Ok((Settings::default(), "the inventory".into())),
            UseSshConfig::Default => "~/.ssh/config".to_owned(),
            UseSshConfig::Path(path) => path.display().to_string(),
        };
        let config = self.config(asked.config)?;
        let settings = config
            .lookup(unbracketed(asked.host), asked.user, &self.environment)
            .map_err(|error| error.to_string())?;
        Ok((settings, place))
    }

    fn config(&self, wanted: &UseSshConfig) -> Read {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = configs.iter().find(|(of, _)| of == wanted) {
            return config.clone();
        }
        let config = match wanted {
            UseSshConfig::No => Ok(SshConfig::default()),
            UseSshConfig::Default => SshConfig::of_user(&self.environment),
            UseSshConfig::Path(path) => {
                SshConfig::of_file(&self.environment.expand_home(path), &self.environment)
            }
        };
        let config = config.map(Arc::new).map_err(|error| error.to_string());
        configs.push((wanted.clone(), config.clone()));
        config
    }

    fn endpoint(
        &self,
        asked: &Asked<'_>,
        settings: &Settings,
        place: &str,
        pin: impl FnOnce(&str, u16) -> Result<PinName, String>,
    ) -> Result<Endpoint, String> {
        let wrong = |reason: String| format!("{place}: {reason}");
        let original = unbracketed(asked.host);
        if original.is_empty() {
            return Err("it has no address".into());
        }
        let user = asked
            .user
            .map(ToOwned::to_owned)
            .or_else(|| settings.user.clone())
            .or_else(|| self.environment.user.clone())
            .ok_or(
                "no login user: the inventory names none, and the local user's name is not known",
            )?;
        let port = asked.port.or(settings.port).unwrap_or(22);
        let mut tokens = Tokens {
            host: Some(original.to_owned()),
            original: Some(original.to_owned()),
            port: Some(port),
            user: Some(user.clone()),
        };
        let host = match &settings.host_name {
            Some(text) => expand(text, &tokens, &self.environment).map_err(wrong)?,
            None => original.to_owned(),
        };
        tokens.host = Some(host.clone());

        let path = |text: &str| expand_path(text, &tokens, &self.environment).map_err(wrong);
        let identities: Vec<PathBuf> = if asked.identity.is_empty() {
            settings
                .identity_files
                .iter()
                .filter(|file| !file.eq_ignore_ascii_case("none"))
                .map(|file| path(file))
                .collect::<Result<_, _>>()?
        } else {
            asked
                .identity
                .iter()
                .map(|file| self.environment.expand_home(file))
                .collect()
        };
        let named = !asked.identity.is_empty() || !settings.identity_files.is_empty();
        let identities = if named {
            identities
        } else {
            self.default_identities()
        };

        let agent = if asked.agent == Some(false) {
            None
        } else {
            match settings.identity_agent.as_deref() {
                None | Some("SSH_AUTH_SOCK") => self.environment.agent_socket.clone(),
                Some(none) if none.eq_ignore_ascii_case("none") => None,
                Some(text) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
                    Some(name) => self.environment.variables.get(name).map(PathBuf::from),
                    None => Some(path(text)?),
                },
            }
        };
        Ok(Endpoint {
            pin: pin(&host, port)?,
            host,
            port,
            user,
            identities,
            identities_named: named,
            identities_only: settings.identities_only.unwrap_or(false),
            agent,
            connect_timeout: asked
                .connect_timeout
                .or(settings.connect_timeout)
                .unwrap_or(self.connect_timeout),
            family: settings.family.unwrap_or_default(),
        })
    }

    fn default_identities(&self) -> Vec<PathBuf> {
        let Some(home) = &self.environment.home else {
            return Vec::new();
        };
        ["id_ed25519", "id_ecdsa", "id_rsa"]
            .iter()
            .map(|name| home.join(".ssh").join(name))
            .filter(|path: &PathBuf| Path::exists(path))
            .collect()
    }
}

/// `[fe80::1]` as `fe80::1`.
fn unbracketed(host: &str) -> &str {
    let host = host.trim();
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
