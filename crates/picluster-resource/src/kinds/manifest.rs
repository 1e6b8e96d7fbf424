//! `manifest`: a file of objects that a k3s server deploys by itself, and the objects.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::artifact::{Artifact, ArtifactSeen};
use crate::kinds::file::{File, FileSeen, Presence};
use crate::kinds::kube;
use crate::kinds::rights::short;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::{ClusterToken, Token};

/// Objects that a k3s server deploys by itself: a file in its folder of manifests, and the proof that the cluster has
/// taken it up. k3s notes what it has applied in an `Addon` of the name of the file, up to its first period; objects
/// that are missing are deployed again. When it leaves the documents, its objects leave the cluster: k3s deletes what
/// a manifest no longer holds, but nothing when the file itself disappears, so the file is emptied first.
///
/// Where nobody watches a folder (`deployer: kubectl`), picluster applies the file itself, server-side as the manager
/// `picluster`, and notes the text and its objects in a ConfigMap, `picluster-manifests` in `kube-system`: what a changed text
/// no longer holds, and all of it when it leaves the documents, is deleted by that list.
///
/// The text stands in the documents (`content`), or is a file of the controller that is known by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where it stands on the server: `/var/lib/rancher/k3s/server/manifests/NAME.yaml`.
    pub path: NodePath,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The controller's file, relative to the inventory's folder. Left out: the file named by its digest in the artifact
    /// cache (`$XDG_CACHE_HOME/picluster/artifacts/SHA256`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of that file, 64 hex digits. Left out: that of `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its size in bytes. Left out: read from the controller's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether its workloads (deployments, daemon sets, stateful sets, jobs) are waited for until they are ready, and its
    /// resource definitions until they are established.
    #[serde(default)]
    pub wait: bool,
    /// How long to wait, in seconds. k3s looks at the folder every 15 seconds.
    #[serde(default = "kube::five_minutes")]
    pub timeout: u32,
    /// The administrator's credentials.
    pub kubeconfig: NodePath,
    /// Where kubectl is; the first that exists is used.
    pub kubectl: Vec<NodePath>,
    /// `present` or `absent`: the file and its objects.
    #[serde(default)]
    pub state: Presence,
    /// `k3s`, which deploys what lies in its folder, or `kubectl`.
    #[serde(default, skip_serializing_if = "Deployer::is_k3s")]
    pub deployer: Deployer,
}

/// Who brings a manifest into the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deployer {
    /// k3s, from its folder of manifests.
    #[default]
    K3s,
    /// `kubectl apply`, as a step of an apply.
    Kubectl,
}

impl Deployer {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    fn is_k3s(&self) -> bool {
        *self == Self::K3s
    }
}

/// What was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSeen {
    /// The file.
    pub file: Written,
    /// SHA-256 of the text that k3s has applied last; empty while it has not succeeded. `None`: it knows no such manifest.
    pub applied: Option<String>,
    /// What is amiss with its objects, one in a line.
    pub amiss: Vec<String>,
}

/// What was seen of the file, however its text comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// With its text.
    Text(FileSeen),
    /// By its digest.
    Bytes(ArtifactSeen),
}

/// The manifest as one of the kinds that write files.
enum AsFile {
    Text(File),
    Bytes(Artifact),
}

/// What stands in the file while its objects are being removed: a manifest without objects.
const EMPTY: &str = "# Left the inventory: k3s removes the objects of this manifest.\n";

/// Nothing came of waiting; the output holds the evidence.
const LATE: u32 = 70;

impl Manifest {
    fn as_file(&self) -> AsFile {
        let (mode, root) = (String::from("0600"), String::from("root"));
        match &self.content {
            Some(text) => AsFile::Text(File {
                path: self.path.clone(),
                content: text.as_str().into(),
                mode,
                owner: root.clone(),
                group: root,
                state: self.state,
                validate: None,
            }),
            None => AsFile::Bytes(self.artifact(mode, root)),
        }
    }

    fn artifact(&self, mode: String, root: String) -> Artifact {
        Artifact {
            path: self.path.clone(),
            source: self.source.clone(),
            sha256: self.sha256.clone(),
            size: self.size,
            mode,
            owner: root.clone(),
            group: root,
            state: self.state,
        }
    }

    /// The name of its Addon (upstream `pkg/deploy/controller.go`, `basename`).
    fn name(&self) -> &str {
        let file = self.path.as_str().rsplit('/').next().unwrap_or_default();
        file.split('.').next().unwrap_or_default()
    }

