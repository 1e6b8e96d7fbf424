//! `kubeadm`: this machine becomes a node of its cluster by kubeadm, once.

pub(crate) mod diagnosis;

use std::time::Duration;

use picluster_model::kubernetes::{KubernetesRole, KubernetesVersion};
use picluster_model::{NodeName, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::text_diff;
use crate::kinds::kube;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// `kubeadm init` on the machine that founds a cluster, `kubeadm join` on one that joins it, as a worker or as a further control
/// plane. It happens once: what kubeadm was told is not compared later, because kubeadm itself does not carry a changed file into
/// a running cluster. A run that broke off is taken up again, and takes nothing away. Which of several servers founds the
/// cluster is decided by the planner from what all of them remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubeadm {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// `server` founds the cluster, or joins it as a control plane where there are several; `agent` joins as a worker.
    pub role: KubernetesRole,
    /// The documents for `--config`. A `JoinConfiguration` is for who joins, without its discovery and without `controlPlane`; all
    /// others are for who founds.
    pub content: String,
    /// Of one of several servers: the address that its API server and its etcd announce. kubeadm's own choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// It joins. Left to the planner.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
    /// The value (see `join_token`) with which who joins finds and trusts the cluster: the `discovery` of its
    /// `JoinConfiguration`, and of a server the key of the certificates. It goes to kubeadm in a file in /run that only root may
    /// read, and is gone with the run. A server that has it is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<String>,
    /// The release, `v1.33.2`, and the major release of containerd below it: together they are refused where the kubelet does not
    /// speak the interface that this containerd has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// See `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<u32>,
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
pub(crate) const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
/// Credentials of the administrator (`constants.AdminKubeConfigFileName`).
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// Stands there from before kubeadm begins until it has ended well.
pub(crate) const BEGUN: &str = "/etc/kubernetes/picluster.begun";

/// What an earlier run leaves, so that it is no reason to refuse the next one. kubeadm's phases keep
/// certificates and credentials that are there (cmd/kubeadm/app/phases/certs, kubeconfig), and write manifests anew.
const LEFT: &str = "FileAvailable--etc-kubernetes-kubelet.conf,FileAvailable--etc-kubernetes-bootstrap-kubelet.conf,FileAvailable--etc-kubernetes-pki-ca.crt,DirAvailable--etc-kubernetes-manifests,DirAvailable--var-lib-etcd,FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml,FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml,FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml,FileAvailable--etc-kubernetes-manifests-etcd.yaml,Port-6443,Port-10250,Port-10257,Port-10259,Port-2379,Port-2380";

/// The port of an API server (`constants.KubeAPIServerPort`).
const API_PORT: u16 = 6443;

/// The last minor release whose kubelet speaks only `runtime.v1alpha2` of the Container Runtime Interface
/// (<https://kubernetes.io/blog/2022/12/09/kubernetes-1-26-release/#removal-of-cri-v1alpha2>: v1 came with 1.23), which containerd 2.0
/// has dropped (<https://github.com/containerd/containerd/blob/main/docs/containerd-2.0.md>).
const LAST_OF_CRI_ALPHA: u32 = 22;

/// The release of a package: the packaging's own number stands behind it (`1.33.2-1.1`).
pub(crate) fn release_of(package: &str) -> String {
    format!("v{}", package.split('-').next().unwrap_or(package))
}

fn path(text: &str) -> Result<NodePath, Diagnosis> {
    NodePath::new(text).map_err(|e| Diagnosis::new(e.to_string()))
}

impl Kubeadm {
    /// Whether it joins a cluster, as a worker or as a further control plane.
    fn is_joining(&self) -> bool {
        self.role == KubernetesRole::Agent || self.joins
    }

    fn verb(&self) -> &'static str {
        if self.is_joining() { "join" } else { "init" }
    }

    /// Whether it is one of several servers, so that it may have to join.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.role == KubernetesRole::Server && self.discovery.is_some()
    }

    /// The documents of what it does.
    fn documents(&self) -> String {
        let wanted = |document: &&str| {
            let joins = |line: &str| line.trim_end() == "kind: JoinConfiguration";
            document.lines().any(joins) == self.is_joining()
        };
        let all: Vec<&str> = self.content.split("\n---\n").filter(wanted).collect();
        let mut text = all.join("\n---\n").trim_end().to_owned();
        text.push('\n');
        text
    }

    /// What stands behind the documents of who joins: what makes it a control plane, and how it finds the cluster. As JSON, which
    /// is YAML as well.
    fn tail(&self, value: &str) -> Result<String, Diagnosis> {
        let told = || {
            Diagnosis::new(format!(
                "{}, with which it joins, is not what a join needs",
                self.discovery.as_deref().unwrap_or("the value")
            ))
            .cure("picluster apply")
        };
        let mut discovery: Map<String, Value> =
            serde_json::from_str(value.trim()).map_err(|_| told())?;
        let key = discovery.remove("certificateKey");
        let mut text = format!("discovery: {}\n", Value::Object(discovery));
        if self.joins {
            let mut plane = Map::new();
            plane.insert("certificateKey".into(), key.ok_or_else(told)?);
            if let Some(address) = &self.advertise {
                let endpoint = json!({ "advertiseAddress": address, "bindPort": API_PORT });
                plane.insert("localAPIEndpoint".into(), endpoint);
            }
            text.push_str(&format!("controlPlane: {}\n", Value::Object(plane)));
        }
        Ok(text)
    }

    fn change(&self, before: Shown) -> Change {
        let after = match self.role {
            KubernetesRole::Server if self.joins => "joins the cluster as a control plane",
            KubernetesRole::Server => "founds the cluster",
            KubernetesRole::Agent => "joins the cluster",
        };
        let documents = self.documents();
        let mut change = Change::new(Action::Run).field("node", before, Shown::text(after));
        change.text = Some(text_diff("", &documents));
        change.bytes = documents.len() as u64;
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
        if self.role == KubernetesRole::Agent && self.discovery.is_none() {
            wrong.push("discovery names the value that a worker joins with".into());
        }
        if let (Some(version), Some(2..)) = (&self.version, self.containerd)
            && let Some(release) = KubernetesVersion::of_any(version)
            && release.minor <= LAST_OF_CRI_ALPHA
        {
            wrong.push(format!(
                "containerd 2 does not go with {version}: kubelets before v1.23 speak only v1alpha2 of the Container Runtime Interface, which containerd 2.0 has dropped; say containerd: 1"
            ));
        }
        if self.documents().trim().is_empty() {
            wrong.push("content has no document for what it does".into());
        } else if self.is_one_of_several() && !self.content.contains("\nkind: JoinConfiguration") {
            wrong.push(
                "content has no JoinConfiguration, and one of several servers may have to join"
                    .into(),
            );
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
        let mut text = self.documents();
        if let Some(name) = self.discovery.as_ref().filter(|_| self.is_joining()) {
            let reference = SecretRef::ClusterValue(name.clone());
            let value = ctx.secrets.0.get(&reference).ok_or_else(|| {
                Diagnosis::new(format!(
                    "{name}, with which it joins, is not known: the plan is older than the token"
                ))
                .cure("picluster apply")
            })?;
            text.push_str(&self.tail(value.reveal())?);
        }
        let kubectl: Vec<&str> = self.kubectl.iter().map(NodePath::as_str).collect();
        let script = format!(
            "# {name}: kubeadm {verb}\nprogram={program} node={name} verb={verb} begun={BEGUN} admin={ADMIN} left={LEFT}\nfor k in {kubectl}; do [ -x \"$k\" ] && break; done\n{body}",
            name = quote(self.name.as_str()),
            verb = self.verb(),
            program = quote(self.program.as_str()),
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
        let value = self.discovery.clone().filter(|_| self.is_joining());
        value
            .map(|name| Token::Cluster(ClusterToken::Value(name)))
            .into_iter()
            .collect()
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        (status == diagnosis::FAILED).then(|| diagnosis::of(self.verb(), &self.name, output))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn server(joins: bool, advertise: Option<&str>) -> Kubeadm {
        serde_json::from_value(json!({
            "name": "rpi02", "role": "server", "joins": joins, "advertise": advertise,
            "content": "kind: InitConfiguration\n---\nkind: ClusterConfiguration\n---\nkind: JoinConfiguration\n",
            "discovery": "x", "program": "/usr/bin/kubeadm", "kubectl": ["/usr/bin/kubectl"],
        }))
        .unwrap()
    }

    #[test]
    fn who_joins_is_given_the_document_of_a_join_and_the_key() {
        let value =
            r#"{"bootstrapToken":{"token":"abcdef.0123456789abcdef"},"certificateKey":"ab"}"#;
        let joins = server(true, Some("192.168.2.2"));
        assert_eq!(joins.documents(), "kind: JoinConfiguration\n");
        assert_eq!(
            joins.tail(value).unwrap(),
            "discovery: {\"bootstrapToken\":{\"token\":\"abcdef.0123456789abcdef\"}}\ncontrolPlane: {\"certificateKey\":\"ab\",\"localAPIEndpoint\":{\"advertiseAddress\":\"192.168.2.2\",\"bindPort\":6443}}\n"
        );
        assert_eq!(
            server(true, None).tail(value).unwrap().lines().last(),
            Some("controlPlane: {\"certificateKey\":\"ab\"}")
        );
        // A value for workers makes no control plane.
        let wrong = joins.tail(r#"{"bootstrapToken":{}}"#).unwrap_err();
        assert!(!format!("{wrong:?}").contains("bootstrapToken"));
        let founds = server(false, None);
        assert_eq!(
            founds.documents(),
            "kind: InitConfiguration\n---\nkind: ClusterConfiguration\n"
        );
        assert!(founds.requires().is_empty() && !joins.requires().is_empty());
    }
}
