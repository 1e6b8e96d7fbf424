//! What is installed and deployed from files: the binary and manifests.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::document::Spanned;
use crate::document::inventory::{KubernetesDocument, PerArch};
use crate::document::text::{ChecksumText, SourceText};
use crate::kubernetes::{Arch, ByArch, Distribution, Images, Manifest, ManifestSource, Source};
use crate::load::{Scope, ssh};
use crate::span::Span;
use crate::yaml::Yaml;

/// Manifests k3s writes itself at every start
/// (<https://github.com/k3s-io/k3s/tree/master/manifests>).
const PACKAGED: [&str; 6] = [
    "ccm",
    "coredns",
    "local-storage",
    "rolebindings",
    "runtimes",
    "traefik",
];

/// The binary and its checksum, or one of each for every architecture.
pub fn artifact(
    scope: &Scope<'_>,
    document: &KubernetesDocument,
    written: &Yaml,
    out: &mut Vec<Diagnostic>,
) -> (Option<ByArch<Source>>, Option<ByArch<String>>) {
    if let (Some(artifact), Some(checksum)) = (&document.artifact, &document.checksum) {
        pairs(artifact, checksum, written, out);
    }
    if let Some(artifact) = &document.artifact {
        for (arch, source) in each(artifact) {
            let known = match (&document.checksum, arch) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(checksum), Some(arch)) => each(checksum)
                    .iter()
                    .any(|(other, _)| other.is_none() || *other == Some(arch)),
            };
            if is_url(&source.value.0) && !known {
                out.push(
                    Diagnostic::new("a download without a checksum", &source.span).help(
                        match arch {
                            None => String::from("add `checksum: sha256:…` beside it"),
                            Some(arch) => format!(
                                "add `checksum: {{ {}: sha256:… }}` beside it",
                                arch.as_str()
                            ),
                        },
                    ),
                );
            }
        }
    }
    let artifact = document.artifact.as_ref().map(|artifact| {
        by_arch(artifact, |text: &Spanned<SourceText>| {
            source(scope, &text.value.0, &text.span)
        })
    });
    let checksum = document
        .checksum
        .as_ref()
        .map(|checksum| by_arch(checksum, |text: &Spanned<ChecksumText>| digits(&text.value)));
    (artifact, checksum)
}

/// The images that nodes have before they start.
pub fn images(
    scope: &Scope<'_>,
    document: &KubernetesDocument,
    distribution: Distribution,
    out: &mut Vec<Diagnostic>,
) -> Option<ByArch<Images>> {
    let images = document.images.as_ref()?;
    for (_, written) in each(images) {
        let text = written.value.0.as_str();
        let wrong = if text == RELEASE {
            let unpublished = distribution == Distribution::Kubeadm;
            unpublished.then_some((
                "kubeadm publishes no bundle of images",
                "where there is a network: for i in $(kubeadm config images list); do ctr images pull $i; done; ctr images export images.tar $(kubeadm config images list); then name that file",
            ))
        } else if is_url(text) {
            Some((
                "images are not downloaded from an address",
                "write `release` for those of the release, or fetch the file and name it",
            ))
        } else if !suffixes(distribution)
            .iter()
            .any(|suffix| text.ends_with(suffix))
        {
            Some(match distribution {
                Distribution::K3s => (
                    "k3s reads no images from a file of this name",
                    "name a .tar, .tar.gz or .tar.zst",
                ),
                Distribution::Kubeadm => (
                    "images are imported from a .tar",
                    "unpack it, or write it anew: ctr images export images.tar IMAGE…",
                ),
            })
        } else {
            None
        };
        if let Some((message, help)) = wrong {
            out.push(Diagnostic::new(message, &written.span).help(help));
        }
    }
    Some(by_arch(images, |text: &Spanned<SourceText>| {
        if text.value.0 == RELEASE {
            return Images::Release;
        }
        match source(scope, &text.value.0, &text.span) {
            Source::Path(path) => Images::Path(path),
            Source::Url(url) => Images::Path(url.into()),
        }
    }))
}

/// The word for the bundle of the release.
const RELEASE: &str = "release";

/// Forms of bundles: those in which k3s publishes its own (<https://docs.k3s.io/installation/airgap>), and the one whose list of
/// images can be read without unpacking all of it.
fn suffixes(distribution: Distribution) -> &'static [&'static str] {
    match distribution {
        Distribution::K3s => &[".tar", ".tar.gz", ".tar.zst"],
        Distribution::Kubeadm => &[".tar"],
    }
}

/// A checksum for all goes with a binary for all, one for each with one for each.
fn pairs(
    artifact: &PerArch<Spanned<SourceText>>,
    checksum: &PerArch<Spanned<ChecksumText>>,
    written: &Yaml,
    out: &mut Vec<Diagnostic>,
) {
    let place = written.key_span("checksum").unwrap_or(&written.span);
    match (artifact, checksum) {
        (PerArch::All(_), PerArch::Each(_)) => out.push(
            Diagnostic::new("one binary, and several checksums", place)
                .help("write one checksum, or an artifact for each architecture"),
        ),
        (PerArch::Each(_), PerArch::All(_)) => out.push(
            Diagnostic::new("several binaries, and one checksum", place)
                .help("write a checksum for each architecture"),
        ),
        (PerArch::Each(artifacts), PerArch::Each(checksums)) => {
            for (arch, sum) in checksums {
                if !artifacts.iter().any(|(other, _)| other == arch) {
                    out.push(
                        Diagnostic::new(
                            format!("a checksum for {}, and no artifact", arch.as_str()),
                            &sum.span,
                        )
                        .help("remove it, or add the artifact"),
                    );
                }
            }
        }
        (PerArch::All(_), PerArch::All(_)) => {}
    }
}

