//! `apply`: carries out a plan, and nothing but a plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use picluster_engine::guard::Quorum;
use picluster_engine::report::NodeEnd;
use picluster_engine::run::Access;
use picluster_engine::{
    Cancel, Clock as _, ControllerLock, Event, ExitCode, Journal, Owner, Report, Run,
};
use picluster_model::NodeName;
use picluster_model::secret::{Secret, SecretValues};
use picluster_plan::{NodeState, Plan};
use picluster_resource::shell;
use picluster_ssh::{PinName, PinStore};
use tokio::sync::{mpsc, watch};

use crate::artifacts::{Files, Shelf};
use crate::cli::ApplyArgs;
use crate::error::Failure;
use crate::kubeconfig::Merge;
use crate::opening::Opening;
use crate::plan_file::PlanFile;
use crate::show::live::Screen;
use crate::store::Store;
use crate::term::Style;
use crate::verbs::plan::LeftOut;
use crate::{ask, connect, manifests, person, releases, show, survey as look, takeback, verbs};

/// Plans (or reads a plan), asks, and applies.
///
/// # Errors
/// Whatever keeps the run from starting; how it ended is the exit code.
pub fn run(args: &ApplyArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let from_file = PlanFile::read(&args.source)?;
    let inventory = match &from_file {
        Some(file) => file.inventory(),
        None => args.source.clone(),
    };
    let project = verbs::load(&inventory, err)?;
    if let Some(file) = &from_file {
        file.fits(&project)?;
    }
    let opening = Opening::with(project, &inventory, &args.meeting, |settings| {
        let window = Duration::from_secs(u64::from(args.confirm_within.max(5)));
        settings.guard_window = window;
        // A Pi with a full card takes minutes until sshd answers.
        settings.guard_boot_window = window * 10 / 3;
    })?;
    let mut opening = opening.bootstrap(args.bootstrap.as_deref())?;
    opening.departures.remove = args.remove_nodes;
    if let Some(file) = &from_file {
        file.sealed_with(&opening.key)?;
        opening.remember(file.leaving())?;
    }
    let owner = owner(&opening.store);
    let _lock = ControllerLock::acquire(opening.store.root(), &owner).map_err(|e| {
        Failure::with(ExitCode::Locked, e.to_string())
            .hint("nothing was changed; wait for that run to end, then run the same command again")
    })?;
    verbs::block_on(async {
        if from_file.is_none() {
            verbs::until_ctrl_c(opening.meet_leaving()).await?;
        }
        let Ready {
            plan,
            access,
            secrets,
            left_out,
            files,
            kubeconfig,
        } = verbs::until_ctrl_c(prepare(args, &opening, from_file, out)).await?;
        let before = verbs::plan::node_codes(&plan);
        if plan.steps.is_empty() && !args.json {
            opening.engine.tidy(&plan, &access).await;
            let code = kubeconfig
                .finish(&opening.engine, &plan, &access, err)
                .await;
            verbs::close(&opening.engine).await;
            return Ok(with_kubeconfig(before, code));
        }
        let screen = Screen::of(args.json, &plan, err);
        let report = carry_out(
            &opening,
            &plan,
            access.clone(),
            &secrets,
            files,
            owner,
            screen,
        )
        .await?;
        let mut counted = report.clone();
        counted
            .nodes
            .retain(|name, _| !verbs::plan::only_deleted(&plan, name));
        let mut codes = counted.exit_codes();
        let recap = show::recap::recap(&report, &left_out.nodes, &again(args), out);
        if !args.json {
            let critical = show::critical::critical(&plan, &report, out).unwrap_or_default();
            verbs::print(&format!("\n{recap}{critical}"));
        }
        let code = if codes.contains(&ExitCode::Interrupted) {
            None
        } else {
            kubeconfig
                .finish(&opening.engine, &plan, &access, err)
                .await
        };
        verbs::close(&opening.engine).await;
        forget(&opening, &plan, &report)?;
        codes.extend(before);
        Ok(with_kubeconfig(codes, code))
    })?
}

