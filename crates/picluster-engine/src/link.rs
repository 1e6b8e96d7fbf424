//! One node: its connection, the session on it, and what is known of who answers there.

use std::sync::Arc;
use std::time::Duration;

use picluster_model::NodeName;
use picluster_plan::{NodePlan, NodeState};
use picluster_resource::facts::RootAccess;
use picluster_resource::{Answers, Facts, Frame, ProbeProgram, Query};
use tokio::time::timeout;

use crate::agent;
use crate::counters::Tally;
use crate::error::NodeError;
use crate::host::{Connector, Exit, Host, Peer};
use crate::run::Access;
use crate::session::{Agent, AskError, Message, SudoError};
use crate::settings::Settings;

/// What all nodes share.
pub(crate) struct Shared {
    pub connector: Arc<dyn Connector>,
    pub settings: Settings,
    pub tally: Arc<Tally>,
}

/// As whom the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The login user.
    Login,
    /// Root, its library not loaded.
    Root,
    /// Root, its library loaded.
    Ready,
}

/// A node's connection and session. Both are made when they are first needed and kept.
pub(crate) struct Link {
    node: NodeName,
    shared: Arc<Shared>,
    host: Option<Box<dyn Host>>,
    session: Option<(Agent, Level)>,
    facts: Option<Facts>,
}

impl Link {
    pub(crate) fn new(node: NodeName, shared: Arc<Shared>) -> Self {
        Self {
            node,
            shared,
            host: None,
            session: None,
            facts: None,
        }
    }

    /// The node.
    pub(crate) fn name(&self) -> &NodeName {
        &self.node
    }

    /// Dials, unless there is a connection.
    pub(crate) async fn connect(&mut self) -> Result<Peer, NodeError> {
        if let Some(host) = &self.host {
            return Ok(host.peer());
        }
        let host = self.shared.connector.connect(&self.node).await?;
        self.shared.tally.count(&self.node, |c| c.connections += 1);
        let peer = host.peer();
        tracing::debug!(node = %self.node, address = %peer.address, "connected");
        self.host = Some(host);
        Ok(peer)
    }

    /// The facts of the machine that answers; asked once a connection.
    pub(crate) async fn facts(&mut self) -> Result<Facts, NodeError> {
        self.connect().await?;
        if let Some(facts) = &self.facts {
            return Ok(facts.clone());
        }
        self.fresh_facts(false).await
    }

    /// The facts now; with `state`, also systemd's.
    pub(crate) async fn fresh_facts(&mut self, state: bool) -> Result<Facts, NodeError> {
        self.connect().await?;
        if self
            .session
            .as_ref()
            .is_some_and(|(_, level)| *level != Level::Login)
        {
            // Root's session cannot tell how the login user becomes root.
            self.end_session().await;
        }
        self.ensure_session().await?;
        let clock = Arc::clone(&self.shared.settings.clock);
        let sent = clock.epoch_ms();
        let frames = self
            .ask_raw(
                Some(&agent::try_root()),
                &Message::script(agent::facts(state)),
                "asking for its facts",
            )
            .await?;
        let received = clock.epoch_ms();
        if let Some((agent, level)) = &mut self.session {
            if agent.raised {
                *level = Level::Root;
            } else {
                agent.forget_stderr();
            }
        }
        let text = frames
            .iter()
            .find(|f| f.id == agent::FACTS)
            .map(Frame::text)
            .unwrap_or_default();
        let mut facts = Facts::parse(&text).map_err(|what| self.garbage(what))?;
        // The node looked at its clock about half-way between question and answer.
        let here = sent + (received - sent) / 2;
        facts.now.skew_s = Some(facts.now.epoch - here.div_euclid(1000));
        self.facts = Some(facts.clone());
        Ok(facts)
    }

    /// Checks that the machine the plan was made for is the one that answers.
    pub(crate) async fn identify(&mut self, plan: &NodePlan) -> Result<(), NodeError> {
        let peer = self.connect().await?;
        let facts = self.facts().await?;
        let NodeState::Observed {
            facts: planned,
            host_key,
        } = &plan.state
        else {
            return Ok(());
        };
        let pairs = [
            ("host key", host_key, &peer.host_key),
            ("machine id", &planned.now.machine_id, &facts.now.machine_id),
            ("board serial", &planned.board.serial, &facts.board.serial),
        ];
        for (what, before, now) in pairs {
            // What was empty was not known: nothing can be said about it.
            if before != now && !before.is_empty() {
                return Err(NodeError::Identity {
                    node: self.node.clone(),
                    what: format!("{what} {before} in the plan, {now} now"),
                });
            }
        }
        Ok(())
    }