    fn taking_up(&self) -> &'static str {
        match self.deployer {
            Deployer::K3s => "k3s takes it up",
            Deployer::Kubectl => "it is applied",
        }
    }

    fn digest(&self) -> String {
        match (&self.content, &self.sha256) {
            (Some(text), _) => sha256_hex(text.as_bytes()),
            (None, Some(sha256)) => sha256.clone(),
            (None, None) => String::new(),
        }
    }

    /// Which texts were applied last, of all manifests: asked once, however many there are.
    fn addons(&self) -> String {
        if self.deployer == Deployer::Kubectl {
            return format!(
                "# manifests of the cluster\n{}[ -s \"$cfg\" ] || exit {}\n[ -x \"$k\" ] || exit {}\nkc -n kube-system get configmap picluster-manifests --ignore-not-found -o {} || exit {}",
                kube::function(&self.kubeconfig, &self.kubectl),
                kube::NO_CREDENTIALS,
                kube::NO_KUBECTL,
                quote(
                    "go-template={{range $name, $sum := .data}}{{$name}} {{$sum}}{{\"\\n\"}}{{end}}"
                ),
                kube::FAILED,
            );
        }
        format!(
            "# addons of the cluster\n{}[ -s \"$cfg\" ] || exit {}\n[ -x \"$k\" ] || exit {}\nkc -n kube-system get addons.k3s.cattle.io -o {} || exit {}",
            kube::function(&self.kubeconfig, &self.kubectl),
            kube::NO_CREDENTIALS,
            kube::NO_KUBECTL,
            quote(
                "jsonpath={range .items[*]}{.metadata.name}{\" \"}{.spec.checksum}{\"\\n\"}{end}"
            ),
            kube::FAILED,
        )
    }

    /// What is amiss with its objects, as far as the file on the node tells.
    fn objects(&self) -> String {
        format!(
            "# objects of manifest {}\n{}file={}\nall={}\n{}[ ! -s \"$cfg\" ] || [ ! -x \"$k\" ] || [ ! -e \"$file\" ] || amiss",
            self.name(),
            kube::function(&self.kubeconfig, &self.kubectl),
            quote(self.path.as_str()),
            if self.wait { "yes" } else { "no" },
            include_str!("manifest/amiss.sh"),
        )
    }

    /// Shell variables and functions of both operations.
    fn preamble(&self, what: &str) -> String {
        let deployed = match self.deployer {
            Deployer::K3s => include_str!("manifest/deployed.sh"),
            Deployer::Kubectl => include_str!("manifest/kubectl.sh"),
        };
        format!(
            "# manifest {name}: {what}\n{function}file={file} addon={addon} all={all} within={timeout}\n{amiss}{deployed}",
            name = self.name(),
            function = kube::function(&self.kubeconfig, &self.kubectl),
            file = quote(self.path.as_str()),
            addon = quote(self.name()),
            all = if self.wait { "yes" } else { "no" },
            timeout = self.timeout,
            amiss = include_str!("manifest/amiss.sh"),
        )
    }

    fn bound(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout) + 120)
    }

    fn removal_change(&self, seen: &ManifestSeen) -> Change {
        let mut change = Change::new(Action::Delete);
        if seen.applied.is_some() {
            change = change.field("objects", Shown::text("deployed"), Shown::Absent);
        }
        let there = match &seen.file {
            Written::Text(seen) => seen.path.is_some(),
            Written::Bytes(seen) => seen.path.is_some() || !seen.parts.is_empty(),
        };
        if there {
            change = change.field("state", Shown::text("present"), Shown::text("absent"));
        }
        change
    }

    fn file_change(&self, seen: &Written, ctx: Ctx<'_>) -> Diff {
        match (self.as_file(), seen) {
            (AsFile::Text(file), Written::Text(seen)) => file.diff(seen, ctx),
            (AsFile::Bytes(file), Written::Bytes(seen)) => file.diff(seen, ctx),
            (AsFile::Text(file), Written::Bytes(_)) => Diff::Change(file.expected(ctx)),
            (AsFile::Bytes(file), Written::Text(_)) => Diff::Change(file.expected(ctx)),
        }
    }
}

