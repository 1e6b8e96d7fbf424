//! From the inventory's ssh settings to a transport.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use picluster_engine::run::Access;
use picluster_model::NodeName;
use picluster_model::inventory::{Node, Project};
use picluster_model::secret::{Secret, SecretValues};
use picluster_model::ssh::{Jump, SshConfigUse, SudoPassword};
use picluster_resource::facts::RootAccess;
use picluster_ssh::{
    AcceptNew, Hop, HostKeyPolicy, Limits, PinName, PinStore, PublicKey, RefuseNew, SshConnector,
    Target, UseSshConfig,
};

use crate::ask::{self, Person};
use crate::cli::Meeting;
use crate::error::Failure;
use crate::store::Store;

/// The transport for every node of the inventory. Dials nothing.
///
/// # Errors
/// When the pins cannot be read.
pub fn connector(
    project: &Project,
    store: &Store,
    meeting: &Meeting,
) -> Result<SshConnector, Failure> {
    let pins = Arc::new(PinStore::open(store.root()).map_err(|e| {
        Failure::usage(e.to_string())
            .hint("no node was contacted; mend or move that file, then run the same command again")
    })?);
    let targets: BTreeMap<NodeName, Target> = project
        .inventory
        .met()
        .map(|node| (node.name.clone(), target(node)))
        .collect();
    for node in project.inventory.nodes.values() {
        seed_pin(node, &pins)?;
    }
    // Whoever is met for the first time is pinned: better no contact at all than one that cannot be.
    if targets
        .keys()
        .any(|n| pins.get(&PinName::node(n)).is_empty())
    {
        store.must_be_writable()?;
    }
    let policy: Arc<dyn HostKeyPolicy> = if meeting.accept_new {
        Arc::new(AcceptNew)
    } else if ask::somebody_is_there() {
        Arc::new(Person)
    } else {
        Arc::new(RefuseNew)
    };
    let limits = Limits {
        dials: meeting.nodes_at_once.clamp(1, 1000),
        ..Limits::default()
    };
    Ok(SshConnector::new(
        targets,
        pins,
        policy,
        Arc::new(Person),
        limits,
    ))
}

/// A host key written in the inventory is pinned before the first contact.
fn seed_pin(node: &Node, pins: &PinStore) -> Result<(), Failure> {
    let Some(text) = &node.ssh.host_key else {
        return Ok(());
    };
    let name = PinName::node(&node.name);
    if !pins.get(&name).is_empty() {
        return Ok(());
    }
    let key = PublicKey::from_openssh(text).map_err(|e| {
        Failure::usage(format!(
            "{}: {}: host_key is no public key: {e}",
            node.span, node.name
        ))
        .hint("no node was contacted; it looks like `ssh-ed25519 AAAA…`")
    })?;
    pins.add(&name, &key, "written in the inventory")
        .map_err(|e| Failure::usage(e.to_string()))
}

/// What the inventory says of the way to a node.
pub(crate) fn target(node: &Node) -> Target {
    let ssh = &node.ssh;
    Target {
        address: node.address.clone(),
        port: ssh.port,
        user: ssh.user.clone(),
        identity: ssh.identity.clone(),
        agent: ssh.agent,
        jump: ssh
            .jump
            .iter()
            .map(|jump| match jump {
                Jump::Node(name) => Hop {
                    node: Some(name.clone()),
                    host: name.to_string(),
                    ..Hop::default()
                },
                Jump::Host { user, host, port } => Hop {
                    host: host.clone(),
                    user: user.clone(),
                    port: *port,
                    ..Hop::default()
                },
            })
            .collect(),
        config: match &ssh.config {
            SshConfigUse::User => UseSshConfig::Default,
            SshConfigUse::Off => UseSshConfig::No,
            SshConfigUse::File(path) => UseSshConfig::Path(path.clone()),
        },
        connect_timeout: ssh
            .connect_timeout_s
            .map(|s| Duration::from_secs(u64::from(s))),
        host_key_alias: None,
    }
}

/// How root is had on each node. Asks for a password at most once a run; where nobody can be asked,
/// the nodes that want one have none, and say so themselves: the others go on.
#[must_use]
pub fn access(
    project: &Project,
    secrets: &SecretValues,
    nodes: &[(&Node, RootAccess)],
) -> BTreeMap<NodeName, Access> {
    let mut asked: Option<Option<Secret<String>>> = None;
    let mut access = BTreeMap::new();
    for (node, root) in nodes {
        let password = match (&node.ssh.sudo, root) {
            (_, RootAccess::IsRoot | RootAccess::Sudo | RootAccess::None) => None,
            (SudoPassword::Secret(reference), _) => secrets.0.get(reference).cloned(),
            (SudoPassword::Ask | SudoPassword::None, RootAccess::SudoPassword) => asked
                .get_or_insert_with(|| {
                    ask::hidden(&format!(
                        "sudo password for {}: ",
                        project.inventory.cluster
                    ))
                })
                .clone(),
        };
        access.insert(
            node.name.clone(),
            Access {
                root: *root,
                password,
            },
        );
    }
    access
}
