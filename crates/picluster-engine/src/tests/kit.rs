//! What the tests share: a node in a temporary directory, plans made by the real planner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use picluster_model::secret::{Secret, SecretValues};
use picluster_model::{ClusterName, NodeName, RoleName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions};
use picluster_plan::{Declared, Plan, StepAddr};
use picluster_resource::kinds::file::File;
use picluster_resource::{Ctx, NodePath, Resource};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::engine::Engine;
use crate::event::{Event, EventKind};
use crate::lock::Owner;
use crate::report::Report;
use crate::run::{Access, Cancel, Run};
use crate::settings::{NodePaths, Settings};
use crate::testing::{Local, LocalConnector, TestClock};
use crate::upload::{Artifacts, NoArtifacts};

pub const KEY: &[u8] = b"key of the tests";

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub fn whoami() -> (String, String) {
    let ask = |flag: &str| {
        let out = std::process::Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    (ask("-un"), ask("-gn"))
}

/// A directory that plays the disk of all nodes, and an engine that works on it.
pub struct Rig {
    pub dir: TempDir,
    pub connector: Arc<LocalConnector>,
    pub engine: Engine,
    pub secrets: SecretValues,
    pub artifacts: Arc<dyn Artifacts>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_, _| {})
    }

    pub fn with(tune: impl FnOnce(&mut LocalConnector, &mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(dir, tune)
    }

    pub fn at(dir: TempDir, tune: impl FnOnce(&mut LocalConnector, &mut Settings)) -> Self {
        let clock = Arc::new(TestClock::default());
        let mut settings = Settings::new(clock.clone());
        settings.paths = NodePaths {
            run: dir.path().join("run/@@@@").display().to_string(),
            lock: dir.path().join("lock/@@@@.lock").display().to_string(),
            owned: dir.path().join("owned/@@@@").display().to_string(),
        };
        settings.lock_poll = std::time::Duration::from_millis(20);
        settings.reboot_poll = std::time::Duration::from_millis(5);
        settings.reboot_poll_max = std::time::Duration::from_millis(20);
        // A directory of its own for a second node: both would sweep up each other's temporaries.
        let _ = std::fs::create_dir(dir.path().join("n2"));
        let mut connector = LocalConnector::default();
        tune(&mut connector, &mut settings);
        let connector = Arc::new(connector);
        Self {
            engine: Engine::new(Arc::new(Local(connector.clone())), settings),
            dir,
            connector,
            secrets: SecretValues::default(),
            artifacts: Arc::new(NoArtifacts),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// A file that belongs to whoever runs the tests.
    pub fn file(&self, name: &str, content: &str) -> Resource {
        file_at(&self.path(name), content)
    }

    /// Facts, probes and the planner's own plan.
    pub async fn plan(&self, nodes: &[(&str, Vec<Resource>)]) -> Plan {
        let mut inputs = BTreeMap::new();
        for (name, resources) in nodes {
            let name = node(name);
            let (facts, peer) = self.engine.facts(&name).await.unwrap();
            let declared: Vec<Declared> = resources.iter().map(|r| declared(&name, r)).collect();
            let ctx = Ctx {
                facts: &facts,
                secrets: &self.secrets,
            };
            let answers = self
                .engine
                .probe(
                    &name,
                    &Access {
                        root: facts.now.root,
                        password: None,
                    },
                    questions(&declared, ctx),
                )
                .await
                .unwrap();
            inputs.insert(
                name,
                NodeInput::Observed(Box::new(ObservedNode {
                    facts,
                    host_key: peer.host_key,
                    declared,
                    answers,
                })),
            );
        }
        build(&Inputs {
            departing: std::collections::BTreeSet::new(),
            bootstrap: None,
            servers: Vec::new(),
            agents: Vec::new(),
            cluster: ClusterName::new("test").unwrap(),
            inventory: String::new(),
            addresses: BTreeMap::new(),
            nodes: inputs,
            secrets: &self.secrets,
            key: KEY,
        })
    }

    pub fn run(&self, id: &str) -> (Run, mpsc::UnboundedReceiver<Event>, watch::Sender<Cancel>) {
        let (events, received) = mpsc::unbounded_channel();
        let (cancel, watching) = watch::channel(Cancel::No);
        let run = Run {
            id: id.into(),
            owner: owner(id),
            access: BTreeMap::new(),
            secrets: self.secrets.clone(),
            key: Secret::new(KEY.to_vec()),
            artifacts: self.artifacts.clone(),
            events,
            cancel: watching,
        };
        (run, received, cancel)
    }

    /// Applies and returns all events.
    pub async fn apply(&self, plan: &Plan) -> (Report, Vec<EventKind>) {
        let (run, mut received, _cancel) = self.run("r1");
        let report = self.engine.apply(plan, run).await;
        let mut events = Vec::new();
        while let Ok(event) = received.try_recv() {
            events.push(event.event);
        }
        check_events(plan, &report, &events);
        (report, events)
    }

    /// Applies until so many events have come, or to the end; says whether that came first.
    /// Dropping the future in the middle is what a kill looks like from the node.
    pub async fn killed_at(&self, at: usize, plan: &Plan) -> bool {
        let (run, mut events, _cancel) = self.run("r1");
        let mut apply = std::pin::pin!(self.engine.apply(plan, run));
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                Some(_) = events.recv() => {
                    seen += 1;
                    if seen == at { return false; }
                }
                _ = &mut apply => return true,
            }
        }
    }
}

pub fn owner(run: &str) -> Owner {
    Owner {
        run: run.into(),
        user: "ann".into(),
        controller: "desk".into(),
        store: "/store".into(),
        pid: 7,
        since: 0,
    }
}

pub fn file_at(path: &Path, content: &str) -> Resource {
    let (owner, group) = whoami();
    Resource::File(File {
        path: NodePath::new(path.display().to_string()).unwrap(),
        content: content.into(),
        mode: "0640".into(),
        owner,
        group,
        state: picluster_resource::kinds::file::Presence::Present,
        validate: None,
    })
}

pub fn declared(node: &NodeName, resource: &Resource) -> Declared {
    Declared {
        addr: StepAddr {
            node: node.clone(),
            role: RoleName::new("base").unwrap(),
            kind: resource.kind().into(),
            key: resource.key(),
        },
        resource: resource.clone(),
        id: None,
        needs: Vec::new(),
        barrier: false,
        guarded: false,
        span: None,
    }
}

/// The event stream's promise.
pub fn check_events(plan: &Plan, report: &Report, events: &[EventKind]) {
    let finished = |addr: &StepAddr| {
        events
            .iter()
            .filter(|e| matches!(e, EventKind::StepFinished { addr: a, .. } if a == addr))
            .count()
    };
    for step in &plan.steps {
        assert_eq!(finished(&step.addr), 1, "{}", step.addr);
    }
    for name in plan.nodes.keys() {
        let ends = events
            .iter()
            .filter(|e| matches!(e, EventKind::NodeFinished { node, .. } if node == name))
            .count();
        assert_eq!(ends, 1, "{name}");
    }
    assert!(matches!(events.first(), Some(EventKind::RunStarted { .. })));
    let Some(EventKind::RunFinished { counts, code, .. }) = events.last() else {
        panic!("no end: {events:?}");
    };
    assert_eq!(*counts, report.counts());
    assert_eq!(*code, report.exit_code().number());
}
