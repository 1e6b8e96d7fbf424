//! `inventory.yaml` as it is written.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::document::text::{
    Address, CONFIG_KEY, CONFIG_KEY_RULE, ChecksumText, ClusterText, DNS_LABEL, DNS_LABEL_RULE,
    Endpoint, GroupText, HostKeyText, HttpUrl, IDENTIFIER, IDENTIFIER_RULE, JumpText, LABEL_KEY,
    LABEL_KEY_RULE, LabelValue, ManifestName, ModeText, NODE_KEY, NODE_KEY_RULE, Network, NonEmpty,
    RegistryUrl, RoleText, SourceText, TaintText, Version,
};
use crate::document::{Entries, FromYaml, OneOrMany, Spanned, document};
use crate::inventory::Expected;
use crate::kubernetes::{Arch, Distribution, KubernetesRole};
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
        /// Where apt on the nodes finds packages without a network. Role `base` sees to it.
        packages: Option<PackagesDocument>,
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
        /// Packaged components of k3s that are switched off: traefik, servicelb, local-storage, metrics-server, coredns.
        #[schemars(extend("uniqueItems" = true))]
        disable: Option<Vec<Spanned<NonEmpty>>>,
        /// Further names and addresses in the certificate of the API server.
        #[schemars(extend("uniqueItems" = true))]
        tls_san: Option<Vec<Spanned<NonEmpty>>>,
        /// Where kubeadm, kubelet and kubectl come from: the apt repository of one minor release, and its key. For kubeadm.
        repository: Option<Spanned<RepositoryDocument>>,
        /// The network of pods; one of each family for dual stack. 10.42.0.0/16 with k3s when left out.
        cluster_cidr: Option<OneOrMany<Spanned<Network>>>,
        /// The network of services; one of each family for dual stack. 10.43.0.0/16 with k3s, 10.96.0.0/12 with kubeadm when left out.
        service_cidr: Option<OneOrMany<Spanned<Network>>>,
        /// The token of servers, as a reference to a secret. Made on the first server when left out.
        token: Option<SecretRef>,
        /// The token of agents, as a reference to a secret. Made on the first server when left out.
        agent_token: Option<SecretRef>,
        /// The binary to install: a file, an address, or one for each architecture (amd64, arm64, armhf). The one of the release when left out.
        artifact: Option<PerArch<Spanned<SourceText>>>,
        /// Images that nodes have before they start, so that they need no registry: `release` for the bundle that k3s
        /// publishes, a file, or one of these for each architecture. Pulled by the nodes when left out.
        images: Option<PerArch<Spanned<SourceText>>>,
        /// The SHA-256 checksum of the binary, or one for each architecture. That of the release when left out.
        checksum: Option<PerArch<Spanned<ChecksumText>>>,
        /// Any other configuration keys of servers, passed through: the long flags of `k3s server` without dashes before.
        #[schemars(extend("propertyNames" = {"pattern": CONFIG_KEY, "patternErrorMessage": CONFIG_KEY_RULE}))]
        config: Option<Entries<ConfigValue>>,
        /// The same for agents: the long flags of `k3s agent`.
        #[schemars(extend("propertyNames" = {"pattern": CONFIG_KEY, "patternErrorMessage": CONFIG_KEY_RULE}))]
        agent_config: Option<Entries<ConfigValue>>,
        /// Where images come from: the registries.yaml of every node.
        registries: Option<RegistriesDocument>,
        /// The credentials of the cluster's administrator: on servers, and here.
        kubeconfig: Option<KubeconfigDocument>,
        /// Manifests the cluster deploys by itself.
        manifests: Option<Vec<Spanned<ManifestDocument>>>,
    }
}

document! {
    /// Packages that nodes may install from a folder of this machine.
    PackagesDocument {
        /// A folder of .deb files, for all architectures of the nodes: nfs-common_2.6.4_arm64.deb. From the folder of the inventory.
        #[schemars(required)]
        folder: Option<Spanned<NonEmpty>>,
        /// Whether apt looks nowhere else, as it must where no repository is in reach.
        only: Option<bool>,
    }
}

document! {
    /// An apt repository with the packages of one minor release of Kubernetes.
    RepositoryDocument {
        /// Its address. https://pkgs.k8s.io/core:/stable:/vMAJOR.MINOR/deb/ of the version when left out.
        url: Option<Spanned<RegistryUrl>>,
        /// The key that its lists are signed with (its Release.key): a file, from the folder of the inventory.
        #[schemars(required)]
        key: Option<Spanned<NonEmpty>>,
    }
}