/// Forgets who the nodes were that have left the inventory, the cluster and picluster.
fn forget(opening: &Opening, plan: &Plan, report: &Report) -> Result<(), Failure> {
    let gone = |name: &NodeName| {
        let cleaned = matches!(report.nodes.get(name), Some(end) if end.end == NodeEnd::Done);
        cleaned && !opening.project.inventory.nodes.contains_key(name)
    };
    let names: Vec<&NodeName> = plan.leaving.keys().filter(|name| gone(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let pins = PinStore::open(opening.store.root()).map_err(|e| Failure::usage(e.to_string()))?;
    let mut met = opening.store.identities();
    for name in names {
        met.remove(name);
        pins.remove(&PinName::node(name))
            .map_err(|e| Failure::usage(e.to_string()))?;
    }
    opening.store.remember(&met)
}

/// What happened on nodes says more than a kubeconfig that could not be written.
fn with_kubeconfig(codes: Vec<ExitCode>, kubeconfig: Option<ExitCode>) -> ExitCode {
    match (ExitCode::worst(codes), kubeconfig) {
        (ExitCode::Done, Some(code)) => code,
        (code, _) => code,
    }
}

/// A plan that somebody has agreed to.
struct Ready {
    plan: Plan,
    access: BTreeMap<NodeName, Access>,
    secrets: SecretValues,
    left_out: LeftOut,
    files: Files,
    kubeconfig: Merge,
}

/// Everything before the first change: the plan, shown and agreed to.
async fn prepare(
    args: &ApplyArgs,
    opening: &Opening,
    from_file: Option<PlanFile>,
    out: Style,
) -> Result<Ready, Failure> {
    let (mut plan, access, secrets, read) = match from_file {
        Some(file) => {
            manifests::at_hand(&opening.project).await?;
            let access = access_for(opening, &file.plan).await;
            let secrets = SecretValues::clone(&opening.secrets);
            (file.plan, access, secrets, None)
        }
        None => {
            let mut found = opening.survey().await?;
            if takeback::open_guards(&opening.engine, &found, out).await {
                found = opening.survey().await?;
            }
            let read = Some(found.credentials);
            (found.plan, found.access, found.secrets, read)
        }
    };
    let kubeconfig = Merge::foresee(&opening.project, read, &args.part);
    let left_out = verbs::plan::cut(&mut plan, &args.part)?;
    if !args.json {
        verbs::print(&show::plan::plan(&plan, left_out.steps, out));
        verbs::print(&kubeconfig.shown(out));
    }
    if !args.yes && (!plan.steps.is_empty() || kubeconfig.is_due()) {
        consent(args).await?;
    }
    let mut files = Shelf::of(&opening.project).of_plan(&plan);
    releases::stock(&opening.project, &plan, &mut files, |artifact| {
        verbs::fetch::progress(verbs::fetch::bar(artifact))
    })
    .await?;
    Ok(Ready {
        plan,
        access,
        secrets,
        left_out,
        files,
        kubeconfig,
    })
}

/// The command that carries on: the same part of the same plan.
fn again(args: &ApplyArgs) -> String {
    let mut words = vec!["picluster".to_owned(), "apply".to_owned()];
    for (flag, patterns) in [("--only", &args.part.only), ("--except", &args.part.except)] {
        for pattern in patterns {
            words.extend([flag.to_owned(), pattern.clone()]);
        }
    }
    if args.remove_nodes {
        words.push("--remove-nodes".to_owned());
    }
    words.push(args.source.display().to_string());
    shell::words(&words)
}

/// Asks before the first change.
async fn consent(args: &ApplyArgs) -> Result<(), Failure> {
    if args.json || !ask::somebody_is_there() {
        return Err(Failure::usage("nobody is there to confirm the plan")
            .hint("nothing was changed; say --yes to apply without a question"));
    }
    // On a thread of its own: Ctrl-C is heard while somebody thinks.
    match tokio::task::spawn_blocking(|| ask::yes("\nApply this plan?")).await {
        Ok(true) => Ok(()),
        _ => Err(Failure::usage("not confirmed").hint("nothing was changed")),
    }
}

pub(crate) async fn carry_out(
    opening: &Opening,
    plan: &Plan,
    access: BTreeMap<NodeName, Access>,
    secrets: &SecretValues,
    artifacts: Files,
    owner: Owner,
    mut screen: Screen,
) -> Result<Report, Failure> {
    let guard = Box::new(Quorum::of_plan(plan, opening.project.inventory.servers()));
    let runs = opening.store.runs();
    let mut journal = std::fs::create_dir_all(&runs)
        .and_then(|()| Journal::create(&runs, &owner.run))
        .map_err(|e| {
            Failure::usage(format!(
                "cannot write the journal in {}: {e}",
                runs.display()
            ))
            .hint("nothing was changed on any node")
        })?;
    let (events, mut inbox) = mpsc::unbounded_channel::<Event>();
    let (cancel, cancelled) = watch::channel(Cancel::No);
    let watcher = tokio::spawn(async move {
        for level in [Cancel::Finish, Cancel::Now] {
            if tokio::signal::ctrl_c().await.is_err() || cancel.send(level).is_err() {
                return;
            }
        }
        // Kept alive: a dropped sender would look like the end of the run.
        std::future::pending::<()>().await;
    });
    let show = tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            if let Err(e) = journal.write(&event) {
                tracing::warn!("the journal cannot be written: {e}");
            }
            screen.event(&event);
        }
    });
    let report = opening
        .engine
        .apply_guarded(
            plan,
            Run {
                id: owner.run.clone(),
                owner,
                access,
                secrets: secrets.clone(),
                key: Secret::new(opening.key.clone()),
                artifacts: Arc::new(artifacts),
                events,
                cancel: cancelled,
            },
            guard,
        )
        .await;
    watcher.abort();
    let _ = show.await;
    Ok(report)
}

/// Who this run is.
pub(crate) fn owner(store: &Store) -> Owner {
    let clock = verbs::SystemClock::new();
    let now = clock.epoch_ms();
    let pid = std::process::id();
    Owner {
        run: format!("{now:013}-{pid}"),
        user: person::login_name(),
        controller: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        store: store.root().display().to_string(),
        pid,
        since: now / 1000,
    }
}

/// How root is had on the nodes of a plan file: their facts say so.
async fn access_for(opening: &Opening, plan: &Plan) -> BTreeMap<NodeName, Access> {
    let nodes: Vec<_> = plan
        .nodes
        .iter()
        .filter(|(_, n)| matches!(n.state, NodeState::Observed { .. }))
        .filter_map(|(name, _)| opening.project.inventory.node(name))
        .collect();
    let found = look::facts(&opening.engine, nodes.iter().copied(), false).await;
    let roots: Vec<_> = nodes
        .iter()
        .filter_map(|n| match found.get(&n.name) {
            Some(Ok((facts, _))) => Some((*n, facts.now.root)),
            _ => None,
        })
        .collect();
    connect::access(&opening.project, &opening.secrets, &roots)
}
