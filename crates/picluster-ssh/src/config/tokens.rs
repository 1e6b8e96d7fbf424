//! `%h` and its kin, `~` and `${NAME}` (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES).

use std::path::PathBuf;

use crate::Environment;

/// What the tokens stand for. A token without a value here is refused where it is used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    /// `%h`: the host name after `HostName`.
    pub host: Option<String>,
    /// `%n`: the name as given.
    pub original: Option<String>,
    /// `%p`: the port.
    pub port: Option<u16>,
    /// `%r`: the login user.
    pub user: Option<String>,
}

/// Replaces the `%` tokens of `text`.
pub(crate) fn expand(
    text: &str,
    tokens: &Tokens,
    environment: &Environment,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let token = rest.next().ok_or_else(|| format!("{text:?} ends in `%`"))?;
        let value = match token {
            '%' => Some("%".to_owned()),
            'h' => tokens.host.clone(),
            'n' => tokens.original.clone(),
            'p' => tokens.port.map(|port| port.to_string()),
            'r' => tokens.user.clone(),
            'u' => environment.user.clone(),
            'd' => environment
                .home
                .as_ref()
                .map(|home| home.display().to_string()),
            'i' => Some(rustix::process::getuid().as_raw().to_string()),
            _ => None,
        };
        let value = value
            .ok_or_else(|| format!("the token `%{token}` in {text:?} is not supported here"))?;
        out.push_str(&value);
    }
    Ok(out)
}

/// Replaces tokens, `${NAME}` and a leading `~/` of a path.
pub(crate) fn expand_path(
    text: &str,
    tokens: &Tokens,
    environment: &Environment,
) -> Result<PathBuf, String> {
    let text = expand(text, tokens, environment)?;
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("{text:?}: `${{` without `}}`"))?;
        let value = environment
            .variables
            .get(name)
            .ok_or_else(|| format!("{text:?}: the environment variable {name} is not set"))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    let path = PathBuf::from(out);
    if path.starts_with("~") && environment.home.is_none() {
        return Err(format!("{text:?}: there is no home directory"));
    }
    Ok(environment.expand_home(&path))
}
