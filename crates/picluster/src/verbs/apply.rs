//! `apply`: carries out a plan, and nothing but a plan.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use picluster_engine::guard::{Guard, Quorum};
use picluster_engine::run::Access;
use picluster_engine::{
    Cancel, Clock as _, ControllerLock, Engine, Event, ExitCode, Journal, Owner, Report, Run,
};
use picluster_model::inventory::Project;
use picluster_model::secret::{Secret, SecretValues};
use picluster_plan::{NodeState, Plan, plan};
use tokio::sync::{mpsc, watch};

use crate::artifacts::{Files, Shelf};
use crate::cli::ApplyArgs;
use crate::error::Failure;
use crate::show::live::{Live, Screen};
use crate::store::Store;
use crate::survey::survey;
use crate::term::Style;
use crate::{ask, connect, project, secrets, show, survey as look, verbs};

/// Plans (or reads a plan), asks, and applies.
///
/// # Errors
/// Whatever keeps the run from starting; how it ended is the exit code.
pub fn run(args: &ApplyArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let from_file = read_plan(&args.source)?;
    let inventory = match &from_file {
        Some(file) => file.inventory.clone(),
        None => args.source.clone(),
    };
    let project = project::load(&inventory)?;
    if let Some(file) = &from_file
        && file.plan.cluster != project.inventory.cluster
    {
        return Err(Failure::usage(format!(
            "{} is a plan for cluster {}, and {} describes cluster {}",
            args.source.display(),
            file.plan.cluster,
            inventory.display(),
            project.inventory.cluster
        ))
        .hint("nothing was changed; make a new plan: picluster plan --out FILE"));
    }
    for note in project::notes(&project) {
        verbs::say(&format!("{} {note}\n", err.yellow("note:")));
    }
    let store = Store::of(&inventory, &project.inventory.cluster);
    let secrets = Arc::new(secrets::resolve(&project, &project.secrets())?);
    let key = store.key()?;
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let owner = owner(&store);
    let _lock = ControllerLock::acquire(store.root(), &owner).map_err(|e| {
        Failure::with(ExitCode::Locked, e.to_string())
            .hint("nothing was changed; wait for that run to end, then run the same command again")
    })?;
    let again = format!("picluster apply {}", args.source.display());
    verbs::block_on(async {
        let (mut plan, access) = match from_file {
            Some(file) => {
                let access = access_for(&project, &engine, &secrets, &file.plan).await;
                (file.plan, access)
            }
            None => {
                let found = survey(&project, &engine, &secrets, &store, &key).await?;
                (found.plan, found.access)
            }
        };
        let left_out = verbs::plan::cut(&mut plan, &args.part)?;
        if !args.json {
            verbs::print(&show::plan::plan(&plan, left_out, out));
        }
        let before = verbs::plan::node_codes(&plan);
        if plan.steps.is_empty() && !args.json {
            verbs::close(&engine).await;
            return Ok(ExitCode::worst(before));
        }
        if !plan.steps.is_empty() && !args.yes {
            consent(args)?;
        }
        let screen = if args.json {
            Screen::Json
        } else if std::io::stderr().is_terminal() {
            Screen::Live(Box::new(Live::new(&plan, err)))
        } else {
            Screen::Plain(err)
        };
        let guard = Box::new(Quorum::of_plan(&plan, project.inventory.servers()));
        let report = carry_out(
            &engine,
            &plan,
            access,
            &secrets,
            &key,
            &store,
            owner,
            screen,
            guard,
            Shelf::of(&project).of_plan(&plan),
        )
        .await?;
        verbs::close(&engine).await;
        if !args.json {
            verbs::print(&format!("\n{}", show::recap::recap(&report, &again, out)));
        }
        let mut codes = report.exit_codes();
        codes.extend(before);
        Ok(ExitCode::worst(codes))
    })?
}

/// Asks before the first change.
fn consent(args: &ApplyArgs) -> Result<(), Failure> {
    if args.json || !ask::somebody_is_there() {
        return Err(Failure::usage("nobody is there to confirm the plan")
            .hint("nothing was changed; say --yes to apply without a question"));
    }
    if ask::yes("\nApply this plan?") {
        Ok(())
    } else {
        Err(Failure::usage("not confirmed").hint("nothing was changed"))
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "called once; a struct would only name the same things twice"
)]
async fn carry_out(
    engine: &Arc<Engine>,
    plan: &Plan,
    access: BTreeMap<picluster_model::NodeName, Access>,
    secrets: &SecretValues,
    key: &[u8],
    store: &Store,
    owner: Owner,
    mut screen: Screen,
    guard: Box<dyn Guard>,
    artifacts: Files,
) -> Result<Report, Failure> {
    let runs = store.runs();
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
    let report = engine
        .apply_guarded(
            plan,
            Run {
                id: owner.run.clone(),
                owner,
                access,
                secrets: secrets.clone(),
                key: Secret::new(key.to_vec()),
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
fn owner(store: &Store) -> Owner {
    let clock = verbs::SystemClock::new();
    let now = clock.epoch_ms();
    let pid = std::process::id();
    Owner {
        run: format!("{now:013}-{pid}"),
        user: std::env::var("USER").unwrap_or_else(|_| "somebody".into()),
        controller: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        store: store.root().display().to_string(),
        pid,
        since: now / 1000,
    }
}

/// A plan file: the plan, and the inventory it was made from.
struct PlanFile {
    plan: Plan,
    inventory: std::path::PathBuf,
}

/// Reads the source as a plan when it is one: plans are JSON objects, inventories are not.
fn read_plan(path: &Path) -> Result<Option<PlanFile>, Failure> {
    let Ok(text) = std::fs::read_to_string(path) else {
        // The document reader says what is wrong with it.
        return Ok(None);
    };
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let bad = |why: String| {
        Failure::usage(format!("{}: {why}", path.display()))
            .hint("nothing was changed; make a new one: picluster plan --out FILE")
    };
    let plan: Plan =
        serde_json::from_str(&text).map_err(|e| bad(format!("this is no plan: {e}")))?;
    if plan.format != plan::FORMAT {
        return Err(bad(format!(
            "this plan has format {}; this picluster reads format {}",
            plan.format,
            plan::FORMAT
        )));
    }
    let inventory = std::path::PathBuf::from(&plan.inventory);
    Ok(Some(PlanFile { plan, inventory }))
}

/// How root is had on the nodes of a plan file: their facts say so.
async fn access_for(
    project: &Project,
    engine: &Arc<Engine>,
    secrets: &SecretValues,
    plan: &Plan,
) -> BTreeMap<picluster_model::NodeName, Access> {
    let nodes: Vec<_> = plan
        .nodes
        .iter()
        .filter(|(_, n)| matches!(n.state, NodeState::Observed { .. }))
        .filter_map(|(name, _)| project.inventory.nodes.get(name))
        .collect();
    let found = look::facts(engine, nodes.iter().copied()).await;
    let roots: Vec<_> = nodes
        .iter()
        .filter_map(|n| match found.get(&n.name) {
            Some(Ok((facts, _))) => Some((*n, facts.now.root)),
            _ => None,
        })
        .collect();
    connect::access(project, secrets, &roots)
}
