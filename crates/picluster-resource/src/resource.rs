//! All kinds under one roof.

use std::time::Duration;

use picluster_model::{Diagnostic, Secret, SecretText, Yaml};
use serde::{Deserialize, Serialize};

use crate::change::{Change, Diff};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds;
use crate::kinds::file::Presence;
use crate::operation::{Operation, Undo};
use crate::query::{Answers, Query};
use crate::token::{Reaction, Token};

/// Secrets in fields that cannot keep them.
fn misplaced_secrets(body: &Yaml, allowed: &[&str]) -> Vec<Diagnostic> {
    fn holds_secret(value: &Yaml) -> bool {
        value
            .as_str()
            .is_some_and(|text| SecretText::from(text).is_sensitive())
            || value.items().iter().any(holds_secret)
            || value
                .entries()
                .iter()
                .any(|(_, _, value)| holds_secret(value))
    }
    body.entries()
        .iter()
        .filter(|(name, _, value)| !allowed.contains(&name.as_str()) && holds_secret(value))
        .map(|(name, _, value)| {
            let fields = if allowed.is_empty() {
                String::from("no field of this kind can")
            } else {
                format!("only `{}` can", allowed.join("`, `"))
            };
            Diagnostic::new(
                format!("`{name}` cannot hold a secret; {fields}"),
                &value.span,
            )
        })
        .collect()
}

