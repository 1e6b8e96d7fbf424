//! Who founds a cluster, and whether anybody may: a table over what the declared servers and the other
//! nodes remember. A dead card must never found a second cluster beside one that is remembered.

use picluster_model::NodeName;
use picluster_model::kubernetes::Distribution;

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
    /// What they are servers of: a cure by hand is told in its words.
    pub distribution: Distribution,
    /// Agents that remember a cluster, with the digest of its CA.
    pub remembering: &'a [(NodeName, String)],
    /// Agents that were not looked at, and may remember one; why not, in words: "was not reached".
    pub unasked: &'a [(NodeName, String)],
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

/// The first few of them.
fn some<'a>(nodes: impl ExactSizeIterator<Item = &'a NodeName>) -> String {
    let more = nodes.len().saturating_sub(5);
    let first = names(nodes.take(5));
    match more {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What is done by hand, in the words of what the cluster runs.
struct ByHand(Distribution);

impl ByHand {
    /// A machine gives its cluster up, data and all.
    fn give_up(&self, node: &NodeName) -> String {
        match self.0 {
            Distribution::K3s => {
                format!("stop k3s on {node} and delete /var/lib/rancher/k3s there")
            }
            Distribution::Kubeadm => format!("kubeadm reset -f on {node}"),
        }
    }

    /// An agent leaves the cluster that it remembers.
    fn leave(&self, node: &NodeName) -> String {
        match self.0 {
            Distribution::K3s => format!(
                "stop k3s-agent on {node}, delete /var/lib/rancher/k3s and /etc/rancher/node there"
            ),
            Distribution::Kubeadm => format!("kubeadm reset -f on {node}"),
        }
    }

    /// All agents forget a cluster that has nobody left.
    fn forget(&self) -> &'static str {
        match self.0 {
            Distribution::K3s => "deleting /var/lib/rancher/k3s/agent on the agents",
            Distribution::Kubeadm => "kubeadm reset -f on the agents",
        }
    }

    /// What a backup has of a server.
    fn datastore(&self) -> &'static str {
        match self.0 {
            Distribution::K3s => "/var/lib/rancher/k3s/server",
            Distribution::Kubeadm => "/etc/kubernetes and /var/lib/etcd",
        }
    }
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
    let hand = ByHand(situation.distribution);

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
                "keep one: take the other out of the inventory, or {} (it loses its cluster)",
                hand.give_up(other)
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
                "bring a server of that cluster up, then run: picluster apply; to give it up: {} first",
                hand.give_up(removed)
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
                    "see to it that the address leads to the cluster that is meant; to take {agent} out of its own: {}",
                    hand.leave(agent)
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
                "declare it an agent again; or take it out of that cluster by hand: {}, then run: picluster apply",
                hand.leave(name)
            ),
        );
    }
    let server = &first.0;
    let by_hand = format!(
        "put the cluster's {} back on {server} from a backup, then run: picluster apply; to give that cluster up and found a new one: picluster apply --bootstrap {server}, after {}",
        hand.datastore(),
        hand.forget()
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
    if let [(one, why), rest @ ..] = situation.unasked {
        let who = some(situation.unasked.iter().map(|(n, _)| n));
        let (not_asked, it) = if rest.is_empty() {
            (format!("{one} {why}"), "it")
        } else {
            (format!("{who} were not looked at"), "they")
        };
        return stop(
            server,
            true,
            format!(
                "{server} is blank, and {not_asked}: {it} may remember a cluster beside which {server} would found a second one"
            ),
            format!(
                "bring {who} up, then run: picluster apply; if there never was a cluster: picluster apply --bootstrap {server}"
            ),
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
        // An agent that was not reached is written with a question mark.
        let of = |asked: bool, word: &str| -> Vec<(NodeName, String)> {
            let all = agents.split_whitespace();
            all.filter(|a| a.starts_with('?') != asked)
                .map(|a| (name(a.trim_start_matches('?')), word.to_owned()))
                .collect()
        };
        let remembering = of(true, "0123456789abcdef");
        let unasked = of(false, "was not reached");
        let forced = (!forced.is_empty()).then(|| name(forced));
        match choose(&Situation {
            servers: &servers,
            distribution: Distribution::K3s,
            remembering: &remembering,
            unasked: &unasked,
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
            // Who was not asked may remember one.
            (
                "blank",
                "?a1",
                NotAsked,
                "",
                "pause s1: s1 is blank, and a1 was not reached: it may remember a cluster beside which s1 would found a second one",
            ),
            (
                "blank blank blank",
                "?a1 ?a2 ?a3 ?a4 ?a5 ?a6 ?a7",
                Silent,
                "",
                "pause s1: s1 is blank, and a1, a2, a3, a4, a5 and 2 more were not looked at: they may remember a cluster beside which s1 would found a second one",
            ),
            (
                "blank",
                "?a1 a2",
                NotAsked,
                "",
                "stop s1: s1 is blank, and a2 remembers a cluster (CA 0123456789ab…): it would found a second one",
            ),
            ("blank", "?a1", NotAsked, "s1", "s1 founds"),
            ("serving", "?a1", NotAsked, "", "join s1"),
            ("blank stopped", "?a1", NotAsked, "", "resume s2"),
            ("blank", "?a1", answers(), "", "s1 registers"),
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
    /// cluster, or could not be asked. Names are `s1`, `s2`, `s3`.
    fn rule(states: [&str; 3], agents: &str) -> String {
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
        match agents {
            "" => "s1 founds".into(),
            "?a1" => "pause s1".into(),
            _ => "stop".into(),
        }
    }

    /// All situations of three declared servers, with agents of which none remembers, one does, one was not asked, and both: 500
    /// where the odd one is a member of another cluster, and 500 where it was removed from this one.
    #[test]
    fn three_servers_in_every_situation() {
        let mut rows = 0;
        for odd in ["other", "removed"] {
            let states = ["blank", "serving", "stopped", odd, "away"];
            for a in states {
                for b in states {
                    for c in states {
                        for agents in ["", "a1", "?a1", "?a1 a2"] {
                            let row = format!("{a} {b} {c}");
                            let said = said(&row, agents, &Endpoint::NotAsked, "");
                            let expected = rule([a, b, c], agents);
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
        assert_eq!(rows, 1000);
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
                    for agents in ["", "a1", "?a1", "?a1 ?a2"] {
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

    /// Whoever is told to do something by hand is told it in the words of what runs there.
    #[test]
    fn cures_are_in_the_words_of_the_distribution() {
        let mut cures = 0;
        let words = [
            "blank", "serving", "stopped", "other", "removed", "agent", "away",
        ];
        for distribution in [Distribution::K3s, Distribution::Kubeadm] {
            for a in words {
                for b in words {
                    for remembers in [false, true] {
                        for endpoint in [Endpoint::Silent, Endpoint::Answers(Some("f".into()))] {
                            let servers = [(name("s1"), server(a)), (name("s2"), server(b))];
                            let remembering = [(name("a1"), "0123456789abcdef".to_owned())];
                            let choice = choose(&Situation {
                                servers: &servers,
                                distribution,
                                remembering: if remembers { &remembering } else { &[] },
                                unasked: &[],
                                endpoint,
                                forced: None,
                            });
                            let Some(Choice::Stop(stop)) = choice else {
                                continue;
                            };
                            let of_k3s = stop.cure.contains("k3s") || stop.cure.contains("rancher");
                            let of_kubeadm = stop.cure.contains("kubeadm reset");
                            let (mine, theirs) = match distribution {
                                Distribution::K3s => (of_k3s, of_kubeadm),
                                Distribution::Kubeadm => (of_kubeadm, of_k3s),
                            };
                            assert!(!theirs, "{a} {b}: {}", stop.cure);
                            cures += usize::from(mine);
                        }
                    }
                }
            }
        }
        assert!(cures > 100, "{cures}");
    }
}
