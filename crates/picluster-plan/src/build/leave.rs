//! Nodes that leave the cluster: drained and deleted there by a server that stays, then cleaned of what is ours.
//!
//! Nothing of it is done that was not asked for: a node that the inventory no longer has in its cluster stays one of its
//! nodes, and says so, until somebody consents.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::{NodeName, RoleName};
use picluster_resource::Resource;
use picluster_resource::kinds::cluster_roll::{ClusterRoll, Registered};
use picluster_resource::kinds::node_absent::NodeAbsent;
use picluster_resource::kinds::node_drained::{NodeDrained, Purpose};

use super::{Inputs, Item, PLANNER, Workbench};
use crate::addr::StepAddr;
use crate::plan::{LeavingNode, Problem};

/// What the cluster says of its nodes, and the server that says it.
pub(super) struct Roll {
    /// The server's place among the workbenches.
    teller: usize,
    /// The nodes that are ours.
    ours: Vec<Registered>,
}

impl Roll {
    /// Asks the first declared server that stays and whose cluster answers.
    pub(super) fn of(benches: &[Workbench<'_>], inputs: &Inputs<'_>) -> Option<Self> {
        let stays = |bench: &Workbench<'_>| {
            inputs.servers.contains(bench.node) && !inputs.departing.contains(bench.node)
        };
        benches
            .iter()
            .enumerate()
            .filter(|(_, bench)| stays(bench))
            .find_map(|(teller, bench)| {
                let ours = bench.items.iter().find_map(|i| match i.resource.as_ref() {
                    Resource::ClusterRoll(roll) if !i.removed && !i.departs => {
                        roll.registered(&bench.observed.answers)
                    }
                    _ => None,
                })?;
                Some(Self { teller, ours })
            })
    }

    /// The servers that their cluster counts on, declared or not.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Registered> {
        let counts = |node: &&Registered| node.server && node.registered;
        self.ours.iter().filter(counts)
    }

    /// The nodes that the inventory no longer has in its cluster.
    pub(super) fn leaving(&self, inputs: &Inputs<'_>) -> BTreeMap<NodeName, LeavingNode> {
        let gone = self.ours.iter().filter(|node| !node.declared);
        gone.map(|node| {
            let leaving = LeavingNode {
                login: node.login.clone(),
                server: node.server,
                registered: node.registered,
                removed: inputs.departing.contains(&node.name),
            };
            (node.name.clone(), leaving)
        })
        .collect()
    }
}

/// The entry that takes a machine out of its cluster: the removal of what made it a member.
fn uninstall(bench: &Workbench<'_>) -> Option<usize> {
    bench
        .items
        .iter()
        .position(|i| i.removed && matches!(i.resource.as_ref(), Resource::ClusterNode(_)))
}

/// The name of a server whose etcd is a static pod of kubeadm: there it lets members go that leave.
fn stacked_etcd(teller: &Workbench<'_>) -> Option<NodeName> {
    let mut items = teller.items.iter().filter(|i| !i.removed);
    items.find_map(|i| match i.resource.as_ref() {
        Resource::Kubeadm(kubeadm) => Some(kubeadm.name.clone()),
        _ => None,
    })
}

