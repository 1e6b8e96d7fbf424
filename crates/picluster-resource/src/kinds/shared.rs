//! What several kinds need: whether a path's parent and owners exist, names that tools accept, and
//! which paths are part of the way in.

use crate::change::{Change, Effect, SUDO};
use crate::kind::Diagnosis;
use crate::path::NodePath;
use crate::query::{Answers, PathKind, Query};
use crate::token::Token;

/// The question whether the directory of `path` exists; none for things directly under `/`.
pub(crate) fn parent_query(path: &NodePath) -> Option<Query> {
    path.parent()
        .filter(|parent| parent.as_str() != "/")
        .map(Query::Path)
}

/// The directory of `path`, when it does not exist (yet).
pub(crate) fn missing_parent(
    path: &NodePath,
    answers: &Answers,
) -> Result<Option<Token>, Diagnosis> {
    let Some(parent) = path.parent().filter(|parent| parent.as_str() != "/") else {
        return Ok(None);
    };
    match answers.path(&parent)?.map(|state| state.kind) {
        None => Ok(Some(Token::Path(parent))),
        // A link is taken to lead to a directory (`/var/run`, `/lib`).
        Some(PathKind::Directory | PathKind::Link) => Ok(None),
        Some(PathKind::File | PathKind::Other) => Err(Diagnosis::new(format!(
            "{parent} is no directory, so nothing can stand below it"
        ))
        .cure(format!("look at it and move it away: ls -la {parent}"))),
    }
}

/// The questions whether an owner and a group exist. Root always does.
pub(crate) fn owner_queries(owner: &str, group: &str) -> Vec<Query> {
    let mut queries = Vec::new();
    if owner != "root" {
        queries.push(Query::Account(owner.to_owned()));
    }
    if group != "root" {
        queries.push(Query::Group(group.to_owned()));
    }
    queries
}

/// The owner or group that does not exist (yet).
pub(crate) fn missing_owner(
    owner: &str,
    group: &str,
    answers: &Answers,
) -> Result<Option<Token>, Diagnosis> {
    if owner != "root" && answers.account(owner)?.is_none() {
        return Ok(Some(Token::User(owner.to_owned())));
    }
    if group != "root" && answers.group(group)?.is_none() {
        return Ok(Some(Token::Group(group.to_owned())));
    }
    Ok(None)
}

/// What must be there before something with this path, owner and group can be made.
pub(crate) fn place_tokens(path: &NodePath, owner: &str, group: &str) -> Vec<Token> {
    let mut needs: Vec<Token> = path
        .parent()
        .filter(|parent| parent.as_str() != "/")
        .map(Token::Path)
        .into_iter()
        .collect();
    if owner != "root" {
        needs.push(Token::User(owner.to_owned()));
    }
    if group != "root" {
        needs.push(Token::Group(group.to_owned()));
    }
    needs
}

/// Rules for `owner` and `group` fields.
pub(crate) fn check_owner(owner: &str, group: &str) -> Vec<String> {
    [("owner", owner), ("group", group)]
        .into_iter()
        .filter(|(_, name)| !is_account_name(name))
        .map(|(field, name)| format!("{field} {name:?} is not the name of an account or group"))
        .collect()
}

/// Names that useradd(8) and groupadd(8) of Debian's shadow accept, plus upper case and dots,
/// which exist in the wild. Purely numeric ones are refused: `stat` would print the name instead,
/// so they could never be seen as right.
pub(crate) fn is_account_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .trim_end_matches('$')
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// Adds [`Effect::Access`] when `path` decides how people get in: sshd_config(5), sudoers(5),
/// pam.d(5), the files of the network managers in use on Raspberry Pis (netplan, NetworkManager,
/// systemd-networkd, dhcpcd, ifupdown), and those of the firewalls Debian has (nftables,
/// iptables-persistent, ufw).
pub(crate) fn with_access(change: Change, path: &NodePath) -> Change {
    const WAYS_IN: &[(&str, &str)] = &[
        ("/etc/ssh", "sshd reads it"),
        ("/etc/sudoers", SUDO),
        ("/etc/sudoers.d", SUDO),
        ("/etc/pam.d", "every log-in reads it"),
        ("/etc/netplan", "the network is made from it"),
        ("/etc/NetworkManager", "the network is made from it"),
        ("/etc/systemd/network", "the network is made from it"),
        ("/etc/network", "the network is made from it"),
        ("/etc/dhcpcd.conf", "the network is made from it"),
        ("/etc/nftables.conf", "the firewall is made from it"),
        ("/etc/nftables.d", "the firewall is made from it"),
        ("/etc/iptables", "the firewall is made from it"),
        ("/etc/ufw", "the firewall is made from it"),
    ];
    let why = WAYS_IN.iter().find(|(root, _)| {
        path.as_str()
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    match why {
        Some((_, why)) => change.effect(Effect::Access((*why).to_owned())),
        None => change,
    }
}
