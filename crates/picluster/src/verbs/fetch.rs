//! `fetch`: has everything here that an apply will send, while there is a network.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use picluster_artifact::{Arch, Artifact, Digest, Origin, Part, Progress};
use picluster_engine::ExitCode;
use picluster_model::NodeName;

use crate::cli::FetchArgs;
use crate::error::Failure;
use crate::manifests::{self, Remote};
use crate::releases::{self, Releases};
use crate::store::Store;
use crate::term::{Style, bytes};
use crate::{project, verbs};

/// Fetches what the inventory needs, for every architecture it has.
///
/// # Errors
/// Documents, an architecture that is not known, or whatever cannot be fetched.
pub fn run(args: &FetchArgs, out: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let kubernetes = releases::sent_from(&project);
    if kubernetes.is_none() && manifests::remote(&project).is_empty() {
        verbs::print("Nothing to fetch: there is neither a k3s nor a manifest to download\n");
        return Ok(ExitCode::Done);
    }
    let releases = Releases::of_user()?;
    if !args.from.is_empty() {
        let wanted = manifests::remote(&project);
        for file in &args.from {
            let digest = Digest::of_file(file).ok().map(|(digest, _)| digest);
            if let Some(manifest) = wanted.iter().find(|m| Some(m.sha256) == digest) {
                let size = releases.keep(file, &manifest.sha256)?;
                verbs::print(&manifest_line(
                    manifest,
                    size,
                    &file.display().to_string(),
                    out,
                ));
                continue;
            }
            let Some(kubernetes) = releases::k3s(&project) else {
                return Err(Failure::usage(format!(
                    "{} is none of the manifests the inventory names by their checksums",
                    file.display()
                ))
                .hint("it was not taken; compare: sha256sum FILE"));
            };
            let artifact = releases.adopt(kubernetes, file)?;
            verbs::print(&format!(
                "{} {} {}  {}  sha256:{}\n  from {}\n",
                out.green("✓"),
                title(&artifact),
                artifact.arch,
                bytes(artifact.size.unwrap_or(0)),
                artifact.sha256.short(),
                file.display()
            ));
        }
        return Ok(ExitCode::Done);
    }
    let machines = match kubernetes {
        Some(_) => machines(args, &project)?,
        None => BTreeMap::new(),
    };
    verbs::block_on(async {
        for manifest in manifests::remote(&project) {
            let (_, size) = releases
                .file(manifest.url, manifest.sha256)
                .await
                .map_err(|e| {
                    Failure::usage(format!("manifest {}: {e}", manifest.name))
                        .hint("nothing was changed on any node")
                        .hint(manifests::WITHOUT_NETWORK)
                })?;
            verbs::print(&manifest_line(&manifest, size, manifest.url, out));
        }
        let mut wanted = Vec::new();
        for (arch, whose) in machines {
            let Some(kubernetes) = kubernetes else { break };
            let parts = releases.resolve(kubernetes, arch, &whose).await?;
            wanted.extend(parts.all().map(|a| (a.clone(), whose.clone())));
        }
        for (artifact, whose) in wanted {
            let bar = bar(&artifact);
            let (path, size) = releases
                .provide(&artifact, &whose, progress(bar.clone()))
                .await?;
            bar.finish_and_clear();
            let from = match &artifact.origin {
                Origin::File(_) => "given".to_owned(),
                Origin::Url { url, .. } => format!("from {url}"),
            };
            verbs::print(&format!(
                "{} {} {}  {}  sha256:{}\n  {from}\n  checksum from {}\n  {}\n",
                out.green("✓"),
                title(&artifact),
                artifact.arch,
                bytes(size),
                artifact.sha256.short(),
                artifact.checksum_from,
                path.display()
            ));
        }
        Ok(ExitCode::Done)
    })?
}

/// What it is, before its architecture.
fn title(artifact: &Artifact) -> String {
    match artifact.part {
        Part::Program => format!("k3s {}", artifact.version),
        Part::Images => format!("images of k3s {}", artifact.version),
    }
}

fn manifest_line(manifest: &Remote<'_>, size: u64, from: &str, out: Style) -> String {
    format!(
        "{} manifest {}  {}  sha256:{}\n  from {from}\n",
        out.green("✓"),
        manifest.name,
        bytes(size),
        manifest.sha256.short(),
    )
}

/// For which architectures, and which nodes those are.
fn machines(
    args: &FetchArgs,
    project: &picluster_model::inventory::Project,
) -> Result<BTreeMap<Arch, String>, Failure> {
    if !args.arch.is_empty() {
        return args
            .arch
            .iter()
            .map(|text| {
                Arch::new(text)
                    .map(|arch| (arch, text.clone()))
                    .ok_or_else(|| {
                        Failure::usage(format!("--arch {text}: there is no such architecture"))
                            .hint("nothing was fetched; there are amd64, arm64 and armhf")
                    })
            })
            .collect();
    }
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let met = store.identities();
    let mut known: BTreeMap<Arch, BTreeSet<NodeName>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for node in project
        .inventory
        .nodes
        .values()
        .filter(|n| n.kubernetes.is_some())
    {
        match met
            .get(&node.name)
            .and_then(|i| Arch::of_kernel(&i.machine))
        {
            Some(arch) => {
                known.entry(arch).or_default().insert(node.name.clone());
            }
            None => unknown.push(node.name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(Failure::usage(format!(
            "the architecture of {} is not known",
            unknown.join(", ")
        ))
        .hint("nothing was fetched; say --arch arm64, or let picluster meet the nodes first: picluster facts"));
    }
    Ok(known
        .into_iter()
        .map(|(arch, nodes)| {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            (arch, nodes.join(", "))
        })
        .collect())
}

/// A bar for a download; draws nothing when stderr is no terminal.
pub(crate) fn bar(artifact: &Artifact) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(artifact.size.unwrap_or(0));
    if let Ok(style) = ProgressStyle::with_template(
        "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    ) {
        bar.set_style(style);
    }
    bar.set_prefix(format!("{} {}", title(artifact), artifact.arch));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Moves a bar.
pub(crate) fn progress(bar: ProgressBar) -> impl FnMut(Progress) + Send + 'static {
    move |progress| {
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.done);
    }
}