/// Transform: on the server that tells of them, each node that leaves is drained and deleted; a machine that would leave
/// without consent, or without a cluster that lets it go, does not.
pub(super) fn add(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>, roll: Option<&Roll>) {
    let departs = |known: &&Registered| inputs.departing.contains(&known.name);
    let mut going: Vec<(&Roll, &Registered)> = roll
        .iter()
        .flat_map(|roll| roll.ours.iter().filter(departs).map(move |n| (*roll, n)))
        .collect();
    // A member that is down is deleted first: while it counts, each that is deleted before it brings the rest nearer to
    // having no majority.
    going.sort_by_key(|(_, known)| known.ready);
    for (roll, known) in going {
        let met = benches.iter().any(|bench| *bench.node == known.name);
        for bench in benches.iter_mut().filter(|b| *b.node == known.name) {
            bench.registered = known.registered;
        }
        let teller = &mut benches[roll.teller];
        let resources = parting(teller, known, met);
        for resource in resources {
            let Ok(role) = RoleName::new(PLANNER) else {
                continue;
            };
            let addr = StepAddr {
                node: teller.node.clone(),
                role,
                kind: resource.kind().to_owned(),
                key: resource.key(),
            };
            teller.items.push(Item {
                departs: true,
                ..Item::new(addr, Cow::Owned(resource))
            });
        }
    }
    let stays = inputs
        .servers
        .iter()
        .find(|server| !inputs.departing.contains(*server));
    for bench in benches {
        bench.silence();
        bench.reorder();
        let Some(i) = uninstall(bench) else { continue };
        let problem = match (inputs.departing.contains(bench.node), roll, stays) {
            // Who is reset may end its cluster; who is to be something else in it may not.
            (true, None, None) if bench.turns.is_some() => Problem::new(
                "no server that stays one answers for the cluster: nobody could let it go, and there would be nothing to come back to",
            )
            .cure("let one server be what it is, apply, and go on from there"),
            (false, ..) => Problem::new(
                "it is a node of the cluster that the inventory no longer has there: it stays one until it is taken out",
            )
            .cure("picluster apply --remove-nodes takes it out; to keep it, give it back its `kubernetes`"),
            (true, None, Some(server)) => Problem::new(format!(
                "{server} does not answer for the cluster, and nobody else stays who could drain and delete it"
            ))
            .cure(format!(
                "bring {server} up, then run the same command again"
            ))
            .because(Some(server.clone())),
            _ => continue,
        };
        let addr = bench.items[i].addr.clone();
        bench.items[i].problem = Some(problem.of(addr));
    }
}

/// What the cluster does about a node that leaves.
fn parting(teller: &Workbench<'_>, node: &Registered, met: bool) -> Vec<Resource> {
    let mut found = Vec::new();
    let find = |pick: fn(&Resource) -> bool| {
        let mut items = teller.items.iter().filter(|i| !i.removed);
        items.find(|i| pick(i.resource.as_ref()))
    };
    // As its role drains others; where pods cannot be stopped, because nobody is there who could, they are not waited for.
    if let Some(Resource::NodeDrained(how)) =
        find(|r| matches!(r, Resource::NodeDrained(_))).map(|i| i.resource.as_ref())
        && node.ready
    {
        found.push(Resource::NodeDrained(NodeDrained {
            node: node.name.clone(),
            version: None,
            purpose: Purpose::Removal,
            ..how.clone()
        }));
    }
    if let Some(Resource::ClusterRoll(roll)) =
        find(|r| matches!(r, Resource::ClusterRoll(_))).map(|i| i.resource.as_ref())
    {
        if node.registered {
            found.push(Resource::NodeAbsent(NodeAbsent {
                node: node.name.clone(),
                server: node.server,
                stacked_etcd: stacked_etcd(teller),
                timeout: 300,
                kubeconfig: roll.kubeconfig.clone(),
                kubectl: roll.kubectl.clone(),
            }));
        }
        // One that is deleted while it is away stays on the list, and comes off it when it has been cleaned, or when
        // somebody says once more that it goes.
        if !node.declared && (met || !node.registered) {
            found.push(Resource::ClusterRoll(ClusterRoll {
                nodes: Vec::new(),
                forget: vec![node.name.clone()],
                ..roll.clone()
            }));
        }
    }
    found
}

