//! Which program every node gets: from the inventory and a node's architecture to a digest, and the
//! bytes behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use picluster_artifact::{
    Arch, Artifact, ArtifactError, Client, Digest, Given, K3S_RELEASES, Part, Progress, Release,
    Resolver, Store, Wanted,
};
use picluster_model::NodeName;
use picluster_model::inventory::{Node, Project};
use picluster_model::kubernetes::{self, ByArch, Distribution, Images, Kubernetes, Source};
use picluster_model::render::ClusterContext;
use picluster_plan::{NodeState, Plan, Work};
use picluster_resource::Facts;

use crate::artifacts::Files;
use crate::error::Failure;

/// What a node gets of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The program of k3s.
    pub program: Option<Artifact>,
    /// The images, where the inventory wants them there.
    pub images: Option<Artifact>,
}

impl Parts {
    /// All there are.
    pub fn all(&self) -> impl Iterator<Item = &Artifact> {
        self.program.iter().chain(&self.images)
    }
}

/// Where releases are looked up.
#[derive(Debug, Clone)]
pub struct Releases(Arc<Resolver>);

impl Releases {
    /// With the user's cache, and the place releases are published at (`PICLUSTER_K3S_RELEASES`
    /// names another one).
    ///
    /// # Errors
    /// When nothing says where a cache could be.
    pub fn of_user() -> Result<Self, Failure> {
        let store = Store::of_user().ok_or_else(|| {
            Failure::usage("there is no place for a cache: neither HOME nor XDG_CACHE_HOME is set")
                .hint("nothing was changed; set XDG_CACHE_HOME=DIR")
        })?;
        Ok(Self(Arc::new(Resolver::new(
            store,
            Client::default(),
            base(),
        ))))
    }

    /// The cache.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.0.store()
    }

    /// The same with a cache of its own.
    #[must_use]
    pub fn at(cache: PathBuf) -> Self {
        Self(Arc::new(Resolver::new(
            Store::at(cache),
            Client::default(),
            base(),
        )))
    }

    /// Takes a file for the release that the inventory names, as if it had been fetched. What it is built for decides
    /// which machines get it; of images, what they are called.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn adopt(
        &self,
        kubernetes: &Kubernetes,
        file: &std::path::Path,
    ) -> Result<Artifact, Failure> {
        let whose = file.display().to_string();
        let name = file.file_name().and_then(|n| n.to_str());
        let wanted = if let Some(arch) = name.and_then(Release::arch_of_images) {
            if name != Some(Release::images_name(arch)) {
                return Err(Failure::usage(format!(
                    "{whose} is not the form of the images that is sent to nodes"
                ))
                .hint(format!(
                    "nothing was taken; bring {} of the release, or name this file, kubernetes: {{ images: ./{} }}",
                    Release::images_name(arch),
                    name.unwrap_or_default()
                )));
            }
            of_release(kubernetes, arch)
        } else {
            let arch = picluster_artifact::arch_of(file).ok_or_else(|| {
                Failure::usage(format!(
                    "{whose} is no program for amd64, arm64 or armhf, or cannot be read"
                ))
                .hint("nothing was taken; name a file of the release: k3s, k3s-arm64 or k3s-armhf, or its k3s-airgap-images-….tar.zst")
            })?;
            wanted(kubernetes, arch, &whose)?
        };
        self.0.adopt(&wanted, file).map_err(|e| failure(&whose, &e))
    }

    /// Takes a file for one whose checksum is known.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn keep(&self, file: &std::path::Path, sha256: &Digest) -> Result<u64, Failure> {
        let kept = self.0.keep(file, sha256);
        kept.map(|(_, size)| size)
            .map_err(|e| failure(&file.display().to_string(), &e))
    }

    /// Brings a file whose checksum is known to this machine, unless it is here.
    ///
    /// # Errors
    /// Why it is not here.
    pub async fn file(&self, url: &str, sha256: Digest) -> Result<(PathBuf, u64), ArtifactError> {
        let (resolver, url) = (Arc::clone(&self.0), url.to_owned());
        tokio::task::spawn_blocking(move || resolver.file(&url, &sha256, &mut |_| {}))
            .await
            .unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
    }

    /// The program for an architecture, and its images. `whose` says for which nodes, in messages.
    ///
    /// # Errors
    /// What cannot be found out.
    pub async fn resolve(
        &self,
        kubernetes: &Kubernetes,
        arch: Arch,
        whose: &str,
    ) -> Result<Parts, Failure> {
        let program = match kubernetes.distribution {
            Distribution::K3s => Some(wanted(kubernetes, arch, whose)?),
            Distribution::Kubeadm => None,
        };
        let images = images(kubernetes, arch, whose)?;
        Ok(Parts {
            program: self.one(program, whose).await?,
            images: self.one(images, whose).await?,
        })
    }

    async fn one(&self, wanted: Option<Wanted>, whose: &str) -> Result<Option<Artifact>, Failure> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let resolver = Arc::clone(&self.0);
        // It may wait for a server, and reads whole files.
        tokio::task::spawn_blocking(move || resolver.resolve(&wanted))
            .await
            .map_err(|e| Failure::usage(format!("{whose}: {e}")))?
            .map(Some)
            .map_err(|e| failure(whose, &e))
    }

    /// Brings the bytes to this machine.
    ///
    /// # Errors
    /// Why they are not here.
    pub async fn provide(
        &self,
        artifact: &Artifact,
        whose: &str,
        mut progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<(PathBuf, u64), Failure> {
        let (resolver, artifact) = (Arc::clone(&self.0), artifact.clone());
        tokio::task::spawn_blocking(move || resolver.provide(&artifact, &mut progress))
            .await
            .map_err(|e| Failure::usage(format!("{whose}: {e}")))?
            .map_err(|e| failure(whose, &e))
    }
}