/// Manifests, each with one source and a name of its own.
pub fn manifests(
    scope: &Scope<'_>,
    document: &KubernetesDocument,
    out: &mut Vec<Diagnostic>,
) -> Vec<Manifest> {
    let mut found: Vec<Manifest> = Vec::new();
    for written in document.manifests.iter().flatten() {
        let manifest = &written.value;
        let Some(name) = &manifest.name else { continue };
        let text = name.value.0.as_str();
        let place = &name.span;
        if let Some(stem) = [".yaml", ".yml", ".json"]
            .iter()
            .find_map(|suffix| text.strip_suffix(suffix))
        {
            out.push(
                Diagnostic::new(format!("{text:?} is not a name of a manifest"), place)
                    .help(format!("leave out the suffix: {stem}")),
            );
        }
        if PACKAGED.contains(&text) {
            out.push(
                Diagnostic::new(format!("k3s has a manifest `{text}` of its own"), place).help(
                    format!("k3s would write over it: choose another name, {text}-own"),
                ),
            );
        }
        let off = document
            .disable
            .iter()
            .flatten()
            .find(|disabled| disabled.value.0 == text);
        if let Some(off) = off {
            out.push(
                Diagnostic::new(format!("`{text}` is disabled and deployed"), place)
                    .related(&off.span, "disabled here")
                    .help("remove one of the two, or choose another name for the manifest"),
            );
        }
        if let Some(first) = found.iter().find(|other| other.name == text) {
            out.push(
                Diagnostic::new(format!("the manifest `{text}` is given twice"), place)
                    .related(&first.span, "first here")
                    .help("choose another name for one of the two"),
            );
        }
        if let (Some(content), Some(checksum)) = (&manifest.content, &manifest.checksum) {
            out.push(
                Diagnostic::new("a checksum of a text that stands here", &checksum.span)
                    .related(&content.span, "the text")
                    .help("remove it"),
            );
        }
        let source = match (&manifest.path, &manifest.url) {
            (None, None) if manifest.content.is_some() => {
                let text = manifest.content.as_ref().map(|c| c.value.0.clone());
                ManifestSource::Text(text.unwrap_or_default())
            }
            _ if manifest.content.is_some() => {
                out.push(
                    Diagnostic::new("`content` excludes `path` and `url`", place)
                        .help("keep one of them"),
                );
                continue;
            }
            (Some(path), None) => {
                if is_url(&path.value.0) {
                    out.push(
                        Diagnostic::new("`path` is a file of this machine", &path.span)
                            .help(format!("write `url: {}`, and its `checksum`", path.value.0)),
                    );
                    continue;
                }
                ManifestSource::From(source(scope, &path.value.0, &path.span))
            }
            (None, Some(url)) => {
                if manifest.checksum.is_none() {
                    out.push(
                        Diagnostic::new("a download without a checksum", &url.span)
                            .help("add `checksum: sha256:…` beside it"),
                    );
                }
                ManifestSource::From(Source::Url(url.value.0.clone()))
            }
            (Some(_), Some(url)) => {
                out.push(
                    Diagnostic::new("`path` and `url` exclude each other", &url.span)
                        .help("keep one of the two"),
                );
                continue;
            }
            (None, None) => {
                out.push(
                    Diagnostic::new(format!("the manifest `{text}` has no source"), place).help(
                        "write `path: FILE`, `url: …` with `checksum: sha256:…`, or `content: |`",
                    ),
                );
                continue;
            }
        };
        found.push(Manifest {
            name: text.to_owned(),
            source,
            checksum: manifest.checksum.as_ref().map(|sum| digits(&sum.value)),
            wait: manifest.wait.unwrap_or(true),
            span: place.clone(),
        });
    }
    found
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

fn source(scope: &Scope<'_>, text: &str, span: &Span) -> Source {
    if is_url(text) {
        return Source::Url(text.to_owned());
    }
    let path = ssh::join(scope.folder, text);
    scope.wants_file(&path, span);
    Source::Path(path)
}

fn digits(checksum: &ChecksumText) -> String {
    checksum
        .0
        .strip_prefix("sha256:")
        .unwrap_or(&checksum.0)
        .to_owned()
}

fn each<T>(values: &PerArch<T>) -> Vec<(Option<Arch>, &T)> {
    match values {
        PerArch::All(value) => vec![(None, value)],
        PerArch::Each(values) => values
            .iter()
            .map(|(arch, value)| (Some(*arch), value))
            .collect(),
    }
}

fn by_arch<T, U>(values: &PerArch<T>, read: impl Fn(&T) -> U) -> ByArch<U> {
    match values {
        PerArch::All(value) => ByArch::All(read(value)),
        PerArch::Each(values) => ByArch::Each(
            values
                .iter()
                .map(|(arch, value)| (*arch, read(value)))
                .collect::<IndexMap<_, _>>(),
        ),
    }
}
