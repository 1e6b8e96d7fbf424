//! `shutdown`: switches nodes off, in an order that hurts nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use picluster_engine::run::Access;
use picluster_engine::{ControllerLock, Engine, ExitCode};
use picluster_model::NodeName;
use picluster_model::inventory::{Node, Project};
use picluster_model::kubernetes::KubernetesRole;
use picluster_model::render::ClusterContext;
use picluster_model::ssh::Jump;
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, Off, drains, questions, shutdown};
use picluster_plan::{NodeState, Plan, Problem, declare};
use picluster_resource::facts::RootAccess;
use picluster_resource::{Answers, Ctx, Facts, shell};

use crate::artifacts::Files;
use crate::cli::ShutdownArgs;
use crate::error::Failure;
use crate::identity::Identity;
use crate::opening::Opening;
use crate::show::live::Screen;
use crate::term::{Style, count};
use crate::verbs::apply;
use crate::{ask, connect, plan_file, project, releases, show, survey, verbs};

/// Shows who would be switched off and what that means, has it confirmed, does it and sees that they are off.
///
/// # Errors
/// A name that is no node, no consent, and whatever keeps a run from starting.
pub fn run(args: &ShutdownArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let inventory = &args.source.inventory;
    let project = verbs::load(inventory, err)?;
    let off = chosen(args, &project)?;
    let opening = Opening::of(project, inventory, &args.meeting)?;
    let owner = apply::owner(&opening.store);
    let _lock = ControllerLock::acquire(opening.store.root(), &owner).map_err(|e| {
        Failure::with(ExitCode::Locked, e.to_string()).hint(
            "nothing was switched off; wait for that run to end, then run the same command again",
        )
    })?;
    verbs::block_on(async {
        let (plan, access) = verbs::until_ctrl_c(async {
            let (plan, access) = look(args, &opening, &off).await?;
            if !args.json {
                verbs::print(&show::plan::plan(&plan, 0, out));
            }
            if !args.yes && !plan.steps.is_empty() {
                consent(args, &plan).await?;
            }
            Ok((plan, access))
        })
        .await?;
        let mut codes = verbs::plan::node_codes(&plan);
        if !plan.steps.is_empty() {
            let screen = Screen::of(args.json, &plan, err);
            let files = Files::default();
            let secrets = &opening.secrets;
            let report =
                apply::carry_out(&opening, &plan, access, secrets, files, owner, screen).await?;
            codes.extend(report.exit_codes());
            if !args.json {
                let nobody = BTreeSet::new();
                let recap = show::recap::recap_of("Shutdown:", &report, &nobody, &again(args), out);
                let servers: Vec<NodeName> = opening.project.inventory.servers().collect();
                let start = show::shutdown::again(&plan, &report, &servers, out);
                verbs::print(&format!("\n{recap}{start}"));
            }
        }
        verbs::close(&opening.engine).await;
        Ok(ExitCode::worst(codes))
    })?
}

/// The nodes that were named, or all, and how they stand to each other.
fn chosen(args: &ShutdownArgs, project: &Project) -> Result<Off, Failure> {
    let inventory = &project.inventory;
    let mut nodes = BTreeSet::new();
    for pattern in &args.nodes {
        // Each by itself: one that names nothing is a typing error.
        let found = project::nodes_matching(project, pattern)
            .map_err(|failure| failure.hint("nothing was switched off"))?;
        nodes.extend(found.into_iter().map(|node| node.name.clone()));
    }
    if args.nodes.is_empty() {
        nodes = inventory.nodes.keys().cloned().collect();
    }
    let agent = |n: &&Node| n.kubernetes == Some(KubernetesRole::Agent) && nodes.contains(&n.name);
    let mut ways: BTreeMap<NodeName, BTreeSet<NodeName>> = BTreeMap::new();
    for node in inventory.nodes.values() {
        for hop in &node.ssh.jump {
            if let Jump::Node(way) = hop {
                ways.entry(way.clone())
                    .or_default()
                    .insert(node.name.clone());
            }
        }
    }
    let outside =
        |k: &picluster_model::kubernetes::Kubernetes| k.config.contains_key("datastore-endpoint");
    Ok(Off {
        agents: inventory
            .nodes
            .values()
            .filter(agent)
            .map(|n| n.name.clone())
            .collect(),
        etcd: inventory.servers().count() > 1
            && inventory.kubernetes.as_ref().is_some_and(|k| !outside(k)),
        nodes,
        ways,
    })
}

