//! Who founds a cluster, and whether anybody may: a table over what the declared servers and the other
//! nodes remember. A dead card must never found a second cluster beside one that is remembered.

use picluster_model::NodeName;

/// How a declared server was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Nothing of a cluster is on it.
    Blank,
    /// It has a datastore, and its unit runs or is about to. With the digest of its CA.
    Serving(Option<String>),
    /// It has a datastore, and its unit is stopped. With the digest of its CA.
    Stopped(Option<String>),
    /// It has a datastore, and its cluster has removed it. With the digest of its CA.
    Removed(Option<String>),
    /// It was an agent of a cluster, and never a server. With the digest of that CA.
    WasAgent(String),
    /// It was not looked at, in words: "was not reached".
    Unreachable(String),
}

/// What a fixed registration address said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// There is none, or nobody asked.
    NotAsked,
    /// Nobody is there.
    Silent,
    /// A cluster answers; with the digest of its CA, where it could be had.
    Answers(Option<String>),
}

/// Everything the choice is made from.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The declared servers in the order of the inventory.
    pub servers: &'a [(NodeName, Server)],
    /// Agents that remember a cluster, with the digest of its CA.
    pub remembering: &'a [(NodeName, String)],
    /// The fixed registration address.
    pub endpoint: Endpoint,
    /// The server that `--bootstrap` names.
    pub forced: Option<&'a NodeName>,
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This server founds the cluster.
    Found(NodeName),
    /// This server serves; who is not a member joins through it.
    Join(NodeName),
    /// A cluster that none of the declared servers holds answers at the registration address: this blank
    /// server joins it there, and founds nothing.
    Register(NodeName),
    /// The members are there and stopped: they start as what they are.
    Resume(NodeName),
    /// Nobody founds anything.
    Stop(Stop),
}

/// Why nobody founds a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The server it is about.
    pub server: NodeName,
    /// What was found.
    pub what: String,
    /// What to do.
    pub cure: String,
    /// Members go on as they are; only who is blank is kept out.
    pub members_go_on: bool,
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a NodeName>) -> String {
    let all: Vec<&str> = nodes.into_iter().map(NodeName::as_str).collect();
    all.join(", ")
}

