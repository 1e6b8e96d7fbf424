//! What holds for a node where its [`Target`] says nothing: for people who ask where a value comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use picluster_model::NodeName;

use super::{Asked, Router};
use crate::config::{Place, Proxy, Settings};
use crate::{Environment, Limits, PinName, Target};

/// A value the OpenSSH client configuration gives a node, or the default behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The field of [`Target`] it stands in for: `user`, `port`, `identity`, `agent`, `jump`,
    /// `connect_timeout`. `host` is what the configuration makes of the address (`HostName`).
    pub key: &'static str,
    /// The value, with all tokens in it expanded but those of `ProxyJump`.
    pub value: FallbackValue,
    /// File and line (from 1) of the setting; `None` for a default.
    pub place: Option<(PathBuf, usize)>,
}

/// A value of a [`Fallback`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FallbackValue {
    /// Nothing at all: no agent, no host in between.
    None,
    /// A name or a path.
    Text(String),
    /// A port, or seconds.
    Number(u64),
    /// Several, in order.
    List(Vec<String>),
}

/// What holds for `target` where it says nothing, key by key: what the OpenSSH client configuration
/// says, where it says something, then the default. Reads files; dials nothing.
///
/// # Errors
/// A sentence about a configuration that cannot be read or understood.
pub fn fallbacks(
    node: &NodeName,
    target: &Target,
    environment: Environment,
    limits: &Limits,
) -> Result<Vec<Fallback>, String> {
    let asked = Asked {
        host: &target.address,
        port: target.port,
        user: target.user.as_deref(),
        identity: &[],
        agent: None,
        config: &target.config,
        connect_timeout: None,
    };
    let user = environment.user.clone();
    let router = Router::new(BTreeMap::new(), environment, limits);
    let (settings, file) = router.settings(&asked)?;
    let endpoint = |asked: &Asked<'_>, settings: &Settings| {
        router.endpoint(asked, settings, &file, |_, _| Ok(PinName::node(node)))
    };
    let configured = endpoint(&asked, &settings)?;
    let asked = Asked {
        user: Some(&configured.user),
        ..asked
    };
    let default = endpoint(&asked, &Settings::default())?;

    let mut found = Vec::new();
    let mut add = |key, keyword: &str, configured: Option<FallbackValue>, default| {
        let place = settings.places.get(keyword);
        let of_config = configured.zip(place).map(|(value, place)| Fallback {
            key,
            value,
            place: Some(at(place)),
        });
        let default: Option<FallbackValue> = default;
        found.extend(of_config);
        found.extend(default.map(|value| Fallback {
            key,
            value,
            place: None,
        }));
    };
    let paths = |paths: &[PathBuf]| {
        FallbackValue::List(paths.iter().map(|p| p.display().to_string()).collect())
    };
    let agent = |socket: &Option<PathBuf>| {
        socket.as_ref().map_or(FallbackValue::None, |socket| {
            FallbackValue::Text(socket.display().to_string())
        })
    };
    let seconds = |wait: std::time::Duration| FallbackValue::Number(wait.as_secs());
    add(
        "host",
        "hostname",
        Some(FallbackValue::Text(configured.host)),
        None,
    );
    add(
        "user",
        "user",
        settings.user.clone().map(FallbackValue::Text),
        user.map(FallbackValue::Text),
    );
    add(
        "port",
        "port",
        settings.port.map(|port| FallbackValue::Number(port.into())),
        Some(FallbackValue::Number(22)),
    );
    add(
        "identity",
        "identityfile",
        Some(paths(&configured.identities)),
        Some(paths(&default.identities)),
    );
    add(
        "agent",
        "identityagent",
        Some(agent(&configured.agent)),
        Some(agent(&default.agent)),
    );
    let (keyword, jump) = match &settings.proxy {
        Some(Proxy::Jump(text, _)) => (
            "proxyjump",
            FallbackValue::List(text.split(',').map(|hop| hop.trim().to_owned()).collect()),
        ),
        Some(Proxy::Command(_)) => (
            "proxycommand",
            FallbackValue::Text(String::from("ProxyCommand, which picluster does not run")),
        ),
        Some(Proxy::Direct) if settings.places.contains_key("proxycommand") => {
            ("proxycommand", FallbackValue::None)
        }
        _ => ("proxyjump", FallbackValue::None),
    };
    add("jump", keyword, Some(jump), Some(FallbackValue::None));
    add(
        "connect_timeout",
        "connecttimeout",
        Some(seconds(configured.connect_timeout)),
        Some(seconds(default.connect_timeout)),
    );
    Ok(found)
}

fn at(place: &Place) -> (PathBuf, usize) {
    (place.path.clone(), place.line)
}
