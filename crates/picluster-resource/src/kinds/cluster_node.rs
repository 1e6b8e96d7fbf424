//! `cluster_node`: this machine is registered with the cluster and Ready.

mod diagnosis;

use std::time::Duration;

use picluster_model::NodeName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::kinds::kube::{self, Asked};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Reaction, Token};

/// What a last question and the gathering of evidence may take on top of the wait.
const EVIDENCE: Duration = Duration::from_secs(120);

/// This machine as a node of its cluster: registered, Ready, at the wanted version. Nothing is made
/// here but time: it waits until what was started has joined, and when that does not happen it looks for the
/// reason. Steps of other nodes can wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    /// Its name in the cluster.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// The unit that runs it: `k3s.service`, `k3s-agent.service`, `kubelet.service`.
    pub unit: String,
    /// The version its kubelet reports. Left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Credentials that may read this node.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
    /// Whether the API itself is served here.
    #[serde(default)]
    pub server: bool,
    /// It is one of several servers on embedded etcd: it also has to be a voter, by the condition `EtcdIsVoter` that k3s
    /// sets on its node. Servers join one at a time, each once the one before it is a voter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voter: bool,
    /// The program the unit runs, for the diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<NodePath>,
    /// The server it joins through, `https://HOST:PORT`, for the diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// The file with the token it joins with, for the diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<NodePath>,
    /// How long to wait, in seconds.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
    /// How many agents may go to another version at the same time. Servers go before them, one by one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub max_unavailable: u32,
    /// The script that takes the machine out of its cluster, data and all, when this entry leaves the documents. Left out:
    /// the machine stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uninstall: Option<NodePath>,
    /// `present`; or `absent`: the machine is a member of no cluster.
    #[serde(default, skip_serializing_if = "is_present")]
    pub state: Presence,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_present(state: &Presence) -> bool {
    *state == Presence::Present
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSeen {
    /// `ActiveState` of the unit.
    pub unit: String,
    /// What the cluster says.
    pub cluster: ClusterSays,
    /// What takes the machine out of its cluster is there; looked at where it is to leave only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub installed: bool,
}

/// What a cluster says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterSays {
    /// It has never joined: it has no credentials.
    Never,
    /// It has, and now nobody answers it.
    Nothing,
    /// There is no such node.
    Unknown,
    /// It is registered.
    Node {
        /// Condition `Ready`.
        ready: String,
        /// Version of its kubelet.
        version: String,
        /// It is this very machine (by its machine id) that is registered.
        same_machine: bool,
        /// Its etcd votes.
        #[serde(default)]
        voter: bool,
    },
}

/// What a server says when it is asked for the nodes of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roll {
    /// It has no credentials, or no kubectl, yet: it was never a member.
    Never,
    /// Nobody answered, or not with what was asked for.
    Silent,
    /// The nodes.
    Nodes(Vec<Registered>),
}

/// A node as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// `status` of its condition `Ready`: `True`, `False`, `Unknown`; empty before its first report.
    pub ready: String,
    /// The version of its kubelet.
    pub version: String,
    /// Its taints, `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
    pub taints: Vec<String>,
    /// The machine id it registered with.
    pub machine_id: String,
    /// It is a member of the control plane.
    pub server: bool,
    /// Its etcd votes, by the condition that k3s sets on it.
    pub voter: bool,
}

/// Set by k3s and kubeadm alike (Kubernetes' well-known labels).
pub(crate) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Whether a machine is the one that is registered, by their machine ids. One that is not known speaks against nothing.
fn same_machine(registered: &str, here: &str) -> bool {
    registered.is_empty() || here.is_empty() || registered == here
}

impl Registered {
    /// Whether this machine is the one that is registered.
    #[must_use]
    pub fn is(&self, machine_id: &str) -> bool {
        same_machine(&self.machine_id, machine_id)
    }
}

impl From<kube::KubeNode> for Registered {
    fn from(node: kube::KubeNode) -> Self {
        let taint = |t: kube::KubeTaint| match t.value.as_str() {
            "" => format!("{}:{}", t.key, t.effect),
            value => format!("{}={value}:{}", t.key, t.effect),
        };
        Self {
            server: node.labels.contains_key(CONTROL_PLANE),
            voter: node.voter == "True",
            name: node.name,
            ready: node.ready,
            version: node.version,
            taints: node.taints.into_iter().map(taint).collect(),
            machine_id: node.machine_id,
        }
    }
}

