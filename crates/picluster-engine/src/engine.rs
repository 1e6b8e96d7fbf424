//! The driver: keeps one connection a node, asks, and carries out plans.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use picluster_model::NodeName;
use picluster_plan::owned::Begun;
use picluster_plan::{NodeState, Plan};
use picluster_resource::shell::{quote, words};
use picluster_resource::{Answers, Facts, ProbeProgram, Query};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::agent;
use crate::apply;
use crate::counters::{Counters, Tally};
use crate::error::NodeError;
use crate::guard::Guard;
use crate::guarded;
use crate::host::{Connector, Exit, Peer};
use crate::link::{Link, Shared};
use crate::report::Report;
use crate::run::{Access, Line, Run};
use crate::session::Message;
use crate::settings::Settings;
use crate::stream;

/// How many seconds a node waits for its lock before it removes a few files: what a killed run left running has it until it
/// comes to its end, which may be after the plan was made.
const TIDY_WAIT: u64 = 15;
/// How long all of that may take. The node has just answered.
const TIDY_BOUND: Duration = Duration::from_secs(TIDY_WAIT + 15);

/// Speaks to nodes. One connection and, while nothing goes wrong, one exec session a node serve
/// facts, probes and apply.
pub struct Engine {
    shared: Arc<Shared>,
    /// Nodes that are asked at the same time.
    places: Arc<Semaphore>,
    links: std::sync::Mutex<BTreeMap<NodeName, Arc<Mutex<Link>>>>,
}

impl Engine {
    /// An engine without connections.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>, settings: Settings) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.max_nodes.max(1))),
            links: std::sync::Mutex::default(),
            shared: Arc::new(Shared {
                connector,
                settings,
                tally: Arc::new(Tally::default()),
            }),
        }
    }

    /// Dials a node, unless it is connected, and asks for its facts, also for how far its clock is
    /// off. The session stays open for what follows.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn facts(&self, node: &NodeName) -> Result<(Facts, Peer), NodeError> {
        let _place = self.place().await;
        let link = self.link(node);
        let mut link = link.lock().await;
        let facts = link.fresh_facts(false).await?;
        let peer = link.connect().await?;
        Ok((facts, peer))
    }

    /// The facts of a node, now, with the state of its systemd.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn facts_and_state(&self, node: &NodeName) -> Result<(Facts, Peer), NodeError> {
        let _place = self.place().await;
        let link = self.link(node);
        let mut link = link.lock().await;
        let facts = link.fresh_facts(true).await?;
        let peer = link.connect().await?;
        Ok((facts, peer))
    }

    /// Asks questions as root, read-only: takes no lock.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn probe(
        &self,
        node: &NodeName,
        access: &Access,
        queries: Vec<Query>,
    ) -> Result<Answers, NodeError> {
        let program = ProbeProgram::new(queries);
        if program.queries().is_empty() {
            return Ok(Answers::default());
        }
        let _place = self.place().await;
        let link = self.link(node);
        let mut link = link.lock().await;
        let bound = self.shared.settings.answer_timeout;
        let message = Message::script(agent::probe(&program.script));
        let frames = link.ask(access, message, bound, "probing it").await?;
        link.answers(&program, program.queries(), &frames)
    }

    /// Runs any command line, in a session of its own without standard input, and hands its output
    /// to `sink` line by line as it comes. Takes no lock.
    ///
    /// # Errors
    /// [`NodeError`] when it could not be started. How it ended, also when that is not known, is
    /// the [`Exit`].
    pub async fn exec(
        &self,
        node: &NodeName,
        access: &Access,
        command: &str,
        as_root: bool,
        sink: &mut (dyn FnMut(Line) + Send),
    ) -> Result<Exit, NodeError> {
        let _place = self.place().await;
        let link = self.link(node);
        let mut link = link.lock().await;
        stream::exec(&mut link, access, command, as_root, sink).await
    }

    /// Has a node take back, now, a guarded change that a run which is gone left open (the node would do so by itself when its
    /// time is up). Not while another run works there. Returns whether it was taken back.
    pub async fn take_back(&self, node: &NodeName, access: &Access) -> bool {
        let _place = self.place().await;
        let link = self.link(node);
        let mut link = link.lock().await;
        guarded::take_back(&mut link, access, &self.shared.settings.paths.lock).await
    }

    /// Carries out a plan without a rule about what may go on at the same time: for tests only.
    #[cfg(any(test, feature = "testing"))]
    pub async fn apply(&self, plan: &Plan, run: Run) -> Report {
        self.apply_guarded(plan, run, Box::new(crate::guard::NoGuard))
            .await
    }

    /// Carries out a plan. Events come as things happen; the report says how all of it ended.
    /// When this returns, nothing runs any more on behalf of it and all locks on nodes are free.
    ///
    /// The guard is not optional: whoever applies has to say which nodes are members of the control
    /// plane ([`crate::guard::Quorum`]).
    pub async fn apply_guarded(&self, plan: &Plan, run: Run, guard: Box<dyn Guard>) -> Report {
        self.tidy(plan, &run.access).await;
        apply::apply(self, plan, run, guard).await
    }

    /// Takes away the marks of operations that came to their end unheard ([`picluster_plan::NodePlan::finished`]); part
    /// of every apply, also of one without steps. Where another run stays at work they stay for the next one: that they
    /// stand hurts nobody.
    pub async fn tidy(&self, plan: &Plan, access: &BTreeMap<NodeName, Access>) {
        let paths = &self.shared.settings.paths;
        let mut going = tokio::task::JoinSet::new();
        for (name, node) in plan.nodes.iter().filter(|(_, n)| !n.finished.is_empty()) {
            let marks = node
                .finished
                .iter()
                .map(|record| format!("{}/{}", paths.owned, Begun::file_name(record)));
            let command = format!(
                "exec 9>>{}; flock -w {TIDY_WAIT} 9 || exit 0; rm -f -- {}",
                quote(&paths.lock),
                words(marks)
            );
            let mut access = access.get(name).cloned().unwrap_or_default();
            if let NodeState::Observed { facts, .. } = &node.state {
                access.root = facts.now.root;
            }
            let (link, places) = (self.link(name), Arc::clone(&self.places));
            going.spawn(timeout(TIDY_BOUND, async move {
                let _place = places.acquire_owned().await;
                let mut link = link.lock().await;
                let _ = stream::exec(&mut link, &access, &command, true, &mut |_| {}).await;
            }));
        }
        going.join_all().await;
    }

    /// Closes the connection of one node, in peace.
    pub async fn release(&self, node: &NodeName) {
        let link = self.link(node);
        link.lock().await.close().await;
    }

    /// Closes all connections, in peace.
    pub async fn close(&self) {
        let links: Vec<Arc<Mutex<Link>>> = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *links).into_values().collect()
        };
        let mut closing = tokio::task::JoinSet::new();
        for link in links {
            closing.spawn(async move { link.lock().await.close().await });
        }
        closing.join_all().await;
    }

    /// What was spent so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.tally.snapshot()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn link(&self, node: &NodeName) -> Arc<Mutex<Link>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(links.entry(node.clone()).or_insert_with(|| {
            Arc::new(Mutex::new(Link::new(
                node.clone(),
                Arc::clone(&self.shared),
            )))
        }))
    }

    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so there always is one.
        self.places.acquire().await.ok()
    }
}