/// As much of a digest as people read.
fn brief(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Chooses. `None`: there are no servers.
#[must_use]
pub fn choose(situation: &Situation<'_>) -> Option<Choice> {
    let servers = situation.servers;
    let first = servers.first()?;
    let stop = |server: &NodeName, members_go_on: bool, what: String, cure: String| {
        Some(Choice::Stop(Stop {
            server: server.clone(),
            what,
            cure,
            members_go_on,
        }))
    };
    let found = |pick: fn(&Server) -> bool| servers.iter().find(|(_, s)| pick(s)).map(|(n, _)| n);
    let serving = found(|s| matches!(s, Server::Serving(_)));
    let stopped = found(|s| matches!(s, Server::Stopped(_)));

    let mut clusters: Vec<(&str, &NodeName)> = Vec::new();
    for (name, server) in servers {
        if let Server::Serving(Some(ca)) | Server::Stopped(Some(ca)) | Server::Removed(Some(ca)) =
            server
            && !clusters.iter().any(|(known, _)| known == ca)
        {
            clusters.push((ca, name));
        }
    }
    if let [(_, one), (_, other), ..] = clusters[..] {
        return stop(
            other,
            false,
            format!("{one} and {other} are servers of two different clusters"),
            format!(
                "keep one: take the other out of the inventory, or stop k3s on it and delete /var/lib/rancher/k3s there ({other} loses its cluster)"
            ),
        );
    }
    if let Some(forced) = situation.forced {
        return match servers.iter().find(|(name, _)| name == forced) {
            Some((_, Server::Blank)) if serving.is_none() => Some(Choice::Found(forced.clone())),
            Some((_, Server::Blank)) => stop(
                forced,
                true,
                format!(
                    "{} serves, so --bootstrap {forced} would found a second cluster",
                    names(serving)
                ),
                "leave --bootstrap out: it joins".into(),
            ),
            Some((_, Server::Unreachable(why))) => stop(
                forced,
                true,
                format!("{forced} {why}, so it cannot found a cluster"),
                format!("bring {forced} up, then run the same command again"),
            ),
            Some(_) => stop(
                forced,
                true,
                format!("{forced} is a member of a cluster already, so there is nothing to found"),
                "leave --bootstrap out".into(),
            ),
            None => stop(
                &first.0,
                true,
                format!("--bootstrap {forced} names no server of the inventory"),
                format!("name one of {}", names(servers.iter().map(|(n, _)| n))),
            ),
        };
    }
    if let Some(via) = serving {
        return Some(Choice::Join(via.clone()));
    }
    if let Some(member) = stopped {
        return Some(Choice::Resume(member.clone()));
    }
    if let Some(removed) = found(|s| matches!(s, Server::Removed(_))) {
        return stop(
            removed,
            false,
            format!(
                "{removed} was removed from its cluster, and none of the other declared servers serves that cluster"
            ),
            format!(
                "bring a server of that cluster up, then run: picluster apply; to give it up: delete /var/lib/rancher/k3s on {removed} first"
            ),
        );
    }
    let blank = found(|s| matches!(s, Server::Blank));
    if let (Endpoint::Answers(ca), Some(blank)) = (&situation.endpoint, blank) {
        let other = situation
            .remembering
            .iter()
            .find(|(_, remembered)| ca.as_ref().is_some_and(|answering| answering != remembered));
        return match other {
            None => Some(Choice::Register(blank.clone())),
            Some((agent, remembered)) => stop(
                blank,
                false,
                format!(
                    "{agent} remembers another cluster (CA {}…) than answers at the registration address (CA {}…)",
                    brief(remembered),
                    brief(ca.as_deref().unwrap_or_default())
                ),
                format!(
                    "see to it that the address leads to the cluster that is meant; to take {agent} out of its own: stop k3s-agent on it and delete /var/lib/rancher/k3s/agent there"
                ),
            ),
        };
    }
    if let Some((name, Server::Unreachable(why))) = servers
        .iter()
        .find(|(_, s)| matches!(s, Server::Unreachable(_)))
    {
        return stop(
            name,
            true,
            format!("{name} {why}, and it may hold the cluster"),
            format!("bring {name} up, then run: picluster apply"),
        );
    }
    if let Some((name, _)) = servers
        .iter()
        .find(|(_, s)| matches!(s, Server::WasAgent(_)))
    {
        return stop(
            name,
            false,
            format!("{name} is declared a server and remembers a cluster as an agent"),
            format!(
                "declare it an agent again; or take it out of that cluster by hand: stop k3s-agent on {name}, delete /var/lib/rancher/k3s and /etc/rancher/node there, then run: picluster apply"
            ),
        );
    }
    let server = &first.0;
    let by_hand = format!(
        "put the cluster's /var/lib/rancher/k3s/server back on {server} from a backup, then run: picluster apply; to give that cluster up and found a new one: picluster apply --bootstrap {server}, after deleting /var/lib/rancher/k3s/agent on the agents"
    );
    if let Some((_, ca)) = situation.remembering.first() {
        return stop(
            server,
            false,
            format!(
                "{server} is blank, and {} remember{} a cluster (CA {}…): it would found a second one",
                names(situation.remembering.iter().map(|(n, _)| n)),
                if situation.remembering.len() == 1 {
                    "s"
                } else {
                    ""
                },
                brief(ca)
            ),
            by_hand,
        );
    }
    Some(Choice::Found(server.clone()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn server(word: &str) -> Server {
        match word {
            "blank" => Server::Blank,
            "serving" => Server::Serving(Some("ca-1".into())),
            "stopped" => Server::Stopped(Some("ca-1".into())),
            "other" => Server::Stopped(Some("ca-2".into())),
            "removed" => Server::Removed(Some("ca-1".into())),
            "agent" => Server::WasAgent("ca-1".into()),
            "away" => Server::Unreachable("was not reached".into()),
            _ => panic!("{word}"),
        }
    }

    fn said(servers: &str, agents: &str, endpoint: &Endpoint, forced: &str) -> String {
        let servers: Vec<(NodeName, Server)> = servers
            .split_whitespace()
            .enumerate()
            .map(|(n, word)| (name(&format!("s{}", n + 1)), server(word)))
            .collect();
        let remembering: Vec<(NodeName, String)> = agents
            .split_whitespace()
            .map(|a| (name(a), "0123456789abcdef".to_owned()))
            .collect();
        let forced = (!forced.is_empty()).then(|| name(forced));
        match choose(&Situation {
            servers: &servers,
            remembering: &remembering,
            endpoint: endpoint.clone(),
            forced: forced.as_ref(),
        }) {
            None => "nothing".into(),
            Some(Choice::Found(n)) => format!("{n} founds"),
            Some(Choice::Join(n)) => format!("join {n}"),
            Some(Choice::Register(n)) => format!("{n} registers"),
            Some(Choice::Resume(n)) => format!("resume {n}"),
            Some(Choice::Stop(stop)) => {
                assert!(!stop.cure.is_empty());
                let how = if stop.members_go_on { "pause" } else { "stop" };
                format!("{how} {}: {}", stop.server, stop.what)
            }
        }
    }

    #[test]
    fn the_table() {
        use Endpoint::{NotAsked, Silent};
        let answers = || Endpoint::Answers(Some("0123456789abcdef".into()));
        let unnamed = || Endpoint::Answers(None);
        for (servers, agents, endpoint, forced, expected) in [
            ("", "", NotAsked, "", "nothing"),
            ("blank", "", NotAsked, "", "s1 founds"),
            ("blank", "", Silent, "", "s1 founds"),
            ("blank blank blank", "", Silent, "", "s1 founds"),
            ("serving", "a1", NotAsked, "", "join s1"),
            ("blank serving blank", "a1", answers(), "", "join s2"),
            ("away serving", "", NotAsked, "", "join s2"),
            ("stopped", "a1", NotAsked, "", "resume s1"),
            ("blank stopped", "", NotAsked, "", "resume s2"),
            ("away stopped", "", NotAsked, "", "resume s2"),
            (
                "away",
                "",
                NotAsked,
                "",
                "pause s1: s1 was not reached, and it may hold the cluster",
            ),
            (
                "blank away",
                "",
                NotAsked,
                "",
                "pause s2: s2 was not reached, and it may hold the cluster",
            ),
            (
                "agent",
                "",
                NotAsked,
                "",
                "stop s1: s1 is declared a server and remembers a cluster as an agent",
            ),
            (
                "blank",
                "a1",
                NotAsked,
                "",
                "stop s1: s1 is blank, and a1 remembers a cluster (CA 0123456789ab…): it would found a second one",
            ),
            (
                "blank blank",
                "a1 a2",
                Silent,
                "",
                "stop s1: s1 is blank, and a1, a2 remember a cluster (CA 0123456789ab…): it would found a second one",
            ),
            // A cluster that no declared server holds: nobody founds one beside it.
            ("blank", "", answers(), "", "s1 registers"),
            ("blank", "", unnamed(), "", "s1 registers"),
            ("blank", "a1 a2", answers(), "", "s1 registers"),
            ("blank", "a1", unnamed(), "", "s1 registers"),
            ("away blank", "", answers(), "", "s2 registers"),
            ("blank stopped", "", answers(), "", "resume s2"),
            (
                "away",
                "",
                answers(),
                "",
                "pause s1: s1 was not reached, and it may hold the cluster",
            ),
            (
                "blank",
                "a1",
                Endpoint::Answers(Some("fedcba9876543210".into())),
                "",
                "stop s1: a1 remembers another cluster (CA 0123456789ab…) than answers at the registration address (CA fedcba987654…)",
            ),
            (
                "serving other",
                "",
                NotAsked,
                "",
                "stop s2: s1 and s2 are servers of two different clusters",
            ),
            ("blank", "a1", answers(), "s1", "s1 founds"),
            ("away blank", "a1", NotAsked, "s2", "s2 founds"),
            ("stopped blank", "", NotAsked, "s2", "s2 founds"),
            (
                "serving blank",
                "",
                NotAsked,
                "s2",
                "pause s2: s1 serves, so --bootstrap s2 would found a second cluster",
            ),
            (
                "serving",
                "",
                NotAsked,
                "s1",
                "pause s1: s1 is a member of a cluster already, so there is nothing to found",
            ),
            (
                "away",
                "",
                NotAsked,
                "s1",
                "pause s1: s1 was not reached, so it cannot found a cluster",
            ),
            (
                "blank",
                "",
                NotAsked,
                "a1",
                "pause s1: --bootstrap a1 names no server of the inventory",
            ),
            (
                "serving other",
                "",
                NotAsked,
                "s1",
                "stop s2: s1 and s2 are servers of two different clusters",
            ),
        ] {
            assert_eq!(
                said(servers, agents, &endpoint, forced),
                expected,
                "{servers} | {agents} | {endpoint:?} | {forced}"
            );
        }
    }

    /// What the rule says of three servers, said anew: who has which of five states, and whether an agent remembers a
    /// cluster. Names are `s1`, `s2`, `s3`.
    fn rule(states: [&str; 3], agents_remember: bool) -> String {
        let first = |state: &str| {
            let at = states.iter().position(|s| *s == state)?;
            Some(format!("s{}", at + 1))
        };
        let has = |state: &str| first(state).is_some();
        if has("other") && (has("serving") || has("stopped")) {
            return "stop".into();
        }
        if let Some(server) = first("serving") {
            return format!("join {server}");
        }
        if let Some(member) = first("stopped").or_else(|| first("other")) {
            return format!("resume {member}");
        }
        if has("removed") {
            return "stop".into();
        }
        if let Some(away) = first("away") {
            return format!("pause {away}");
        }
        if agents_remember {
            return "stop".into();
        }
        "s1 founds".into()
    }

    /// All situations of three declared servers, with and without an agent that remembers: 250 where the odd one is a member of
    /// another cluster, and 250 where it was removed from this one.
    #[test]
    fn three_servers_in_every_situation() {
        let mut rows = 0;
        for odd in ["other", "removed"] {
            let states = ["blank", "serving", "stopped", odd, "away"];
            for a in states {
                for b in states {
                    for c in states {
                        for agents in ["", "a1"] {
                            let row = format!("{a} {b} {c}");
                            let said = said(&row, agents, &Endpoint::NotAsked, "");
                            let expected = rule([a, b, c], !agents.is_empty());
                            assert!(
                                said.starts_with(&expected),
                                "{row} | {agents}: {said}, and the rule says {expected}"
                            );
                            // Who may not found is told which server is in the way.
                            if expected == "stop" {
                                assert!(said.contains(": s"), "{row}: {said}");
                            }
                            rows += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(rows, 500);
    }

    /// Whatever is found: nobody founds a cluster while a declared server serves, nor, unasked, while
    /// anybody remembers one or anything was not looked at.
    #[test]
    fn no_second_cluster_in_any_situation() {
        let words = [
            "blank", "serving", "stopped", "other", "removed", "agent", "away",
        ];
        for a in words {
            for b in words {
                for c in words {
                    for agents in ["", "a1"] {
                        for endpoint in [
                            Endpoint::NotAsked,
                            Endpoint::Silent,
                            Endpoint::Answers(None),
                            Endpoint::Answers(Some("ca-1".into())),
                        ] {
                            let all = format!("{a} {b} {c}");
                            if said(&all, agents, &endpoint, "").ends_with("founds") {
                                assert_eq!(all, "blank blank blank");
                                assert!(
                                    agents.is_empty() && !matches!(endpoint, Endpoint::Answers(_))
                                );
                            }
                            if said(&all, agents, &endpoint, "s1").ends_with("founds") {
                                assert!(a == "blank" && !all.contains("serving"));
                            }
                        }
                    }
                }
            }
        }
    }
}
