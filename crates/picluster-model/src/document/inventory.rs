//! `inventory.yaml` as it is written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::document::text::{
    Address, ClusterText, DNS_LABEL, DNS_LABEL_RULE, Endpoint, GroupText, HostKeyText, IDENTIFIER,
    IDENTIFIER_RULE, JumpText, LABEL_KEY, LABEL_KEY_RULE, LabelValue, NODE_KEY, NODE_KEY_RULE,
    Network, NonEmpty, RoleText, TaintText, Version,
};
use crate::document::{Entries, FromYaml, OneOrMany, Spanned, document};
use crate::inventory::Expected;
use crate::kubernetes::{Distribution, KubernetesRole};
use crate::secret::SecretRef;
use crate::span::Span;
use crate::yaml::{Yaml, YamlKind};

document! {
    /// A cluster of machines: what they are, how they are reached, what runs on them.
    InventoryDocument {
        /// The name of the cluster: its store and its kubeconfig context.
        #[schemars(required)]
        cluster: Option<Spanned<ClusterText>>,
        /// How nodes are reached, unless their groups or they themselves say otherwise.
        ssh: Option<SshDocument>,
        /// The Kubernetes that runs on the nodes. Leave it out to only prepare them.
        kubernetes: Option<Spanned<KubernetesDocument>>,
        /// Roles of every node, in this order.
        roles: Option<Vec<RoleUseDocument>>,
        /// Nodes that have something in common.
        #[schemars(extend("propertyNames" = {"pattern": DNS_LABEL, "patternErrorMessage": DNS_LABEL_RULE}))]
        groups: Option<Entries<GroupDocument>>,
        /// Variables of every node, for templates: `{{ vars.NAME }}`.
        #[schemars(extend("propertyNames" = {"pattern": IDENTIFIER, "patternErrorMessage": IDENTIFIER_RULE}))]
        vars: Option<Entries<Yaml>>,
        /// The nodes by name. `rpi[01:03]` stands for rpi01, rpi02 and rpi03.
        #[schemars(required, extend("minProperties" = 1, "propertyNames" = {"pattern": NODE_KEY, "patternErrorMessage": NODE_KEY_RULE}))]
        nodes: Option<Entries<NodeDocument>>,
    }
}

document! {
    /// How a node is reached. Each key is decided on its own: node before group before cluster.
    SshDocument {
        /// The account to log in with.
        user: Option<NonEmpty>,
        /// The TCP port; 22 when left out.
        #[schemars(range(min = 1))]
        port: Option<u16>,
        /// The private key file, or several in order of preference.
        identity: Option<OneOrMany<Spanned<NonEmpty>>>,
        /// Whether the keys of a running ssh agent are offered.
        agent: Option<bool>,
        /// The host to pass through, or several, first hop first: a node of this inventory or `user@host:port`.
        jump: Option<OneOrMany<Spanned<JumpText>>>,
        /// What sudo wants on the node.
        sudo: Option<SudoDocument>,
        /// The OpenSSH client configuration to read; `false` for none. `~/.ssh/config` when left out.
        config: Option<SshConfigDocument>,
        /// Seconds to wait for a connection.
        #[schemars(range(min = 1, max = 3600))]
        connect_timeout: Option<u32>,
        /// The public host key expected of the node, which is then pinned before the first contact. Only on a node.
        host_key: Option<Spanned<HostKeyText>>,
    }
}

document! {
    /// Where the password for sudo comes from. Leave it out when sudo asks for none.
    SudoDocument {
        /// The password, as a reference to a secret.
        password: Option<SecretRef>,
        /// Ask once when a run starts.
        ask: Option<bool>,
    }
}

document! {
    /// The Kubernetes that runs on the nodes.
    KubernetesDocument {
        /// Which distribution is installed.
        #[schemars(required)]
        distribution: Option<Distribution>,
        /// The full tag of a release: v1.36.3+k3s1 for k3s, v1.36.3 for kubeadm.
        #[schemars(required)]
        version: Option<Spanned<Version>>,
        /// The fixed registration address that agents and further servers use.
        endpoint: Option<Spanned<Endpoint>>,
        /// Packaged components of k3s that are switched off.
        disable: Option<Vec<NonEmpty>>,
        /// Further names and addresses in the certificate of the API server.
        tls_san: Option<Vec<NonEmpty>>,
        /// The network of pods; one of each family for dual stack.
        cluster_cidr: Option<OneOrMany<Spanned<Network>>>,
        /// The network of services; one of each family for dual stack.
        service_cidr: Option<OneOrMany<Spanned<Network>>>,
        /// The token of servers, as a reference to a secret. Made on the first server when left out.
        token: Option<SecretRef>,
        /// The token of agents, as a reference to a secret. Made on the first server when left out.
        agent_token: Option<SecretRef>,
        /// Any other configuration keys of the distribution, passed through.
        config: Option<Entries<Yaml>>,
    }
}