document! {
    /// Where images come from (<https://docs.k3s.io/installation/private-registry>).
    RegistriesDocument {
        /// Registries to ask instead, by the name of the registry; `"*"` for all others.
        mirrors: Option<Entries<Option<MirrorDocument>>>,
        /// How registries are spoken to, by host and port; `"*"` for all others.
        configs: Option<Entries<Option<RegistryDocument>>>,
    }
}

document! {
    /// Registries to ask instead of one.
    MirrorDocument {
        /// Their addresses, in this order.
        endpoint: Option<Vec<RegistryUrl>>,
        /// Names of images to change: a regular expression, and what takes its place.
        rewrite: Option<Entries<NonEmpty>>,
    }
}

document! {
    /// How a registry is spoken to.
    RegistryDocument {
        /// Who we are there.
        auth: Option<RegistryAuthDocument>,
        /// How its certificate is checked, and ours.
        tls: Option<RegistryTlsDocument>,
    }
}

document! {
    /// Who we are at a registry.
    RegistryAuthDocument {
        /// The account.
        username: Option<NonEmpty>,
        /// Its password, as a reference to a secret.
        password: Option<SecretRef>,
        /// A bearer token, as a reference to a secret.
        token: Option<SecretRef>,
        /// Account and password in base64, as a reference to a secret.
        auth: Option<SecretRef>,
    }
}

document! {
    /// Certificates for a registry: paths on the nodes.
    RegistryTlsDocument {
        /// The certificate that signed the registry's.
        ca_file: Option<NonEmpty>,
        /// The certificate the node shows.
        cert_file: Option<NonEmpty>,
        /// The key of that certificate.
        key_file: Option<NonEmpty>,
        /// Take any certificate.
        insecure_skip_verify: Option<bool>,
    }
}

document! {
    /// The credentials of the cluster's administrator.
    KubeconfigDocument {
        /// The mode of the file on servers, in quotes; "0600" when left out.
        mode: Option<ModeText>,
        /// Whether they are merged into the kubeconfig of whoever runs picluster; `true` when left out.
        merge: Option<bool>,
        /// The name of the context there; the name of the cluster when left out.
        context: Option<NonEmpty>,
        /// The kubeconfig to merge them into; ~/.kube/config when left out.
        path: Option<NonEmpty>,
    }
}

document! {
    /// A manifest the cluster deploys by itself.
    ManifestDocument {
        /// Its name; the file on the servers is NAME.yaml.
        #[schemars(required)]
        name: Option<Spanned<ManifestName>>,
        /// A file, from the folder of the inventory. Either this, `url` or `content`.
        path: Option<Spanned<NonEmpty>>,
        /// An address to download it from, with its `checksum`.
        url: Option<Spanned<HttpUrl>>,
        /// Its text, as it is: no template.
        content: Option<Spanned<NonEmpty>>,
        /// The SHA-256 checksum of the file.
        checksum: Option<Spanned<ChecksumText>>,
        /// Whether an apply waits until its workloads are ready. The default is `true`.
        wait: Option<bool>,
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

/// One value for every architecture, or one for each.
#[derive(Debug, Clone)]
pub enum PerArch<T> {
    /// For all.
    All(T),
    /// By architecture, as `dpkg --print-architecture` names it.
    Each(Vec<(Arch, T)>),
}

impl<T: FromYaml> FromYaml for PerArch<T> {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        match &yaml.kind {
            YamlKind::Map(entries) => Some(Self::Each(
                entries
                    .iter()
                    .filter_map(|(key, _, value)| Some((Arch::new(key)?, T::from_yaml(value)?)))
                    .collect(),
            )),
            _ => T::from_yaml(yaml).map(Self::All),
        }
    }
}

impl<T: JsonSchema> JsonSchema for PerArch<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("PerArch_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        let each: serde_json::Map<String, serde_json::Value> = Arch::ALL
            .iter()
            .map(|arch| (arch.as_str().to_owned(), one.clone().to_value()))
            .collect();
        json_schema!({ "anyOf": [one, {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            "properties": each,
        }] })
    }
}

/// A value of a configuration key: text, a number, true or false, a list of those, or a
/// reference to a secret.
#[derive(Debug, Clone)]
pub struct ConfigValue(pub Yaml);

impl FromYaml for ConfigValue {
    fn from_yaml(yaml: &Yaml) -> Option<Self> {
        Some(Self(yaml.clone()))
    }
}

impl JsonSchema for ConfigValue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConfigValue".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretRef>();
        json_schema!({ "anyOf": [
            { "type": ["string", "boolean", "number", "integer"] },
            { "type": "array", "items": { "anyOf": [{ "type": ["string", "boolean", "number", "integer"] }, secret] } },
            secret,
        ] })
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
