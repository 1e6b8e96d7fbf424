//! Who may be a member of the cluster, and who may found it: decided from what all nodes remember,
//! before anything is compared.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_model::kubernetes::{Distribution, KubernetesRole};
use picluster_resource::kinds::cluster_member::{Memory, Registration};
use picluster_resource::{Diagnosis, Observation, Resource, Seen};

use super::turn::{is_other, leaves_as};
use super::{Inputs, NodeInput, Part, Workbench, across};
use crate::bootstrap::{Choice, Endpoint, Server, Situation, Stop, choose};
use crate::numbers::Findings;
use crate::plan::{NodePlan, NodeState, Problem};

/// What a member remembers, and where its entry stands.
struct Found {
    item: usize,
    role: KubernetesRole,
    distribution: Distribution,
    /// The registration address it asks at.
    address: Option<String>,
    memory: Memory,
}

fn look(bench: &Workbench<'_>) -> Result<Option<Found>, Diagnosis> {
    let Some(item) = bench.member() else {
        return Ok(None);
    };
    let resource = bench.items[item].resource.as_ref();
    let seen = resource.observe(&bench.observed.answers, bench.ctx)?;
    Ok(match (resource, seen) {
        (Resource::ClusterMember(member), Observation::ClusterMember(Seen::Now(memory))) => {
            Some(Found {
                item,
                role: member.role,
                distribution: member.distribution,
                address: member.registration.clone(),
                memory,
            })
        }
        _ => None,
    })
}

impl Workbench<'_> {
    /// The entry that says whether its node may be a member of the cluster.
    pub(super) fn member(&self) -> Option<usize> {
        let says = |resource: &Resource| matches!(resource, Resource::ClusterMember(_));
        self.items.iter().position(|i| says(i.resource.as_ref()))
    }
}

