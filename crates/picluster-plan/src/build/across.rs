//! What nodes need of each other: order between their steps, and what becomes of those whose other
//! node cannot give what they wait for.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_model::secret::SecretRef;
use picluster_resource::kinds::file::Presence;
use picluster_resource::{ClusterToken, Kind, Resource, Token};

use super::questions::records;
use super::{Inputs, NodeInput, Part, Workbench, leave, packages, servers, turn, upgrade};
use crate::addr::StepAddr;
use crate::fingerprint::secrets_of;
use crate::graph::{Cycle, Order};
use crate::owned;
use crate::plan::{NodePlan, NodeState, Problem, Step, ValueSource};

/// Where something stands: the node's place among the workbenches, and the item's on it.
type At = (usize, usize);

/// Who provides what, in the order of nodes and declarations.
struct Offers(BTreeMap<ClusterToken, Vec<At>>);

impl Offers {
    fn of(benches: &[Workbench<'_>]) -> Self {
        let mut offers: BTreeMap<ClusterToken, Vec<At>> = BTreeMap::new();
        for (b, bench) in benches.iter().enumerate() {
            for (i, item) in bench.items.iter().enumerate() {
                if item.removed {
                    continue;
                }
                for token in item.resource.provides() {
                    // What a cluster has for a server that joins it does not come from that server.
                    let own = matches!(token, Token::Cluster(ClusterToken::Value(_)));
                    if own && bench.part == Some(Part::Joins) {
                        continue;
                    }
                    if let Token::Cluster(token) = token {
                        offers.entry(token).or_default().push((b, i));
                    }
                }
            }
        }
        Self(offers)
    }

    fn of_token(&self, token: &ClusterToken, me: At) -> impl Iterator<Item = At> {
        self.0
            .get(token)
            .into_iter()
            .flatten()
            .copied()
            .filter(move |at| *at != me)
    }
}

/// What comes of a need.
enum Answer {
    /// It is there.
    Given,
    /// This step brings it.
    Step(StepAddr),
    /// As it was left by an earlier run; the one who could say more was not reached.
    AsItWas,
    /// It does not come.
    Never(Box<Problem>),
}

/// Transform: follow-ups and causes on every node, and the edges between nodes. What cannot get what
/// it needs from another node is a problem, and so is everything behind it, on any node.
pub(super) fn settle(
    benches: &mut [Workbench<'_>],
    inputs: &Inputs<'_>,
    roll: Option<&leave::Roll>,
) {
    let offers = Offers::of(benches);
    // A node's failure may take away what another node waits for, so until nothing moves.
    loop {
        let prepared = upgrade::prepare(benches);
        let failed = refuse(benches, &offers, inputs, false);
        let held = upgrade::hold_back(benches, inputs) | turn::hold_back(benches);
        if !servers::hold_back(benches, inputs) && !held && !failed && !prepared {
            break;
        }
    }
    drop_unasked(benches);
    leave::one_list(benches, inputs);
    for bench in benches.iter_mut() {
        bench.add_follow_ups();
        bench.name_causes();
    }
    // What merely follows (a restart that has to be verified) also waits for other nodes.
    while refuse(benches, &offers, inputs, true) {}
    revoke_last(benches);
    packages::await_ready(benches);
    upgrade::say_what_is_not_kept(benches);
    upgrade::order(benches);
    leave::order(benches, inputs);
    servers::in_turn(benches, inputs, roll);
}

/// Transform: a token is made where somebody joins with it in the same run, by one server that has the cluster, and nowhere
/// else.
fn drop_unasked(benches: &mut [Workbench<'_>]) {
    let asked: BTreeSet<Token> = benches
        .iter()
        .flat_map(|bench| &bench.items)
        .filter(|item| item.change.is_some())
        .flat_map(|item| item.resource.requires())
        .collect();
    // One that an earlier run has left is taken: a second one beside it would have certificates encrypted with another key.
    let mut made: BTreeSet<Token> = benches
        .iter()
        .filter(|bench| bench.part != Some(Part::Joins))
        .flat_map(|bench| bench.items.iter().map(move |item| (bench, item)))
        .filter(|(bench, item)| {
            let valid = item.change.is_none() && item.problem.is_none();
            let token = matches!(item.resource.as_ref(), Resource::JoinToken(t) if t.state == Presence::Present);
            token && valid && item.resource.yields(&bench.observed.answers).is_some()
        })
        .flat_map(|(_, item)| item.resource.provides())
        .collect();
    for bench in benches.iter_mut() {
        let joins = bench.part == Some(Part::Joins);
        for item in &mut bench.items {
            let Resource::JoinToken(token) = item.resource.as_ref() else {
                continue;
            };
            if token.state != Presence::Present || item.change.is_none() {
                continue;
            }
            let values = || {
                let of_cluster = |token: &Token| matches!(token, Token::Cluster(_));
                token.provides().into_iter().filter(of_cluster)
            };
            if joins || !values().any(|given| asked.contains(&given) && !made.contains(&given)) {
                item.change = None;
            } else {
                made.extend(values());
            }
        }
    }
}

/// Transform: a token is revoked behind all that join with it. That a node is Ready is no sign of that: kubeadm may have been
/// broken off behind the moment in which the kubelet had what it needs.
fn revoke_last(benches: &mut [Workbench<'_>]) {
    let mut joining: BTreeMap<String, BTreeSet<StepAddr>> = BTreeMap::new();
    for item in benches.iter().flat_map(|bench| &bench.items) {
        if !matches!(item.resource.as_ref(), Resource::Kubeadm(_)) || item.change.is_none() {
            continue;
        }
        for need in item.resource.requires() {
            if let Token::Cluster(ClusterToken::Value(name)) = need {
                joining.entry(name).or_default().insert(item.addr.clone());
            }
        }
    }
    for item in benches.iter_mut().flat_map(|bench| &mut bench.items) {
        if let Resource::JoinToken(token) = item.resource.as_ref()
            && token.state == Presence::Absent
            && let Some(steps) = joining.get(&token.name)
        {
            item.foreign.extend(steps.iter().cloned());
        }
    }
}

/// Looks at every need once. Returns whether something became a problem.
fn refuse(
    benches: &mut [Workbench<'_>],
    offers: &Offers,
    inputs: &Inputs<'_>,
    connect: bool,
) -> bool {
    let mut moved = false;
    for b in 0..benches.len() {
        for i in 0..benches[b].items.len() {
            let item = &benches[b].items[i];
            if item.change.is_none() {
                continue;
            }
            let mut needs: BTreeSet<ClusterToken> = item.awaits.clone().into_iter().collect();
            needs.extend(
                item.resource
                    .requires()
                    .into_iter()
                    .filter_map(|t| match t {
                        Token::Cluster(token) => Some(token),
                        _ => None,
                    }),
            );
            let mut behind = BTreeSet::new();
            for need in needs {
                match answer(benches, offers, inputs, (b, i), &need) {
                    Answer::Given => {}
                    Answer::Step(addr) => {
                        behind.insert(addr);
                    }
                    Answer::AsItWas => {
                        benches[b].items[i].change = None;
                        moved = true;
                    }
                    // Who cannot join keeps no token alive.
                    Answer::Never(_)
                        if matches!(
                            benches[b].items[i].resource.as_ref(),
                            Resource::JoinToken(_)
                        ) => {}
                    Answer::Never(problem) => {
                        benches[b].fail(i, *problem);
                        moved = true;
                    }
                }
                if benches[b].items[i].change.is_none() {
                    break;
                }
            }
            if connect {
                benches[b].items[i].foreign = behind;
            }
        }
    }
    moved
}

fn answer(
    benches: &[Workbench<'_>],
    offers: &Offers,
    inputs: &Inputs<'_>,
    me: At,
    need: &ClusterToken,
) -> Answer {
    let item = &benches[me.0].items[me.1];
    let awaits = item.awaits.as_ref() == Some(need);
    let at = |(b, i): At| &benches[b].items[i];
    let broken = |p: &At| at(*p).problem.is_some() || benches[p.0].is_skipped(p.1);
    let settled = |p: &At| !broken(p) && at(*p).change.is_none();
    // A server that joins gives its API to itself alone: the others have that of the members.
    let joins = |p: &At| *need == ClusterToken::Api && benches[p.0].part == Some(Part::Joins);
    let mut providers: Vec<At> = offers
        .of_token(need, me)
        .filter(|p| p.0 == me.0 || !joins(p))
        .collect();
    // A server asks its own API: where that does not answer, no other one's will do.
    providers.sort_by_key(|p| p.0 != me.0);
    if !awaits && providers.iter().any(settled) {
        return Answer::Given;
    }
    let never = |what: String, cure: String, because: Option<NodeName>| {
        let problem = Problem::new(what).cure(cure).because(because);
        Answer::Never(Box::new(problem.of(item.addr.clone())))
    };
    let working = |p: &&At| !broken(p) && at(**p).change.is_some();
    if let Some(p) = providers.iter().find(working) {
        let other = at(*p).addr.clone();
        // On one node the order of its own graph holds.
        let circle = p.0 == me.0 && benches[me.0].order.all_before(p.1).contains(&me.1);
        return match (circle, awaits) {
            (false, _) => Answer::Step(other),
            (true, false) => Answer::Given,
            (true, true) => never(
                format!("{need} comes with {other}, which itself waits for this"),
                "take one of their `needs` away".into(),
                None,
            ),
        };
    }
    if let Some(p) = providers.iter().find(|p| broken(p)) {
        let other = at(*p);
        let because = (p.0 != me.0).then(|| other.addr.node.clone());
        return never(
            format!("{need} comes with {}, which cannot be done", other.addr),
            format!("mend what stands in the way on {} first", other.addr.node),
            because,
        );
    }
    if let Some(p) = providers.first() {
        let other = &at(*p).addr;
        return never(
            format!("{need} is not there, and yet {other} finds nothing to do"),
            format!(
                "look at both nodes: picluster plan --only {} --only {}",
                item.addr.node, other.node
            ),
            None,
        );
    }
    let closed: Vec<(&NodeName, &str)> = inputs
        .nodes
        .iter()
        .filter(|(name, _)| match need {
            // What was found joined stays so, whether the node is up or not.
            ClusterToken::Joined(node) => *name == node && item.awaits.is_some(),
            ClusterToken::Api | ClusterToken::Value(_) => inputs.servers.contains(name),
            ClusterToken::Drained(_) => false,
        })
        .filter_map(|(name, input)| match input {
            NodeInput::Closed(state) => Some((name, found(state))),
            // One that was reached and is not worked on gives nothing either.
            NodeInput::Observed(_) => {
                let works = benches.iter().any(|bench| bench.node == name);
                (!works).then_some((name, "cannot be worked on"))
            }
        })
        .collect();
    match closed.first() {
        Some((node, why)) => {
            if awaits && matches!(need, ClusterToken::Value(_)) && as_applied(&benches[me.0], me.1)
            {
                return Answer::AsItWas;
            }
            never(
                format!("{need} depends on {node}, which {why}"),
                format!("bring {node} up, then run: picluster apply"),
                Some((*node).clone()),
            )
        }
        None if awaits => never(
            format!("{need} does not exist, and nothing in the plan makes it"),
            "declare what makes it, on any node".into(),
            None,
        ),
        None => Answer::Given,
    }
}

/// Whether this very resource was applied to its node before, by the node's own record.
fn as_applied(bench: &Workbench<'_>, i: usize) -> bool {
    let item = &bench.items[i];
    let name = (item.addr.kind.as_str(), item.addr.key.as_str());
    records(&bench.observed.answers).iter().any(|record| {
        record
            .place()
            .is_some_and(|(_, kind, key)| (kind, key) == name)
            && record.desired == owned::desired_digest(&item.resource)
    })
}

pub(super) fn found(state: &NodeState) -> &'static str {
    match state {
        NodeState::Observed { .. } => "was reached",
        NodeState::Absent => "is declared absent",
        NodeState::Unreachable { .. } => "was not reached",
        NodeState::HostKeyChanged { .. } => "is not the machine that is known",
        NodeState::Blocked { .. } => "cannot be worked on",
    }
}

impl Workbench<'_> {
    /// Whether something in front of an item keeps it from being planned.
    pub(super) fn is_skipped(&self, i: usize) -> bool {
        let addr = &self.items[i].addr;
        self.items
            .iter()
            .filter_map(|item| item.problem.as_ref())
            .any(|problem| problem.skipped.contains(addr))
    }

    /// An item cannot be done after all, and nothing behind it.
    pub(super) fn fail(&mut self, i: usize, mut problem: Problem) {
        self.items[i].change = None;
        for j in 0..self.items.len() {
            if j != i
                && self.items[j].problem.is_none()
                && !self.is_skipped(j)
                && self.order.all_before(j).contains(&i)
            {
                self.items[j].change = None;
                problem.skipped.push(self.items[j].addr.clone());
            }
        }
        self.items[i].problem = Some(problem);
    }
}

/// The steps in an order in which each stands behind what it needs, on whatever node. Steps of
/// different nodes that wait for each other become problems of their nodes.
pub(super) fn sort(mut steps: Vec<Step>, nodes: &mut BTreeMap<NodeName, NodePlan>) -> Vec<Step> {
    loop {
        let index: BTreeMap<&StepAddr, usize> = steps
            .iter()
            .enumerate()
            .map(|(i, s)| (&s.addr, i))
            .collect();
        let mut order = Order::new(steps.len());
        for (i, step) in steps.iter().enumerate() {
            for need in &step.needs {
                if let Some(j) = index.get(need) {
                    order.edge(*j, i);
                }
            }
        }
        match order.sorted() {
            Ok(sorted) => {
                let mut slots: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
                return sorted.into_iter().filter_map(|i| slots[i].take()).collect();
            }
            Err(Cycle(members)) => {
                let Some(first) = members.first().map(|m| steps[*m].addr.clone()) else {
                    return steps;
                };
                let names: Vec<String> =
                    members.iter().map(|m| steps[*m].addr.to_string()).collect();
                let mut gone: BTreeSet<usize> = members.into_iter().collect();
                let behind = (0..steps.len())
                    .filter(|i| order.all_before(*i).iter().any(|j| gone.contains(j)));
                gone = behind.chain(gone.iter().copied()).collect();
                if let Some(node) = nodes.get_mut(&first.node) {
                    node.problems.push(Problem {
                        what: format!("these wait for each other: {}", names.join(" -> ")),
                        cure: Some("take one of their `needs` away".into()),
                        skipped: gone
                            .iter()
                            .map(|i| steps[*i].addr.clone())
                            .filter(|a| *a != first)
                            .collect(),
                        addr: Some(first),
                        because: None,
                    });
                }
                let mut i = 0;
                steps.retain(|_| {
                    i += 1;
                    !gone.contains(&(i - 1))
                });
            }
        }
    }
}

/// Where the known values stand that these steps refer to.
pub(super) fn sources(steps: &[Step], benches: &[Workbench<'_>]) -> Vec<ValueSource> {
    let wanted: BTreeSet<String> = steps
        .iter()
        .flat_map(|step| match &step.work {
            crate::plan::Work::Resource(resource) => secrets_of(resource),
            crate::plan::Work::Reboot { .. } | crate::plan::Work::PowerOff => BTreeSet::new(),
        })
        .filter_map(|reference| match reference {
            SecretRef::ClusterValue(name) => Some(name),
            _ => None,
        })
        .collect();
    let mut found: BTreeMap<String, ValueSource> = BTreeMap::new();
    for bench in benches {
        for item in &bench.items {
            if let Some((name, _)) = item.resource.yields(&bench.observed.answers)
                && wanted.contains(&name)
            {
                found.entry(name.clone()).or_insert_with(|| ValueSource {
                    name,
                    node: bench.node.clone(),
                    resource: item.resource.clone().into_owned(),
                });
            }
        }
    }
    found.into_values().collect()
}
