//! How a running cluster comes to another version: whether it may at all, and who goes when.
//!
//! Servers first, agents behind them and a few at a time: a kubelet must not be newer than the API server it speaks to
//! (<https://kubernetes.io/releases/version-skew-policy/>), and a release that does not start must not be on all nodes.

use std::collections::BTreeSet;

use picluster_model::NodeName;
use picluster_model::kubernetes::{KubernetesVersion, Upgrade};
use picluster_resource::kinds::cluster_node::{ClusterNode, ClusterSays};
use picluster_resource::{Action, Change, Observation, Resource, Seen, Token};

use super::{Inputs, Workbench};
use crate::addr::StepAddr;
use crate::plan::Problem;

/// The entry that waits until its node is Ready.
fn ready<'a>(bench: &'a Workbench<'_>) -> Option<(usize, &'a ClusterNode)> {
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

/// What brings another version to a node: its program, and the start of its unit.
fn heads(bench: &Workbench<'_>) -> Vec<usize> {
    let Some((_, node)) = ready(bench) else {
        return Vec::new();
    };
    let program = node.program.clone().map(Token::Path);
    let brings = |resource: &Resource| match resource {
        Resource::Unit(unit) => unit.name == node.unit,
        other => program
            .as_ref()
            .is_some_and(|program| other.provides().contains(program)),
    };
    (0..bench.items.len())
        .filter(|i| bench.items[*i].change.is_some() && brings(bench.items[*i].resource.as_ref()))
        .collect()
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

/// Transform: agents that go to another version wait for all servers, and for those before them.
pub(super) fn order(benches: &mut [Workbench<'_>]) {
    let addr = |bench: &Workbench<'_>| {
        let (i, _) = ready(bench)?;
        let item = &bench.items[i];
        item.change.is_some().then(|| item.addr.clone())
    };
    let servers: BTreeSet<StepAddr> = benches
        .iter()
        .filter(|bench| ready(bench).is_some_and(|(_, node)| node.server))
        .filter_map(addr)
        .collect();
    let mut gone: Vec<StepAddr> = Vec::new();
    for bench in benches {
        if !is_agent(bench) || leaves(bench).is_none() {
            continue;
        }
        let Some((at_once, mine)) = ready(bench)
            .map(|(_, node)| node.max_unavailable)
            .zip(addr(bench))
        else {
            continue;
        };
        let at_once = usize::try_from(at_once).unwrap_or(usize::MAX).max(1);
        let mut behind = servers.clone();
        behind.extend(gone.len().checked_sub(at_once).map(|i| gone[i].clone()));
        for i in heads(bench) {
            bench.items[i].foreign.extend(behind.iter().cloned());
        }
        gone.push(mine);
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