macro_rules! resources {
    ($($variant:ident($kind:ty)),+ $(,)?) => {
        /// A resource of any kind: what should be.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Resource { $(
            #[doc = concat!("See [`", stringify!($kind), "`].")]
            $variant($kind)
        ),+ }

        /// What was seen of a resource of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Observation { $(
            #[doc = concat!("Of [`", stringify!($kind), "`].")]
            $variant(Seen<<$kind as Kind>::Observation>)
        ),+ }

        impl Observation {
            /// See [`Kind::ground`].
            #[must_use]
            pub fn ground(&self) -> Self {
                match self { $(
                    Self::$variant(Seen::Now(o)) => Self::$variant(Seen::Now(<$kind as Kind>::ground(o.clone()))),
                )+
                    _ => self.clone(),
                }
            }
        }

        impl Resource {
            /// The kinds, in the order the reference lists them.
            pub const KINDS: &'static [&'static str] = &[$(<$kind as Kind>::NAME),+];

            /// Reads the body of a resource entry.
            ///
            /// # Errors
            /// Everything that is wrong with it, at its place in the document.
            pub fn from_yaml(kind: &str, body: &Yaml) -> Result<Self, Vec<Diagnostic>> {
                match kind {
                    $(<$kind as Kind>::NAME => {
                        let value: $kind = body.decode().map_err(|d| vec![d])?;
                        let mut wrong = misplaced_secrets(body, <$kind as Kind>::SECRETS);
                        wrong.extend(value.check().into_iter().map(|w| Diagnostic::new(w, &body.span)));
                        if wrong.is_empty() { Ok(Self::$variant(value)) } else { Err(wrong) }
                    })+
                    _ => Err(vec![Diagnostic::new(format!("there is no resource kind `{kind}`"), &body.span)]),
                }
            }

            /// The JSON Schema of a kind's body.
            #[must_use]
            pub fn schema(kind: &str) -> Option<schemars::Schema> {
                match kind {
                    $(<$kind as Kind>::NAME => Some(schemars::schema_for!($kind)),)+
                    _ => None,
                }
            }

            /// The kind's name in documents and addresses.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => <$kind as Kind>::NAME),+ }
            }

            /// What tells it apart from others of its kind.
            #[must_use]
            pub fn key(&self) -> String {
                match self { $(Self::$variant(r) => r.key()),+ }
            }

            /// See [`Kind::queries`].
            ///
            /// # Errors
            /// As there.
            pub fn queries(&self, ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
                match self { $(Self::$variant(r) => r.queries(ctx)),+ }
            }

            /// See [`Kind::observe`].
            ///
            /// # Errors
            /// As there.
            pub fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Observation, Diagnosis> {
                match self { $(Self::$variant(r) => r.observe(answers, ctx).map(Observation::$variant)),+ }
            }

            /// See [`Kind::diff`]. An observation that is not yet possible, or of another kind, gives
            /// the expected change.
            #[must_use]
            pub fn diff(&self, seen: &Observation, ctx: Ctx<'_>) -> Diff {
                match (self, seen) {
                    $((Self::$variant(r), Observation::$variant(Seen::Now(o))) => r.diff(o, ctx),)+
                    _ => Diff::Change(self.expected(ctx)),
                }
            }

            /// See [`Kind::expected`].
            #[must_use]
            pub fn expected(&self, ctx: Ctx<'_>) -> Change {
                match self { $(Self::$variant(r) => r.expected(ctx)),+ }
            }

            /// See [`Kind::operation`].
            ///
            /// # Errors
            /// As there; also when it could not be observed.
            pub fn operation(&self, seen: &Observation, change: &Change, ctx: Ctx<'_>) -> Result<Operation, Diagnosis> {
                match (self, seen) {
                    $((Self::$variant(r), Observation::$variant(Seen::Now(o))) => r.operation(o, change, ctx),)+
                    _ => Err(Diagnosis::new("it cannot be observed yet")),
                }
            }

            /// See [`Kind::wait_again`].
            #[must_use]
            pub fn wait_again(&self, seen: &Observation, left: Duration, ctx: Ctx<'_>) -> Option<Operation> {
                match (self, seen) {
                    $((Self::$variant(r), Observation::$variant(Seen::Now(o))) => r.wait_again(o, left, ctx),)+
                    _ => None,
                }
            }

            /// See [`Kind::provides`].
            #[must_use]
            pub fn provides(&self) -> Vec<Token> {
                match self { $(Self::$variant(r) => r.provides()),+ }
            }

            /// See [`Kind::way_in_of`].
            #[must_use]
            pub fn way_in_of(&self, seen: &Observation) -> Option<&str> {
                match (self, seen) {
                    $((Self::$variant(r), Observation::$variant(Seen::Now(o))) => r.way_in_of(o),)+
                    _ => None,
                }
            }

            /// See [`Kind::requires`].
            #[must_use]
            pub fn requires(&self) -> Vec<Token> {
                match self { $(Self::$variant(r) => r.requires()),+ }
            }

            /// See [`Kind::small`].
            #[must_use]
            pub fn small(&self) -> bool {
                match self { $(Self::$variant(r) => r.small()),+ }
            }

            /// See [`Kind::claims`].
            #[must_use]
            pub fn claims(&self) -> bool {
                match self { $(Self::$variant(r) => r.claims()),+ }
            }

            /// See [`Kind::unsettled`].
            #[must_use]
            pub fn unsettled(&self) -> Option<&str> {
                match self { $(Self::$variant(r) => r.unsettled()),+ }
            }

            /// See [`Kind::reactions`].
            #[must_use]
            pub fn reactions(&self) -> Vec<Reaction> {
                match self { $(Self::$variant(r) => r.reactions()),+ }
            }

            /// See [`Kind::follow_up`].
            #[must_use]
            pub fn follow_up(&self, seen: &Observation, inputs: &[Token], ctx: Ctx<'_>) -> Option<Change> {
                match self { $(
                    Self::$variant(r) => {
                        let seen = match seen {
                            Observation::$variant(Seen::Now(o)) => Some(o),
                            _ => None,
                        };
                        r.follow_up(seen, inputs, ctx)
                    }
                ),+ }
            }

            /// See [`Kind::reboot_pending`].
            #[must_use]
            pub fn reboot_pending(&self, seen: &Observation, ctx: Ctx<'_>) -> Option<String> {
                match (self, seen) {
                    $((Self::$variant(r), Observation::$variant(Seen::Now(o))) => r.reboot_pending(o, ctx),)+
                    _ => None,
                }
            }

            /// See [`Kind::yields`].
            #[must_use]
            pub fn yields(&self, answers: &Answers) -> Option<(String, Secret<String>)> {
                match self { $(Self::$variant(r) => r.yields(answers)),+ }
            }

            /// See [`Kind::explain`].
            #[must_use]
            pub fn explain(&self, status: u32, output: &str, ctx: Ctx<'_>) -> Option<Diagnosis> {
                match self { $(Self::$variant(r) => r.explain(status, output, ctx)),+ }
            }

            /// The observation that it cannot be looked at before `token` exists.
            #[must_use]
            pub fn not_before(&self, token: Token) -> Observation {
                match self { $(Self::$variant(_) => Observation::$variant(Seen::NotYet(token))),+ }
            }

            /// See [`Kind::undo`].
            #[must_use]
            pub fn undo(&self, seen: Option<&Observation>, change: &Change) -> Option<Undo> {
                match self { $(
                    Self::$variant(r) => {
                        let seen = match seen {
                            Some(Observation::$variant(Seen::Now(o))) => Some(o),
                            _ => None,
                        };
                        r.undo(seen, change)
                    }
                ),+ }
            }

            /// See [`Kind::removal`].
            #[must_use]
            pub fn removal(&self) -> Option<Self> {
                match self { $(Self::$variant(r) => r.removal().map(Self::$variant)),+ }
            }
        }

        impl Observation {
            /// What it waits for, when it could not be made.
            #[must_use]
            pub fn not_yet(&self) -> Option<&Token> {
                match self { $(
                    Self::$variant(Seen::NotYet(token)) => Some(token),
                    Self::$variant(Seen::Now(_)) => None,
                )+ }
            }
        }
    };
}

