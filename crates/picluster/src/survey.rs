//! Looks at every node: facts, then one probe of everything, then the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use picluster_engine::host::ConnectError;
use picluster_engine::run::Access;
use picluster_engine::{Engine, NodeError};
use picluster_model::inventory::{Expected, Node, Project};
use picluster_model::render::ClusterContext;
use picluster_model::secret::{Secret, SecretValues};
use picluster_model::{Diagnostic, NodeName};
use picluster_plan::build::{
    Inputs, NodeInput, ObservedNode, build, harvest, numbers_asked, questions, removal_questions,
    stands_open, turning,
};
use picluster_plan::fitness::unfit;
use picluster_plan::twins::twins;
use picluster_plan::{Declared, NodeState, Plan, Problem, declare};
use picluster_resource::facts::RootAccess;
use picluster_resource::kinds::cluster_node::Roll;
use picluster_resource::kinds::cluster_roll::Registered;
use picluster_resource::{Answers, Ctx, Facts, Health, Query, Resource};
use tokio::task::JoinSet;

use crate::artifacts::{Known, Shelf};
use crate::connect;
use crate::error::Failure;
use crate::identity::Identity;
use crate::kubeconfig::{Intent, intent};
use crate::store::Store;
use crate::{manifests, plan_file, releases};

/// A plan and how root is had on the nodes in it.
#[derive(Debug)]
pub struct Survey {
    /// The plan.
    pub plan: Plan,
    /// Per node.
    pub access: BTreeMap<NodeName, Access>,
    /// The values behind placeholders, those among them that nodes told.
    pub secrets: SecretValues,
    /// What servers have written of the administrator's credentials.
    pub credentials: intent::Read,
    /// Nodes on which a guarded change of an earlier run waits for its end.
    pub open_guards: Vec<NodeName>,
    /// Nodes that left the inventory and were not met: each with where it was logged in to, and the server that tells of it.
    pub unmet: Vec<(NodeName, String, NodeName)>,
    /// Where [`Beside::Readings`] were asked for: what was read on the nodes that answered, those among them that nothing
    /// can be planned for.
    pub readings: BTreeMap<NodeName, Readings>,
    /// Where [`Beside::Readings`] were asked for: why nothing could be planned on any node. The plan has no steps then.
    pub unplanned: Option<Failure>,
}

/// What is asked in the same program as everything else, so that it costs no session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The administrator's credentials, where an apply will merge them.
    Credentials,
    /// How machine and cluster are.
    Readings,
}

/// What was read on a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// Its facts.
    pub facts: Facts,
    /// How the machine is; `None`: it could not be asked.
    pub health: Option<Health>,
    /// What it says of all nodes of its cluster; `None`: it is no server of one.
    pub roll: Option<Roll>,
}

impl Readings {
    fn of(facts: &Facts, declared: &[Declared], answers: &Answers) -> Self {
        let roll = declared.iter().find_map(|d| match &d.resource {
            Resource::ClusterNode(node) => node.roll(answers),
            _ => None,
        });
        Self {
            facts: facts.clone(),
            health: Health::of(answers),
            roll,
        }
    }
}

/// The state of a node that could not be looked at.
#[must_use]
pub fn closed(error: &NodeError) -> NodeState {
    match error {
        NodeError::Connect(ConnectError::HostKeyChanged { .. }) => NodeState::HostKeyChanged {
            reason: error.to_string(),
        },
        NodeError::Connect(ConnectError::Unreachable { .. }) | NodeError::Host { .. } => {
            NodeState::Unreachable {
                reason: error.to_string(),
            }
        }
        other => NodeState::Blocked {
            problems: vec![Problem {
                cure: cure(other),
                ..Problem::new(without_node(&other.to_string(), other.node()))
            }],
        },
    }
}

/// A sentence without the name it begins with, for where the name stands before it anyway.
#[must_use]
pub fn without_node(text: &str, node: &NodeName) -> String {
    text.strip_prefix(&format!("{node}: "))
        .unwrap_or(text)
        .to_owned()
}

fn cure(error: &NodeError) -> Option<String> {
    match error {
        NodeError::Connect(error) => connect_cure(error),
        NodeError::WrongPassword { .. } => Some(
            "give the right one: the value behind ssh.sudo.password, or what is typed when asked".into(),
        ),
        NodeError::NoRoot { .. } => Some(
            "name the password, ssh: { sudo: { password: { env: NAME } } }, or run from a terminal to be asked; the user must be one of group sudo on the node (adduser USER sudo)"
                .into(),
        ),
        _ => None,
    }
}