/// Where releases are published.
fn base() -> String {
    std::env::var("PICLUSTER_K3S_RELEASES")
        .ok()
        .filter(|base| !base.is_empty())
        .unwrap_or_else(|| K3S_RELEASES.to_owned())
}

/// The program of every node whose roles ask for it. One question for each architecture, however
/// many nodes; none at all when nobody asks.
///
/// # Errors
/// What cannot be found out, with the nodes that are concerned.
pub async fn of_nodes<'a>(
    project: &Project,
    nodes: impl IntoIterator<Item = (&'a Node, &'a Facts)>,
) -> Result<BTreeMap<NodeName, Parts>, Failure> {
    let machines = machines(project, nodes);
    let (Some(kubernetes), false) = (sent_from(project), machines.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let releases = Releases::of_user()?;
    let mut found = BTreeMap::new();
    for (arch, nodes) in machines {
        let parts = releases.resolve(kubernetes, arch, &names(&nodes)).await?;
        found.extend(nodes.into_iter().map(|node| (node, parts.clone())));
    }
    Ok(found)
}

/// Has everything here that a plan will send, before any node is written. `shown` is told of every
/// download.
///
/// # Errors
/// Why something is not here.
pub async fn stock<P: FnMut(Progress) + Send + 'static>(
    project: &Project,
    plan: &Plan,
    files: &mut Files,
    shown: impl Fn(&Artifact) -> P,
) -> Result<(), Failure> {
    let missing: BTreeSet<Digest> = sent(plan)
        .filter(|sha256| !files.has(sha256))
        .filter_map(Digest::parse)
        .collect();
    let (Some(kubernetes), false) = (sent_from(project), missing.is_empty()) else {
        return Ok(());
    };
    let nodes = plan.nodes.iter().filter_map(|(name, node)| {
        let NodeState::Observed { facts, .. } = &node.state else {
            return None;
        };
        Some((project.inventory.node(name)?, &**facts))
    });
    let releases = Releases::of_user()?;
    for (arch, nodes) in machines(project, nodes) {
        let whose = names(&nodes);
        let parts = releases.resolve(kubernetes, arch, &whose).await?;
        for artifact in parts.all().filter(|a| missing.contains(&a.sha256)) {
            let (path, _) = releases.provide(artifact, &whose, shown(artifact)).await?;
            files.add(artifact.sha256.hex(), path);
        }
    }
    Ok(())
}

/// The nodes that get the program, by what it must run on.
fn machines<'a>(
    project: &Project,
    nodes: impl IntoIterator<Item = (&'a Node, &'a Facts)>,
) -> BTreeMap<Arch, Vec<NodeName>> {
    let mut machines: BTreeMap<Arch, Vec<NodeName>> = BTreeMap::new();
    if sent_from(project).is_none() {
        return machines;
    }
    let cluster = ClusterContext::new(project);
    for (node, facts) in nodes {
        // A machine k3s is not built for: its role says so, in the plan.
        if let Some(arch) = Arch::of_kernel(&facts.arch.kernel)
            && installs(project, &cluster, node, Some(facts))
        {
            machines.entry(arch).or_default().push(node.name.clone());
        }
    }
    machines
}

/// The digests of what a plan sends.
fn sent(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.steps.iter().filter_map(|step| match &step.work {
        Work::Resource(resource) => resource.sends()?.sha256,
        Work::Reboot { .. } | Work::PowerOff => None,
    })
}