/// No more of a message than fits a screen.
fn cut(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Whether the change is about the file itself.
fn writes(change: &Change) -> bool {
    change
        .fields
        .iter()
        .any(|f| !matches!(f.field.as_str(), "applied" | "objects"))
}

impl Kind for Manifest {
    const NAME: &'static str = "manifest";
    type Observation = ManifestSeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = match (&self.content, &self.source, &self.sha256) {
            (Some(_), None, None) => match self.as_file() {
                AsFile::Text(file) => file.check(),
                AsFile::Bytes(_) => Vec::new(),
            },
            (Some(_), _, _) => vec!["content and source or sha256 exclude each other".into()],
            (None, _, _) => match self.as_file() {
                AsFile::Bytes(file) => file.check(),
                AsFile::Text(_) => Vec::new(),
            },
        };
        let file = self.path.as_str();
        if ![".yaml", ".yml", ".json"].iter().any(|s| file.ends_with(s)) || self.name().is_empty() {
            wrong.push("path ends in NAME.yaml, NAME.yml or NAME.json; k3s reads no others".into());
        }
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        wrong.extend(kube::no_program(&self.kubectl));
        wrong
    }

    fn queries(&self, ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = match self.as_file() {
            AsFile::Text(file) => file.queries(ctx)?,
            AsFile::Bytes(file) => file.queries(ctx)?,
        };
        queries.push(Query::Fragment(self.addons()));
        if self.state == Presence::Present {
            queries.push(Query::Fragment(self.objects()));
        }
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<ManifestSeen>, Diagnosis> {
        // The network of pods comes before the node that has the API server is Ready: that is not the API of the cluster.
        let api = match self.deployer {
            Deployer::K3s => Token::Cluster(ClusterToken::Api),
            Deployer::Kubectl => Token::ApiServer,
        };
        let (status, stdout) = answers.fragment(&self.addons())?;
        let known = match status {
            0 => stdout
                .lines()
                .filter_map(|line| line.split_once(' '))
                .find(|(name, _)| *name == self.name())
                .map(|(_, sum)| sum.trim().to_owned()),
            // Where there is no cluster, there is nothing to take out of it.
            kube::NO_CREDENTIALS | kube::NO_KUBECTL if self.state == Presence::Absent => None,
            _ => return Ok(Seen::NotYet(api)),
        };
        // The folder is k3s' own: it is there when the API is.
        let file = match self.as_file() {
            AsFile::Text(file) => match file.observe(answers, ctx)? {
                Seen::Now(seen) => Written::Text(seen),
                Seen::NotYet(_) => return Ok(Seen::NotYet(api)),
            },
            AsFile::Bytes(file) => match file.observe(answers, ctx)? {
                Seen::Now(seen) => Written::Bytes(seen),
                Seen::NotYet(_) => return Ok(Seen::NotYet(api)),
            },
        };
        let amiss = match self.state {
            Presence::Absent => Vec::new(),
            Presence::Present => {
                let (_, said) = answers.fragment(&self.objects())?;
                said.lines().map(str::to_owned).collect()
            }
        };
        Ok(Seen::Now(ManifestSeen {
            file,
            applied: known,
            amiss,
        }))
    }

    /// k3s takes up a file that was changed by hand on its own, between a plan and its apply, and pods become ready or do
    /// not. What is to be done about it is the same.
    fn ground(seen: ManifestSeen) -> ManifestSeen {
        ManifestSeen {
            applied: None,
            amiss: Vec::new(),
            ..seen
        }
    }

    fn diff(&self, seen: &ManifestSeen, ctx: Ctx<'_>) -> Diff {
        if self.state == Presence::Absent {
            return self.removal_change(seen).into_diff();
        }
        let (mut change, same) = match self.file_change(&seen.file, ctx) {
            Diff::Change(change) => (change, false),
            Diff::NoOp => (Change::new(Action::Update), true),
        };
        let (applied, wanted) = (seen.applied.clone().unwrap_or_default(), self.digest());
        if applied != wanted {
            let before = match applied.as_str() {
                "" => Shown::Absent,
                sum => Shown::text(short(sum)),
            };
            change = change.field("applied", before, Shown::text(short(&wanted)));
        }
        // What another text asks for is not what is asked for here.
        if same && applied == wanted && !seen.amiss.is_empty() {
            let ready = if self.wait { "ready" } else { "there" };
            change = change.field(
                "objects",
                Shown::Text(seen.amiss.join("; ")),
                Shown::text(ready),
            );
        }
        change.into_diff()
    }

    fn expected(&self, ctx: Ctx<'_>) -> Change {
        if self.state == Presence::Absent {
            return Change::new(Action::Delete).field("state", Shown::Later, Shown::text("absent"));
        }
        let change = match self.as_file() {
            AsFile::Text(file) => file.expected(ctx),
            AsFile::Bytes(file) => file.expected(ctx),
        };
        change.field("applied", Shown::Absent, Shown::text(short(&self.digest())))
    }

    fn operation(
        &self,
        seen: &ManifestSeen,
        change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        if change.action == Action::Delete {
            let mut script = self.preamble("out of the cluster, then the file");
            if seen.applied.is_some() && self.deployer == Deployer::Kubectl {
                script.push_str("take_away\n");
            } else if seen.applied.is_some() {
                script.push_str(&format!(
                    "printf %s {} | put \"$file\" 0600 root root\nsum={}\nall=none\ndeployed\nrm -f -- \"$file\"\nkc -n kube-system delete addons.k3s.cattle.io \"$addon\" --ignore-not-found >/dev/null || {{ cat /run/picluster/kubectl.err >&2; exit 1; }}\n",
                    quote(EMPTY),
                    sha256_hex(EMPTY.as_bytes()),
                ));
            }
            if let (AsFile::Bytes(file), Written::Bytes(seen)) = (self.as_file(), &seen.file) {
                script.push_str(&file.operation(seen, change, ctx)?.script);
            } else {
                script.push_str("rm -f -- \"$file\"");
            }
            return Ok(Operation::script(script).within(self.bound()));
        }
        let wait = format!("sum={}\ndeployed", self.digest());
        if !writes(change) {
            let lost = change.fields.iter().any(|f| f.field == "objects");
            // k3s passes over a file that is as old as before, or that it has applied before.
            let again = if lost {
                "again\n"
            } else {
                "touch -- \"$file\"\n"
            };
            let again = match self.deployer {
                Deployer::K3s => again,
                Deployer::Kubectl => "",
            };
            let script = format!("{}{again}{wait}", self.preamble(self.taking_up()));
            return Ok(Operation::script(script).within(self.bound()));
        }
        let mut operation = match (self.as_file(), &seen.file) {
            (AsFile::Text(file), Written::Text(seen)) => file.operation(seen, change, ctx)?,
            (AsFile::Bytes(file), Written::Bytes(seen)) => file.operation(seen, change, ctx)?,
            _ => return Err(Diagnosis::new("it was looked at as another kind of file")),
        };
        operation.script = format!(
            "{}\n{}{wait}",
            operation.script,
            self.preamble(&format!("the file, and {}", self.taking_up()))
        );
        Ok(operation.within(self.bound()))
    }

    fn provides(&self) -> Vec<Token> {
        vec![Token::Path(self.path.clone())]
    }

    fn requires(&self) -> Vec<Token> {
        match self.deployer {
            Deployer::K3s => vec![Token::Cluster(ClusterToken::Api)],
            Deployer::Kubectl => {
                let folder = self.path.parent().map(Token::Path);
                folder.into_iter().chain([Token::ApiServer]).collect()
            }
        }
    }

    fn explain(&self, status: u32, output: &str, _ctx: Ctx<'_>) -> Option<Diagnosis> {
        if status != LATE {
            return None;
        }
        let part = |name: &str| {
            let (_, rest) = output.split_once(&format!("@@ {name}\n"))?;
            let text = rest.split("@@ ").next().unwrap_or_default().trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let (name, bound) = (self.name(), self.timeout);
        let role = match self.deployer {
            Deployer::K3s => "k3s",
            Deployer::Kubectl => "kubeadm",
        };
        if let Some(file) = part("skipped") {
            return Some(
                Diagnosis::new(format!(
                    "k3s passes over the manifest {name}: {file} is there"
                ))
                .cure(format!("on the node: rm {file}; then: picluster apply")),
            );
        }
        if let (Some(said), Deployer::Kubectl) = (part("refused"), self.deployer) {
            return Some(
                Diagnosis::new(format!(
                    "the cluster does not take the manifest {name}: {}",
                    cut(&said)
                ))
                .cure("mend the manifest, then: picluster apply"),
            );
        }
        if let Some(said) = part("refused") {
            return Some(
                Diagnosis::new(format!(
                    "k3s cannot deploy the manifest {name}: {}",
                    cut(&said)
                ))
                .cure("mend the manifest, then: picluster apply"),
            );
        }
        if let Some(objects) = part("amiss") {
            let objects = objects.replace('\n', "; ");
            return Some(
                Diagnosis::new(format!("after {bound} s, of the manifest {name}: {objects}"))
                    .cure(format!("see why: kubectl get events -A --sort-by .lastTimestamp; where it only takes longer, give the role {role} a longer `timeout`; then: picluster apply")),
            );
        }
        Some(
            Diagnosis::new(format!(
                "k3s has not taken up the manifest {name} within {bound} s"
            ))
            .cure("see why on the node: journalctl -u k3s --since -10min; then: picluster apply"),
        )
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            content: self.content.as_ref().map(|_| String::new()),
            source: None,
            sha256: None,
            size: None,
            wait: false,
            ..self.clone()
        })
    }
}