fn connect_cure(error: &ConnectError) -> Option<String> {
    match error {
        ConnectError::HostKeyUnknown { .. } => Some(
            "compare the fingerprint on the node, then run again with --accept-new, or from a terminal to be asked"
                .into(),
        ),
        ConnectError::Authentication { user, address, .. } => {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(h, _)| h);
            Some(format!("ssh-copy-id {user}@{host}, or name the right key: ssh: {{ identity: … }}"))
        }
        _ => None,
    }
}

/// Why a node was not looked at, in a sentence that names it.
#[must_use]
pub fn reason(name: &NodeName, state: &NodeState) -> Option<String> {
    match state {
        NodeState::Unreachable { reason } | NodeState::HostKeyChanged { reason } => {
            Some(reason.clone())
        }
        NodeState::Blocked { problems } => problems.first().map(|p| format!("{name}: {}", p.what)),
        NodeState::Observed { .. } | NodeState::Absent => None,
    }
}

/// Asks all nodes for their facts at once; with `state`, also for that of their systemd. Absent nodes are not dialled.
pub async fn facts(
    engine: &Arc<Engine>,
    nodes: impl IntoIterator<Item = &Node>,
    state: bool,
) -> BTreeMap<NodeName, Result<(Facts, String), NodeState>> {
    let mut tasks = JoinSet::new();
    let mut found = BTreeMap::new();
    for node in nodes {
        if node.expected == Expected::Absent {
            found.insert(node.name.clone(), Err(NodeState::Absent));
            continue;
        }
        let (engine, name) = (Arc::clone(engine), node.name.clone());
        tasks.spawn(async move {
            let answer = if state {
                engine.facts_and_state(&name).await
            } else {
                engine.facts(&name).await
            };
            (name, answer)
        });
    }
    while let Some(joined) = tasks.join_next().await {
        if let Ok((name, answer)) = joined {
            let answer = answer
                .map(|(facts, peer)| (facts, peer.host_key))
                .map_err(|e| closed(&e));
            found.insert(name, answer);
        }
    }
    found
}

/// Which nodes a run takes out of their cluster, or off picluster altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Departures {
    /// Those that the inventory no longer has in its cluster.
    pub remove: bool,
    /// These, of which nothing is declared for this run: everything of ours is taken off them.
    pub reset: BTreeSet<NodeName>,
}

impl Departures {
    /// All of them, by name.
    fn of(
        &self,
        inputs: &BTreeMap<NodeName, NodeInput>,
        secrets: &SecretValues,
    ) -> BTreeSet<NodeName> {
        let mut all = self.reset.clone();
        if self.remove {
            let gone = registered(inputs).into_iter().filter(|(_, n)| !n.declared);
            all.extend(gone.map(|(_, node)| node.name));
            all.extend(turning(inputs, secrets));
        }
        all
    }
}

/// The nodes that are ours by the word of a cluster, each with the server that says so.
fn registered(inputs: &BTreeMap<NodeName, NodeInput>) -> Vec<(NodeName, Registered)> {
    let mut found: Vec<(NodeName, Registered)> = Vec::new();
    for (teller, input) in inputs {
        let NodeInput::Observed(node) = input else {
            continue;
        };
        for declared in &node.declared {
            if let Resource::ClusterRoll(roll) = &declared.resource {
                // Every server tells of the same list.
                for one in roll.registered(&node.answers).unwrap_or_default() {
                    if !found.iter().any(|(_, known)| known.name == one.name) {
                        found.push((teller.clone(), one));
                    }
                }
            }
        }
    }
    found
}

