//! One file a verb.

pub mod apply;
pub mod exec;
pub mod explain;
pub mod facts;
pub mod fetch;
pub mod forget_key;
pub mod graph;
pub mod kubeconfig;
pub mod lab;
pub mod plan;
pub mod reset;
pub mod shutdown;
pub mod status;
pub mod validate;

use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use picluster_engine::{Clock, Engine, ExitCode, Settings};
use picluster_model::inventory::Project;

use crate::cli::Meeting;
use crate::error::Failure;
use crate::store::Store;
use crate::term::Style;
use crate::{connect, project};

/// Writes to stdout; a reader that went away is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(e) = written
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        say(&format!("error: cannot write to stdout: {e}\n"));
        std::process::exit(i32::from(picluster_engine::ExitCode::Usage.number()));
    }
}

/// Writes to stderr.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Runs asynchronous work on a small runtime: two workers carry hundreds of nodes.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(4)))
        .enable_all()
        .build()
        .map_err(|e| Failure::usage(format!("cannot start the runtime: {e}")))?;
    let value = runtime.block_on(work);
    // A question on the terminal that nobody answers must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(value)
}

/// Reads the documents and says what is valid and still probably not meant.
pub(crate) fn load(inventory: &std::path::Path, err: Style) -> Result<Project, Failure> {
    let project = project::load(inventory)?;
    for note in project::notes(&project) {
        say(&format!("{} {note}\n", err.yellow("note:")));
    }
    Ok(project)
}

/// Work that writes nothing, given up at Ctrl-C with a word about it.
///
/// # Errors
/// The work's own, or that it was interrupted (130).
pub(crate) async fn until_ctrl_c<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        Ok(()) = tokio::signal::ctrl_c() => {
            // A question that was not answered: the terminal may still hide what is typed.
            crate::ask::give_back();
            // The cursor stands behind `^C`.
            say("\n");
            Err(Failure::with(ExitCode::Interrupted, "interrupted")
                .hint("nothing was changed on any node"))
        }
    }
}

/// The system's clock.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn epoch_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_millis()).ok())
            .unwrap_or(0)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The engine for an inventory.
pub(crate) fn engine(
    project: &Project,
    store: &Store,
    meeting: &Meeting,
) -> Result<Arc<Engine>, Failure> {
    engine_with(project, store, meeting, settings(meeting))
}

/// The same with bounds of one's own.
pub(crate) fn engine_with(
    project: &Project,
    store: &Store,
    meeting: &Meeting,
    settings: Settings,
) -> Result<Arc<Engine>, Failure> {
    let connector = connect::connector(project, store, meeting)?;
    Ok(Arc::new(Engine::new(Arc::new(connector), settings)))
}

/// The usual bounds.
pub(crate) fn settings(meeting: &Meeting) -> Settings {
    let mut settings = Settings::new(Arc::new(SystemClock::new()));
    settings.max_nodes = meeting.nodes_at_once.max(1);
    settings
}

/// Closes all connections. `PICLUSTER_COUNTERS=FILE` asks for what was spent on the wire: budgets
/// are kept by counting, from outside.
pub(crate) async fn close(engine: &Engine) {
    engine.close().await;
    if let Some(path) = std::env::var_os("PICLUSTER_COUNTERS") {
        let text = serde_json::to_string(&engine.counters()).unwrap_or_default();
        if let Err(e) = std::fs::write(&path, text) {
            tracing::warn!("counters cannot be written: {e}");
        }
    }
}