/// Asks all nodes who they are, and one server that stays on about the pods of those that go.
async fn look(
    args: &ShutdownArgs,
    opening: &Opening,
    off: &Off,
) -> Result<(Plan, BTreeMap<NodeName, Access>), Failure> {
    let (project, engine) = (&opening.project, &opening.engine);
    let met = opening.store.identities();
    let found = survey::facts(engine, project.inventory.nodes.values(), false).await;
    let mut inputs: BTreeMap<NodeName, NodeInput> = BTreeMap::new();
    let mut here: Vec<(&Node, Facts, String)> = Vec::new();
    for (name, answer) in found {
        let Some(node) = project.inventory.node(&name) else {
            continue;
        };
        let (facts, host_key) = match answer {
            Ok(found) => found,
            Err(state) => {
                inputs.insert(name, NodeInput::Closed(state));
                continue;
            }
        };
        let now = Identity::of(&facts);
        let other = survey::another_machine(&name, met.get(&name), &now);
        let state = if let Some(other) = other {
            other
        } else if facts.now.root == RootAccess::None {
            let problem = Problem::new("the login user cannot become root, and only root can switch it off")
                .cure("add the user to group sudo on the node (adduser USER sudo), or set ssh.user to one who may");
            NodeState::Blocked {
                problems: vec![problem],
            }
        } else {
            let state = NodeState::Observed {
                facts: Box::new(facts.clone()),
                host_key: host_key.clone(),
            };
            here.push((node, facts, host_key));
            state
        };
        inputs.insert(name, NodeInput::Closed(state));
    }
    let roots: Vec<(&Node, RootAccess)> = here.iter().map(|(n, f, _)| (*n, f.now.root)).collect();
    let access = connect::access(project, &opening.secrets, &roots);
    for (node, facts, host_key) in &here {
        if off.nodes.contains(&node.name) {
            let node_input = observed(facts, host_key);
            inputs.insert(node.name.clone(), NodeInput::Observed(Box::new(node_input)));
        }
    }
    if !args.no_drain
        && let Some((teller, node)) = teller(opening, &here, &access, off).await?
    {
        inputs.insert(teller, NodeInput::Observed(Box::new(node)));
    }
    let plan = shutdown(
        &Inputs {
            cluster: project.inventory.cluster.clone(),
            inventory: plan_file::inventory(project),
            addresses: plan_file::addresses(project),
            nodes: inputs,
            servers: project.inventory.servers().collect(),
            departing: BTreeSet::new(),
            agents: Vec::new(),
            bootstrap: None,
            secrets: &opening.secrets,
            key: &opening.key,
        },
        off,
    );
    Ok((plan, access))
}

fn observed(facts: &Facts, host_key: &str) -> ObservedNode {
    ObservedNode {
        facts: facts.clone(),
        host_key: host_key.to_owned(),
        declared: Vec::new(),
        answers: Answers::default(),
    }
}

/// The first server that stays on and answers, with what it says of the pods of those that go.
async fn teller(
    opening: &Opening,
    here: &[(&Node, Facts, String)],
    access: &BTreeMap<NodeName, Access>,
    off: &Off,
) -> Result<Option<(NodeName, ObservedNode)>, Failure> {
    let project = &opening.project;
    let stays = |node: &Node| !off.nodes.contains(&node.name);
    let mut servers = here
        .iter()
        .filter(|(node, ..)| node.kubernetes == Some(KubernetesRole::Server) && stays(node));
    let in_cluster = |name: &NodeName| {
        let node = project.inventory.node(name);
        node.is_some_and(|n| n.kubernetes.is_some())
    };
    let Some((node, facts, host_key)) = servers.next().filter(|_| off.nodes.iter().any(in_cluster))
    else {
        return Ok(None);
    };
    let unknown = |failure: Failure| {
        failure.hint("nothing was switched off; --no-drain leaves the pods where they are")
    };
    let programs = releases::of_nodes(project, [(*node, facts)])
        .await
        .map_err(unknown)?;
    let programs = programs
        .iter()
        .map(|(name, artifact)| (name.clone(), releases::described(artifact)))
        .collect();
    let cluster = ClusterContext::new(project).with_artifacts(programs);
    let declared = declare(project, &cluster, node, facts)
        .map_err(|wrong| unknown(Failure::documents(wrong)))?;
    // One that cannot be switched off keeps its pods.
    let met = Off {
        nodes: (here.iter().map(|(n, ..)| &n.name))
            .filter(|name| off.nodes.contains(*name))
            .cloned()
            .collect(),
        ..off.clone()
    };
    let declared = drains(&node.name, &declared, &met);
    let ctx = Ctx {
        facts,
        secrets: &opening.secrets,
    };
    let asked = questions(&declared, ctx);
    let engine: &Arc<Engine> = &opening.engine;
    let access = access.get(&node.name).cloned().unwrap_or_default();
    let answers = engine
        .probe(&node.name, &access, asked)
        .await
        .map_err(|e| unknown(Failure::with(ExitCode::NodeFailed, e.to_string())))?;
    let node_input = ObservedNode {
        declared,
        answers,
        ..observed(facts, host_key)
    };
    Ok(Some((node.name.clone(), node_input)))
}

/// Asks before the first one goes.
async fn consent(args: &ShutdownArgs, plan: &Plan) -> Result<(), Failure> {
    if args.json || !ask::somebody_is_there() {
        return Err(Failure::usage("nobody is there to confirm it")
            .hint("nothing was switched off; say --yes to do it without a question"));
    }
    let off = plan
        .steps
        .iter()
        .filter(|s| s.work == picluster_plan::Work::PowerOff);
    let question = format!("\nSwitch {} off?", count(off.count(), "node"));
    match tokio::task::spawn_blocking(move || ask::yes(&question)).await {
        Ok(true) => Ok(()),
        _ => Err(Failure::usage("not confirmed").hint("nothing was switched off")),
    }
}

/// The command that carries on.
fn again(args: &ShutdownArgs) -> String {
    let mut words = vec!["picluster".to_owned(), "shutdown".to_owned()];
    words.extend(["-i".to_owned(), args.source.inventory.display().to_string()]);
    if args.no_drain {
        words.push("--no-drain".to_owned());
    }
    words.extend(args.nodes.iter().cloned());
    shell::words(&words)
}