impl ClusterNode {
    /// All nodes of the cluster as this server tells them, out of the answer to what it is asked anyway. `None`: this is
    /// no server, or it was not asked.
    #[must_use]
    pub fn roll(&self, answers: &Answers) -> Option<Roll> {
        if !self.server {
            return None;
        }
        let (status, stdout) = answers.fragment(&self.question()).ok()?;
        Some(match kube::answer(status, stdout) {
            Asked::NoCredentials | Asked::NoKubectl => Roll::Never,
            Asked::NoAnswer | Asked::NotFound => Roll::Silent,
            Asked::Nodes(nodes) => Roll::Nodes(nodes.into_iter().map(Into::into).collect()),
        })
    }

    /// Why the API server of this machine does not answer, as far as the answer to what it is asked anyway shows it. `None`: it
    /// does answer, this is no server, or it was not asked.
    #[must_use]
    pub fn silence(&self, answers: &Answers) -> Option<Diagnosis> {
        if self.roll(answers)? != Roll::Silent {
            return None;
        }
        let (status, stdout) = answers.fragment(&self.question()).ok()?;
        Some(if kube::is_leaderless(status, stdout) {
            diagnosis::no_leader(self)
        } else {
            Diagnosis::new("the cluster does not answer it").cure(format!(
                "look on {}: crictl ps -a, journalctl -u {} -n 50; one that has just started may need another minute; then: picluster apply",
                self.name, self.unit
            ))
        })
    }

    fn question(&self) -> String {
        // A server asks for all nodes: others ask the same, and it is asked once.
        let own = [self.name.as_str()];
        let node = (!self.server).then_some(own.as_slice());
        kube::question(&self.kubeconfig, &self.kubectl, node)
    }

    /// Whether it is what others may count on, whatever its version: this machine is registered, Ready and, where it has to be,
    /// a voter; by what was seen of it.
    #[must_use]
    pub fn counts(&self, seen: &NodeSeen) -> bool {
        let ClusterSays::Node {
            ready,
            same_machine,
            voter,
            ..
        } = &seen.cluster
        else {
            return false;
        };
        ready == "True" && *same_machine && (*voter || !self.voter) && seen.unit == "active"
    }

    fn wanted(&self) -> String {
        match &self.version {
            Some(version) => format!("Ready, {version}"),
            None => "Ready".into(),
        }
    }

    /// The version it has, when that is another than is wanted: from what was seen of it.
    #[must_use]
    pub fn leaves(&self, seen: &NodeSeen) -> Option<String> {
        match (&seen.cluster, &self.version) {
            (
                ClusterSays::Node {
                    version,
                    same_machine: true,
                    ..
                },
                Some(wanted),
            ) if version != wanted => Some(version.clone()),
            _ => None,
        }
    }

    /// Waits until it is what it should be, at most so many seconds.
    fn wait(&self, timeout: u32) -> Operation {
        let text = |path: &Option<NodePath>| path.as_ref().map_or("", NodePath::as_str).to_owned();
        let script = format!(
            "# {name}: wait until it is Ready, at most {timeout} s\n{function}n={name} u={unit} want={want}{voter} within={timeout}\nprogram={program} join={join} token={token}\n{body}",
            name = quote(self.name.as_str()),
            function = kube::function(&self.kubeconfig, &self.kubectl),
            unit = quote(&self.unit),
            voter = if self.voter { " voter=yes" } else { "" },
            want = quote(self.version.as_deref().unwrap_or_default()),
            program = quote(&text(&self.program)),
            join = quote(self.join.as_deref().unwrap_or_default()),
            token = quote(&text(&self.token_file)),
            body = include_str!("cluster_node/wait.sh"),
        );
        Operation::script(script).within(Duration::from_secs(u64::from(timeout)) + EVIDENCE)
    }

    /// What becomes of a machine that leaves.
    fn leave(&self) -> Change {
        Change::new(Action::Delete).field(
            "member",
            Shown::text("of the cluster, with its data"),
            Shown::Absent,
        )
    }

    fn change(&self, action: Action, before: Shown) -> Change {
        Change::new(action).field("node", before, Shown::Text(self.wanted()))
    }
}

impl Kind for ClusterNode {
    const NAME: &'static str = "cluster_node";
    type Observation = NodeSeen;

