//! How a running cluster comes to another version: whether it may at all, and who goes when.
//!
//! Servers first and one by one, agents behind them and a few at a time: a kubelet must not be newer than the API server it
//! speaks to (<https://kubernetes.io/releases/version-skew-policy/>), and a release that does not start must not be on all
//! nodes. Each is drained before its program is replaced and takes pods again when it is Ready, by entries that stand on a
//! server, and nothing is replaced before the datastore was kept.

use std::collections::BTreeSet;

use picluster_model::NodeName;
use picluster_model::kubernetes::{KubernetesVersion, Upgrade};
use picluster_resource::kinds::cluster_node::{ClusterNode, ClusterSays};
use picluster_resource::kinds::node_drained::Purpose;
use picluster_resource::{Action, Change, Kind as _, Observation, Resource, Seen, Token};

use super::{Inputs, Workbench, packages, servers};
use crate::addr::StepAddr;
use crate::plan::Problem;

/// The entry that waits until its node is Ready.
pub(super) fn ready<'a>(bench: &'a Workbench<'_>) -> Option<(usize, &'a ClusterNode)> {
    bench
        .items
        .iter()
        .enumerate()
        .find_map(|(i, item)| match item.resource.as_ref() {
            Resource::ClusterNode(node) if !item.removed => Some((i, node)),
            _ => None,
        })
}

/// The release that a member of the cluster is to leave: what the cluster says of it; or, where that does not answer, in
/// words, when its program is to be replaced.
fn leaves(bench: &Workbench<'_>) -> Option<String> {
    let (i, node) = ready(bench)?;
    let Observation::ClusterNode(Seen::Now(seen)) = bench.items[i].seen.as_ref()? else {
        return None;
    };
    let unknown = seen.cluster == ClusterSays::Nothing
        && heads(bench).into_iter().any(|i| {
            let item = &bench.items[i];
            let replaced = |change: &Change| change.action == Action::Update;
            !matches!(item.resource.as_ref(), Resource::Unit(_))
                && item.change.as_ref().is_some_and(replaced)
        });
    node.leaves(seen)
        .or_else(|| unknown.then(|| "the release it has".into()))
}

/// The release of a server, before anything is evaluated: by what its cluster says of it, or, where that does not answer,
/// by its program.
fn runs(bench: &Workbench<'_>) -> Option<(String, String)> {
    let (i, node) = ready(bench)?;
    let wanted = node.version.clone()?;
    let look = |i: usize| {
        let resource = bench.items.get(i)?.resource.as_ref();
        resource.observe(&bench.observed.answers, bench.ctx).ok()
    };
    if let Some(Observation::ClusterNode(Seen::Now(seen))) = look(i)
        && let Some(version) = node.leaves(&seen)
    {
        return Some((version, wanted));
    }
    match look(bench.member()?) {
        Some(Observation::ClusterMember(Seen::Now(memory))) => Some((memory.version?, wanted)),
        _ => None,
    }
}

/// Why servers at `version` must not become `wanted`, and what to do instead.
fn refusal(server: &NodeName, version: &str, wanted: &str) -> Option<(String, String)> {
    let (from, to) = (
        KubernetesVersion::of_any(version)?,
        KubernetesVersion::of_any(wanted)?,
    );
    match from.upgrade_to(&to) {
        Upgrade::None | Upgrade::Allowed => None,
        Upgrade::Skips { major, minor } => Some((
            format!(
                "{server} runs {version}, and {wanted} skips v{major}.{minor}: Kubernetes goes one minor at a time"
            ),
            format!(
                "set kubernetes.version to a release of v{major}.{minor}, run picluster apply, then go on from there"
            ),
        )),
        Upgrade::Downgrade => Some((
            format!(
                "{server} runs {version}, and {wanted} is older: what the newer one has written to the datastore the older one may not understand"
            ),
            format!(
                "set kubernetes.version to {version} or a newer release; to go back, the datastore has to be restored from before the upgrade"
            ),
        )),
    }
}