/// Transform: a node that cannot be a member is not worked on at all; where a cluster may not be
/// founded, nothing of it is written anywhere.
pub(super) fn keep(
    benches: &mut Vec<Workbench<'_>>,
    nodes: &mut BTreeMap<NodeName, NodePlan>,
    inputs: &Inputs<'_>,
    weighed: &mut BTreeMap<NodeName, Findings>,
) {
    let mut found: BTreeMap<NodeName, Found> = BTreeMap::new();
    // These can never be nodes of a cluster. Who merely cannot be read may remember one all the same.
    let mut unfit: BTreeSet<NodeName> = BTreeSet::new();
    benches.retain(|bench| {
        let its = weighed.get_mut(bench.node);
        let problems = its
            .map(|w| std::mem::take(&mut w.refused))
            .unwrap_or_default();
        if problems.is_empty() {
            return true;
        }
        unfit.insert(bench.node.clone());
        let state = NodeState::Blocked { problems };
        nodes.insert(bench.node.clone(), NodePlan::new(state));
        false
    });
    benches.retain(|bench| match look(bench) {
        Ok(member) => {
            found.extend(member.map(|m| (bench.node.clone(), m)));
            true
        }
        Err(diagnosis) => {
            let never = bench.member().is_some_and(|i| {
                matches!(bench.items[i].resource.as_ref(), Resource::ClusterMember(m) if m.unfit(bench.ctx).is_some())
            });
            if never {
                unfit.insert(bench.node.clone());
            }
            nodes.insert(bench.node.clone(), NodePlan::blocked(diagnosis.into()));
            false
        }
    });
    let Some(distribution) = found.values().map(|f| f.distribution).next() else {
        return;
    };
    let servers: Vec<(NodeName, Server)> = inputs
        .servers
        .iter()
        .map(|name| (name.clone(), server(name, found.get(name), nodes, inputs)))
        .collect();
    let remembering: Vec<(NodeName, String)> = found
        .iter()
        .filter_map(|(name, f)| {
            // A server that was an agent counts as that; one that had begun to join remembers as well, whatever it is to be.
            let agent = (f.role == KubernetesRole::Agent).then_some(&f.memory.agent_ca);
            let ca = agent.and_then(Option::clone).or(f.memory.begun_ca.clone());
            Some((name.clone(), ca?))
        })
        .collect();
    let choice = choose(&Situation {
        servers: &servers,
        distribution,
        remembering: &remembering,
        unasked: &unasked(benches, &unfit, nodes, inputs),
        endpoint: endpoint(&found),
        forced: inputs.bootstrap.as_ref(),
    });
    let stop = match &choice {
        Some(Choice::Stop(stop)) => Some(stop.clone()),
        Some(Choice::Register(server)) => Some(registers(server.clone(), &found)),
        _ => alone(inputs, &found, benches),
    };
    if stop.is_none()
        && let Some(choice) = &choice
    {
        give_parts(benches, &found, choice);
    }
    let the_ca = servers.iter().find_map(|(_, s)| match s {
        Server::Serving(ca) | Server::Stopped(ca) => ca.clone(),
        _ => None,
    });
    for bench in benches.iter_mut() {
        let Some(member) = found.get(bench.node) else {
            continue;
        };
        let memory = &member.memory;
        // Who was an agent is blank as a server.
        let blank = memory.removed || !memory.datastore;
        let kept_out = stop
            .as_ref()
            .filter(|s| !s.members_go_on || blank && member.role == KubernetesRole::Server);
        let remembered = match member.role {
            KubernetesRole::Agent => memory.agent_ca.as_ref().or(memory.begun_ca.as_ref()),
            KubernetesRole::Server => memory.begun_ca.as_ref(),
        };
        let foreign = match (remembered, &the_ca) {
            (Some(mine), Some(theirs)) => mine != theirs,
            _ => false,
        };
        let change_over = match bench.turns {
            Some(_) => None,
            None => {
                let observed = bench.observed;
                let known =
                    || leaves_as(&observed.declared, &observed.answers, bench.ctx).is_some();
                changes_over(bench.node, member, stop.is_none(), known)
            }
        };
        let (what, cure, because) = if let Some((what, cure)) = change_over {
            (what, cure, None)
        } else if let Some(stop) = kept_out {
            let because = (stop.server != *bench.node).then(|| stop.server.clone());
            (stop.what.clone(), stop.cure.clone(), because)
        } else if foreign {
            let rite = match member.distribution {
                Distribution::K3s => format!(
                    "stop k3s-agent on {0}, delete /var/lib/rancher/k3s/agent there",
                    bench.node
                ),
                Distribution::Kubeadm => format!("kubeadm reset -f on {}", bench.node),
            };
            (
                "it remembers another cluster than the inventory's server runs".to_owned(),
                format!("if it is to change over: {rite}, then run: picluster apply"),
                None,
            )
        } else {
            continue;
        };
        let addr = bench.items[member.item].addr.clone();
        let problem = Problem::new(what).cure(cure).because(because);
        bench.items[member.item].problem = Some(problem.of(addr));
    }
}

/// A member that is to become something else: an agent a server, or a server an agent. It leaves first, because what it was
/// does not leave it by itself, and would go on beside what it is to be.
/// `known` asks whether there is a record of what it was.
fn changes_over(
    node: &NodeName,
    found: &Found,
    serves: bool,
    known: impl Fn() -> bool,
) -> Option<(String, String)> {
    let memory = &found.memory;
    let (is, wanted) = match found.role {
        KubernetesRole::Agent if memory.datastore => ("a server", "an agent"),
        KubernetesRole::Server if serves && is_other(found.role, memory) => {
            ("an agent", "a server")
        }
        KubernetesRole::Agent | KubernetesRole::Server => return None,
    };
    Some((
        format!(
            "it is {is} of its cluster and is to be {wanted}: it has to leave the cluster before it comes back as that"
        ),
        match found.distribution {
            Distribution::K3s if !known() => {
                let script = match found.role {
                    KubernetesRole::Agent => "k3s-uninstall.sh",
                    KubernetesRole::Server => "k3s-agent-uninstall.sh",
                };
                format!(
                    "nothing on it says how it was made, so do it by hand: kubectl drain {node} --ignore-daemonsets, kubectl delete node {node}, on the node sudo {script}; then: picluster apply"
                )
            }
            Distribution::K3s => format!(
                "picluster apply --remove-nodes: it is drained, leaves as what it is, loses what k3s keeps on it, and joins as {wanted}; or declare it {is} again"
            ),
            Distribution::Kubeadm => format!(
                "take `kubernetes` away from {node} and run picluster apply --remove-nodes; then declare it {wanted} and run picluster apply"
            ),
        },
    ))
}