/// What templates see of a program and its images, besides what the inventory says.
#[must_use]
pub fn described(parts: &Parts) -> serde_json::Value {
    let mut all = serde_json::Map::new();
    if let Some(program) = &parts.program {
        all.insert("sha256".into(), program.sha256.hex().into());
        all.insert("size".into(), program.size.into());
        all.insert("arch".into(), program.arch.as_str().into());
    }
    if let Some(images) = &parts.images {
        let images = serde_json::json!({
            "name": images.origin.file_name(),
            "sha256": images.sha256.hex(),
            "size": images.size,
        });
        all.insert("images".into(), images);
    }
    all.into()
}

/// The section, when it is about k3s.
#[must_use]
pub fn k3s(project: &Project) -> Option<&Kubernetes> {
    let section = project.inventory.kubernetes.as_ref();
    section.filter(|k| k.distribution == Distribution::K3s)
}

/// The section, when nodes are sent something of a release: the program of k3s, or images.
#[must_use]
pub fn sent_from(project: &Project) -> Option<&Kubernetes> {
    let section = project.inventory.kubernetes.as_ref();
    section.filter(|k| k.distribution == Distribution::K3s || k.images.is_some())
}

/// Whether some role of the node writes the program: it asks for it. `facts` when the node was met.
#[must_use]
pub fn installs(
    project: &Project,
    cluster: &ClusterContext,
    node: &Node,
    facts: Option<&Facts>,
) -> bool {
    let facts = facts.map(Facts::constant);
    node.kubernetes.is_some() && cluster.asks_for_artifact(project, node, facts.as_ref())
}

/// An architecture as the inventory names it.
fn key(arch: Arch) -> kubernetes::Arch {
    match arch {
        Arch::Amd64 => kubernetes::Arch::Amd64,
        Arch::Arm64 => kubernetes::Arch::Arm64,
        Arch::Armhf => kubernetes::Arch::Armhf,
    }
}

/// What the inventory names for an architecture under `field`; one of a release is called `file`.
fn named<'a, T>(
    kubernetes: &Kubernetes,
    (field, given): (&str, &'a ByArch<T>),
    arch: Arch,
    file: &str,
    whose: &str,
) -> Result<&'a T, Failure> {
    given.get(key(arch)).ok_or_else(|| {
        let named = match given {
            ByArch::Each(each) => each
                .keys()
                .map(|a| a.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            ByArch::All(_) => "all".into(),
        };
        Failure::usage(format!(
            "{}: kubernetes.{field} has nothing for {arch}, and {whose} needs it; it names {named}",
            kubernetes.span
        ))
        .hint(format!(
            "nothing was changed on any node; add it: {field}: {{ {arch}: ./{file} }}"
        ))
    })
}

/// The images that the inventory wants for an architecture.
fn images(kubernetes: &Kubernetes, arch: Arch, whose: &str) -> Result<Option<Wanted>, Failure> {
    let Some(given) = &kubernetes.images else {
        return Ok(None);
    };
    let file = Release::images_name(arch);
    let wanted = of_release(kubernetes, arch);
    Ok(Some(
        match named(kubernetes, ("images", given), arch, file, whose)? {
            Images::Release => wanted,
            Images::Path(path) => Wanted {
                given: Some(Given::File(at_home(path))),
                ..wanted
            },
        },
    ))
}

/// The images that the release has for an architecture.
fn of_release(kubernetes: &Kubernetes, arch: Arch) -> Wanted {
    Wanted {
        part: Part::Images,
        version: kubernetes.version.to_string(),
        arch,
        given: None,
        checksum: None,
    }
}

/// The program that the inventory wants for an architecture.
fn wanted(kubernetes: &Kubernetes, arch: Arch, whose: &str) -> Result<Wanted, Failure> {
    let file = Release::binary_name(arch);
    let given = match &kubernetes.artifact {
        None => None,
        Some(given) => match named(kubernetes, ("artifact", given), arch, file, whose)? {
            Source::Path(path) => Some(Given::File(at_home(path))),
            Source::Url(url) => Some(Given::Url(url.clone())),
        },
    };
    let key = key(arch);
    Ok(Wanted {
        part: Part::Program,
        version: kubernetes.version.to_string(),
        arch,
        given,
        checksum: kubernetes
            .checksum
            .as_ref()
            .and_then(|c| c.get(key))
            .and_then(|text| Digest::parse(text)),
    })
}

/// `~/` as a shell means it.
#[must_use]
pub fn at_home(path: &std::path::Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

/// At most three names, and how many more.
fn names(nodes: &[NodeName]) -> String {
    let mut text = nodes
        .iter()
        .take(3)
        .map(NodeName::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if nodes.len() > 3 {
        text.push_str(&format!(" and {} more", nodes.len() - 3));
    }
    text
}

fn failure(whose: &str, error: &ArtifactError) -> Failure {
    let mut failure =
        Failure::usage(format!("{whose}: {error}")).hint("nothing was changed on any node");
    failure.hints.extend(error.hints());
    failure
}