document! {
    /// What some nodes have in common.
    GroupDocument {
        /// Roles of the nodes of this group, after those of the cluster.
        roles: Option<Vec<RoleUseDocument>>,
        /// Kubernetes labels of the nodes.
        #[schemars(extend("propertyNames" = {"pattern": LABEL_KEY, "patternErrorMessage": LABEL_KEY_RULE}))]
        labels: Option<Entries<Spanned<LabelValue>>>,
        /// Kubernetes taints of the nodes: `key=value:Effect`.
        taints: Option<Vec<Spanned<TaintText>>>,
        /// Variables of the nodes.
        #[schemars(extend("propertyNames" = {"pattern": IDENTIFIER, "patternErrorMessage": IDENTIFIER_RULE}))]
        vars: Option<Entries<Yaml>>,
        /// How the nodes are reached.
        ssh: Option<SshDocument>,
    }
}

document! {
    /// One machine, or several when the name holds a range.
    NodeDocument {
        /// Where to dial: an IP address or a DNS name; {n} is the number of a range.
        #[schemars(required)]
        address: Option<Spanned<Address>>,
        /// How the node is reached.
        ssh: Option<SshDocument>,
        /// What the node does in the cluster.
        kubernetes: Option<Spanned<KubernetesRole>>,
        /// Whether the node is expected to be there: `absent` when it is known to be off.
        expected: Option<Expected>,
        /// The groups of the node.
        groups: Option<Vec<Spanned<GroupText>>>,
        /// Roles of this node, after those of the cluster and its groups.
        roles: Option<Vec<RoleUseDocument>>,
        /// Kubernetes labels of the node.
        #[schemars(extend("propertyNames" = {"pattern": LABEL_KEY, "patternErrorMessage": LABEL_KEY_RULE}))]
        labels: Option<Entries<Spanned<LabelValue>>>,
        /// Kubernetes taints of the node: `key=value:Effect`.
        taints: Option<Vec<Spanned<TaintText>>>,
        /// Variables of the node.
        #[schemars(extend("propertyNames" = {"pattern": IDENTIFIER, "patternErrorMessage": IDENTIFIER_RULE}))]
        vars: Option<Entries<Yaml>>,
    }
}

/// A role by its name, or `name: { parameter: value }`.
#[derive(Debug, Clone)]
pub struct RoleUseDocument {
    /// The role.
    pub role: String,
    /// The place of its name.
    pub span: Span,
    /// Its parameters.
    pub params: Vec<(String, Span, Yaml)>,
}

impl FromYaml for RoleUseDocument {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::String(role) => Some(Self {
                role: role.clone(),
                span: yaml.span.clone(),
                params: Vec::new(),
            }),
            YamlKind::Map(entries) => match entries.as_slice() {
                [(role, span, params)] => Some(Self {
                    role: role.clone(),
                    span: span.clone(),
                    params: params.entries().to_vec(),
                }),
                _ => None,
            },
            _ => None,
        }
    }
}

impl JsonSchema for RoleUseDocument {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleUse".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<RoleText>();
        json_schema!({
            "description": "A role by its name, or `name: { parameter: value }`.",
            "anyOf": [
                name,
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "propertyNames": { "pattern": DNS_LABEL, "patternErrorMessage": DNS_LABEL_RULE },
                    "additionalProperties": {
                        "type": ["object", "null"],
                        "propertyNames": { "pattern": IDENTIFIER, "patternErrorMessage": IDENTIFIER_RULE },
                    },
                },
            ],
        })
    }
}

/// A file, or `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshConfigDocument {
    /// Read `~/.ssh/config` (`true`, the default) or nothing (`false`).
    Switch(bool),
    /// Read this file.
    File(String),
}

impl FromYaml for SshConfigDocument {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Bool(on) => Some(Self::Switch(*on)),
            YamlKind::String(path) => Some(Self::File(path.clone())),
            _ => None,
        }
    }
}

impl JsonSchema for SshConfigDocument {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SshConfig".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "minLength": 1 })
    }
}