/// Looks at every node and makes the plan.
///
/// # Errors
/// Templates that fail for some node, missing passwords: nothing has been written anywhere.
#[allow(
    clippy::too_many_arguments,
    reason = "called once; a struct would only name the same things twice"
)]
pub async fn survey(
    project: &Project,
    engine: &Arc<Engine>,
    secrets: &Arc<SecretValues>,
    store: &Store,
    key: &[u8],
    bootstrap: Option<&NodeName>,
    departures: &Departures,
    beside: Beside,
) -> Result<Survey, Failure> {
    let mut met = store.identities();
    let mut inputs: BTreeMap<NodeName, NodeInput> = BTreeMap::new();
    let (mut fit, mut unable) = (Vec::new(), Vec::new());
    let answers = facts(engine, project.inventory.met(), false).await;
    let mut shared = twins(
        answers
            .iter()
            .filter_map(|(name, answer)| Some((name, &answer.as_ref().ok()?.0))),
    );
    for (name, answer) in answers {
        let Some(node) = project.inventory.node(&name) else {
            continue;
        };
        match answer {
            Err(state) => {
                inputs.insert(name, NodeInput::Closed(state));
            }
            Ok((facts, host_key)) => {
                let now = Identity::of(&facts);
                if let Some(other) = another_machine(&name, met.get(&name), &now) {
                    inputs.insert(name, NodeInput::Closed(other));
                    continue;
                }
                let mut problems = unfit(&facts);
                match shared.remove(&name) {
                    // Nobody knows whose identity it is.
                    Some(problem) => problems.insert(0, problem),
                    None => drop(met.insert(name.clone(), now)),
                }
                if problems.is_empty() {
                    fit.push((node, facts, host_key));
                } else {
                    inputs.insert(name, NodeInput::Closed(NodeState::Blocked { problems }));
                    unable.push((node, facts));
                }
            }
        }
    }
    store.remember(&met)?;
    let mut unplanned = None;
    let programs = match programs(project, &fit).await {
        Err(failure) if beside == Beside::Readings => {
            // How the nodes are can be read without knowing what they should have.
            for (node, facts, host_key) in fit.drain(..) {
                let state = NodeState::Observed {
                    facts: Box::new(facts.clone()),
                    host_key,
                };
                inputs.insert(node.name.clone(), NodeInput::Closed(state));
                unable.push((node, facts));
            }
            unplanned = Some(failure);
            Programs::new()
        }
        programs => programs?,
    };
    if beside == Beside::Credentials {
        unable.clear();
    }
    let roots: Vec<(&Node, RootAccess)> = fit
        .iter()
        .map(|(n, f, _)| (*n, f.now.root))
        .chain(unable.iter().map(|(n, f)| (*n, f.now.root)))
        .collect();
    let access = connect::access(project, secrets, &roots);
    let (credentials, mut readings) = probe_all(
        project,
        engine,
        secrets,
        &access,
        fit,
        programs,
        &mut inputs,
        departures,
        beside,
    )
    .await?;
    readings.extend(of_unable(engine, &access, unable).await);
    let mut secrets = SecretValues::clone(secrets);
    secrets.0.extend(harvest(&inputs).0);
    let open_guards = inputs
        .iter()
        .filter_map(|(name, input)| match input {
            NodeInput::Observed(node) if stands_open(&node.answers) => Some(name.clone()),
            _ => None,
        })
        .collect();
    let unmet = registered(&inputs)
        .into_iter()
        .filter(|(_, n)| !n.declared && project.inventory.node(&n.name).is_none())
        .map(|(teller, n)| (n.name, n.login, teller))
        .collect();
    Ok(Survey {
        unmet,
        open_guards,
        plan: build(&Inputs {
            servers: project.inventory.servers().collect(),
            agents: project.inventory.agents().collect(),
            bootstrap: bootstrap.cloned(),
            departing: departures.of(&inputs, &secrets),
            cluster: project.inventory.cluster.clone(),
            inventory: plan_file::inventory(project),
            addresses: plan_file::addresses(project),
            nodes: inputs,
            secrets: &secrets,
            key,
        }),
        access,
        secrets,
        credentials,
        readings,
        unplanned,
    })
}

/// Why nothing is done on a node that is not the machine that was met under its pinned key.
pub(crate) fn another_machine(
    name: &NodeName,
    met: Option<&Identity>,
    now: &Identity,
) -> Option<NodeState> {
    let how = met?.changed(now)?;
    let reason = format!("{name}: another machine under the pinned key: {how}");
    Some(NodeState::HostKeyChanged { reason })
}

/// What templates see of each node's program.
type Programs = BTreeMap<NodeName, serde_json::Value>;

/// Finds out which program every node gets, and has the manifests here.
async fn programs(project: &Project, fit: &[(&Node, Facts, String)]) -> Result<Programs, Failure> {
    let artifacts = releases::of_nodes(project, fit.iter().map(|(n, f, _)| (*n, f))).await?;
    manifests::at_hand(project).await?;
    let described = artifacts
        .iter()
        .map(|(name, artifact)| (name.clone(), releases::described(artifact)));
    Ok(described.collect())
}

/// Reads what can be read of nodes that nothing can be planned for: what is wrong with them may be seen there.
async fn of_unable(
    engine: &Arc<Engine>,
    access: &BTreeMap<NodeName, Access>,
    unable: Vec<(&Node, Facts)>,
) -> BTreeMap<NodeName, Readings> {
    let mut tasks = JoinSet::new();
    for (node, facts) in unable {
        let (engine, name) = (Arc::clone(engine), node.name.clone());
        let access = access.get(&name).cloned().unwrap_or_default();
        tasks.spawn(async move {
            let answers = match facts.now.root {
                RootAccess::None => Answers::default(),
                _ => engine
                    .probe(&name, &access, vec![Health::query()])
                    .await
                    .unwrap_or_default(),
            };
            (name, Readings::of(&facts, &[], &answers))
        });
    }
    tasks.join_all().await.into_iter().collect()
}

