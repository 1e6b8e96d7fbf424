//! Holds the numbers of all nodes against what they are to do in the cluster.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_model::kubernetes::KubernetesRole;
use picluster_resource::{Numbers, Query, Resource};

use super::{Inputs, Workbench};
use crate::declare::Declared;
use crate::numbers::{Findings, Known, findings};

/// What to ask a node about numbers, by what is declared on it; with `measure` also what only a machine that is to hold an etcd
/// tells, and no other: see [`Numbers::flush_query`].
#[must_use]
pub fn numbers_asked(declared: &[Declared], measure: bool) -> Vec<Query> {
    let resources = || declared.iter().map(|d| &d.resource);
    let mut asked = Vec::new();
    if resources().any(|r| role(r).is_some()) {
        asked.push(Numbers::query());
    }
    if measure && resources().any(is_of_etcd) {
        asked.push(Numbers::flush_query());
    }
    asked
}

fn role(resource: &Resource) -> Option<KubernetesRole> {
    match resource {
        Resource::ClusterMember(member) => Some(member.role),
        _ => None,
    }
}

/// Whether its node keeps, or is to keep, an etcd.
fn is_of_etcd(resource: &Resource) -> bool {
    match resource {
        Resource::ClusterFounding(_) => true,
        Resource::Kubeadm(kubeadm) => kubeadm.role == KubernetesRole::Server,
        _ => false,
    }
}

/// What the numbers say, by node.
pub(super) fn weigh(
    benches: &[Workbench<'_>],
    inputs: &Inputs<'_>,
) -> BTreeMap<NodeName, Findings> {
    let mut known: BTreeMap<&NodeName, Known<'_>> = BTreeMap::new();
    for bench in benches {
        let items = || {
            bench
                .items
                .iter()
                .filter(|i| !i.removed)
                .map(|i| i.resource.as_ref())
        };
        let (Some(role), Some(numbers)) =
            (items().find_map(role), Numbers::of(&bench.observed.answers))
        else {
            continue;
        };
        let facts = &bench.observed.facts;
        let named = items().any(|r| matches!(r, Resource::Hostname(_)));
        let moved = |r: &Resource| matches!(r, Resource::Mount(mount) if numbers.moved_by(mount.path.as_str()));
        known.insert(
            bench.node,
            Known {
                role,
                etcd: items().any(is_of_etcd),
                memory_mib: facts.memory_mib,
                skew_s: facts.now.skew_s,
                hostname: if named { "" } else { &facts.now.hostname },
                elsewhere: items().any(moved),
                numbers,
            },
        );
    }
    let mut found = findings(&known);
    found.retain(|name, _| !inputs.departing.contains(name));
    found
}
