//! Builds the plan: evaluates every resource of every node, then lets the named transforms add
//! what follows.

mod across;
mod gate;

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::secret::{SecretRef, SecretValues};
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_resource::kinds::unit::Unit;
use picluster_resource::{
    Action, Answers, Change, ClusterToken, Ctx, Diff, Effect, Facts, NodePath, Observation, Query,
    Resource, Shown, Token,
};

use crate::addr::StepAddr;
use crate::declare::Declared;
use crate::fingerprint::{fingerprint, later, sealed};
use crate::graph::{Cycle, Order};
use crate::owned::{self, Begun, Open, Owed, Record, Sealed};
use crate::plan::{
    Cause, FORMAT, Guarded, NodePlan, NodeState, Plan, Problem, RecordAction, RolledBack, Step,
    Work,
};

/// What is known of one node.
#[derive(Debug, Clone)]
pub enum NodeInput {
    /// Not looked at, or looked at in vain.
    Closed(NodeState),
    /// Reached and probed.
    Observed(Box<ObservedNode>),
}

/// A node that was reached and probed.
#[derive(Debug, Clone)]
pub struct ObservedNode {
    /// Its facts.
    pub facts: Facts,
    /// Its host key's fingerprint.
    pub host_key: String,
    /// What it should have.
    pub declared: Vec<Declared>,
    /// Answers to everything [`questions`] and [`removal_questions`] ask.
    pub answers: Answers,
}

/// Everything a plan is a function of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The cluster.
    pub cluster: ClusterName,
    /// The inventory's path, as the user gave it.
    pub inventory: String,
    /// Where each node is looked for, as the inventory says it.
    pub addresses: BTreeMap<NodeName, String>,
    /// Every node of the inventory.
    pub nodes: BTreeMap<NodeName, NodeInput>,
    /// The declared servers, whether they were reached or not.
    pub servers: Vec<NodeName>,
    /// The server that has been told to found the cluster, whatever others remember.
    pub bootstrap: Option<NodeName>,
    /// Values behind placeholders, those of [`harvest`] among them.
    pub secrets: &'a SecretValues,
    /// The key of [`fingerprint`].
    pub key: &'a [u8],
}

/// What a step can shut us out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Danger {
    /// The running node.
    Access,
    /// The node as it is after its next boot.
    Boot,
}

/// A node with a change that waits for its end one way or the other: what is looked at now may be
/// gone in a moment.
fn waiting(open: &Open) -> NodePlan {
    NodePlan {
        state: NodeState::Blocked {
            problems: vec![Problem {
                addr: None,
                what: format!(
                    "an earlier run broke off in the middle of a guarded change; the node takes it back by itself within {} s",
                    open.guard_open
                ),
                cure: Some("picluster apply takes it back now and goes on; if it stays so, reboot the node: it takes the change back after its start".into()),
                skipped: Vec::new(),
                because: None,
            }],
        },
        unchanged: 0,
        problems: Vec::new(),
        rolled_back: None,
    }
}

/// The role name of what the planner adds by itself.
const PLANNER: &str = "picluster";

/// The questions for a node's declared resources and its ownership records. A resource whose
/// questions cannot be formed is left out; [`build`] reports it.
#[must_use]
pub fn questions(declared: &[Declared], ctx: Ctx<'_>) -> Vec<Query> {
    declared
        .iter()
        .filter_map(|d| d.resource.queries(ctx).ok())
        .flatten()
        .chain([Query::Fragment(owned::PROBE.into())])
        .collect()
}

/// The questions for what has left the documents, known once the records have been read. Empty
/// for a node from which nothing has to go: then the first probe was the only one.
#[must_use]
pub fn removal_questions(declared: &[Declared], answers: &Answers, ctx: Ctx<'_>) -> Vec<Query> {
    let orphans = orphans(declared, answers);
    let readers = readers(declared, answers, &orphans);
    orphans
        .iter()
        .map(|(_, resource)| resource)
        .chain(&readers)
        .filter_map(|resource| resource.queries(ctx).ok())
        .flatten()
        .collect()
}

/// Whether a node stopped in the middle of a guarded change of an earlier run, which neither was confirmed nor is taken
/// back yet.
#[must_use]
pub fn stands_open(answers: &Answers) -> bool {
    Open::parse(notes(answers)).is_some()
}