#[allow(
    clippy::too_many_arguments,
    reason = "called once; a struct would only name the same things twice"
)]
async fn probe_all(
    project: &Project,
    engine: &Arc<Engine>,
    secrets: &Arc<SecretValues>,
    access: &BTreeMap<NodeName, Access>,
    fit: Vec<(&Node, Facts, String)>,
    programs: Programs,
    inputs: &mut BTreeMap<NodeName, NodeInput>,
    departures: &Departures,
    beside: Beside,
) -> Result<(intent::Read, BTreeMap<NodeName, Readings>), Failure> {
    let mut wrong: Vec<Diagnostic> = Vec::new();
    let mut tasks = JoinSet::new();
    let cluster = ClusterContext::new(project).with_artifacts(programs);
    let kubeconfig = (beside == Beside::Credentials).then(|| Intent::merged(project));
    let kubeconfig = kubeconfig.flatten();
    let (mut credentials, mut readings) = (intent::Read::new(), BTreeMap::new());
    let (shelf, mut known) = (Shelf::of(project), Known::default());
    for (node, facts, host_key) in fit {
        let reset = departures.reset.contains(&node.name);
        let declared = match reset {
            true => Ok(Vec::new()),
            false => declare(project, &cluster, node, &facts),
        };
        let mut declared = match declared {
            Ok(declared) => declared,
            Err(diagnostics) => {
                wrong.extend(diagnostics);
                continue;
            }
        };
        shelf.complete(&mut declared, &mut known);
        let (engine, name, secrets) = (Arc::clone(engine), node.name.clone(), Arc::clone(secrets));
        let access = access.get(&name).cloned().unwrap_or_default();
        // Asked with everything else: it costs no session of its own.
        let more = match beside {
            Beside::Readings => Some(Health::query()),
            Beside::Credentials => kubeconfig
                .as_ref()
                .filter(|intent| intent.asks(&name))
                .and_then(Intent::query),
        };
        tasks.spawn(async move {
            let observed = observe(
                &engine, &name, &access, &secrets, facts, host_key, declared, more, beside,
            )
            .await;
            (name, observed)
        });
    }
    while let Some(joined) = tasks.join_next().await {
        if let Ok((name, observed)) = joined {
            let input = match observed {
                Ok((node, found, read)) => {
                    credentials.extend(found.map(|text| (name.clone(), text)));
                    readings.extend(read.map(|read| (name.clone(), read)));
                    NodeInput::Observed(Box::new(node))
                }
                Err(e) => NodeInput::Closed(closed(&e)),
            };
            inputs.insert(name, input);
        }
    }
    if wrong.is_empty() {
        Ok((credentials, readings))
    } else {
        wrong.dedup();
        let mut failure = Failure::documents(wrong);
        failure.hints = vec!["nothing was changed on any node".into()];
        Err(failure)
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "called once; a struct would only name the same things twice"
)]
async fn observe(
    engine: &Engine,
    name: &NodeName,
    access: &Access,
    secrets: &SecretValues,
    facts: Facts,
    host_key: String,
    declared: Vec<Declared>,
    more: Option<Query>,
    beside: Beside,
) -> Result<(ObservedNode, Option<Secret<String>>, Option<Readings>), NodeError> {
    let ctx = Ctx {
        facts: &facts,
        secrets,
    };
    let mut asked = questions(&declared, ctx);
    let wanted = more.clone();
    let more = more.filter(|query| !asked.contains(query));
    asked.extend(more.clone());
    asked.extend(numbers_asked(&declared, beside == Beside::Credentials));
    let mut answers = engine.probe(name, access, asked).await?;
    let credentials = wanted.and_then(|query| intent::answered(&query, &answers));
    let readings = (beside == Beside::Readings).then(|| Readings::of(&facts, &declared, &answers));
    // Nothing else may come across it.
    if let Some(query) = &more {
        answers.0.remove(query);
    }
    let more = removal_questions(&declared, &answers, ctx);
    if !more.is_empty() {
        let others = engine.probe(name, access, more).await?;
        answers.0.extend(others.0);
    }
    let node = ObservedNode {
        facts,
        host_key,
        declared,
        answers,
    };
    Ok((node, credentials, readings))
}