    /// Sends a message to the node's root session, making or raising it as needed.
    pub(crate) async fn ask(
        &mut self,
        access: &Access,
        message: Message,
        bound: Duration,
        doing: &str,
    ) -> Result<Vec<Frame>, NodeError> {
        let first = self.raise(access).await?;
        let mut first = first.as_deref();
        let mut message = message;
        if matches!(self.session, Some((_, Level::Root))) {
            let library = agent::library(&self.shared.settings.paths);
            if message.payload.is_empty() {
                message.script.insert_str(0, &library);
            } else {
                // The library knows how to receive a payload, so it has to be there before.
                let load = Message::script(library);
                self.loading(first.take(), &load, bound, doing).await?;
            }
        }
        self.loading(first, &message, bound, doing).await
    }

    /// Sends a message; when it is answered, root's library is there.
    async fn loading(
        &mut self,
        first: Option<&str>,
        message: &Message,
        bound: Duration,
        doing: &str,
    ) -> Result<Vec<Frame>, NodeError> {
        let frames = self
            .bounded(first, message, bound, doing)
            .await
            .map_err(|e| self.no_sudo(first.is_some(), e))?;
        if let Some((_, level)) = &mut self.session {
            *level = Level::Ready;
        }
        Ok(frames)
    }

    /// Brings the session to root. Returns the line that has to go before the next message, where
    /// no answer needs to be awaited in between.
    async fn raise(&mut self, access: &Access) -> Result<Option<String>, NodeError> {
        self.ensure_session().await?;
        let Some((agent, level)) = &mut self.session else {
            return Ok(None);
        };
        if *level != Level::Login {
            return Ok(None);
        }
        let no_root = |why: &str| NodeError::NoRoot {
            node: self.node.clone(),
            why: why.to_owned(),
        };
        let first = match access.root {
            RootAccess::IsRoot => None,
            RootAccess::Sudo => Some(agent::become_root()),
            RootAccess::None => {
                return Err(no_root(
                    "the login user cannot become root: no sudo, or not allowed to use it",
                ));
            }
            RootAccess::SudoPassword => {
                let bound = self.shared.settings.answer_timeout;
                if access
                    .password
                    .as_ref()
                    .is_some_and(|p| p.reveal().contains('\n'))
                {
                    return Err(no_root("the sudo password holds a newline"));
                }
                let done = timeout(bound, agent.sudo(access.password.as_ref())).await;
                let error = match done {
                    Ok(Ok(())) => None,
                    Err(_) => Some(self.late(bound, "waiting for sudo")),
                    Ok(Err(SudoError::WrongPassword)) => Some(NodeError::WrongPassword {
                        node: self.node.clone(),
                    }),
                    Ok(Err(SudoError::NoPassword)) => {
                        Some(no_root("sudo wants a password and none was given"))
                    }
                    Ok(Err(SudoError::Ask(e))) => Some(self.no_sudo(true, self.ask_error(e))),
                };
                if let Some(error) = error {
                    self.session = None;
                    return Err(error);
                }
                None
            }
        };
        if let Some((_, level)) = &mut self.session {
            *level = Level::Root;
        }
        Ok(first)
    }

    /// A session that ends while sudo is on its way ends because of sudo.
    fn no_sudo(&self, raised: bool, error: NodeError) -> NodeError {
        match error {
            NodeError::Lost { node, stderr } if raised && !stderr.trim().is_empty() => {
                NodeError::NoRoot {
                    node,
                    why: format!("sudo did not start a root shell: {}", stderr.trim()),
                }
            }
            other => other,
        }
    }

    async fn ensure_session(&mut self) -> Result<(), NodeError> {
        self.connect().await?;
        if self.session.is_some() {
            return Ok(());
        }
        let session = self.start(&agent::command()).await?;
        let agent = Agent::new(self.node.clone(), session, Arc::clone(&self.shared.tally));
        self.session = Some((agent, Level::Login));
        Ok(())
    }

    /// Starts a program on the connection.
    pub(crate) async fn start(&mut self, command: &str) -> Result<crate::host::Session, NodeError> {
        self.connect().await?;
        let Some(host) = &self.host else {
            return Err(self.garbage("no connection"));
        };
        let session = host.exec(command).await.map_err(|error| NodeError::Host {
            node: self.node.clone(),
            error,
        });
        match session {
            Ok(session) => {
                self.shared.tally.count(&self.node, |c| c.execs += 1);
                Ok(session)
            }
            Err(error) => {
                self.drop_connection().await;
                Err(error)
            }
        }
    }

    /// A root agent of its own beside the session, for a program that takes its place.
    pub(crate) async fn separate_root(&mut self, access: &Access) -> Result<Agent, NodeError> {
        let kept = self.session.take();
        let raised = self.raise(access).await;
        let mine = self.session.take();
        self.session = kept;
        raised?;
        match mine {
            Some((agent, _)) => Ok(agent),
            None => Err(self.garbage("no session")),
        }
    }

    async fn ask_raw(
        &mut self,
        first: Option<&str>,
        message: &Message,
        doing: &str,
    ) -> Result<Vec<Frame>, NodeError> {
        let bound = self.shared.settings.answer_timeout;
        self.bounded(first, message, bound, doing).await
    }

