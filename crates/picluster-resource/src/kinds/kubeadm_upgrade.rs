//! `kubeadm_upgrade`: a member of a cluster of kubeadm goes to another release.

use std::time::Duration;

use picluster_model::NodeName;
use picluster_model::kubernetes::KubernetesRole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::kube;
use crate::kinds::kubeadm::{self, diagnosis};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// What kubeadm does on a member before its packages are replaced by those of another release: `kubeadm upgrade apply` on the
/// first control plane that goes there, `kubeadm upgrade node` on all others
/// (<https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/>). The kubeadm of the wanted release is
/// fetched for that and not installed, so that a node has the packages of one release at any time. Which node goes when is the
/// planner's. A machine that is no member yet has nothing to upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubeadmUpgrade {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// Whether it has a control plane.
    pub role: KubernetesRole,
    /// The release it is to have, `v1.33.2`.
    pub version: String,
    /// Of a server: the administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
    /// How long it may take, in seconds: images are pulled, and a control plane starts anew.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeSeen {
    /// It has joined, or founded, and that has ended.
    pub member: bool,
    /// The release of the API server that its kubelet is told to run.
    pub control_plane: Option<String>,
    /// The release of the kubelet's package.
    pub kubelet: Option<String>,
    /// How far the last upgrade came: `apply v1.33.2` and `node v1.33.2` have begun, `done v1.33.2` has ended well.
    pub mark: Option<String>,
}

impl UpgradeSeen {
    /// An upgrade has begun and not ended.
    fn is_begun(&self) -> bool {
        let mark = self.mark.as_deref().unwrap_or("done");
        !mark.starts_with("done")
    }
}

/// Says how far the last upgrade came.
const UPGRADE: &str = "/etc/kubernetes/picluster.upgrade";

/// The tag of the API server's image, where the kubelet reads what it runs.
const LOOK: &str = "# release of the control plane\nsed -n 's/^ *image: .*\\/kube-apiserver:\\(v[0-9][^@ ]*\\).*/\\1/p' /etc/kubernetes/manifests/kube-apiserver.yaml 2>/dev/null | head -n 1";

fn path(text: &str) -> Result<NodePath, Diagnosis> {
    NodePath::new(text).map_err(|e| Diagnosis::new(e.to_string()))
}

impl KubeadmUpgrade {
    fn is_server(&self) -> bool {
        self.role == KubernetesRole::Server
    }

    fn package() -> Query {
        Query::Package {
            name: "kubelet".into(),
            version: None,
            candidates: false,
        }
    }

    fn other(&self, release: Option<&String>) -> Option<String> {
        release.filter(|release| **release != self.version).cloned()
    }
}

impl Kind for KubeadmUpgrade {
    const NAME: &'static str = "kubeadm_upgrade";
    type Observation = UpgradeSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.version.starts_with('v') {
            wrong.push("version is the tag of a release: v1.33.2".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![
            Query::Path(path(kubeadm::KUBELET)?),
            Query::Path(path(kubeadm::BEGUN)?),
            Query::Text(path(UPGRADE)?),
            Self::package(),
        ];
        if self.is_server() {
            queries.push(Query::Fragment(LOOK.to_owned()));
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<UpgradeSeen>, Diagnosis> {
        let there = |text: &str| Ok::<_, Diagnosis>(answers.path(&path(text)?)?.is_some());
        let kubelet = answers.package(&Self::package())?;
        let control_plane = match self.is_server() {
            true => Some(answers.fragment(LOOK)?.1.trim().to_owned()).filter(|t| !t.is_empty()),
            false => None,
        };
        Ok(Seen::Now(UpgradeSeen {
            member: there(kubeadm::KUBELET)? && !there(kubeadm::BEGUN)?,
            control_plane,
            kubelet: kubelet.version.as_deref().map(kubeadm::release_of),
            mark: answers
                .text(&path(UPGRADE)?)?
                .map(|text| text.trim().to_owned()),
        }))
    }

    fn diff(&self, seen: &UpgradeSeen, _ctx: Ctx<'_>) -> Diff {
        if !seen.member {
            return Diff::NoOp;
        }
        let mut change = Change::new(Action::Update);
        let wanted = Shown::text(&self.version);
        if let Some(old) = self.other(seen.control_plane.as_ref()) {
            change = change.field("control plane", Shown::text(old), wanted.clone());
        }
        // The packages come behind: an old one says that there is something to do, and the mark that it has been done.
        let done = seen.mark.as_deref() == Some(&format!("done {}", self.version));
        if !done && let Some(old) = self.other(seen.kubelet.as_ref()) {
            change = change.field("kubelet's configuration", Shown::text(old), wanted);
        }
        if seen.is_begun() && change.fields.is_empty() {
            change = change.field(
                "upgrade",
                Shown::text("an earlier run broke off"),
                Shown::text("done"),
            );
        }
        if change.fields.is_empty() {
            return Diff::NoOp;
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update).field("release", Shown::Later, Shown::text(&self.version))
    }

    fn operation(
        &self,
        _seen: &UpgradeSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let script = format!(
            "# {name}: kubeadm upgrade\n{functions}{kc}version={version} server={server} mark={UPGRADE}\n{body}",
            name = quote(self.name.as_str()),
            functions = include_str!("package.sh"),
            kc = kube::function(&self.kubeconfig, &self.kubectl),
            version = quote(&self.version),
            server = if self.is_server() { "yes" } else { "''" },
            body = include_str!("kubeadm_upgrade/run.sh"),
        );
        Ok(Operation::script(script).within(Duration::from_secs(u64::from(self.timeout))))
    }

    fn provides(&self) -> Vec<Token> {
        Vec::new()
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::AptIndex]
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        (status == diagnosis::FAILED).then(|| diagnosis::of("upgrade", &self.name, output))
    }
}