impl Workbench<'_> {
    /// A machine that cannot leave its cluster goes on working: what other roles have put there is part of it.
    fn keep_all(&mut self) {
        let Some(i) = uninstall(self) else { return };
        let Some(mut problem) = self.items[i].problem.take() else {
            return;
        };
        self.items[i].change = None;
        if self.turns.is_some() {
            return self.fail(i, problem);
        }
        for item in self.items.iter_mut().filter(|item| item.removed) {
            if item.change.take().is_some() {
                problem.skipped.push(item.addr.clone());
            }
        }
        self.items[i].problem = Some(problem);
    }

    /// Nobody has to take anything up on whose unit goes itself.
    fn silence(&mut self) {
        let unit = uninstall(self).and_then(|i| match self.items[i].resource.as_ref() {
            Resource::ClusterNode(node) => Some(node.unit.clone()),
            _ => None,
        });
        if let Some(unit) = unit {
            let takes_up = |item: &Item<'_>| matches!(item.resource.as_ref(), Resource::Unit(u) if u.name == unit);
            self.items.retain(|item| !(item.reader && takes_up(item)));
        }
    }

    /// Transform: a node is drained before it is deleted, servers are deleted one behind the other, and a machine leaves its cluster before anything of the
    /// cluster's role is taken off it.
    pub(super) fn add_departure_edges(&mut self) {
        for (i, item) in self.items.iter().enumerate() {
            let Resource::NodeDrained(drain) = item.resource.as_ref() else {
                continue;
            };
            let after = self.items.iter().position(|other| {
                other.departs
                    && matches!(other.resource.as_ref(), Resource::NodeAbsent(a) if a.node == drain.node)
            });
            if let (true, Some(j)) = (item.departs, after) {
                self.order.edge(i, j);
            }
        }
        let member = |item: &Item<'_>| matches!(item.resource.as_ref(), Resource::NodeAbsent(a) if a.server && item.departs);
        let members: Vec<usize> = (0..self.items.len())
            .filter(|i| member(&self.items[*i]))
            .collect();
        for pair in members.windows(2) {
            self.order.edge(pair[0], pair[1]);
        }
        let member = self.member();
        // Where a machine stays what it is, what makes it that stays, too.
        for j in 0..self.items.len() {
            if let Some(member) = member
                && self.items[j].removed
                && (is_manifest(&self.items[j])
                    || self.items[j].addr.role == self.items[member].addr.role)
            {
                self.order.edge(member, j);
            }
        }
        let Some(first) = uninstall(self) else { return };
        if let (Some(member), Some(_)) = (member, &self.turns) {
            self.order.edge(member, first);
        }
        for j in 0..self.items.len() {
            let other = &self.items[j];
            let goes = match &self.turns {
                // What it is to be comes behind what it was.
                Some(role) => {
                    other.addr.role == *role && Some(j) != member
                        || other.removed && is_manifest(other)
                }
                None => {
                    other.removed
                        && (is_manifest(other) || other.addr.role == self.items[first].addr.role)
                }
            };
            if j != first && goes {
                self.order.edge(first, j);
            }
        }
    }
}

/// Whether it is the cluster's rather than its machine's: whoever still serves would take it away from all.
fn is_manifest(item: &Item<'_>) -> bool {
    matches!(item.resource.as_ref(), Resource::Manifest(_))
}

/// Transform: of the servers that could write the list of the cluster's nodes, the first one does.
pub(super) fn one_list(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) {
    let writes = |item: &Item<'_>| {
        let roll = matches!(item.resource.as_ref(), Resource::ClusterRoll(_));
        roll && !item.departs && !item.removed && item.change.is_some()
    };
    let writer = inputs.servers.iter().find(|name| {
        let bench = benches.iter().find(|bench| bench.node == *name);
        bench.is_some_and(|bench| bench.items.iter().any(writes))
    });
    for bench in benches.iter_mut().filter(|b| Some(b.node) != writer) {
        for item in bench.items.iter_mut().filter(|i| writes(i)) {
            item.change = None;
        }
    }
}