/// A server that has its datastore for itself while others are declared, which is nothing they can join.
fn alone(
    inputs: &Inputs<'_>,
    found: &BTreeMap<NodeName, Found>,
    benches: &[Workbench<'_>],
) -> Option<Stop> {
    if inputs.servers.len() < 2 || !benches.iter().any(shares) {
        return None;
    }
    let single = |name: &&NodeName| found.get(*name).is_some_and(|f| f.memory.sqlite);
    let server = inputs.servers.iter().find(single)?;
    Some(Stop {
        what: format!("{server} keeps its cluster in SQLite, which other servers cannot join"),
        cure: format!(
            "turn it into etcd, which cannot be undone: on {server}, save /var/lib/rancher/k3s/server, write `cluster-init: true` into /etc/rancher/k3s/config.yaml.d/50-cluster-init.yaml and run systemctl restart k3s; then: picluster apply"
        ),
        server: server.clone(),
        members_go_on: true,
    })
}

/// Whether a node is a server that shares its datastore with others.
fn shares(bench: &Workbench<'_>) -> bool {
    let one = |resource: &Resource| match resource {
        Resource::ClusterFounding(_) => true,
        Resource::ClusterMember(member) => member.external_datastore,
        Resource::Kubeadm(kubeadm) => kubeadm.is_one_of_several(),
        _ => false,
    };
    bench.items.iter().any(|i| one(i.resource.as_ref()))
}

/// Says on every server what it does: who founds, who joins and where, who is a member.
fn give_parts(benches: &mut [Workbench<'_>], found: &BTreeMap<NodeName, Found>, choice: &Choice) {
    // Who has said that it is up is a better address than who is about to be.
    let up = |name: &NodeName| {
        found
            .get(name)
            .is_some_and(|f| f.memory.up && !f.memory.removed)
    };
    let names: Vec<NodeName> = benches.iter().map(|b| b.node.clone()).collect();
    for bench in benches {
        let Some(member) = found.get(bench.node) else {
            continue;
        };
        if member.role != KubernetesRole::Server || !shares(bench) {
            continue;
        }
        let memory = &member.memory;
        let part = match choice {
            Choice::Found(name) if name == bench.node => Part::Founds,
            _ if memory.datastore && !memory.removed => Part::Member,
            _ => Part::Joins,
        };
        bench.part = Some(part);
        bench.runs = memory.serving;
        let named = match choice {
            Choice::Found(name) | Choice::Join(name) | Choice::Resume(name) => Some(name),
            Choice::Register(_) | Choice::Stop(_) => None,
        };
        let other = |name: &&NodeName| *name != bench.node;
        let via = named
            .filter(|name| other(name) && (up(name) || matches!(choice, Choice::Found(_))))
            .or_else(|| names.iter().find(|name| other(name) && up(name)))
            .or_else(|| named.filter(other));
        for item in &mut bench.items {
            match item.resource.as_ref() {
                Resource::ClusterFounding(founding) => {
                    let mut founding = founding.clone();
                    founding.founds = part == Part::Founds;
                    item.resource = Cow::Owned(Resource::ClusterFounding(founding));
                }
                Resource::ClusterJoin(join) => {
                    let mut join = join.clone();
                    join.via = via.cloned();
                    item.resource = Cow::Owned(Resource::ClusterJoin(join));
                }
                Resource::Kubeadm(kubeadm) => {
                    let mut kubeadm = kubeadm.clone();
                    kubeadm.joins = part == Part::Joins;
                    item.resource = Cow::Owned(Resource::Kubeadm(kubeadm));
                }
                _ => {}
            }
        }
    }
}

/// What the servers without a datastore heard at the registration address: one that heard a cluster is believed.
fn endpoint(found: &BTreeMap<NodeName, Found>) -> Endpoint {
    let heard = || {
        found
            .values()
            .filter_map(|f| f.memory.registration.as_ref())
    };
    let cluster = heard().find_map(|r| match r {
        Registration::Cluster(ca) => Some(ca.clone()),
        Registration::Open | Registration::Silent => None,
    });
    match cluster {
        Some(ca) => Endpoint::Answers(Some(ca)),
        None if heard().any(|r| *r == Registration::Open) => Endpoint::Answers(None),
        None if heard().next().is_some() => Endpoint::Silent,
        None => Endpoint::NotAsked,
    }
}

/// A server is to join a cluster that answers at the registration address, which this version does not do: it stays
/// as it is rather than to found another one.
fn registers(server: NodeName, found: &BTreeMap<NodeName, Found>) -> Stop {
    let member = found.get(&server);
    let address = member.and_then(|f| f.address.as_deref());
    let address = address.unwrap_or("the registration address");
    let who = match member.and_then(|f| f.memory.registration.as_ref()) {
        Some(Registration::Cluster(ca)) => {
            format!(
                "a cluster answers at {address} (CA {}…)",
                &ca[..ca.len().min(12)]
            )
        }
        _ => format!(
            "somebody answers at {address}, and {server} has neither curl nor openssl to ask who"
        ),
    };
    Stop {
        what: format!(
            "{server} is blank, and {who}: it would found a second cluster, and this version does not join a server to one"
        ),
        cure: format!(
            "declare the servers of that cluster, or another endpoint; to found a cluster all the same: picluster apply --bootstrap {server}"
        ),
        server,
        members_go_on: false,
    }
}

/// Why a node was not looked at, in words.
fn closed(name: &NodeName, nodes: &BTreeMap<NodeName, NodePlan>, inputs: &Inputs<'_>) -> String {
    let why = match (inputs.nodes.get(name), nodes.get(name)) {
        (Some(NodeInput::Closed(state)), _) => across::found(state),
        (_, Some(plan)) => across::found(&plan.state),
        _ => "was not looked at",
    };
    why.to_owned()
}

/// The agents that were not looked at: nobody knows what they remember.
fn unasked(
    benches: &[Workbench<'_>],
    unfit: &BTreeSet<NodeName>,
    nodes: &BTreeMap<NodeName, NodePlan>,
    inputs: &Inputs<'_>,
) -> Vec<(NodeName, String)> {
    let here =
        |name: &NodeName| unfit.contains(name) || benches.iter().any(|bench| bench.node == name);
    let away = inputs.agents.iter().filter(|name| !here(name));
    away.filter(|name| !inputs.departing.contains(*name))
        .map(|name| (name.clone(), closed(name, nodes, inputs)))
        .collect()
}

fn server(
    name: &NodeName,
    found: Option<&Found>,
    nodes: &BTreeMap<NodeName, NodePlan>,
    inputs: &Inputs<'_>,
) -> Server {
    let Some(found) = found else {
        return Server::Unreachable(closed(name, nodes, inputs));
    };
    let memory = &found.memory;
    match (memory.datastore, &memory.agent_ca) {
        (true, _) if memory.removed => Server::Removed(memory.server_ca.clone()),
        (true, _) if memory.serving => Server::Serving(memory.server_ca.clone()),
        (true, _) => Server::Stopped(memory.server_ca.clone()),
        (false, Some(ca)) if memory.server_ca.is_none() => Server::WasAgent(ca.clone()),
        (false, _) => Server::Blank,
    }
}
