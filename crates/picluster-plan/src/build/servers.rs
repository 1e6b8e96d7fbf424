//! The servers of the cluster: which of them are members, and which steps take one down.

use std::collections::BTreeMap;

use picluster_model::NodeName;
use picluster_resource::{Effect, Resource};

use super::{Inputs, Workbench, across};
use crate::members::{Member, MemberStanding, takes_down};
use crate::plan::{NodePlan, Step};

/// What is known of the declared servers.
pub(super) fn members(
    inputs: &Inputs<'_>,
    nodes: &BTreeMap<NodeName, NodePlan>,
    benches: &[Workbench<'_>],
) -> BTreeMap<NodeName, Member> {
    let unknown = |why: &str| Member {
        standing: MemberStanding::Unknown(why.to_owned()),
        server: None,
    };
    let of = |name: &NodeName| {
        if inputs.departing.contains(name) {
            // Nobody has to wait for one that goes: the others have to do without it.
            return Member {
                standing: MemberStanding::Blank,
                server: None,
            };
        }
        let Some(bench) = benches.iter().find(|bench| bench.node == name) else {
            let why = nodes.get(name).map(|node| across::found(&node.state));
            return unknown(why.unwrap_or("was not looked at"));
        };
        let declared = bench.items.iter().find_map(|i| match i.resource.as_ref() {
            Resource::ClusterServer(server) => Some(server),
            _ => None,
        });
        let Some(server) = declared else {
            return unknown("has no role that says how one sees it serve (cluster_server)");
        };
        let standing = match bench.observed.answers.path(&server.data) {
            Ok(Some(_)) => MemberStanding::Member,
            Ok(None) => MemberStanding::Blank,
            Err(diagnosis) => MemberStanding::Unknown(diagnosis.what),
        };
        Member {
            standing,
            server: Some(server.clone()),
        }
    };
    let servers = inputs.servers.iter();
    servers.map(|name| (name.clone(), of(name))).collect()
}

/// Transform: says of every step that can take a member down that it does.
pub(super) fn announce(steps: &mut [Step], members: &BTreeMap<NodeName, Member>) {
    let words = if members.len() == 1 {
        "the only server: the API does not answer meanwhile, what runs on the nodes goes on"
    } else {
        "a server goes down; before that all others are seen to serve, and after it the server itself"
    };
    for step in steps {
        let Some(member) = members.get(&step.addr.node) else {
            continue;
        };
        if member.standing != MemberStanding::Blank && takes_down(step, member.server.as_ref()) {
            let effect = Effect::ServerDown(words.into());
            step.change.effects.insert(effect);
        }
    }
}