/// The deletions of servers: the steps of those that are down, and where the entries of those that are up stand.
pub(super) fn deletions(
    benches: &[Workbench<'_>],
    roll: Option<&Roll>,
) -> (Vec<StepAddr>, Vec<(usize, usize)>) {
    let ready = |name: &NodeName| {
        let known = roll.and_then(|roll| roll.ours.iter().find(|n| n.name == *name));
        known.is_some_and(|node| node.ready)
    };
    let (mut away, mut up) = (Vec::new(), Vec::new());
    for (b, bench) in benches.iter().enumerate() {
        for (i, item) in bench.items.iter().enumerate() {
            let Resource::NodeAbsent(absent) = item.resource.as_ref() else {
                continue;
            };
            if !item.departs || !absent.server || item.change.is_none() {
                continue;
            }
            match ready(&absent.node) {
                true => up.push((b, i)),
                false => away.push(item.addr.clone()),
            }
        }
    }
    (away, up)
}

/// A name comes off the list when its machine has been cleaned, or not at all.
fn forget(benches: &mut [Workbench<'_>]) {
    let mut cleaned: BTreeMap<NodeName, Option<Vec<StepAddr>>> = BTreeMap::new();
    for bench in benches.iter() {
        let removed = || bench.items.iter().enumerate().filter(|(_, i)| i.removed);
        let stuck = |(i, item): (usize, &Item<'_>)| item.problem.is_some() || bench.is_skipped(i);
        let done = removed().filter(|(_, i)| i.change.is_some());
        let all = done.map(|(_, i)| i.addr.clone()).collect();
        let all = (!removed().any(stuck)).then_some(all);
        cleaned.insert(bench.node.clone(), all);
    }
    for bench in benches {
        for item in bench.items.iter_mut().filter(|i| i.departs) {
            let Resource::ClusterRoll(roll) = item.resource.as_ref() else {
                continue;
            };
            for node in roll.forget.clone() {
                match cleaned.get(&node) {
                    Some(Some(steps)) => item.foreign.extend(steps.iter().cloned()),
                    Some(None) => item.change = None,
                    // It cannot be reached.
                    None => {}
                }
            }
        }
    }
}

/// Transform: what is taken off a machine that leaves comes behind its deletion in the cluster, and servers that all go
/// come behind the agents.
pub(super) fn order(benches: &mut [Workbench<'_>], inputs: &Inputs<'_>) {
    let mut deleted: BTreeMap<NodeName, StepAddr> = BTreeMap::new();
    for item in benches.iter().flat_map(|bench| &bench.items) {
        if let Resource::NodeAbsent(absent) = item.resource.as_ref()
            && item.departs
            && item.change.is_some()
        {
            deleted.insert(absent.node.clone(), item.addr.clone());
        }
    }
    forget(benches);
    // Who comes back is no server, or agent, that goes for good.
    let is_server =
        |bench: &Workbench<'_>| bench.turns.is_none() && inputs.servers.contains(bench.node);
    let agents: Vec<StepAddr> = benches
        .iter()
        .filter(|bench| inputs.departing.contains(bench.node) && bench.turns.is_none())
        .filter(|bench| !is_server(bench))
        .filter_map(|bench| {
            let item = &bench.items[uninstall(bench)?];
            item.change.is_some().then(|| item.addr.clone())
        })
        .collect();
    let seen_to: BTreeSet<NodeName> = benches
        .iter()
        .flat_map(|bench| {
            bench
                .items
                .iter()
                .enumerate()
                .map(move |(i, item)| (bench, i, item))
        })
        .filter(|(bench, i, item)| item.departs && item.problem.is_none() && !bench.is_skipped(*i))
        .filter_map(|(_, _, item)| match item.resource.as_ref() {
            Resource::NodeAbsent(absent) => Some(absent.node.clone()),
            _ => None,
        })
        .collect();
    for bench in benches {
        if !inputs.departing.contains(bench.node) {
            continue;
        }
        if bench.registered
            && !seen_to.contains(bench.node)
            && let Some(i) = uninstall(bench)
                .filter(|i| bench.items[*i].problem.is_none() && !bench.is_skipped(*i))
        {
            let addr = bench.items[i].addr.clone();
            let problem = Problem::new(
                "no server can drain and delete it in this plan, and the cluster still counts on it: nothing is taken off it",
            )
            .cure("see what keeps the servers from being planned, then run the same command again");
            bench.items[i].problem = Some(problem.of(addr));
        }
        bench.keep_all();
        let mut behind: Vec<StepAddr> = deleted.get(bench.node).cloned().into_iter().collect();
        if is_server(bench) {
            behind.extend(agents.iter().cloned());
        }
        for item in &mut bench.items {
            if item.removed {
                item.foreign.extend(behind.iter().cloned());
            }
        }
    }
}