fn records(answers: &Answers) -> Vec<Record> {
    Record::parse_all(notes(answers))
}

/// What picluster wrote down on the node.
fn notes(answers: &Answers) -> &str {
    answers.fragment(owned::PROBE).map_or("", |(_, text)| text)
}

/// Units that nobody declares to react any more and that have to take something up all the same:
/// what they read is being removed, or was by a run that died before they could.
fn readers(
    declared: &[Declared],
    answers: &Answers,
    orphans: &[(Record, Resource)],
) -> Vec<Resource> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    let reads = |unit: &str, token: &Token| {
        let reactions = declared.iter().flat_map(|d| d.resource.reactions());
        reactions
            .into_iter()
            .any(|r| r.unit.as_deref() == Some(unit) && r.on == *token)
    };
    for (record, removal) in orphans {
        for (name, restart) in &record.readers {
            for token in removal.provides() {
                let Token::Path(path) = &token else { continue };
                if reads(name, &token) {
                    continue;
                }
                let unit = units
                    .entry(name.clone())
                    .or_insert_with(|| Unit::named(name));
                if *restart {
                    unit.restart_on.push(path.clone());
                } else {
                    unit.reload_on.push(path.clone());
                }
            }
        }
    }
    for Owed { owed } in Owed::parse_all(notes(answers)) {
        let known = declared
            .iter()
            .any(|d| matches!(&d.resource, Resource::Unit(unit) if unit.name == owed));
        if !known {
            units
                .entry(owed.clone())
                .or_insert_with(|| Unit::named(&owed));
        }
    }
    units.into_values().map(Resource::Unit).collect()
}

/// Records whose resource is no longer declared, with what has to be brought about.
fn orphans(declared: &[Declared], answers: &Answers) -> Vec<(Record, Resource)> {
    let names: BTreeSet<String> = declared
        .iter()
        .map(|d| owned::file_name(&d.addr.kind, &d.addr.key))
        .collect();
    Record::parse_all(notes(answers))
        .into_iter()
        .filter_map(|record| {
            let resource = record.removal.clone()?;
            let (_, kind, key) = record.place()?;
            (!names.contains(&owned::file_name(kind, key))).then_some((record, resource))
        })
        .collect()
}

/// The values that came to be on nodes and were told with their answers: see
/// [`picluster_resource::Kind::yields`].
#[must_use]
pub fn harvest(nodes: &BTreeMap<NodeName, NodeInput>) -> SecretValues {
    let mut values = SecretValues::default();
    for input in nodes.values() {
        let NodeInput::Observed(node) = input else {
            continue;
        };
        for declared in &node.declared {
            if let Some((name, value)) = declared.resource.yields(&node.answers) {
                values
                    .0
                    .entry(SecretRef::ClusterValue(name))
                    .or_insert(value);
            }
        }
    }
    values
}

/// Makes the plan.
#[must_use]
pub fn build(inputs: &Inputs<'_>) -> Plan {
    let mut nodes = BTreeMap::new();
    let mut benches = Vec::new();
    for (name, input) in &inputs.nodes {
        match input {
            NodeInput::Closed(state) => {
                nodes.insert(
                    name.clone(),
                    NodePlan {
                        state: state.clone(),
                        unchanged: 0,
                        problems: Vec::new(),
                        rolled_back: None,
                    },
                );
            }
            NodeInput::Observed(node) => {
                if let Some(open) = Open::parse(notes(&node.answers)) {
                    nodes.insert(name.clone(), waiting(&open));
                    continue;
                }
                let mut bench = Workbench::new(name, node, inputs);
                match bench.prepare() {
                    Ok(()) => benches.push(bench),
                    Err(cycle) => {
                        nodes.insert(name.clone(), bench.blocked_by(&cycle));
                    }
                }
            }
        }
    }
    gate::keep(&mut benches, &mut nodes, inputs);
    for bench in &mut benches {
        bench.evaluate();
    }
    across::settle(&mut benches, inputs);
    let mut steps = Vec::new();
    for bench in &mut benches {
        bench.gather_guarded();
        bench.emit();
        bench.add_reboot();
        steps.append(&mut bench.steps);
        nodes.insert(bench.node.clone(), bench.summary());
    }
    let mut steps = across::sort(steps, &mut nodes);
    add_guards(&mut steps);
    let values = across::sources(&steps, &benches);
    Plan {
        format: FORMAT,
        cluster: inputs.cluster.clone(),
        inventory: inputs.inventory.clone(),
        addresses: inputs.addresses.clone(),
        key_id: Some(crate::fingerprint::key_id(inputs.key)),
        nodes,
        steps,
        values,
    }
}

