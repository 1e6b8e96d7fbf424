//! What every verb that looks at the whole rack begins with.

use std::path::Path;
use std::sync::Arc;

use picluster_engine::{Engine, Settings};
use picluster_model::NodeName;
use picluster_model::inventory::Project;
use picluster_model::secret::SecretValues;

use crate::cli::Meeting;
use crate::error::Failure;
use crate::store::Store;
use crate::survey::{Beside, Departures, Survey, survey};
use crate::{secrets, verbs};

/// Documents, store, secrets, key and engine: everything that can be had without a connection.
pub(crate) struct Opening {
    /// The documents.
    pub project: Project,
    /// What this controller remembers.
    pub store: Store,
    /// The values of all secrets.
    pub secrets: Arc<SecretValues>,
    /// The key of plan digests.
    pub key: Vec<u8>,
    /// The server that has been told to found the cluster.
    pub bootstrap: Option<NodeName>,
    /// Which nodes are to leave.
    pub departures: Departures,
    /// Connected to nobody yet.
    pub engine: Arc<Engine>,
    meeting: Meeting,
    settings: Settings,
}

impl Opening {
    /// For documents that are read already.
    ///
    /// # Errors
    /// Secrets without a value, a store that cannot be used. Nobody was contacted.
    pub(crate) fn of(
        project: Project,
        inventory: &Path,
        meeting: &Meeting,
    ) -> Result<Self, Failure> {
        Self::with(project, inventory, meeting, |_| {})
    }

    /// The same with a say in the engine's bounds.
    ///
    /// # Errors
    /// As for [`Opening::of`].
    pub(crate) fn with(
        project: Project,
        inventory: &Path,
        meeting: &Meeting,
        tune: impl FnOnce(&mut Settings),
    ) -> Result<Self, Failure> {
        let store = Store::of(inventory, &project.inventory.cluster);
        let secrets = Arc::new(secrets::resolve(&project, &project.secrets())?);
        let key = store.key()?;
        let mut settings = verbs::settings(meeting);
        tune(&mut settings);
        let engine = verbs::engine_with(&project, &store, meeting, settings.clone())?;
        Ok(Self {
            project,
            store,
            secrets,
            key,
            bootstrap: None,
            departures: Departures::default(),
            engine,
            meeting: meeting.clone(),
            settings,
        })
    }

    /// With the node that `--bootstrap` names.
    ///
    /// # Errors
    /// No such server in the inventory.
    pub(crate) fn bootstrap(mut self, node: Option<&str>) -> Result<Self, Failure> {
        let Some(text) = node else { return Ok(self) };
        let servers: Vec<NodeName> = self.project.inventory.servers().collect();
        self.bootstrap = servers.iter().find(|n| n.as_str() == text).cloned();
        if self.bootstrap.is_some() {
            return Ok(self);
        }
        let names: Vec<&str> = servers.iter().map(NodeName::as_str).collect();
        Err(
            Failure::usage(format!("--bootstrap {text}: there is no such server")).hint(format!(
                "nothing was changed; the servers of the inventory: {}",
                names.join(", ")
            )),
        )
    }

    /// Lets nodes be met that left the inventory: each with where it was logged in to, and the server that tells of it,
    /// which is reached in the same way.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(crate) fn remember<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = (&'a NodeName, &'a str, &'a NodeName)>,
    ) -> Result<(), Failure> {
        let mut more = false;
        for (name, login, teller) in nodes {
            more |= self.project.inventory.remember(name, login, teller);
        }
        if more {
            self.engine = verbs::engine_with(
                &self.project,
                &self.store,
                &self.meeting,
                self.settings.clone(),
            )?;
        }
        Ok(())
    }

    /// Finds out which nodes have left the inventory and are still in the cluster, so that they can be met.
    ///
    /// # Errors
    /// As for [`Opening::survey`].
    pub(crate) async fn meet_leaving(&mut self) -> Result<(), Failure> {
        if !self.departures.remove {
            return Ok(());
        }
        let unmet = self.survey().await?.unmet;
        if !unmet.is_empty() {
            verbs::close(&self.engine).await;
        }
        self.remember(unmet.iter().map(|(n, login, t)| (n, login.as_str(), t)))
    }

    /// Looks at every node and makes the plan.
    ///
    /// # Errors
    /// Templates that fail for some node: nothing has been written anywhere.
    pub(crate) async fn survey(&self) -> Result<Survey, Failure> {
        self.survey_and(Beside::Credentials).await
    }

    async fn survey_and(&self, beside: Beside) -> Result<Survey, Failure> {
        survey(
            &self.project,
            &self.engine,
            &self.secrets,
            &self.store,
            &self.key,
            self.bootstrap.as_ref(),
            &self.departures,
            beside,
        )
        .await
    }

    /// The same, with the connections closed afterwards.
    ///
    /// # Errors
    /// As for [`Opening::survey`].
    pub(crate) async fn look(&self) -> Result<Survey, Failure> {
        self.look_and(Beside::Credentials).await
    }

    /// The same, with something else asked along.
    ///
    /// # Errors
    /// As for [`Opening::survey`].
    pub(crate) async fn look_and(&self, beside: Beside) -> Result<Survey, Failure> {
        let found = self.survey_and(beside).await;
        verbs::close(&self.engine).await;
        found
    }
}