    fn key(&self) -> String {
        self.name.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        wrong.extend(kube::no_program(&self.kubectl));
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        if self.max_unavailable == 0 {
            wrong.push("max_unavailable is at least 1".into());
        }
        if self.state == Presence::Absent && self.uninstall.is_none() {
            wrong.push(
                "uninstall names no script: nothing else takes a machine out of its cluster".into(),
            );
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        if self.state == Presence::Absent {
            let script = self.uninstall.clone().map(Query::Path);
            return Ok([Query::Unit(self.unit.clone())]
                .into_iter()
                .chain(script)
                .collect());
        }
        Ok(vec![
            Query::Unit(self.unit.clone()),
            Query::Fragment(self.question()),
        ])
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<NodeSeen>, Diagnosis> {
        let unit = answers.unit(&self.unit)?.active.clone();
        if self.state == Presence::Absent {
            let script = match &self.uninstall {
                Some(script) => answers.path(script)?.is_some(),
                None => false,
            };
            return Ok(Seen::Now(NodeSeen {
                unit,
                cluster: ClusterSays::Never,
                installed: script,
            }));
        }
        let (status, stdout) = answers.fragment(&self.question())?;
        let cluster = match kube::answer(status, stdout) {
            Asked::NoCredentials | Asked::NoKubectl => ClusterSays::Never,
            Asked::NoAnswer => ClusterSays::Nothing,
            Asked::NotFound => ClusterSays::Unknown,
            Asked::Nodes(nodes) => match nodes.into_iter().find(|n| n.name == self.name.as_str()) {
                None => ClusterSays::Unknown,
                Some(node) => {
                    let here = &ctx.facts.now.machine_id;
                    ClusterSays::Node {
                        same_machine: same_machine(&node.machine_id, here),
                        voter: node.voter == "True",
                        ready: node.ready,
                        version: node.version,
                    }
                }
            },
        };
        Ok(Seen::Now(NodeSeen {
            unit,
            cluster,
            installed: false,
        }))
    }

    /// All the step does is wait, so a node that came, went or reported in the meantime is no other ground. Another
    /// machine under its name is.
    fn ground(seen: NodeSeen) -> NodeSeen {
        let another = |says: &ClusterSays| matches!(says, ClusterSays::Node { same_machine, .. } if !same_machine);
        NodeSeen {
            unit: String::new(),
            cluster: if another(&seen.cluster) {
                seen.cluster
            } else {
                ClusterSays::Nothing
            },
            installed: seen.installed,
        }
    }

    fn diff(&self, seen: &NodeSeen, _ctx: Ctx<'_>) -> Diff {
        if self.state == Presence::Absent {
            let gone = !seen.installed && seen.unit != "active" && seen.unit != "activating";
            return if gone {
                Diff::NoOp
            } else {
                Diff::Change(self.leave())
            };
        }
        let says = match &seen.cluster {
            ClusterSays::Never => {
                return Diff::Change(self.change(Action::Create, Shown::text("never joined")));
            }
            ClusterSays::Nothing => "the cluster does not answer".to_owned(),
            ClusterSays::Unknown => "not registered".to_owned(),
            ClusterSays::Node {
                same_machine: false,
                ..
            } => "another machine is registered under this name".to_owned(),
            ClusterSays::Node {
                ready,
                version,
                voter,
                ..
            } => {
                let state = match ready.as_str() {
                    "True" if self.voter && !voter => "Ready, no voter of etcd",
                    "True" => "Ready",
                    "False" => "NotReady",
                    _ => "Ready unknown",
                };
                match &self.version {
                    Some(_) => format!("{state}, {version}"),
                    None => state.to_owned(),
                }
            }
        };
        if says == self.wanted() && seen.unit == "active" {
            return Diff::NoOp;
        }
        let before = if seen.unit == "active" {
            says
        } else {
            format!("{says}; {} is {}", self.unit, seen.unit)
        };
        Diff::Change(self.change(Action::Run, Shown::Text(before)))
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        match self.state {
            Presence::Present => self.change(Action::Create, Shown::Absent),
            Presence::Absent => self.leave(),
        }
    }

    fn operation(
        &self,
        _seen: &NodeSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        if self.state == Presence::Absent {
            let script = self.uninstall.as_ref().map_or("", NodePath::as_str);
            // The node password goes, too: the cluster has forgotten it with the node.
            let script = format!(
                "# {0} leaves its cluster\n[ -x {1} ] || {{ echo {2} >&2; exit 1; }}\n{1}\nrm -rf /etc/rancher/node\nrmdir /etc/rancher 2>/dev/null || :",
                self.name,
                quote(script),
                quote(&format!(
                    "{} runs, and there is no {script} that takes it off this machine: write it anew (give the node back its `kubernetes` and apply), or take k3s off by hand",
                    self.unit
                )),
            );
            return Ok(Operation::script(script).within(Duration::from_secs(300)));
        }
        Ok(self.wait(self.timeout))
    }

    /// A controller with much to do loses sight of a node that has just been Ready: that passes.
    fn wait_again(&self, seen: &NodeSeen, left: Duration, _ctx: Ctx<'_>) -> Option<Operation> {
        let seconds = u32::try_from(left.saturating_sub(EVIDENCE).as_secs()).unwrap_or(u32::MAX);
        let may_pass = match &seen.cluster {
            ClusterSays::Nothing | ClusterSays::Unknown => true,
            ClusterSays::Never => false,
            ClusterSays::Node { same_machine, .. } => *same_machine && self.leaves(seen).is_none(),
        };
        (self.state == Presence::Present && may_pass && seconds > 0)
            .then(|| self.wait(seconds.min(self.timeout)))
    }

    fn provides(&self) -> Vec<Token> {
        if self.state == Presence::Absent {
            return Vec::new();
        }
        let mut tokens = vec![Token::Cluster(ClusterToken::Joined(self.name.clone()))];
        if self.server {
            tokens.push(Token::Cluster(ClusterToken::Api));
        }
        tokens
    }

    fn requires(&self) -> Vec<Token> {
        if self.state == Presence::Absent {
            return Vec::new();
        }
        let mut tokens = vec![Token::Unit(self.unit.clone())];
        if !self.server {
            tokens.push(Token::Cluster(ClusterToken::Api));
        }
        tokens
    }

    fn reactions(&self) -> Vec<Reaction> {
        if self.state == Presence::Absent {
            return Vec::new();
        }
        // Credentials that come anew are those of a join that is taken up, perhaps of one that was Ready before its end.
        let on = |token: Token| Reaction {
            on: token,
            unit: None,
            restart: false,
        };
        vec![
            on(Token::Unit(self.unit.clone())),
            on(Token::Path(self.kubeconfig.clone())),
        ]
    }

    fn follow_up(
        &self,
        seen: Option<&NodeSeen>,
        inputs: &[Token],
        _ctx: Ctx<'_>,
    ) -> Option<Change> {
        seen?;
        let restarts = inputs.iter().any(|t| matches!(t, Token::Unit(_)));
        let before = match restarts {
            true => format!("{} starts anew", self.unit),
            false => "its join is taken up".to_owned(),
        };
        Some(self.change(Action::Run, Shown::text(before)))
    }

    /// What has been started may have made it Ready before it is looked at; what takes it out of the cluster goes by its record.
    fn claims(&self) -> bool {
        self.state == Presence::Present
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present && self.uninstall.is_some()).then(|| Self {
            state: Presence::Absent,
            version: None,
            join: None,
            token_file: None,
            ..self.clone()
        })
    }

    fn explain(&self, status: u32, output: &str, ctx: Ctx<'_>) -> Option<Diagnosis> {
        (status == diagnosis::NOT_READY).then(|| diagnosis::of(self, output, ctx.facts))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::{ClusterNode, ClusterSays, NodeSeen, Registered, Roll};
    use crate::kind::Kind;

    fn ground(cluster: ClusterSays) -> NodeSeen {
        ClusterNode::ground(NodeSeen {
            unit: "active".into(),
            cluster,
            installed: false,
        })
    }

    #[test]
    fn a_server_tells_of_all_nodes_and_an_agent_of_none() {
        let node = |server: bool| -> ClusterNode {
            serde_json::from_value(serde_json::json!({
                "name": "rpi01", "unit": "k3s.service", "kubeconfig": "/etc/k3s.yaml",
                "kubectl": ["/usr/local/bin/kubectl"], "server": server,
            }))
            .unwrap()
        };
        let answers = |node: &ClusterNode, status: u32, stdout: &str| {
            let query = crate::Query::Fragment(node.question());
            let stdout = stdout.to_owned();
            crate::Answers([(query, crate::Answer::Fragment { status, stdout })].into())
        };
        let (server, agent) = (node(true), node(false));
        let list = r#"{"kind":"List","items":[{"metadata":{"name":"rpi02","labels":{"node-role.kubernetes.io/control-plane":"true"}},
            "spec":{"taints":[{"key":"slow","value":"yes","effect":"NoSchedule"},{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]},
            "status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"Unknown"}],
                "nodeInfo":{"machineID":"ab","kubeletVersion":"v1.33.5+k3s1"}}}]}"#;
        let told = Registered {
            name: "rpi02".into(),
            ready: "Unknown".into(),
            version: "v1.33.5+k3s1".into(),
            taints: vec![
                "slow=yes:NoSchedule".into(),
                "node.kubernetes.io/unreachable:NoExecute".into(),
            ],
            machine_id: "ab".into(),
            server: true,
            voter: false,
        };
        let roll = |status, stdout| server.roll(&answers(&server, status, stdout));
        assert_eq!(roll(0, list), Some(Roll::Nodes(vec![told])));
        assert_eq!(
            roll(0, "{\"kind\":\"List\",\"items\":[]}"),
            Some(Roll::Nodes(vec![]))
        );
        assert_eq!(roll(0, "Error"), Some(Roll::Silent));
        assert_eq!(roll(crate::kinds::kube::FAILED, ""), Some(Roll::Silent));
        assert_eq!(
            roll(crate::kinds::kube::NO_CREDENTIALS, ""),
            Some(Roll::Never)
        );
        assert_eq!(roll(crate::kinds::kube::NO_KUBECTL, ""), Some(Roll::Never));
        assert_eq!(server.roll(&crate::Answers::default()), None);
        assert_eq!(agent.roll(&answers(&agent, 0, list)), None);
    }

    #[test]
    fn a_node_that_was_ready_and_is_lost_sight_of_is_waited_for_within_its_time() {
        let node: ClusterNode = serde_json::from_value(serde_json::json!({
            "name": "rpi02", "unit": "k3s-agent.service", "kubeconfig": "/etc/k.yaml", "version": "v1.33.5+k3s1",
            "kubectl": ["/usr/local/bin/kubectl"], "timeout": 200,
        }))
        .unwrap();
        let (facts, secrets) = Default::default();
        let ctx = crate::Ctx {
            facts: &facts,
            secrets: &secrets,
        };
        let within = |cluster: ClusterSays, left: u64| {
            let seen = NodeSeen {
                unit: "active".into(),
                cluster,
                installed: false,
            };
            let left = Duration::from_secs(left);
            let again = node.wait_again(&seen, left, ctx)?;
            assert!(again.timeout <= left, "{:?}", again.timeout);
            let line = again.script.lines().find(|l| l.starts_with("n=")).unwrap();
            let (_, seconds) = line.rsplit_once("within=").unwrap();
            Some(seconds.parse::<u64>().unwrap())
        };
        let says = |ready: &str, version: &str, same_machine| ClusterSays::Node {
            ready: ready.into(),
            version: version.into(),
            same_machine,
            voter: false,
        };
        let (wanted, other) = ("v1.33.5+k3s1", "v1.32.1+k3s1");
        for passing in [
            says("Unknown", wanted, true),
            says("False", wanted, true),
            ClusterSays::Unknown,
            ClusterSays::Nothing,
        ] {
            // Of its time and of that for evidence.
            assert_eq!(within(passing.clone(), 320), Some(200));
            assert_eq!(within(passing.clone(), 150), Some(30));
            assert_eq!(within(passing, 120), None);
        }
        assert_eq!(within(says("True", other, true), 320), None);
        assert_eq!(within(says("Unknown", wanted, false), 320), None);
        assert_eq!(within(ClusterSays::Never, 320), None);
    }

    #[test]
    fn a_node_that_comes_by_itself_is_no_other_ground_and_another_machine_is() {
        let node = |ready: &str, same_machine| ClusterSays::Node {
            ready: ready.into(),
            version: "v1.33.5+k3s1".into(),
            same_machine,
            voter: false,
        };
        let unknown = ground(ClusterSays::Unknown);
        assert_eq!(unknown, ground(node("Unknown", true)));
        assert_eq!(unknown, ground(node("True", true)));
        assert_ne!(unknown, ground(node("True", false)));
    }
}