/// Transform: where the servers must not become what is wanted, nothing of the cluster is written anywhere.
pub(super) fn refuse(benches: &mut [Workbench<'_>]) {
    let refused = benches.iter().find_map(|bench| {
        let (_, node) = ready(bench)?;
        if !node.server {
            return None;
        }
        let (version, wanted) = runs(bench)?;
        let (what, cure) = refusal(bench.node, &version, &wanted)?;
        Some((bench.node.clone(), what, cure))
    });
    let Some((server, what, cure)) = refused else {
        return;
    };
    for bench in benches {
        let because = (*bench.node != server).then(|| server.clone());
        if let Some(item) = bench.member().map(|i| &mut bench.items[i])
            && item.problem.is_none()
        {
            let problem = Problem::new(what.clone()).cure(cure.clone());
            item.problem = Some(problem.because(because).of(item.addr.clone()));
        }
    }
}

/// What brings another version to a node: its program, or the package of that, what kubeadm does before, and the start of its
/// unit.
fn heads(bench: &Workbench<'_>) -> Vec<usize> {
    let Some((_, node)) = ready(bench) else {
        return Vec::new();
    };
    let program = node.program.clone().map(Token::Path);
    let package = node.program.as_ref().and_then(|program| {
        let name = program.as_str().rsplit('/').next()?;
        Some(Token::Package(name.to_owned()))
    });
    let brings = |resource: &Resource| match resource {
        Resource::Unit(unit) => unit.name == node.unit,
        Resource::KubeadmUpgrade(_) => true,
        Resource::Package(other) => package
            .as_ref()
            .is_some_and(|package| other.provides().contains(package)),
        other => program
            .as_ref()
            .is_some_and(|program| other.provides().contains(program)),
    };
    (0..bench.items.len())
        .filter(|i| bench.items[*i].change.is_some() && brings(bench.items[*i].resource.as_ref()))
        .collect()
}

/// Transform: where the datastore is outside of the cluster, nothing of it is kept before another version changes it, and the
/// first server that is replaced says so.
pub(super) fn say_what_is_not_kept(benches: &mut [Workbench<'_>]) {
    for bench in benches {
        let outside = bench.member().is_some_and(|i| {
            matches!(bench.items[i].resource.as_ref(), Resource::ClusterMember(m) if m.external_datastore)
        });
        if !outside || leaves(bench).is_none() {
            continue;
        }
        // What has nothing to do is none of the heads.
        let Some(first) = heads(bench).into_iter().next() else {
            continue;
        };
        if let Some(field) = bench.items[first]
            .change
            .as_mut()
            .and_then(|change| change.fields.last_mut())
        {
            let why =
                "no copy is made: the datastore is outside of the cluster, keep one there first";
            field.reason = Some(match field.reason.take() {
                Some(reason) => format!("{reason}; {why}"),
                None => why.to_owned(),
            });
            return;
        }
    }
}

fn is_agent(bench: &Workbench<'_>) -> bool {
    ready(bench).is_some_and(|(_, node)| !node.server)
}

/// Transform: agents do not go to another version while a server cannot. Returns whether something became a problem.
pub(super) fn hold_back(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) -> bool {
    // Whoever was not reached, or cannot be worked on, has no workbench.
    let here = |server: &NodeName| benches.iter().any(|bench| bench.node == server);
    let away = inputs.servers.iter().find(|server| !here(server));
    let stuck = benches.iter().find_map(|bench| {
        let (i, node) = ready(bench)?;
        let broken = bench.items[i].problem.is_some() || bench.is_skipped(i);
        (node.server && broken).then(|| bench.node.clone())
    });
    let Some(server) = away.cloned().or(stuck) else {
        return false;
    };
    let mut moved = false;
    for bench in benches.iter_mut().filter(|bench| is_agent(bench)) {
        let Some(version) = leaves(bench) else {
            continue;
        };
        for i in heads(bench) {
            if bench.items[i].change.is_none() {
                continue;
            }
            let problem = Problem::new(format!(
                "it keeps {version}: agents follow the servers, and {server} cannot go first"
            ))
            .cure(format!("bring {server} up, then run: picluster apply"))
            .because(Some(server.clone()))
            .of(bench.items[i].addr.clone());
            bench.fail(i, problem);
            moved = true;
        }
    }
    moved
}

/// Where an entry stands: the node's place among the workbenches, and the entry's on it.
type At = (usize, usize);

/// Entries about nodes that may stand on other nodes than those they are about.
fn entries<'a>(
    benches: &'a [Workbench<'_>],
    about: impl Fn(&'a Resource) -> Option<&'a NodeName> + 'a,
) -> impl Iterator<Item = (At, &'a NodeName)> {
    benches.iter().enumerate().flat_map(move |(b, bench)| {
        let items = bench.items.iter().enumerate();
        let found: Vec<(At, &NodeName)> = items
            .filter(|(_, item)| !item.removed)
            .filter_map(|(i, item)| Some(((b, i), about(item.resource.as_ref())?)))
            .collect();
        found
    })
}

/// The node that an entry drains for another version.
fn drains(resource: &Resource) -> Option<&NodeName> {
    match resource {
        Resource::NodeDrained(drain) => {
            (drain.version.is_some() || drain.purpose == Purpose::Packages).then_some(&drain.node)
        }
        _ => None,
    }
}

fn opens(resource: &Resource) -> Option<&NodeName> {
    match resource {
        Resource::NodeSchedulable(entry) => Some(&entry.node),
        _ => None,
    }
}

/// The server whose datastore an entry keeps a copy of.
fn keeps(resource: &Resource) -> Option<&NodeName> {
    match resource {
        Resource::DatastoreSnapshot(entry) => Some(&entry.node),
        _ => None,
    }
}

fn bench_of(benches: &[Workbench<'_>], node: &NodeName) -> Option<usize> {
    benches.iter().position(|bench| bench.node == node)
}

/// Whether a node's program is replaced by this plan.
fn goes(bench: &Workbench<'_>) -> bool {
    leaves(bench).is_some() && !heads(bench).is_empty()
}

/// Transform: only what goes to another version is drained, and only before that a copy of the datastore is made; what
/// cannot be drained or kept does not go. Returns whether something moved.
pub(super) fn prepare(benches: &mut [Workbench<'_>]) -> bool {
    let mut moved = false;
    let found: Vec<(At, NodeName, bool)> = entries(benches, drains)
        .map(|(at, node)| (at, node.clone(), true))
        .chain(entries(benches, keeps).map(|(at, node)| (at, node.clone(), false)))
        .collect();
    for ((b, i), node, drain) in found {
        let target = bench_of(benches, &node)
            .filter(|t| goes(&benches[*t]) || drain && packages::due(&benches[*t]).is_some());
        if target.is_some_and(|t| drain && !goes(&benches[t])) {
            moved |= packages::drain_for(&mut benches[b], i);
        }
        let item = &mut benches[b].items[i];
        let addr = item.addr.clone();
        // A server that does not serve cannot be asked to move what runs on it; it goes on running.
        let mute = drain && target == Some(b) && item.awaits.is_some();
        let Some(target) = target.filter(|_| !mute) else {
            item.awaits = None;
            moved |= item.change.take().is_some();
            continue;
        };
        if item.problem.is_none() && !benches[b].is_skipped(i) {
            continue;
        }
        let version = leaves(&benches[target]).unwrap_or_default();
        let because = (b != target).then(|| addr.node.clone());
        let what = if drain { "drained" } else { "kept" };
        for head in heads(&benches[target]) {
            if benches[target].items[head].change.is_none() {
                continue;
            }
            let problem = Problem::new(format!(
                "it keeps {version}: before, {what} has to be done, and {addr} cannot"
            ))
            .cure(format!(
                "mend what stands in the way on {} first",
                addr.node
            ))
            .because(because.clone())
            .of(benches[target].items[head].addr.clone());
            benches[target].fail(head, problem);
            moved = true;
        }
        if let Some(i) = packages::due(&benches[target])
            && drain
            && benches[target].items[i].problem.is_none()
            && !benches[target].is_skipped(i)
        {
            // Without a change it is the reboot that is owed.
            let stays = match benches[target].items[i].change {
                Some(_) => "its packages stay as they are",
                None => "it is not rebooted",
            };
            let problem = Problem::new(format!(
                "{stays}: before, its pods have to go elsewhere, and {addr} cannot be done"
            ))
            .cure(format!(
                "mend what stands in the way on {} first",
                addr.node
            ))
            .because(because)
            .of(benches[target].items[i].addr.clone());
            benches[target].fail(i, problem);
            moved = true;
        }
    }
    moved
}

/// Transform: servers go to another version one behind the other, agents behind all of them and a few at a time; each
/// behind its drain, and everybody behind the copy of the datastore.
pub(super) fn order(benches: &mut [Workbench<'_>]) {
    let planned = |benches: &[Workbench<'_>], (b, i): At| {
        let item = &benches[b].items[i];
        item.change.is_some().then(|| item.addr.clone())
    };
    let all = |about: fn(&Resource) -> Option<&NodeName>| -> Vec<(At, NodeName)> {
        let found = entries(benches, about).map(|(at, node)| (at, node.clone()));
        found.collect()
    };
    let (drained, opened, kept) = (all(drains), all(opens), all(keeps));
    let of = |list: &[(At, NodeName)], node: &NodeName| {
        list.iter().find(|(_, n)| n == node).map(|(at, _)| *at)
    };
    // An agent goes when the servers have, so that they come first here, too; and of those the ones that an earlier run has left
    // halfway, because nobody else may go before they serve.
    let mut turns: Vec<usize> = (0..benches.len())
        .filter(|b| ready(&benches[*b]).is_some())
        .collect();
    turns.sort_by_key(|b| {
        let bench = &benches[*b];
        (is_agent(bench), servers::counts(bench))
    });
    let snapshots: BTreeSet<StepAddr> = kept
        .iter()
        .filter_map(|(at, _)| planned(benches, *at))
        .collect();
    let (mut servers, mut agents): (Vec<StepAddr>, Vec<StepAddr>) = (Vec::new(), Vec::new());
    let mut last_server: Option<StepAddr> = None;
    let mut first: Option<NodeName> = None;
    for b in turns {
        let node = benches[b].node.clone();
        let Some((ready_at, entry)) = ready(&benches[b]) else {
            continue;
        };
        let at_once = usize::try_from(entry.max_unavailable).unwrap_or(usize::MAX);
        let ready_addr = planned(benches, (b, ready_at));
        let (drain, open) = (of(&drained, &node), of(&opened, &node));
        if let (Some((ob, oi)), Some(addr)) = (open, &ready_addr)
            && benches[ob].items[oi].change.is_some()
        {
            benches[ob].items[oi].foreign.insert(addr.clone());
        }
        let end = open.and_then(|at| planned(benches, at)).or(ready_addr);
        let packages = packages::due(&benches[b]);
        let due = leaves(&benches[b]).is_some() || packages.is_some();
        let agent = is_agent(&benches[b]);
        if due {
            let mut behind: BTreeSet<StepAddr> = BTreeSet::new();
            if agent {
                behind.extend(servers.iter().cloned());
                let before = agents.len().checked_sub(at_once.max(1));
                behind.extend(before.map(|i| agents[i].clone()));
            } else {
                behind.extend(last_server.clone());
                first.get_or_insert(node.clone());
            }
            let drain = drain.filter(|at| planned(benches, *at).is_some());
            if let Some((db, di)) = drain {
                let item = &mut benches[db].items[di];
                item.foreign.extend(behind.iter().cloned());
                behind.insert(item.addr.clone());
            }
            for i in heads(&benches[b]) {
                let item = &mut benches[b].items[i];
                item.foreign.extend(behind.iter().cloned());
                item.foreign.extend(snapshots.iter().cloned());
            }
            if let Some(i) = packages {
                benches[b].items[i].foreign.extend(behind.iter().cloned());
                benches[b].reboot_behind.extend(behind);
            }
        }
        let Some(end) = end else { continue };
        if !agent {
            servers.push(end.clone());
            last_server = if due { Some(end) } else { last_server };
        } else if due {
            agents.push(end);
        }
    }
    // Its pods have gone when the server is stopped for the copy. Where another one goes first there are several, and
    // embedded etcd is kept while it runs.
    for ((b, i), node) in kept {
        if first.as_ref().is_some_and(|first| *first != node) {
            continue;
        }
        let behind = of(&drained, &node).and_then(|at| planned(benches, at));
        if benches[b].items[i].change.is_some() {
            benches[b].items[i].foreign.extend(behind);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn servers_go_forward_one_minor_at_a_time() {
        let server = NodeName::new("s1").unwrap();
        for (from, to, said) in [
            ("v1.33.5+k3s1", "v1.33.5+k3s1", ""),
            ("v1.33.5+k3s1", "v1.33.5+k3s2", ""),
            ("v1.33.5+k3s1", "v1.33.6+k3s1", ""),
            ("v1.33.5+k3s1", "v1.34.0+k3s1", ""),
            ("v1.34.0-rc2+k3s1", "v1.34.0+k3s1", ""),
            ("v1.33.5", "v1.34.1", ""),
            ("v1.33.5+k3s1", "v1.35.0+k3s1", "skips v1.34"),
            ("v1.33.5+k3s1", "v1.36.3+k3s1", "skips v1.34"),
            ("v1.33.5", "v2.0.0", "skips v1.34"),
            ("v1.33.5+k3s2", "v1.33.5+k3s1", "is older"),
            ("v1.33.5+k3s1", "v1.33.4+k3s1", "is older"),
            ("v1.34.0+k3s1", "v1.33.9+k3s1", "is older"),
            // Of what cannot be read nothing is known.
            ("v1.33.5+rke2r1", "v1.36.3+k3s1", ""),
        ] {
            let refused = refusal(&server, from, to);
            match refused {
                None => assert_eq!(said, "", "{from} to {to}"),
                Some((what, _)) => assert!(!said.is_empty() && what.contains(said), "{what}"),
            }
        }
    }
}