/// One resource on its way through the transforms.
struct Item<'a> {
    addr: StepAddr,
    resource: std::borrow::Cow<'a, Resource>,
    origin: String,
    barrier: bool,
    guarded: bool,
    needs: &'a [String],
    id: Option<&'a str>,
    seen: Option<Observation>,
    problem: Option<Problem>,
    change: Option<Change>,
    cause: Cause,
    begun: Option<i64>,
    marks: BTreeMap<String, bool>,
    /// Present for what is being taken away.
    removed: bool,
    /// What of another node it was found waiting for.
    awaits: Option<ClusterToken>,
    /// Steps of other nodes it comes behind.
    foreign: BTreeSet<StepAddr>,
    /// It comes behind the reboot of its node.
    after_reboot: bool,
    /// Nobody declares it: a unit that has to take up what is removed.
    reader: bool,
}

/// What is written in `needs` for "behind this node's reboot, if it has one".
pub const REBOOT: &str = "reboot";

struct Workbench<'a> {
    node: &'a NodeName,
    observed: &'a ObservedNode,
    ctx: Ctx<'a>,
    key: &'a [u8],
    items: Vec<Item<'a>>,
    order: Order,
    sorted: Vec<usize>,
    steps: Vec<Step>,
}

impl<'a> Workbench<'a> {
    fn new(node: &'a NodeName, observed: &'a ObservedNode, inputs: &'a Inputs<'_>) -> Self {
        let mut items: Vec<Item<'a>> = observed
            .declared
            .iter()
            .map(|d| Item {
                addr: d.addr.clone(),
                resource: std::borrow::Cow::Borrowed(&d.resource),
                origin: d.span.as_ref().map(ToString::to_string).unwrap_or_default(),
                barrier: d.barrier,
                guarded: d.guarded,
                needs: &d.needs,
                id: d.id.as_deref(),
                seen: None,
                problem: None,
                change: None,
                cause: Cause::New,
                begun: None,
                marks: BTreeMap::new(),
                removed: false,
                awaits: None,
                foreign: BTreeSet::new(),
                after_reboot: d.needs.iter().any(|n| n == REBOOT),
                reader: false,
            })
            .collect();
        items.extend(removals(node, observed));
        let order = Order::new(items.len());
        Self {
            node,
            observed,
            ctx: Ctx {
                facts: &observed.facts,
                secrets: inputs.secrets,
            },
            key: inputs.key,
            items,
            order,
            sorted: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Puts the resources in order.
    fn prepare(&mut self) -> Result<(), Cycle> {
        self.add_needs();
        self.add_token_edges();
        self.add_barriers();
        self.sorted = self.order.sorted()?;
        Ok(())
    }

    fn summary(&self) -> NodePlan {
        let changed = self.items.iter().filter(|i| i.change.is_some()).count();
        let broken = self.items.iter().filter(|i| i.problem.is_some()).count();
        let skipped: usize = self
            .items
            .iter()
            .filter_map(|i| i.problem.as_ref())
            .map(|p| p.skipped.len())
            .sum();
        let idle = |i: &&Item<'_>| i.reader && i.change.is_none() && i.problem.is_none();
        let idle = self.items.iter().filter(idle).count();
        let settled = self.items.len() - changed - broken - skipped - idle;
        NodePlan {
            state: NodeState::Observed {
                facts: Box::new(self.observed.facts.clone()),
                host_key: self.observed.host_key.clone(),
            },
            unchanged: u32::try_from(settled).unwrap_or(u32::MAX),
            problems: self
                .items
                .iter()
                .filter_map(|i| i.problem.clone())
                .collect(),
            rolled_back: RolledBack::parse(notes(&self.observed.answers)),
        }
    }

    fn blocked_by(&self, cycle: &Cycle) -> NodePlan {
        let names: Vec<String> = cycle
            .0
            .iter()
            .map(|i| self.items[*i].addr.local())
            .collect();
        NodePlan {
            state: NodeState::Blocked {
                problems: vec![Problem {
                    addr: None,
                    what: format!("these wait for each other: {}", names.join(" -> ")),
                    cure: Some("take one of their `needs` away".into()),
                    skipped: Vec::new(),
                    because: None,
                }],
            },
            unchanged: 0,
            problems: Vec::new(),
            rolled_back: None,
        }
    }

    /// Transform: `needs` written in roles.
    fn add_needs(&mut self) {
        for i in 0..self.items.len() {
            for need in self.items[i].needs {
                let role = &self.items[i].addr.role;
                let named = |j: &usize| {
                    let other = &self.items[*j];
                    let by_kind = format!("{}[{}]", other.addr.kind, other.addr.key);
                    by_kind == *need || (other.id == Some(need) && &other.addr.role == role)
                };
                let found: Vec<usize> = (0..self.items.len()).filter(named).collect();
                for j in found {
                    self.order.edge(j, i);
                }
            }
        }
    }

    /// Transform: order that follows from what things are (a file in a directory, a unit of a
    /// package).
    fn add_token_edges(&mut self) {
        let provided: Vec<Vec<Token>> = self.items.iter().map(|i| i.resource.provides()).collect();
        for i in 0..self.items.len() {
            let mut needs = self.items[i].resource.requires();
            needs.extend(self.items[i].resource.reactions().into_iter().map(|r| r.on));
            for need in needs {
                // Nobody waits for what it is itself: two entries may be about one unit.
                if matches!(need, Token::Unit(_)) && provided[i].contains(&need) {
                    continue;
                }
                if let Token::Below(dir) = &need {
                    let within = |t: &Token| matches!(t, Token::Path(p) if p.is_under(dir));
                    (0..provided.len())
                        .filter(|j| provided[*j].iter().any(within))
                        .for_each(|j| self.order.edge(j, i));
                } else if let Some(j) = provider(&provided, &need, i) {
                    self.order.edge(j, i);
                }
            }
            // Two resources that edit one file do so in the order they are declared.
            for token in &provided[i] {
                if let (Token::Path(_), Some(j)) =
                    (token, (0..i).rev().find(|j| provided[*j].contains(token)))
                {
                    self.order.edge(j, i);
                }
            }
        }
    }

    /// Transform: a barrier stands between everything declared before and behind it.
    fn add_barriers(&mut self) {
        for b in 0..self.items.len() {
            if self.items[b].barrier {
                (0..b).for_each(|j| self.order.edge(j, b));
                (b + 1..self.items.len()).for_each(|j| self.order.edge(b, j));
            }
        }
    }

    /// Observes and compares every resource, in order.
    fn evaluate(&mut self) {
        for at in 0..self.sorted.len() {
            let i = self.sorted[at];
            if self.items[i].problem.is_some() {
                continue;
            }
            let before = self.order.all_before(i);
            if let Some(stop) = before
                .iter()
                .copied()
                .find(|j| self.items[*j].problem.is_some())
            {
                let addr = self.items[i].addr.clone();
                if let Some(problem) = &mut self.items[stop].problem {
                    problem.skipped.push(addr);
                }
                continue;
            }
            match self.observe(i) {
                Err(diagnosis) => {
                    self.items[i].problem = Some(Problem {
                        addr: Some(self.items[i].addr.clone()),
                        what: diagnosis.what,
                        cure: diagnosis.cure,
                        skipped: Vec::new(),
                        because: None,
                    });
                }
                Ok(seen) => {
                    let mut missing = seen.not_yet().cloned();
                    if let Some(Token::Cluster(token)) = &missing {
                        // Other nodes are looked at when all have been evaluated.
                        self.items[i].awaits = Some(token.clone());
                        missing = None;
                    }
                    let movers = self.movers(at, &before);
                    let brought = missing.is_none() || !movers.is_empty();
                    if missing.is_some() {
                        // Whoever may bring it has to be done first; when that fails, so does this.
                        movers.iter().for_each(|j| self.order.edge(*j, i));
                    }
                    if let (Some(token), false) = (missing, brought) {
                        self.items[i].problem = Some(Problem {
                            addr: Some(self.items[i].addr.clone()),
                            what: format!(
                                "{token} does not exist, and nothing in the plan makes it"
                            ),
                            cure: Some(
                                "declare it in a role of this node, before this entry".into(),
                            ),
                            skipped: Vec::new(),
                            because: None,
                        });
                    } else if let Diff::Change(change) =
                        self.items[i].resource.diff(&seen, self.ctx)
                    {
                        self.items[i].change = Some(change);
                    } else if self.items[i].removed {
                        // Already gone; the record still has to be dropped.
                        self.items[i].change = Some(Change::new(Action::Delete).field(
                            "record",
                            Shown::text("owned"),
                            Shown::Absent,
                        ));
                    }
                    self.items[i].seen = Some(seen);
                }
            }
        }
    }

    /// What is seen of an item. One that refers to a value nobody knows yet is not looked at.
    fn observe(&self, i: usize) -> Result<Observation, picluster_resource::Diagnosis> {
        let resource = &self.items[i].resource;
        if let Some(name) = later(resource, self.ctx.secrets).pop_first() {
            return Ok(resource.not_before(Token::Cluster(ClusterToken::Value(name))));
        }
        resource.queries(self.ctx)?;
        resource.observe(&self.observed.answers, self.ctx)
    }

    /// Changed items that may move the pre-state of the item at position `at`: what it depends on,
    /// and earlier ones that may touch anything (packages bring units, accounts and files of their
    /// own; commands do what they like).
    fn movers(&self, at: usize, before: &BTreeSet<usize>) -> Vec<usize> {
        self.sorted[..at]
            .iter()
            .copied()
            .filter(|j| self.items[*j].change.is_some())
            .filter(|j| {
                before.contains(j)
                    || matches!(self.items[*j].addr.kind.as_str(), "package" | "command")
            })
            .collect()
    }

    /// Transform: units take up what changes beneath them.
    fn add_follow_ups(&mut self) {
        for at in 0..self.sorted.len() {
            let u = self.sorted[at];
            let reactions = self.items[u].resource.reactions();
            let mut inputs = Vec::new();
            for reaction in reactions {
                for j in 0..self.items.len() {
                    if j != u
                        && self.items[j]
                            .change
                            .as_ref()
                            .is_some_and(|change| stirs(&reaction.on, change))
                        && self.items[j].resource.provides().contains(&reaction.on)
                    {
                        let Some(unit) = &reaction.unit else {
                            inputs.push(reaction.on.clone());
                            continue;
                        };
                        let mark = self.items[j].marks.entry(unit.clone()).or_default();
                        *mark |= reaction.restart;
                        inputs.push(reaction.on.clone());
                    }
                }
            }
            let Some(seen) = self.items[u].seen.as_ref().filter(|_| !inputs.is_empty()) else {
                continue;
            };
            let follow = self.items[u].resource.follow_up(seen, &inputs, self.ctx);
            match (&mut self.items[u].change, follow) {
                (_, None) => {}
                (Some(change), Some(follow)) => {
                    for field in follow.fields {
                        if !change.fields.iter().any(|f| f.field == field.field) {
                            change.fields.push(field);
                        }
                    }
                    change.effects.extend(follow.effects);
                }
                (slot @ None, Some(follow)) => {
                    *slot = Some(follow);
                    self.items[u].cause = Cause::Follows;
                }
            }
        }
    }

    /// Tells drift from intent by the node's own records.
    fn name_causes(&mut self) {
        let text = notes(&self.observed.answers);
        let known: BTreeMap<String, Record> = Record::parse_all(text)
            .into_iter()
            .filter_map(|r| {
                let (_, kind, key) = r.place()?;
                Some((owned::file_name(kind, key), r))
            })
            .collect();
        let begun: BTreeMap<String, i64> = Begun::parse_all(text)
            .into_iter()
            .map(|b| (b.begun, b.at))
            .collect();
        for item in &mut self.items {
            // A restart that is still owed from an earlier run follows from that run's change.
            let owed = item.change.as_ref().is_some_and(|c| {
                c.fields
                    .iter()
                    .all(|f| matches!(f.field.as_str(), "restart" | "reload"))
            });
            if item.removed {
                item.cause = Cause::Removed;
            } else if owed {
                item.cause = Cause::Follows;
            } else if item.cause != Cause::Follows {
                let name = owned::file_name(&item.addr.kind, &item.addr.key);
                let seal = Sealed::of(self.key, &item.resource, self.ctx.secrets);
                item.cause = match known.get(&name) {
                    None => Cause::New,
                    Some(record) if !record.is_of(&item.resource, seal.as_ref()) => Cause::Intent,
                    Some(_) if begun.contains_key(&name) => {
                        item.begun = begun.get(&name).copied();
                        Cause::Unfinished
                    }
                    Some(_) => Cause::Drift,
                };
            }
        }
    }

    /// The units of this plan that read what a resource makes.
    fn readers_of(&self, resource: &Resource) -> Vec<(String, bool)> {
        let provided = resource.provides();
        let mut readers: BTreeMap<String, bool> = BTreeMap::new();
        for reaction in self.items.iter().flat_map(|i| i.resource.reactions()) {
            if let Some(unit) = reaction.unit.filter(|_| provided.contains(&reaction.on)) {
                *readers.entry(unit).or_default() |= reaction.restart;
            }
        }
        readers.into_iter().collect()
    }

    /// Whether a changed item's step is guarded: it touches the way in, boot files, or its author
    /// says so; and the node knows how to take it back.
    fn danger(&self, i: usize) -> Option<Danger> {
        let item = &self.items[i];
        let change = item.change.as_ref()?;
        let undo = item.resource.undo(item.seen.as_ref(), change)?;
        let boots = |path: &NodePath| path.as_str().starts_with("/boot/");
        if item.addr.kind == "kernel_cmdline" || undo.files.iter().any(boots) {
            return Some(Danger::Boot);
        }
        let access = |e: &Effect| matches!(e, Effect::Access(_));
        (item.guarded || change.effects.iter().any(access)).then_some(Danger::Access)
    }

    /// Transform: what is guarded comes late and together, as far as the order allows, so that
    /// nothing slow happens between a change and its confirmation; boot files come last.
    fn gather_guarded(&mut self) {
        let danger: Vec<Option<Danger>> = (0..self.items.len()).map(|i| self.danger(i)).collect();
        if danger.iter().all(Option::is_none) {
            return;
        }
        let mut left = std::mem::take(&mut self.sorted);
        let mut open: Vec<BTreeSet<usize>> = (0..self.items.len())
            .map(|i| self.order.all_before(i))
            .collect();
        let mut current = None;
        while !left.is_empty() {
            let ready = |i: &usize| open[*i].is_empty();
            // A group is not left before it is whole; then the harmless things come first.
            let same = current
                .is_some()
                .then(|| left.iter().position(|i| ready(i) && danger[*i] == current));
            let least = || {
                (0..left.len())
                    .filter(|at| ready(&left[*at]))
                    .min_by_key(|at| danger[left[*at]])
            };
            let Some(at) = same.flatten().or_else(least) else {
                // Never: the order has no circle. What is left keeps its order.
                self.sorted.append(&mut left);
                return;
            };
            let i = left.remove(at);
            current = danger[i];
            open.iter_mut().for_each(|before| {
                before.remove(&i);
            });
            self.sorted.push(i);
        }
    }

    fn emit(&mut self) {
        let reboot = self.reboot_reasons().next().and(self.reboot_addr());
        for at in 0..self.sorted.len() {
            let i = self.sorted[at];
            let before = self.order.all_before(i);
            let movers = self.movers(at, &before);
            let item = &self.items[i];
            let Some(change) = &item.change else { continue };
            let addr_of = |j: &usize| self.items[*j].addr.clone();
            let late = item.after_reboot || before.iter().any(|j| self.items[*j].after_reboot);
            let unknown: Vec<String> = later(&item.resource, self.ctx.secrets)
                .into_iter()
                .collect();
            let behind_reboot = reboot.clone().filter(|_| late);
            let record = if item.removed {
                RecordAction::Drop {
                    name: owned::file_name(&item.addr.kind, &item.addr.key),
                }
            } else if item.cause == Cause::Follows {
                RecordAction::Keep
            } else {
                Record::of(&item.addr.local(), &item.resource)
                    .sealed(Sealed::of(self.key, &item.resource, self.ctx.secrets))
                    .read_by(self.readers_of(&item.resource))
                    .write(&item.resource)
            };
            self.steps.push(Step {
                addr: item.addr.clone(),
                origin: item.origin.clone(),
                work: Work::Resource(Box::new(item.resource.clone().into_owned())),
                change: change.clone(),
                cause: item.cause,
                begun: item.begun,
                needs: before
                    .iter()
                    .filter(|j| self.items[**j].change.is_some())
                    .map(addr_of)
                    .chain(item.foreign.iter().cloned())
                    .chain(behind_reboot.clone())
                    .collect(),
                moved_by: movers
                    .iter()
                    .map(addr_of)
                    .chain(item.foreign.iter().cloned())
                    .chain(behind_reboot)
                    .collect(),
                recorded: item
                    .seen
                    .as_ref()
                    .filter(|seen| seen.not_yet().is_none())
                    .map(|seen| fingerprint(self.key, seen)),
                secrets: sealed(self.key, &item.resource, self.ctx.secrets, &unknown),
                later: unknown,
                marks: item.marks.clone().into_iter().collect(),
                record,
                guard: self.danger(i).map(|danger| Guarded {
                    group: 0,
                    last: false,
                    boot: danger == Danger::Boot,
                }),
            });
        }
    }

    /// What waits for a reboot, and why. An item that itself comes behind the reboot cannot bring it
    /// about in the same run; the next plan finds it pending.
    fn reboot_reasons(&self) -> impl Iterator<Item = (usize, String)> {
        self.sorted.iter().filter_map(|i| {
            let item = &self.items[*i];
            let planned = item.change.as_ref().and_then(|c| {
                c.effects.iter().find_map(|e| match e {
                    Effect::Reboot(why) => Some(why.clone()),
                    _ => None,
                })
            });
            let pending = || {
                let seen = item.seen.as_ref()?;
                item.resource.reboot_pending(seen, self.ctx)
            };
            let why = planned.or_else(pending)?;
            let late = item.after_reboot
                || self
                    .order
                    .all_before(*i)
                    .iter()
                    .any(|j| self.items[*j].after_reboot);
            (!late).then_some((*i, why))
        })
    }

    fn reboot_addr(&self) -> Option<StepAddr> {
        Some(StepAddr {
            node: self.node.clone(),
            role: RoleName::new(PLANNER).ok()?,
            kind: "reboot".into(),
            key: self.node.to_string(),
        })
    }

    /// Transform: one reboot a node, for everything that waits for one.
    fn add_reboot(&mut self) {
        let mut change = Change::new(Action::Run);
        let mut verify = Vec::new();
        let mut needs = Vec::new();
        for (i, why) in self.reboot_reasons() {
            let item = &self.items[i];
            change = change
                .field(
                    &item.addr.local(),
                    Shown::text("waiting"),
                    Shown::text("in effect"),
                )
                .because(why.clone())
                .effect(Effect::Reboot(why));
            verify.push(item.resource.clone().into_owned());
            if item.change.is_some() {
                needs.push(item.addr.clone());
            }
        }
        let Some(addr) = self.reboot_addr().filter(|_| !verify.is_empty()) else {
            return;
        };
        self.steps.push(Step {
            addr,
            origin: String::new(),
            work: Work::Reboot { verify },
            change,
            cause: Cause::Follows,
            begun: None,
            moved_by: needs.clone(),
            needs,
            recorded: None,
            secrets: None,
            later: Vec::new(),
            marks: Vec::new(),
            record: RecordAction::Keep,
            guard: None,
        });
    }
}

/// Transform: guarded steps of a node in a row are one group. What needs one of them on the same node
/// needs the whole group, and a reboot for boot files belongs to theirs.
fn add_guards(steps: &mut [Step]) {
    let mut nodes: BTreeMap<NodeName, Vec<usize>> = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        nodes.entry(step.addr.node.clone()).or_default().push(i);
    }
    for mine in nodes.into_values() {
        guard_node(steps, &mine);
    }
}

fn guard_node(steps: &mut [Step], mine: &[usize]) {
    let mut group = 0;
    let mut groups: BTreeMap<StepAddr, u32> = BTreeMap::new();
    let mut before: Option<Guarded> = None;
    for (at, &i) in mine.iter().enumerate() {
        if matches!(steps[i].work, Work::Reboot { .. }) {
            steps[i].guard = before.filter(|guard| guard.boot);
        }
        let Some(mut guard) = steps[i].guard else {
            before = None;
            continue;
        };
        if before.is_none_or(|before| before.boot != guard.boot) {
            group += 1;
        }
        guard.group = group;
        let next = mine.get(at + 1).map(|n| &steps[*n]);
        guard.last = match next.map(|n| (&n.work, n.guard)) {
            Some((Work::Reboot { .. }, _)) => !guard.boot,
            Some((_, Some(next))) => next.boot != guard.boot,
            Some((_, None)) | None => true,
        };
        groups.insert(steps[i].addr.clone(), group);
        steps[i].guard = Some(guard);
        steps[i].change.effects.insert(Effect::Guarded);
        before = Some(guard);
    }
    let lasts: BTreeMap<u32, StepAddr> = mine
        .iter()
        .filter_map(|i| {
            let guard = steps[*i].guard.filter(|g| g.last)?;
            Some((guard.group, steps[*i].addr.clone()))
        })
        .collect();
    for &i in mine {
        let step = &mut steps[i];
        let own = step.guard.map(|g| g.group);
        let others: BTreeSet<u32> = step
            .needs
            .iter()
            .filter_map(|need| groups.get(need).copied())
            .filter(|group| Some(*group) != own)
            .collect();
        for last in others.iter().filter_map(|group| lasts.get(group)) {
            if !step.needs.contains(last) {
                step.needs.push(last.clone());
            }
        }
    }
}

/// Whether a change of what stands behind a token is one that others react to: of a unit, that it
/// starts or restarts.
fn stirs(token: &Token, change: &Change) -> bool {
    let starts = |field: &str| matches!(field, "active" | "restart");
    !matches!(token, Token::Unit(_)) || change.fields.iter().any(|f| starts(&f.field))
}

/// Who brings `need`: the exact provider, or for a path the nearest directory above it.
fn provider(provided: &[Vec<Token>], need: &Token, me: usize) -> Option<usize> {
    let others = || (0..provided.len()).filter(|j| *j != me);
    let exact = others().find(|j| provided[*j].contains(need));
    let Token::Path(path) = need else {
        return exact;
    };
    exact.or_else(|| {
        others()
            .filter_map(|j| {
                provided[j]
                    .iter()
                    .filter_map(|token| match token {
                        Token::Path(above) if path.is_under(above) => {
                            Some((above.as_str().len(), j))
                        }
                        _ => None,
                    })
                    .max()
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, j)| j)
    })
}

fn removals<'a>(node: &NodeName, observed: &ObservedNode) -> Vec<Item<'a>> {
    let orphans = orphans(&observed.declared, &observed.answers);
    let readers = readers(&observed.declared, &observed.answers, &orphans);
    let item = |role: &str, kind: &str, key: &str, resource: Resource, reader: bool| {
        Some(Item {
            addr: StepAddr {
                node: node.clone(),
                role: RoleName::new(role).ok()?,
                kind: kind.to_owned(),
                key: key.to_owned(),
            },
            resource: std::borrow::Cow::Owned(resource),
            origin: String::new(),
            barrier: false,
            guarded: false,
            needs: &[],
            id: None,
            seen: None,
            problem: None,
            change: None,
            cause: if reader {
                Cause::Follows
            } else {
                Cause::Removed
            },
            begun: None,
            marks: BTreeMap::new(),
            removed: !reader,
            reader,
            awaits: None,
            foreign: BTreeSet::new(),
            after_reboot: false,
        })
    };
    let gone = orphans.into_iter().filter_map(|(record, resource)| {
        let (role, kind, key) = record.place()?;
        item(role, kind, key, resource, false)
    });
    let readers = readers.into_iter().filter_map(|resource| {
        let (kind, key) = (resource.kind(), resource.key());
        item(PLANNER, kind, &key, resource, true)
    });
    gone.collect::<Vec<_>>()
        .into_iter()
        .chain(readers)
        .collect()
}