resources! {
    File(kinds::file::File),
    Artifact(kinds::artifact::Artifact),
    Directory(kinds::directory::Directory),
    Link(kinds::link::Link),
    Line(kinds::line::Line),
    Ini(kinds::ini::Ini),
    Block(kinds::block::Block),
    Hostname(kinds::hostname::Hostname),
    Timezone(kinds::timezone::Timezone),
    Group(kinds::group::Group),
    User(kinds::user::User),
    AuthorizedKeys(kinds::authorized_keys::AuthorizedKeys),
    Command(kinds::command::Command),
    Package(kinds::package::Package),
    PackageLists(kinds::package_lists::PackageLists),
    PackageUpgrade(kinds::package_upgrade::PackageUpgrade),
    Unit(kinds::unit::Unit),
    Swap(kinds::swap::Swap),
    KernelCmdline(kinds::kernel_cmdline::KernelCmdline),
    FirstBoot(kinds::first_boot::FirstBoot),
    Clock(kinds::clock::Clock),
    Sysctl(kinds::sysctl::Sysctl),
    KernelModule(kinds::kernel_module::KernelModule),
    ConfigTxt(kinds::config_txt::ConfigTxt),
    ClusterFounding(kinds::cluster_founding::ClusterFounding),
    ClusterJoin(kinds::cluster_join::ClusterJoin),
    ClusterMember(kinds::cluster_member::ClusterMember),
    ClusterNode(kinds::cluster_node::ClusterNode),
    ClusterRoll(kinds::cluster_roll::ClusterRoll),
    ClusterServer(kinds::cluster_server::ClusterServer),
    ClusterValue(kinds::cluster_value::ClusterValue),
    Mount(kinds::mount::Mount),
    Partition(kinds::partition::Partition),
    Network(kinds::network::Network),
    NodeLabels(kinds::node_labels::NodeLabels),
    NodeDrained(kinds::node_drained::NodeDrained),
    DatastoreSnapshot(kinds::datastore_snapshot::DatastoreSnapshot),
    NodeSchedulable(kinds::node_schedulable::NodeSchedulable),
    NodeAbsent(kinds::node_absent::NodeAbsent),
    Manifest(kinds::manifest::Manifest),
    Kubeadm(kinds::kubeadm::Kubeadm),
    KubeadmUpgrade(kinds::kubeadm_upgrade::KubeadmUpgrade),
    JoinToken(kinds::join_token::JoinToken),
}

impl Resource {
    /// The controller's file that this one writes to the node, if it is of that sort: what must be at hand before a run.
    #[must_use]
    pub fn sends(&self) -> Option<Sends<'_>> {
        match self {
            Self::Artifact(r) if r.state == Presence::Present => Some(Sends {
                source: r.source.as_deref(),
                sha256: r.sha256.as_deref(),
            }),
            Self::Manifest(r) if r.state == Presence::Present && r.content.is_none() => {
                Some(Sends {
                    source: r.source.as_deref(),
                    sha256: r.sha256.as_deref(),
                })
            }
            _ => None,
        }
    }

    /// Completes what is known of that file, where the documents do not say it.
    pub fn sent(&mut self, sha256: Option<String>, size: Option<u64>) {
        let (known, bytes) = match self {
            Self::Artifact(r) => (&mut r.sha256, &mut r.size),
            Self::Manifest(r) => (&mut r.sha256, &mut r.size),
            _ => return,
        };
        if known.is_none() {
            *known = sha256;
        }
        if bytes.is_none() {
            *bytes = size;
        }
    }
}

/// A file of the controller that is sent to a node.
#[derive(Debug, Clone, Copy)]
pub struct Sends<'a> {
    /// Where it is, relative to the inventory's folder.
    pub source: Option<&'a str>,
    /// Its SHA-256, 64 hex digits.
    pub sha256: Option<&'a str>,
}