    async fn bounded(
        &mut self,
        first: Option<&str>,
        message: &Message,
        bound: Duration,
        doing: &str,
    ) -> Result<Vec<Frame>, NodeError> {
        // Taken out while it works: if this future is dropped half-way, so is the session, whose
        // state nobody would know.
        let Some((mut agent, level)) = self.session.take() else {
            return Err(self.garbage("no session"));
        };
        match timeout(bound, agent.ask(first, message)).await {
            Ok(Ok(frames)) => {
                self.session = Some((agent, level));
                Ok(frames)
            }
            Ok(Err(error)) => Err(self.ask_error(error)),
            Err(_) => Err(self.late(bound, doing)),
        }
    }

    fn ask_error(&self, error: AskError) -> NodeError {
        let node = self.node.clone();
        match error {
            AskError::Ended { exit, stderr } => NodeError::Lost {
                node,
                stderr: match (exit, stderr.trim()) {
                    (Exit::Status(status), "") => format!("exit status {status}"),
                    (Exit::Signal(signal), "") => format!("ended by SIG{signal}"),
                    (_, words) => words.to_owned(),
                },
            },
            AskError::GaveUp(what) => NodeError::GaveUp { node, what },
            AskError::Garbage(what) => NodeError::Garbage { node, what },
        }
    }

    fn late(&self, bound: Duration, doing: &str) -> NodeError {
        NodeError::Timeout {
            node: self.node.clone(),
            doing: doing.to_owned(),
            seconds: bound.as_secs(),
        }
    }

    fn garbage(&self, what: impl Into<String>) -> NodeError {
        NodeError::Garbage {
            node: self.node.clone(),
            what: what.into(),
        }
    }

    /// Process id of the agent, while there is one.
    pub(crate) fn agent_pid(&self) -> Option<u32> {
        let (agent, _) = self.session.as_ref()?;
        agent.hello.as_ref().map(|h| h.pid)
    }

    /// The boot id of the node as the session knows it.
    pub(crate) fn boot_id(&self) -> String {
        let hello = self
            .session
            .as_ref()
            .and_then(|(agent, _)| agent.hello.as_ref());
        match (hello, &self.facts) {
            (Some(hello), _) if !hello.boot_id.is_empty() => hello.boot_id.clone(),
            (_, Some(facts)) => facts.now.boot_id.clone(),
            _ => String::new(),
        }
    }

    /// Whether a connection stands, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.host.is_some()
    }

    /// Reads the answers to some of a program's questions out of its frames. What is wrong with
    /// another's answer is not held against these.
    pub(crate) fn answers(
        &self,
        program: &ProbeProgram,
        queries: &[Query],
        frames: &[Frame],
    ) -> Result<Answers, NodeError> {
        if !frames.last().is_some_and(ProbeProgram::is_end) {
            return Err(self.garbage("the probe ended before its last answer"));
        }
        program
            .parse(queries, frames)
            .map_err(|error| NodeError::Answer {
                node: self.node.clone(),
                error,
            })
    }

    /// Ends the session, and with it the lock it holds; the connection stays.
    pub(crate) async fn end_session(&mut self) {
        if let Some((agent, _)) = self.session.take() {
            agent.finish().await;
        }
    }

    /// Closes the connection without waiting for anything that runs.
    pub(crate) async fn drop_connection(&mut self) {
        self.session = None;
        self.facts = None;
        if let Some(host) = self.host.take() {
            host.close().await;
        }
    }

    /// Ends session and connection in peace.
    pub(crate) async fn close(&mut self) {
        self.end_session().await;
        self.drop_connection().await;
    }

    /// Has root anew: through a new session on the same connection, as if nobody had been here before.
    /// The session that stands is given up only when that went well.
    pub(crate) async fn renew(
        &mut self,
        access: &Access,
        bound: Duration,
    ) -> Result<(), NodeError> {
        let kept = self.session.take();
        let doing = "proving that there is a way in";
        let tried = timeout(bound, async {
            let access = Access {
                root: self.fresh_facts(false).await?.now.root,
                ..access.clone()
            };
            let nothing = Message::script(":\n".into());
            self.ask(&access, nothing, bound, doing).await
        })
        .await;
        let error = match tried {
            Ok(Ok(_)) => {
                if let Some((agent, _)) = kept {
                    agent.finish().await;
                }
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => self.late(bound, doing),
        };
        self.session = kept;
        Err(error)
    }

    /// Dials anew beside the old connection, which is given up only when the new one stands.
    pub(crate) async fn redial(&mut self) -> Result<(), NodeError> {
        let host = self.shared.connector.connect(&self.node).await?;
        self.shared.tally.count(&self.node, |c| c.connections += 1);
        self.close().await;
        self.host = Some(host);
        Ok(())
    }
}
