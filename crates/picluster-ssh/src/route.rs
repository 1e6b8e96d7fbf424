//! From a target and the configuration to the hosts that are really dialled, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picluster_model::NodeName;

use crate::address::{Family, label};
use crate::config::{Proxy, Settings, SshConfig, Tokens, expand, expand_path};
use crate::{Environment, Hop, Limits, PinName, Target, UseSshConfig};

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
mod tests {
    use super::*;

    fn router(config: &str, targets: &[(&str, Target)]) -> (tempfile::TempDir, Router) {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join(".ssh")).expect("dir");
        std::fs::write(dir.path().join(".ssh/config"), config).expect("config");
        let environment = Environment {
            home: Some(dir.path().to_owned()),
            user: Some("me".into()),
            agent_socket: Some("/run/agent".into()),
            variables: [("KEYS".to_owned(), "/keys".to_owned())].into(),
            ..Environment::default()
        };
        let targets = targets
            .iter()
            .map(|(name, target)| (NodeName::new(*name).expect("a name"), target.clone()))
            .collect();
        (dir, Router::new(targets, environment, &Limits::default()))
    }

    fn target(address: &str) -> Target {
        Target {
            address: address.into(),
            ..Target::default()
        }
    }

    fn of(router: &Router, name: &str) -> Result<Route, String> {
        router.route(&NodeName::new(name).expect("a name"))
    }

    #[test]
    fn the_target_wins_over_the_configuration_over_the_defaults() {
        let config = "Host a\n HostName %h.lan\n User pi\n Port 2222\n IdentityFile ${KEYS}/%r@%n\n \
                      ConnectTimeout 3\n AddressFamily inet\n IdentityAgent none\n";
        let mut said = target("a");
        said.user = Some("root".into());
        said.port = Some(22);
        let (_dir, router) = router(
            config,
            &[("a", target("a")), ("b", target("[fe80::1]")), ("c", said)],
        );
        let a = of(&router, "a").expect("a route").node;
        assert_eq!(
            (a.host.as_str(), a.port, a.user.as_str()),
            ("a.lan", 2222, "pi")
        );
        assert_eq!(a.identities, [PathBuf::from("/keys/pi@a")]);
        assert_eq!((a.agent, a.connect_timeout), (None, Duration::from_secs(3)));
        assert_eq!(a.family, Family::Inet);
        let b = of(&router, "b").expect("a route").node;
        assert_eq!(
            (b.address().as_str(), b.user.as_str()),
            ("[fe80::1]:22", "me")
        );
        assert_eq!(b.agent.as_deref(), Some(Path::new("/run/agent")));
        let c = of(&router, "c").expect("a route").node;
        assert_eq!((c.port, c.user.as_str()), (22, "root"));
        assert_eq!(c.identities, [PathBuf::from("/keys/root@a")]);
    }

    #[test]
    fn hops_stand_in_the_order_they_are_dialled() {
        let config = "Host near\n HostName 10.0.0.1\n ProxyJump door:2222\nHost behind\n ProxyJump near,ops@far\n";
        let (_dir, router) = router(config, &[("n", target("behind"))]);
        let route = of(&router, "n").expect("a route");
        let hops: Vec<_> = route
            .hops
            .iter()
            .map(|hop| format!("{} {}@{}", hop.pin, hop.user, hop.address()))
            .collect();
        assert_eq!(
            hops,
            [
                "jump:door:2222 me@door:2222",
                "jump:10.0.0.1:22 me@10.0.0.1:22",
                "jump:far:22 ops@far:22",
            ]
        );
    }

    #[test]
    fn what_cannot_work_is_said_with_its_place() {
        let config = "Host loop1\n ProxyJump loop2\nHost loop2\n ProxyJump loop1\n\
                      Host command\n ProxyCommand nc %h %p\n\
                      Host token\n IdentityFile ~/%Z\n\
                      Host bad\n ProxyJump a:b:c,x:y\n";
        let (_dir, router) = router(
            config,
            &[
                ("loop", target("loop1")),
                ("command", target("command")),
                ("token", target("token")),
                ("bad", target("bad")),
                ("empty", target("")),
            ],
        );
        for (name, part) in [
            ("loop", "does a jump host lead back to itself?"),
            ("command", "config:6: `ProxyCommand` applies to command"),
            ("token", "the token `%Z`"),
            ("bad", "config:10: `ProxyJump`: \"x:y\""),
            ("empty", "it has no address"),
            ("stranger", "not among the nodes"),
        ] {
            let error = of(&router, name).expect_err(name);
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn a_named_configuration_must_exist() {
        let mut wanted = target("a");
        wanted.config = UseSshConfig::Path("~/no-such-config".into());
        let (_dir, router) = router("", &[("a", wanted)]);
        let error = of(&router, "a").expect_err("missing");
        assert!(error.contains("no-such-config: No such file"), "{error}");
    }
}
