//! What an inventory wants of the kubeconfig, and what has become of it.

use std::collections::BTreeMap;

use picluster_engine::Engine;
use picluster_engine::run::Access;
use picluster_model::inventory::{Expected, Node, Project};
use picluster_model::kubernetes::{Distribution, KubernetesRole};
use picluster_model::render::ClusterContext;
use picluster_model::{NodeName, Secret};
use picluster_resource::path::NodePath;
use picluster_resource::query::{Answer, Answers, Query};

use super::credentials::{self, Credentials};
use super::file::{Obstacle, Target, Written};
use crate::releases;

/// What servers have written, by name. Secret.
pub type Read = BTreeMap<NodeName, Secret<String>>;

/// Whose credentials go where.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Where they go.
    pub target: Target,
    /// The address of the cluster, when it has one of its own.
    endpoint: Option<String>,
    /// The servers that should be there, in the inventory's order, and their addresses.
    servers: Vec<(NodeName, String)>,
    /// Whether a server gets its program by this inventory, so that there will be credentials.
    installed: bool,
    /// Where servers have them.
    place: &'static str,
}

/// What the next apply does with the kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// All is there, or nothing is wanted.
    Nothing,
    /// The credentials are known, and this will be done with them.
    Known(Written),
    /// The server has none yet.
    Later(Target),
    /// They cannot be written.
    Refused(Obstacle),
    /// What the server has makes no sense.
    Unreadable {
        /// The server.
        node: NodeName,
        /// Where they stand on it.
        place: &'static str,
        /// Why.
        why: String,
    },
}

/// The answer to [`Intent::query`].
#[must_use]
pub fn answered(query: &Query, answers: &Answers) -> Option<Secret<String>> {
    match answers.0.get(query)? {
        Answer::Text(Some(text)) => Some(Secret::new(text.clone())),
        _ => None,
    }
}

impl Intent {
    /// What the inventory wants, whether or not it is to be merged by itself; `None` without a
    /// cluster, or when nothing says where the user's kubeconfig is.
    #[must_use]
    pub fn of(project: &Project) -> Option<Self> {
        let kubernetes = project.inventory.kubernetes.as_ref()?;
        let path = match &kubernetes.kubeconfig.path {
            Some(path) => releases::at_home(path),
            None => Target::of_user()?,
        };
        let servers: Vec<&Node> = project
            .inventory
            .nodes
            .values()
            .filter(|n| n.kubernetes == Some(KubernetesRole::Server))
            .filter(|n| n.expected == Expected::Present)
            .collect();
        let cluster = ClusterContext::new(project);
        // kubeadm's role goes with `kubernetes: server`; k3s may be left to somebody else.
        let installs = |node: &&Node| match kubernetes.distribution {
            Distribution::K3s => releases::installs(project, &cluster, node, None),
            Distribution::Kubeadm => true,
        };
        Some(Self {
            target: Target {
                path,
                context: kubernetes.kubeconfig.context.clone(),
            },
            endpoint: kubernetes.endpoint.clone(),
            place: credentials::place(kubernetes.distribution),
            installed: servers.iter().any(installs),
            servers: servers
                .into_iter()
                .map(|n| (n.name.clone(), n.address.clone()))
                .collect(),
        })
    }

    /// The same, when it is merged without being asked for.
    #[must_use]
    pub fn merged(project: &Project) -> Option<Self> {
        let merges = project
            .inventory
            .kubernetes
            .as_ref()
            .is_some_and(|k| k.kubeconfig.merge);
        Self::of(project).filter(|_| merges)
    }

    /// Where servers have the credentials.
    #[must_use]
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// The question that a server answers with its credentials. Its answer is secret.
    #[must_use]
    pub fn query(&self) -> Option<Query> {
        NodePath::new(self.place).ok().map(Query::Text)
    }

    /// Whether this node is asked.
    #[must_use]
    pub fn asks(&self, node: &NodeName) -> bool {
        self.servers.iter().any(|(name, _)| name == node)
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &NodeName> {
        self.servers.iter().map(|(name, _)| name)
    }

    /// The credentials of the first server that has any, with an address that leads there from
    /// outside.
    ///
    /// # Errors
    /// The server, and what is wrong with what it has.
    pub fn credentials(&self, read: &Read) -> Result<Option<Credentials>, (NodeName, String)> {
        for (name, address) in &self.servers {
            let Some(text) = read.get(name) else { continue };
            let found = Credentials::read(text.reveal()).map_err(|why| (name.clone(), why))?;
            return Ok(Some(found.at(self.endpoint.as_deref().unwrap_or(address))));
        }
        Ok(None)
    }

    /// What an apply would do.
    #[must_use]
    pub fn foresee(&self, read: &Read) -> Foreseen {
        match self.credentials(read) {
            Err((node, why)) => Foreseen::Unreadable {
                node,
                place: self.place,
                why,
            },
            Ok(None) if self.installed => Foreseen::Later(self.target.clone()),
            Ok(None) => Foreseen::Nothing,
            Ok(Some(credentials)) => match self.target.look(&credentials) {
                Ok(Written::Unchanged | Written::Beside { changed: false, .. }) => {
                    Foreseen::Nothing
                }
                Ok(written) => Foreseen::Known(written),
                Err(obstacle) => Foreseen::Refused(obstacle),
            },
        }
    }

    /// Asks the servers that can be asked.
    pub async fn read(&self, engine: &Engine, access: &BTreeMap<NodeName, Access>) -> Read {
        let mut read = Read::new();
        for name in self.servers() {
            let (Some(access), Some(query)) = (access.get(name), self.query()) else {
                continue;
            };
            match engine.probe(name, access, vec![query.clone()]).await {
                Ok(answers) => {
                    if let Some(text) = answered(&query, &answers) {
                        read.insert(name.clone(), text);
                        break;
                    }
                }
                Err(e) => tracing::debug!("{e}"),
            }
        }
        read
    }
}
