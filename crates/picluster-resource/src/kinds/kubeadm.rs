//! `kubeadm`: this machine becomes a node of its cluster by kubeadm, once.

mod diagnosis;

use std::time::Duration;

use picluster_model::kubernetes::KubernetesRole;
use picluster_model::{NodeName, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::text_diff;
use crate::kinds::kube;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// `kubeadm init` on the machine that founds a cluster, `kubeadm join` on one that joins it. It happens once: what kubeadm
/// was told is not compared later, because kubeadm itself does not carry a changed file into a running cluster. A run
/// that broke off is taken up again, and takes nothing away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubeadm {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// `server` founds the cluster; `agent` joins as a worker.
    pub role: KubernetesRole,
    /// The documents for `--config`, without the discovery of a worker.
    pub content: String,
    /// The value (see `join_token`) with which a worker finds and trusts the cluster: the `discovery` of its
    /// `JoinConfiguration`. It goes to kubeadm in a file in /run that only root may read, and is gone with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<String>,
    /// The program.
    pub program: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
    /// How long it may take, in seconds: images are pulled, and the control plane starts.
    #[serde(default = "fifteen_minutes")]
    pub timeout: u32,
}

fn fifteen_minutes() -> u32 {
    900
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeadmSeen {
    /// kubeadm has written the credentials of the kubelet, and of a server those of its administrator.
    pub joined: bool,
    /// A run has begun and not ended.
    pub begun: bool,
}

/// Credentials of a kubelet that has joined (kubeadm, `constants.KubeletKubeConfigFileName`).
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
/// Credentials of the administrator (`constants.AdminKubeConfigFileName`).
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Stands there from before kubeadm begins until it has ended well.
const BEGUN: &str = "/etc/kubernetes/picluster.begun";

/// What an earlier run of the same kind leaves, so that it is no reason to refuse the next one. kubeadm's phases keep
/// certificates and credentials that are there (cmd/kubeadm/app/phases/certs, kubeconfig), and write manifests anew.
const LEFT_BY_INIT: &str = "DirAvailable--var-lib-etcd,FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml,FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml,FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml,FileAvailable--etc-kubernetes-manifests-etcd.yaml,Port-6443,Port-10250,Port-10257,Port-10259,Port-2379,Port-2380";
const LEFT_BY_JOIN: &str = "FileAvailable--etc-kubernetes-kubelet.conf,FileAvailable--etc-kubernetes-bootstrap-kubelet.conf,FileAvailable--etc-kubernetes-pki-ca.crt,DirAvailable--etc-kubernetes-manifests,Port-10250";

fn path(text: &str) -> Result<NodePath, Diagnosis> {
    NodePath::new(text).map_err(|e| Diagnosis::new(e.to_string()))
}

impl Kubeadm {
    fn verb(&self) -> &'static str {
        match self.role {
            KubernetesRole::Server => "init",
            KubernetesRole::Agent => "join",
        }
    }

    fn change(&self, before: Shown) -> Change {
        let after = match self.role {
            KubernetesRole::Server => "founds the cluster",
            KubernetesRole::Agent => "joins the cluster",
        };
        let mut change = Change::new(Action::Run).field("node", before, Shown::text(after));
        change.text = Some(text_diff("", &self.content));
        change.bytes = self.content.len() as u64;
        change
    }
}

impl Kind for Kubeadm {
    const NAME: &'static str = "kubeadm";
    type Observation = KubeadmSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match (self.role, &self.discovery) {
            (KubernetesRole::Agent, None) => {
                wrong.push("discovery names the value that a worker joins with".into());
            }
            (KubernetesRole::Server, Some(_)) => {
                wrong
                    .push("discovery is for workers: who founds a cluster has none to find".into());
            }
            _ => {}
        }
        if self.content.trim().is_empty() {
            wrong.push("content is empty".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut paths = vec![KUBELET, BEGUN];
        if self.role == KubernetesRole::Server {
            paths.push(ADMIN);
        }
        paths
            .into_iter()
            .map(|text| Ok(Query::Path(path(text)?)))
            .collect()
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<KubeadmSeen>, Diagnosis> {
        let there = |text: &str| Ok::<_, Diagnosis>(answers.path(&path(text)?)?.is_some());
        Ok(Seen::Now(KubeadmSeen {
            joined: there(KUBELET)? && (self.role == KubernetesRole::Agent || there(ADMIN)?),
            begun: there(BEGUN)?,
        }))
    }

    fn diff(&self, seen: &KubeadmSeen, _ctx: Ctx<'_>) -> Diff {
        match (seen.joined, seen.begun) {
            (true, false) => Diff::NoOp,
            (_, true) => Diff::Change(self.change(Shown::text("an earlier run broke off"))),
            (false, false) => Diff::Change(self.change(Shown::Absent)),
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        self.change(Shown::Absent)
    }

    fn operation(
        &self,
        _seen: &KubeadmSeen,
        _change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut text = self.content.trim_end().to_owned();
        text.push('\n');
        if let Some(name) = &self.discovery {
            let reference = SecretRef::ClusterValue(name.clone());
            let value = ctx.secrets.0.get(&reference).ok_or_else(|| {
                Diagnosis::new(format!(
                    "{name}, with which it joins, is not known: the plan is older than the token"
                ))
                .cure("picluster apply")
            })?;
            // JSON, which is YAML as well.
            text.push_str(&format!("discovery: {}\n", value.reveal().trim()));
        }
        let kubectl: Vec<&str> = self.kubectl.iter().map(NodePath::as_str).collect();
        let script = format!(
            "# {name}: kubeadm {verb}\nprogram={program} verb={verb} begun={BEGUN} admin={ADMIN} left={left}\nfor k in {kubectl}; do [ -x \"$k\" ] && break; done\n{body}",
            name = quote(self.name.as_str()),
            verb = self.verb(),
            program = quote(self.program.as_str()),
            left = match self.role {
                KubernetesRole::Server => LEFT_BY_INIT,
                KubernetesRole::Agent => LEFT_BY_JOIN,
            },
            kubectl = crate::shell::words(kubectl.into_iter()),
            body = include_str!("kubeadm/run.sh"),
        );
        Ok(Operation::script(script)
            .with_payload(text.into_bytes())
            .within(Duration::from_secs(u64::from(self.timeout))))
    }

    fn provides(&self) -> Vec<Token> {
        let mut paths = vec![KUBELET];
        if self.role == KubernetesRole::Server {
            paths.push(ADMIN);
        }
        let paths = paths.into_iter().filter_map(|text| path(text).ok());
        let server = (self.role == KubernetesRole::Server).then_some(Token::ApiServer);
        paths.map(Token::Path).chain(server).collect()
    }

    fn requires(&self) -> Vec<Token> {
        let value = self.discovery.clone();
        value
            .map(|name| Token::Cluster(ClusterToken::Value(name)))
            .into_iter()
            .collect()
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        (status == diagnosis::FAILED).then(|| diagnosis::of(self.verb(), &self.name, output))
    }
}
