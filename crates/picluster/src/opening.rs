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
use crate::survey::{Beside, Survey, survey};
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
    /// Connected to nobody yet.
    pub engine: Arc<Engine>,
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
        let engine = verbs::engine_with(&project, &store, meeting, tune)?;
        Ok(Self {
            project,
            store,
            secrets,
            key,
            bootstrap: None,
            engine,
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
