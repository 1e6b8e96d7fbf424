//! `reset`: takes everything of ours off nodes, and them out of the cluster.

use std::collections::BTreeSet;

use picluster_engine::{ControllerLock, ExitCode};
use picluster_model::NodeName;
use picluster_model::inventory::Project;
use picluster_plan::Plan;
use picluster_resource::shell;

use crate::artifacts::Shelf;
use crate::cli::ResetArgs;
use crate::error::Failure;
use crate::opening::Opening;
use crate::show::live::Screen;
use crate::term::{Style, count};
use crate::verbs::apply;
use crate::{ask, show, takeback, verbs};

/// Shows what would be undone, has it confirmed by the name of the cluster, and undoes it.
///
/// # Errors
/// An unknown node, no consent, and whatever keeps a run from starting.
pub fn run(args: &ResetArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = verbs::load(&args.source.inventory, err)?;
    let nodes = chosen(args, &project)?;
    confirmed(args, &project)?;
    let mut opening = Opening::of(project, &args.source.inventory, &args.meeting)?;
    opening.departures.reset = nodes.clone();
    let owner = apply::owner(&opening.store);
    let _lock = ControllerLock::acquire(opening.store.root(), &owner).map_err(|e| {
        Failure::with(ExitCode::Locked, e.to_string())
            .hint("nothing was changed; wait for that run to end, then run the same command again")
    })?;
    verbs::block_on(async {
        let (plan, access, secrets) = verbs::until_ctrl_c(async {
            let mut found = opening.survey().await?;
            if takeback::open_guards(&opening.engine, &found, out).await {
                found = opening.survey().await?;
            }
            let mut plan = found.plan;
            only(&mut plan, &nodes);
            if !args.json {
                verbs::print(&show::plan::plan(&plan, 0, out));
            }
            if !args.yes && !plan.steps.is_empty() {
                consent(&opening.project, &nodes).await?;
            }
            Ok((plan, found.access, found.secrets))
        })
        .await?;
        let mut codes = verbs::plan::node_codes(&plan);
        if !plan.steps.is_empty() {
            let screen = Screen::of(args.json, &plan, err);
            let files = Shelf::of(&opening.project).of_plan(&plan);
            let report =
                apply::carry_out(&opening, &plan, access, &secrets, files, owner, screen).await?;
            codes.extend(report.exit_codes());
            if !args.json {
                let recap = show::recap::recap(&report, &BTreeSet::new(), &again(args), out);
                verbs::print(&format!("\n{recap}"));
            }
        }
        verbs::close(&opening.engine).await;
        Ok(ExitCode::worst(codes))
    })?
}

/// The nodes that were named, or all.
fn chosen(args: &ResetArgs, project: &Project) -> Result<BTreeSet<NodeName>, Failure> {
    let all = &project.inventory.nodes;
    if args.nodes.is_empty() {
        return Ok(all.keys().cloned().collect());
    }
    let mut chosen = BTreeSet::new();
    for text in &args.nodes {
        let known = all.keys().find(|n| n.as_str() == text);
        let name = known.ok_or_else(|| {
            let names: Vec<&str> = all.keys().map(NodeName::as_str).take(20).collect();
            Failure::usage(format!(
                "there is no node {text:?} in {}",
                args.source.inventory.display()
            ))
            .hint(format!(
                "nothing was changed; its nodes: {}. One that has left the inventory goes with picluster apply --remove-nodes",
                names.join(", ")
            ))
        })?;
        chosen.insert(name.clone());
    }
    Ok(chosen)
}

/// Whether the name that was given for consent is that of the cluster.
fn confirmed(args: &ResetArgs, project: &Project) -> Result<(), Failure> {
    let cluster = project.inventory.cluster.as_str();
    match &args.confirm {
        Some(other) if other != cluster => Err(Failure::usage(format!(
            "--confirm {other}: {} describes cluster {cluster}",
            args.source.inventory.display()
        ))
        .hint("nothing was changed; --confirm takes the name of the cluster that is reset")),
        _ => Ok(()),
    }
}

/// Of a plan only what takes these nodes out of the cluster and what is ours off them.
fn only(plan: &mut Plan, nodes: &BTreeSet<NodeName>) {
    plan.steps.retain(|step| {
        let parting = step.addr.role.as_str() == "picluster"
            && matches!(step.addr.kind.as_str(), "node_drained" | "node_absent");
        parting || nodes.contains(&step.addr.node)
    });
    let busy: BTreeSet<NodeName> = plan.steps.iter().map(|s| s.addr.node.clone()).collect();
    plan.nodes
        .retain(|name, _| nodes.contains(name) || busy.contains(name));
    for (name, node) in &mut plan.nodes {
        if !nodes.contains(name) {
            node.problems.clear();
        }
    }
    plan.leaving.clear();
}

/// Asks for the name of the cluster.
async fn consent(project: &Project, nodes: &BTreeSet<NodeName>) -> Result<(), Failure> {
    let cluster = project.inventory.cluster.to_string();
    if !ask::somebody_is_there() {
        return Err(
            Failure::usage("nobody is there to confirm it").hint(format!(
                "nothing was changed; without a terminal say --yes --confirm {cluster}"
            )),
        );
    }
    let question = format!(
        "\nThis resets {}. Type the name of the cluster to do it: ",
        count(nodes.len(), "node")
    );
    let typed = tokio::task::spawn_blocking(move || ask::line(&question)).await;
    match typed {
        Ok(Some(text)) if text == cluster => Ok(()),
        _ => Err(Failure::usage("not confirmed").hint("nothing was changed")),
    }
}

/// The command that carries on.
fn again(args: &ResetArgs) -> String {
    let mut words = vec!["picluster".to_owned(), "reset".to_owned()];
    words.extend(["-i".to_owned(), args.source.inventory.display().to_string()]);
    words.extend(args.nodes.iter().cloned());
    shell::words(&words)
}
